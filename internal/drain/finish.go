package drain

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// isWorkDone reports that everything claimed is done, and probably everything due: the last exchange returned fewer
// claims than wanted.
func (r *run) isWorkDone() bool {
	return r.running == 0 && len(r.queue) == 0 && len(r.settlements) > 0 && len(r.settlements) <= mailbox.MaxBatch &&
		!r.filled && r.decide.Proof() != circuit.Probing && !r.hasStoppedClaiming() && !r.decide.NeedsRecall()
}

// settleAndFinish hands in the last results and gives the mailbox back. more means that work is due and the run goes
// on.
func (r *run) settleAndFinish(ctx context.Context) (more bool, err error) {
	var f mailbox.FinishResult
	err = r.d.retryCall(ctx, func(call context.Context) (err error) {
		f, err = r.d.opts.Mailbox.SettleAndFinish(call, r.endpoint.Life, r.token, r.settlements)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drain app %s: results of %d posts not recorded, their claims will run out: %w", r.app, len(r.settlements), err)
	}
	r.settlements = r.settlements[:0]
	if f.Outdated {
		r.decide.MarkOutdated()
	}
	if f.State == mailbox.More {
		return true, nil
	}
	r.forwardFinalWake(ctx, f)
	return false, nil
}

// finishRun gives the mailbox back. more means that work is due and the run goes on.
func (r *run) finishRun(ctx context.Context) (more bool, err error) {
	r.memory.withEndpoint(func(*circuit.Endpoint) { r.closing = r.decide.Close(time.Now()) })
	c := &r.closing
	closing := mailbox.Closing{Force: c.Force, Cooldown: c.Cooldown, Probes: c.Probes}
	if !c.Refusing.IsZero() {
		closing.Refusing = c.Refusing.Add(r.skew)
	}
	if gone := r.decide.GoneResult(); gone != nil {
		closing.OffRevision = r.switchOffEndpoint(ctx, *gone)
	}
	f, err := r.d.returnMailbox(ctx, r.endpoint.Life, r.token, closing)
	if err != nil {
		return false, err
	}
	if f.State == mailbox.More {
		r.decide.Resume()
		r.idle = false
		return true, nil
	}
	if f.Outdated {
		r.decide.MarkOutdated()
	}
	if r.openedCircuit = c.Cooldown > 0 && f.State == mailbox.Done && !r.decide.IsOutdated(); r.openedCircuit && c.Failing {
		r.d.opts.Metrics.countTransition(open)
	}
	r.forwardFinalWake(ctx, f)
	return false, nil
}

// recallFailed makes one page of the notifications due that failed while the endpoint was failing.
func (r *run) recallFailed(ctx context.Context) error {
	if !r.decide.NeedsRecall() || len(r.settlements) > 0 { // the success that ended the failure is handed in first
		return nil
	}
	more := false
	err := r.d.retryCall(ctx, func(call context.Context) (err error) {
		more, err = r.d.opts.Mailbox.RecallFailed(call, r.endpoint.Life, r.token)
		return err
	})
	if err != nil {
		return drainError(r.app, err)
	}
	r.decide.SetNeedsRecall(more)
	r.idle = false
	return nil
}

// forwardFinalWake passes on the wake-up of a mailbox that was given back.
func (r *run) forwardFinalWake(ctx context.Context, f mailbox.FinishResult) {
	if r.decide.HasOwnFault() {
		f.Wake = delayWake(f.Wake)
	}
	r.d.forwardWake(ctx, r.app, f.Wake)
}

// switchOffEndpoint switches a gone endpoint off and returns the revision of the switch-off. It returns 0 when the
// endpoint stays on: then its circuit opens instead.
func (r *run) switchOffEndpoint(ctx context.Context, gone delivery.Result) int64 {
	call, cancel := detachContext(ctx)
	defer cancel()
	revision, err := r.d.opts.Endpoints.SwitchOff(call, r.endpoint, gone)
	if err != nil {
		r.d.opts.Log.WarnContext(ctx, "endpoint answered that it is gone, but could not be switched off", "app", r.app, "err", err)
	}
	return revision
}
