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

// waker turns a mailbox's wake-up into a queue task and, where this process drains, into a drain
// at once. The task comes later and finds nothing to do; it matters when this process dies.
type waker struct {
	queue *queue.Client
	// local is nil in a process that does not drain.
	local *drain.Drainer
}

// Wake implements the waker of fan-outs, drains and sweeps. A fan-out also tells of deposits that
// need no wake-up: then a drain that goes on here looks at once.
func (w *waker) Wake(ctx context.Context, app partner.ClientID, wk mailbox.Wake) error {
	if wk.None() {
		if w.local != nil {
			w.local.Stir(app)
		}
		return nil
	}
	if w.local != nil {
		w.local.Nudge(ctx, app, wk)
	}
	return w.queue.EnqueueDrain(ctx, app, wk.Generation, wk.Delay)
}

// notifier starts fan-outs: here at once, and by the queue for the case that this process dies.
type notifier struct {
	queue *queue.Client
	local *fanout.Runner
}

// Notify implements the notifier of the intake and the sweep.
func (n *notifier) Notify(ctx context.Context, id string, ts []tenant.ID) error {
	if n.local != nil {
		n.local.Submit(ts)
	}
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
