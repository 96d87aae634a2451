package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Directory is the directory of apps; *registry.Directory is one.
type Directory interface {
	Refresh(ctx context.Context) error
	App(id partner.ClientID) (*registry.Entry, bool)
}

// Approvals resyncs tenants at once.
type Approvals interface {
	Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error)
}

// Pauses prevents work from being started again too soon; *registry.Store is one.
type Pauses interface {
	// LeaseOrWait begins a pause called name for holder, or returns how long another holder's pause lasts.
	LeaseOrWait(ctx context.Context, name, holder string, d time.Duration) (wait time.Duration, err error)
	// ReleaseLease ends a pause early.
	ReleaseLease(ctx context.Context, name, holder string) error
}

// ResyncerOptions configure a Resyncer.
type ResyncerOptions struct {
	Apps      Directory
	Approvals Approvals
	Jobs      *Manager
	Pauses    Pauses
}

// Resyncer resyncs apps: all tenants by a job, a few at once. It is safe for concurrent use.
type Resyncer struct{ opts ResyncerOptions }

// NewResyncer returns a Resyncer.
func NewResyncer(opts ResyncerOptions) *Resyncer { return &Resyncer{opts: opts} }

// Resync deposits the status of the given tenants for an app, and counts them. It leaves out tenants that did not
// approve the app.
func (r *Resyncer) Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error) {
	return r.opts.Approvals.Resync(ctx, app, ts)
}

// TooSoonError refuses a resync of all tenants: another one of the app was requested a short time ago, and has ended.
type TooSoonError struct {
	// Wait is how long until the next one is accepted.
	Wait time.Duration
}

// Error names the wait.
func (e *TooSoonError) Error() string {
	return "a resync of all tenants of the app was requested a short time ago; the next one is accepted in " + e.Wait.String()
}

// resyncPause is the least time between two resyncs of all tenants of an app. A request within it gets the running
// job as its answer.
const resyncPause = time.Minute

// ResyncAll starts a job that deposits the status of all tenants of an app, and counts them. If such a job runs
// already, it returns that one, which then goes round once more, unless it was requested a short time ago. Errors: a
// TooSoonError when a job has ended that was requested a short time ago.
func (r *Resyncer) ResyncAll(ctx context.Context, rec registry.AppRecord, actor registry.Actor) (job string, tenants int64, err error) {
	name, holder := "resync:"+string(rec.App.ClientID), uuid.NewString()
	wait, err := r.opts.Pauses.LeaseOrWait(ctx, name, holder, resyncPause)
	if err != nil {
		return "", 0, err
	}
	if wait > 0 { // so soon after the last request, the running job is the answer
		j, running, err := r.opts.Jobs.RunningJob(ctx, lifeOf(rec), mailbox.JobResync)
		if err == nil && !running {
			err = &TooSoonError{Wait: wait}
		}
		if err != nil {
			return "", 0, err
		}
		return j.ID.String(), j.Of, nil
	}
	id, n, err := r.opts.Jobs.StartDepositJob(ctx, lifeOf(rec), mailbox.JobResync, actor)
	if err != nil { // a repeated request may start at once
		_ = r.opts.Pauses.ReleaseLease(context.WithoutCancel(ctx), name, holder) // otherwise it expires
	}
	return id.String(), n, err
}

// CatchUp starts a job that deposits what an app never got. The comparison calls it, and the queue for tasks that an
// older version left. It does nothing for a deleted app.
func (r *Resyncer) CatchUp(ctx context.Context, app partner.ClientID) error {
	if err := r.opts.Apps.Refresh(ctx); err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return fmt.Errorf("refresh apps: %w", err)
	}
	e, ok := r.opts.Apps.App(app)
	if !ok {
		return nil
	}
	_, _, err := r.opts.Jobs.StartDepositJob(ctx, lifeOf(e.Rec), mailbox.JobCatchUp, registry.Actor{})
	if errors.Is(err, mailbox.ErrGone) {
		return nil
	}
	return err
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}
