package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Queue takes tasks that any worker may run; *queue.Client is one.
type Queue interface {
	EnqueueDrain(ctx context.Context, app partner.ClientID, generation int64, delay time.Duration) error
}

// Dispatcher turns a mailbox's wake-up into a drain at once, if this process drains and is not too busy. Otherwise it
// makes a task of the queue, which any worker takes. If the process dies before the drain begins or the task is
// enqueued, the wake-up stays armed, and the sweep repairs it.
type Dispatcher struct {
	queue Queue
	// local is nil in a process that does not drain.
	local *Drainer
}

// NewDispatcher returns a Dispatcher that makes every wake-up a task.
func NewDispatcher(q Queue) *Dispatcher { return &Dispatcher{queue: q} }

// DispatchTo makes d drain the mailboxes of wake-ups. It MUST be called before the first wake-up.
func (p *Dispatcher) DispatchTo(d *Drainer) { p.local = d }

// Wake implements the waker of fan-outs, drains and sweeps. A fan-out also calls it for deposits that arm no wake-up;
// a running drain of this process then looks at its mailbox at once.
func (p *Dispatcher) Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error {
	if w.IsNone() {
		if p.local != nil {
			p.local.SignalDeposit(app)
		}
		return nil
	}
	if p.local != nil && p.local.DispatchWake(ctx, app, w) {
		return nil
	}
	return p.Enqueue(ctx, app, w)
}

// Enqueue makes a wake-up a task of the queue.
func (p *Dispatcher) Enqueue(ctx context.Context, app partner.ClientID, w mailbox.Wake) error {
	return p.queue.EnqueueDrain(ctx, app, w.Generation, w.Delay)
}
