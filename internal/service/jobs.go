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

// buildJobs makes what works on jobs, and what finds those that are listed nowhere.
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

// wakeJobs has this process look for jobs at once, if it is a worker.
func (s *Service) wakeJobs() {
	if s.jobs != nil {
		s.jobs.Wake()
	}
}

// resyncer has apps told of their tenants: of all by a job, of some at once.
type resyncer struct {
	dir       *registry.Directory
	approvals *fanout.Approvals
	jobs      *jobs.Manager
	pauses    pauseStore
}

// pauseStore keep work from being begun again too soon.
type pauseStore interface {
	// LeaseOrWait begins a pause called name for holder, or says how long the one that another began goes on.
	LeaseOrWait(ctx context.Context, name, holder string, d time.Duration) (wait time.Duration, err error)
	// ReleaseLease ends it early.
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Resync implements httpapi.Resyncer.
func (t *resyncer) Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error) {
	return t.approvals.Resync(ctx, app, ts)
}

// resyncPause is how long after a resync of all tenants was asked for the next one of the app is taken: until then
// the job under way is the answer.
const resyncPause = time.Minute

// ResyncAll implements httpapi.Resyncer.
func (t *resyncer) ResyncAll(ctx context.Context, rec registry.AppRecord, actor registry.Actor) (job string, tenants int64, err error) {
	name, holder := "resync:"+string(rec.App.ClientID), uuid.NewString()
	wait, err := t.pauses.LeaseOrWait(ctx, name, holder, resyncPause)
	if err != nil {
		return "", 0, err
	}
	if wait > 0 { // whoever asks again so soon is told of what runs
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
	if err != nil { // a repeat may try at once
		_ = t.pauses.ReleaseLease(context.WithoutCancel(ctx), name, holder) // it ends by itself, too
	}
	return id.String(), n, err
}

// CatchUp implements compare.Jobs, and takes tasks of the queue that an older version left. An app that is gone hears nothing.
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
