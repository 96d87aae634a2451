package fanout

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Runner fans out in this process what this process accepted, without the queue. It combines waiting tenants into
// batches. What it cannot do goes to the queue.
type Runner struct {
	run, hand func(ctx context.Context, ids []tenant.ID) error
	queue     chan []tenant.ID
	stopped   atomic.Bool
	log       *slog.Logger
}

// runnerQueue limits what waits for the runner. Beyond it, tasks of the queue do the work in any process.
const runnerQueue = 256

// runWithin bounds one fan-out, handWithin one hand-over to the queue.
const (
	runWithin  = time.Minute
	handWithin = 2 * time.Second
)

// NewRunner returns a Runner that calls run, and calls hand for tenants whose run failed or was not started before a
// stop.
func NewRunner(run, hand func(ctx context.Context, ids []tenant.ID) error, log *slog.Logger) *Runner {
	return &Runner{run: run, hand: hand, queue: make(chan []tenant.ID, runnerQueue), log: log}
}

// Submit adds a fan-out; it returns false when the runner is full or stopped. It never blocks.
func (r *Runner) Submit(ids []tenant.ID) bool {
	select {
	case r.queue <- ids:
		return !r.stopped.Load() // after a stop the queue gets them as well: a repeated fan-out changes nothing
	default:
		return false
	}
}

// Run works until ctx ends, then hands over what still waits. Several calls may run at once.
func (r *Runner) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			r.stopped.Store(true)
			r.handOverRest(ctx)
			return
		case ids := <-r.queue:
			ids = r.gatherTenants(ids)
			if ctx.Err() != nil {
				r.passToQueue(ctx, ids)
				continue
			}
			if err := r.fanOut(ctx, ids); err != nil {
				if ctx.Err() == nil {
					r.log.WarnContext(ctx, "fan-out failed here; the queue repeats it", "tenants", len(ids), "err", err)
				}
				r.passToQueue(ctx, ids)
			}
		}
	}
}

// fanOut finishes a begun fan-out although ctx ends, because its wake-ups must be enqueued.
func (r *Runner) fanOut(ctx context.Context, ids []tenant.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), runWithin)
	defer cancel()
	return r.run(ctx, ids)
}

func (r *Runner) handOverRest(ctx context.Context) {
	for {
		select {
		case ids := <-r.queue:
			r.passToQueue(ctx, r.gatherTenants(ids))
		default:
			return
		}
	}
}

// passToQueue hands tenants to the queue, also after ctx has ended.
func (r *Runner) passToQueue(ctx context.Context, ids []tenant.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handWithin)
	defer cancel()
	if err := r.hand(ctx, ids); err != nil {
		r.log.WarnContext(ctx, "fan-out not enqueued; a loop will", "tenants", len(ids), "err", err)
	}
}

// gatherTenants adds waiting tenants, up to one batch, each tenant once.
func (r *Runner) gatherTenants(ids []tenant.ID) []tenant.ID {
	seen := make(map[tenant.ID]struct{}, len(ids))
	out := make([]tenant.ID, 0, len(ids))
	for {
		for _, id := range ids {
			if _, dup := seen[id]; !dup {
				seen[id] = struct{}{}
				out = append(out, id)
			}
		}
		if len(out) >= mailbox.MaxBatch {
			return out
		}
		select {
		case ids = <-r.queue:
		default:
			return out
		}
	}
}
