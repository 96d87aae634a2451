package drain

import (
	"context"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// through reports that all that was claimed is done, and probably all that was due: the last exchange
// gave less than there was room for.
func (r *run) through() bool {
	return r.running == 0 && len(r.queue) == 0 && len(r.settlements) > 0 && len(r.settlements) <= mailbox.MaxBatch &&
		!r.filled && !r.probing && !r.stopped() && !r.convicted()
}

// leave hands in the last results and gives the mailbox back; more means that work is due and the run
// goes on.
func (r *run) leave(ctx context.Context) (more bool, err error) {
	var f mailbox.Finished
	err = r.d.repeat(ctx, func(call context.Context) (err error) {
		f, err = r.d.opts.Mailbox.Leave(call, r.endpoint.Life, r.token, r.settlements)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drain app %s: results of %d posts not recorded, their claims will run out: %w", r.app, len(r.settlements), err)
	}
	r.settlements = r.settlements[:0]
	r.outdated = r.outdated || f.Outdated
	if f.State == mailbox.More {
		return true, nil
	}
	r.left(ctx, f)
	return false, nil
}

// finish gives the mailbox back; more means that work is due and the run goes on.
func (r *run) finish(ctx context.Context) (more bool, err error) {
	c := mailbox.Closing{Force: r.force || !r.spent.IsZero()}
	if r.gone != nil && !r.outdated {
		c.OffRevision = r.switchOff(ctx)
	}
	if r.convicted() {
		c.Gate = max(r.gate, r.d.opts.Gate.After(r.openings+1, random()))
	}
	f, err := r.d.giveBack(ctx, r.endpoint.Life, r.token, c)
	if err != nil {
		return false, err
	}
	if f.State == mailbox.More {
		r.closing, r.idle = false, false
		return true, nil
	}
	r.outdated = r.outdated || f.Outdated
	if r.closed = c.Gate > 0 && f.State == mailbox.Done && !r.outdated; r.closed {
		r.d.opts.Metrics.transition(open)
	}
	r.left(ctx, f)
	return false, nil
}

// left hands on the wake-up of a mailbox that was given back.
func (r *run) left(ctx context.Context, f mailbox.Finished) {
	if r.ownFault {
		f.Wake = paced(f.Wake)
	}
	r.d.wake(ctx, r.app, f.Wake)
}

// switchOff returns the revision of the switch-off, 0 when the endpoint stays on: then its gate
// closes instead.
func (r *run) switchOff(ctx context.Context) int64 {
	call, cancel := detached(ctx)
	defer cancel()
	revision, err := r.d.opts.Endpoints.SwitchOff(call, r.endpoint, *r.gone)
	if err != nil {
		r.d.opts.Log.WarnContext(ctx, "gone endpoint was not switched off as it should", "app", r.app, "err", err)
	}
	return revision
}
