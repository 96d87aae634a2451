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

// waker turns a mailbox's wake-up into a drain at once, if this process drains and is not too busy. Otherwise it
// makes a task of the queue, which any worker takes. If the process dies before the drain begins or the task is
// enqueued, the wake-up stays armed, and the sweep repairs it.
type waker struct {
	queue *queue.Client
	// local is nil in a process that does not drain.
	local *drain.Drainer
}

// Wake implements the waker of fan-outs, drains and sweeps. A fan-out also calls it for deposits that arm no wake-up;
// a running drain of this process then looks at its mailbox at once.
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

// notifier starts fan-outs: in this process if it is a worker and not too busy, otherwise by the queue. Fan-outs of a
// process that dies stay pending, and the sweep starts them again.
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

// enqueueFanout enqueues a fan-out. With the same id, a repeated call makes the same tasks.
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
