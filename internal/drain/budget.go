package drain

import (
	"context"
	"math"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// linger is how long a run whose budget is spent waits for what is out before it goes on: as long as a
// post hangs it cannot make room for others, and what comes meanwhile must not wait for that post.
const linger = time.Second

// longest bounds a run, below the two minutes that the queue gives its task: whoever is cut off there
// is cut off within its posts.
const longest = 90 * time.Second

// untilRenewal is when renew would let the run go on.
func (r *run) untilRenewal() time.Duration {
	if r.currentStage() != circuit.Resting {
		return math.MaxInt64
	}
	return max(time.Until(r.spent.Add(linger)), 0)
}

// renewBudget gives a run whose posts hang another budget, with the endpoint as it is set now, as the run
// that would follow had. It reports what there was until then. It ends a run that grew old, and one
// whose endpoint was changed or switched meanwhile: what the posts that are out say is of the endpoint as it was.
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
		r.spent = time.Now() // not said of the endpoint: ask again
		return
	case !ok || !e.isSameEndpoint(r.endpoint): // the next run finds out
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
