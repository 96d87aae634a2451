package drain

import (
	"context"
	"math"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// linger is how long a run whose budget is spent waits for attempts in flight before it takes another budget. A slow
// attempt keeps the mailbox owned, so deposits that arrive meanwhile must not wait for it.
const linger = time.Second

// longest bounds a run. It is below the two minutes that the queue gives a task: the queue would abort the run within
// its attempts.
const longest = 90 * time.Second

// untilRenewal is how long until renewBudget may renew the budget.
func (r *run) untilRenewal() time.Duration {
	if r.currentStage() != circuit.Resting {
		return math.MaxInt64
	}
	return max(time.Until(r.spent.Add(linger)), 0)
}

// renewBudget gives a run with slow attempts another budget and the endpoint's present settings, like a run that
// follows. It reports what the run has found so far. It stops a run that would exceed longest, and one whose endpoint
// was changed or switched: results of attempts in flight describe the old endpoint.
func (r *run) renewBudget(ctx context.Context) {
	if r.running == 0 || r.untilRenewal() > 0 {
		return
	}
	if time.Since(r.born)+r.d.opts.Budget+linger+r.d.opts.Timeout > longest {
		r.decide.Stop()
		return
	}
	call, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	e, ok, err := r.d.opts.Endpoints.Endpoint(call, r.app, 0)
	switch {
	case err != nil:
		r.spent = time.Now() // says nothing of the endpoint: ask again
		return
	case !ok || !e.isSameEndpoint(r.endpoint): // the next run handles it
		r.decide.Stop()
		return
	}
	r.endpoint = e
	r.decide.RenewBudget()
	r.until, r.look = time.Now().Add(r.d.opts.Budget), lookMin
	r.reportRun(ctx)
	r.report, r.firm = Observation{Failure: r.report.Failure}, 0
	r.hadProbes = r.hadProbes && r.decide.Proof() == circuit.Probing
}
