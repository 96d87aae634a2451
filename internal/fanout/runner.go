package fanout

import (
	"context"
	"log/slog"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Runner fans out in this process what this process accepted, without waiting for the queue, and
// many tenants at a time when many come. It is a short cut: what it drops, the queue's task does.
type Runner struct {
	run   func(ctx context.Context, ids []tenant.ID) error
	queue chan []tenant.ID
	log   *slog.Logger
}

// runnerQueue bounds what waits for the runner; beyond it the queue's tasks do the work.
const runnerQueue = 4096

// NewRunner returns a Runner that calls run.
func NewRunner(run func(ctx context.Context, ids []tenant.ID) error, log *slog.Logger) *Runner {
	return &Runner{run: run, queue: make(chan []tenant.ID, runnerQueue), log: log}
}

// Submit asks for a fan-out. It never blocks.
func (r *Runner) Submit(ids []tenant.ID) {
	select {
	case r.queue <- ids:
	default:
	}
}

// Run works until ctx ends. Several may run at once.
func (r *Runner) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ids := <-r.queue:
			ids = r.gather(ids)
			if err := r.run(ctx, ids); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "fan-out failed here; the queue's task repeats it", "tenants", len(ids), "err", err)
			}
		}
	}
}

// gather adds what else waits already, up to one batch, each tenant once.
func (r *Runner) gather(ids []tenant.ID) []tenant.ID {
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
