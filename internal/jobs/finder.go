package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// FinderOptions configure a Finder.
type FinderOptions struct {
	Leases interface {
		TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
		ReleaseLease(ctx context.Context, name, holder string) error
	}
	Removed interface {
		RemovedApps(ctx context.Context, since int64, limit int) ([]registry.RemovedApp, error)
	}
	Lists interface {
		RegisterJobs(ctx context.Context, ids ...string) error
	}
	Apps interface {
		Refresh(ctx context.Context) error
		All() []*registry.Entry
	}
	Boxes interface {
		Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
		OpenJobs(ctx context.Context, apps []partner.ClientID) ([][]mailbox.JobID, error)
	}
	// Deleted ends the life of an app that was deleted, and makes its clear job.
	Deleted func(ctx context.Context, id partner.ClientID, revision int64) error
	Log     *slog.Logger
}

// Limits of one search; its cost does not depend on the number of apps.
const (
	// lookAt is how many deleted apps, and how many existing ones, one search checks.
	lookAt = 200
	// lookEvery is the pause between two searches, lookWithin bounds one. lookLease is how long a process keeps the lease without
	// renewing it.
	lookEvery  = 5 * time.Second
	lookWithin = 5 * time.Second
	lookLease  = 15 * time.Second
	leaseName  = "jobs"
)

// Finder finds work that no list names: deletions that were interrupted, what former lives left, and jobs that the list lost.
// New, then Run once.
type Finder struct {
	opts   FinderOptions
	holder string
	// removed is the revision up to which deleted apps were checked. failed is the revision of the first of them whose life could
	// not be ended, 0 for none.
	removed, failed int64
	// living is the app behind which the next search begins.
	living partner.ClientID
}

// NewFinder returns a Finder.
func NewFinder(o FinderOptions) *Finder { return &Finder{opts: o, holder: uuid.NewString()} }

// Run searches until ctx ends, while this process holds the lease, and then releases it.
func (f *Finder) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer func() {
		err := runWithTimeout(context.WithoutCancel(ctx), settleWithin, func(ctx context.Context) error { return f.opts.Leases.ReleaseLease(ctx, leaseName, f.holder) })
		if err != nil {
			f.opts.Log.WarnContext(ctx, "lease of the finder of jobs not released; it will expire", "err", err)
		}
	}()
	for {
		if err := runWithTimeout(ctx, lookWithin, f.findWithLease); err != nil && ctx.Err() == nil {
			f.opts.Log.WarnContext(ctx, "search for unlisted jobs failed; it is repeated soon", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *Finder) findWithLease(ctx context.Context) error {
	held, err := f.opts.Leases.TakeLease(ctx, leaseName, f.holder, lookLease)
	if err != nil || !held {
		return err
	}
	if err := f.opts.Apps.Refresh(ctx); err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return fmt.Errorf("refresh apps: %w", err)
	}
	return f.FindOnce(ctx)
}

// FindOnce checks some apps; successive calls go through all of them.
func (f *Finder) FindOnce(ctx context.Context) error {
	return errors.Join(f.findDeleted(ctx), f.findLiving(ctx))
}

// findDeleted checks some deleted apps. An app whose life cannot be ended is tried again after all behind it were checked.
func (f *Finder) findDeleted(ctx context.Context) error {
	gone, err := f.opts.Removed.RemovedApps(ctx, f.removed, lookAt)
	if err != nil {
		return err
	}
	ids := make([]partner.ClientID, len(gone))
	for i, g := range gone {
		ids[i] = g.App
	}
	views, errs := f.opts.Boxes.Views(ctx, ids)
	var former []string
	for i, g := range gone {
		if v := views[i]; errs[i] == nil && (v.Approvals+v.Waiting > 0 || v.Birth > 0 && v.Birth < g.Revision) {
			errs[i] = f.opts.Deleted(ctx, g.App, g.Revision)
		} else if errs[i] == nil {
			former = append(former, listClearJobIDs(g.App, v)...)
		}
		if errs[i] != nil && f.failed == 0 {
			f.failed = g.Revision
		}
		f.removed = g.Revision
	}
	switch {
	case len(gone) == lookAt:
	case f.failed > 0:
		f.removed, f.failed = f.failed-1, 0
	default: // from the start again: an older process may have been interrupted meanwhile, or a list been lost
		f.removed = 0
	}
	errs = append(errs, f.registerJobs(ctx, former))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("check deleted apps: %w", err)
	}
	return nil
}

// findLiving checks some existing apps: what a former life left, and which jobs run for them.
func (f *Finder) findLiving(ctx context.Context) error {
	var ids []partner.ClientID
	for _, e := range f.opts.Apps.All() { // in the order of their ids
		if id := e.Rec.App.ClientID; id > f.living && len(ids) < lookAt {
			ids = append(ids, id)
		}
	}
	f.living = ""
	if len(ids) == 0 {
		return nil
	}
	if len(ids) == lookAt {
		f.living = ids[len(ids)-1]
	}
	views, errs := f.opts.Boxes.Views(ctx, ids)
	var found []string
	for i, id := range ids {
		if errs[i] == nil {
			found = append(found, listClearJobIDs(id, views[i])...)
		}
	}
	open, err := f.opts.Boxes.OpenJobs(ctx, ids)
	for _, jobs := range open {
		for _, id := range jobs {
			found = append(found, id.String())
		}
	}
	errs = append(errs, err, f.registerJobs(ctx, found))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("find jobs of apps: %w", err)
	}
	return nil
}

// listClearJobIDs names the jobs that clear away after an app's former lives.
func listClearJobIDs(app partner.ClientID, v mailbox.View) []string {
	ids := make([]string, len(v.Former))
	for i, birth := range v.Former {
		ids[i] = mailbox.ClearJobID(mailbox.Life{App: app, Birth: birth}).String()
	}
	return ids
}

func (f *Finder) registerJobs(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return f.opts.Lists.RegisterJobs(ctx, ids...)
}
