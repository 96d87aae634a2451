package fanout

import (
	"context"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Queue takes tasks that any worker may run; *queue.Client is one.
type Queue interface {
	EnqueueFanout(ctx context.Context, id string, ts []tenant.ID) error
}

// Dispatcher starts fan-outs: in this process if it has a Runner that is not too busy, otherwise by the queue. Fan-outs
// of a process that dies stay pending, and the sweep starts them again.
type Dispatcher struct {
	queue Queue
	local *Runner
}

// NewDispatcher returns a Dispatcher. With a nil local it makes every fan-out a task.
func NewDispatcher(q Queue, local *Runner) *Dispatcher { return &Dispatcher{queue: q, local: local} }

// Notify implements the notifier of the intake and the sweep. In the queue, a repeated call with the same id makes the
// same tasks.
func (d *Dispatcher) Notify(ctx context.Context, id string, ts []tenant.ID) error {
	if d.local != nil && d.local.Submit(ts) {
		return nil
	}
	return d.enqueueTasks(ctx, id, ts)
}

// EnqueueTenants makes tasks of their own for tenants.
func (d *Dispatcher) EnqueueTenants(ctx context.Context, ts []tenant.ID) error {
	return d.enqueueTasks(ctx, uuid.NewString(), ts)
}

func (d *Dispatcher) enqueueTasks(ctx context.Context, id string, ts []tenant.ID) error {
	for first := true; len(ts) > 0; first = false {
		k := min(len(ts), mailbox.MaxBatch)
		task := id
		if !first {
			task = id + "-" + string(ts[0])
		}
		if err := d.queue.EnqueueFanout(ctx, task, ts[:k]); err != nil {
			return err
		}
		ts = ts[k:]
	}
	return nil
}
