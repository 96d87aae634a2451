package service

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// waker turns a mailbox's wake-up into a drain at once where this process drains and is not too busy,
// else into a queue task, which any worker takes. A process that dies before its drain has begun leaves
// the wake-up armed, as one that dies before it enqueued does: the sweep repairs both.
type waker struct {
	queue *queue.Client
	// local is nil in a process that does not drain.
	local *drain.Drainer
}

// Wake implements the waker of fan-outs, drains and sweeps. A fan-out also tells of deposits that
// need no wake-up: then a drain that goes on here looks at once.
func (w *waker) Wake(ctx context.Context, app partner.ClientID, wk mailbox.Wake) error {
	if wk.IsNone() {
		if w.local != nil {
			w.local.SignalDeposit(app)
		}
		return nil
	}
	if w.local != nil && w.local.DispatchWake(ctx, app, wk) {
		return nil
	}
	return w.Enqueue(ctx, app, wk)
}

// Enqueue makes a wake-up a queue task.
func (w *waker) Enqueue(ctx context.Context, app partner.ClientID, wk mailbox.Wake) error {
	return w.queue.EnqueueDrain(ctx, app, wk.Generation, wk.Delay)
}

// notifier starts fan-outs: here where this process is a worker and not too busy, else by the queue.
// What a process leaves behind that dies stays owed, and the sweep starts it again.
type notifier struct {
	queue *queue.Client
	local *fanout.Runner
}

// Notify implements the notifier of the intake and the sweep.
func (n *notifier) Notify(ctx context.Context, id string, ts []tenant.ID) error {
	if n.local != nil && n.local.Submit(ts) {
		return nil
	}
	return n.enqueueFanout(ctx, id, ts)
}

// enqueueFanout asks the queue for a fan-out; id makes a repeated call the same tasks.
func (n *notifier) enqueueFanout(ctx context.Context, id string, ts []tenant.ID) error {
	for first := true; len(ts) > 0; first = false {
		k := min(len(ts), mailbox.MaxBatch)
		task := id
		if !first {
			task = id + "-" + string(ts[0])
		}
		if err := n.queue.EnqueueFanout(ctx, task, ts[:k]); err != nil {
			return err
		}
		ts = ts[k:]
	}
	return nil
}
