package drain

import (
	"context"
	"math"
	"time"
)

// linger is how long a run whose budget is spent waits for what is out before it goes on: as long as a
// post hangs it cannot make room for others, and what comes meanwhile must not wait for that post.
const linger = time.Second

// renewIn is when renew would let the run go on.
func (r *run) renewIn() time.Duration {
	if r.spent.IsZero() || r.closing || r.lost || !r.suspectAt.IsZero() {
		return math.MaxInt64
	}
	return max(time.Until(r.spent.Add(linger)), 0)
}

// renew gives a run whose posts hang another budget, with the endpoint as it is set now, as the run
// that would follow had. It reports what there was until then.
func (r *run) renew(ctx context.Context) {
	if r.running == 0 || r.renewIn() > 0 {
		return
	}
	post, revision, ok, err := r.d.opts.Endpoints.Endpoint(ctx, r.app)
	if err != nil || !ok { // the next run finds out
		r.closing, r.force = true, true
		return
	}
	r.post, r.revision = post, revision
	r.spent, r.until, r.look = time.Time{}, time.Now().Add(r.d.opts.Budget), lookMin
	r.observe(ctx)
	r.report = Observation{Failure: r.report.Failure}
	r.hadGate = r.hadGate && r.probing
}
