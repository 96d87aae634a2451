package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// buildJobs builds the workers of jobs, and the finder of unlisted jobs.
func (s *Service) buildJobs() {
	if !s.hasRole(RoleWorker) {
		return
	}
	p := &s.parts
	s.jobs = jobs.NewRunner(jobs.Options{
		Due: s.store, Claims: s.boxes, Page: p.approvals.AdvanceJob, StoreFault: storeFaultName, Metrics: jobs.NewMetrics(s.metrics), Log: s.log,
	})
	s.finder = jobs.NewFinder(jobs.FinderOptions{
		Leases: s.store, Removed: s.store, Lists: s.store, Apps: s.dir, Boxes: s.boxes,
		Deleted: func(ctx context.Context, id partner.ClientID, revision int64) error {
			_, err := p.events.AppDeleted(ctx, id, revision, registry.Actor{})
			return err
		},
		Log: s.log,
	})
}

// wakeJobs makes this process look for jobs at once, if it is a worker.
func (s *Service) wakeJobs() {
	if s.jobs != nil {
		s.jobs.Wake()
	}
}

// resyncer resyncs apps: all tenants by a job, a few at once.
type resyncer struct {
	dir       *registry.Directory
	approvals *fanout.Approvals
	jobs      *jobs.Manager
	pauses    pauseStore
}

// pauseStore prevents work from being started again too soon.
type pauseStore interface {
	// LeaseOrWait begins a pause called name for holder, or returns how long another holder's pause lasts.
	LeaseOrWait(ctx context.Context, name, holder string, d time.Duration) (wait time.Duration, err error)
	// ReleaseLease ends a pause early.
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Resync implements httpapi.Resyncer.
func (t *resyncer) Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error) {
	return t.approvals.Resync(ctx, app, ts)
}

// resyncPause is the least time between two resyncs of all tenants of an app. A request within it gets the running
// job as its answer.
const resyncPause = time.Minute

// ResyncAll implements httpapi.Resyncer.
func (t *resyncer) ResyncAll(ctx context.Context, rec registry.AppRecord, actor registry.Actor) (job string, tenants int64, err error) {
	name, holder := "resync:"+string(rec.App.ClientID), uuid.NewString()
	wait, err := t.pauses.LeaseOrWait(ctx, name, holder, resyncPause)
	if err != nil {
		return "", 0, err
	}
	if wait > 0 { // so soon after the last request, the running job is the answer
		j, running, err := t.jobs.RunningJob(ctx, lifeOf(rec), mailbox.JobResync)
		if err == nil && !running {
			err = &httpapi.ResyncTooSoonError{Wait: wait}
		}
		if err != nil {
			return "", 0, err
		}
		return j.ID.String(), j.Of, nil
	}
	id, n, err := t.jobs.StartDepositJob(ctx, lifeOf(rec), mailbox.JobResync, actor)
	if err != nil { // a repeated request may start at once
		_ = t.pauses.ReleaseLease(context.WithoutCancel(ctx), name, holder) // otherwise it expires
	}
	return id.String(), n, err
}

// CatchUp implements compare.Jobs, and takes tasks that an older version left in the queue. It does nothing for a
// deleted app.
func (t *resyncer) CatchUp(ctx context.Context, app partner.ClientID) error {
	if err := t.dir.Refresh(ctx); err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return fmt.Errorf("refresh apps: %w", err)
	}
	e, ok := t.dir.App(app)
	if !ok {
		return nil
	}
	_, _, err := t.jobs.StartDepositJob(ctx, lifeOf(e.Rec), mailbox.JobCatchUp, registry.Actor{})
	if errors.Is(err, mailbox.ErrGone) {
		return nil
	}
	return err
}
