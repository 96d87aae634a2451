package fanout

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// JobPages is the part of the mailbox that jobs use.
type JobPages interface {
	ReadJobPage(ctx context.Context, c mailbox.JobClaim) (mailbox.JobPage, error)
	DepositJobPage(ctx context.Context, c *mailbox.JobClaim, nonce string, recs []tenant.Record, t mailbox.PageDeposit) (mailbox.PageResult, error)
	EndJob(ctx context.Context, c mailbox.JobClaim, as mailbox.JobState, why mailbox.JobReason) error
	ReadFormerApprovals(ctx context.Context, life mailbox.Life) ([]tenant.ID, error)
	RemoveFormerApprovals(ctx context.Context, c mailbox.JobClaim, ts []tenant.ID) (left int, err error)
}

// AdvanceJob makes the next page of a claimed job, and reports whether the job has ended with it. A repeated page
// changes nothing that was written before. Errors: mailbox.ErrJobLost; mailbox.ErrGone when the job's app does not
// exist any more.
func (a *Approvals) AdvanceJob(ctx context.Context, c *mailbox.JobClaim) (ended bool, err error) {
	if c.ID.Kind == mailbox.JobClear {
		ended, err = a.clearJobPage(ctx, *c)
	} else {
		ended, err = a.depositJobPage(ctx, c)
	}
	if err != nil {
		return false, fmt.Errorf("page of job %s: %w", c.ID, err)
	}
	return ended, nil
}

// clearJobPage removes a page of a former life's approvals from the index of tenants, then from the list of the rest.
func (a *Approvals) clearJobPage(ctx context.Context, c mailbox.JobClaim) (ended bool, err error) {
	page, err := a.boxes.ReadFormerApprovals(ctx, c.Life())
	if err != nil {
		return false, err
	}
	if err := a.ReconcileIndex(ctx, c.ID.App, page); err != nil {
		return false, err
	}
	left, err := a.boxes.RemoveFormerApprovals(ctx, c, page)
	return left == 0, err
}

// depositJobPage reads a page of approvals, then the tenants' records. It deposits them in the step that advances the
// job, so no note of unfinished approvals is needed: the job itself is repeated.
func (a *Approvals) depositJobPage(ctx context.Context, c *mailbox.JobClaim) (ended bool, err error) {
	hears, err := a.stillGetsDeposits(ctx, c.Life())
	if err != nil {
		return false, err
	}
	if !hears { // everything is deposited when it gets a URL
		return true, a.boxes.EndJob(ctx, *c, mailbox.JobDone, mailbox.NoURL)
	}
	page, err := a.boxes.ReadJobPage(ctx, *c)
	if err != nil {
		return false, err
	}
	t := mailbox.PageDeposit{Page: page, Counted: len(page.Tenants) + page.Skipped, Skipped: page.Skipped}
	for rest := page.Tenants; ; {
		n := min(len(rest), mailbox.MaxBatch)
		t.All, t.Last = c.ID.Kind == mailbox.JobResync, n == len(rest)
		if ended, err = a.depositTenants(ctx, c, rest[:n], &t); err != nil || t.Last {
			return ended, err
		}
		rest = rest[n:]
	}
}

// stillGetsDeposits reports whether the app gets deposits. A stale true is harmless: deposits for an ended life are
// refused.
func (a *Approvals) stillGetsDeposits(ctx context.Context, life mailbox.Life) (bool, error) {
	if e, ok, _ := a.apps.Lookup(life.App); ok && lifeOf(e) == life && e.Rec.App.EverHadURL {
		return true, nil
	}
	to, err := a.readTarget(ctx, life.App)
	switch {
	case errors.Is(err, ErrUnknownApp), err == nil && to.life.Birth > life.Birth:
		return false, fmt.Errorf("app %s: %w", life.App, mailbox.ErrGone)
	case err == nil && to.life.Birth < life.Birth: // the settings lost the write that made it: the comparison repairs that
		return false, fmt.Errorf("app %s: its settings know birth %d, the job %d: %w", life.App, to.life.Birth, life.Birth, registry.ErrUnreadable)
	}
	return to.getsDeposits, err
}

// depositTries limits how often changing records are read again for one page.
const depositTries = 20

// depositTenants deposits tenants of a page. When a newer record than the read one was deposited meanwhile, it reads
// that tenant again.
func (a *Approvals) depositTenants(ctx context.Context, c *mailbox.JobClaim, ts []tenant.ID, t *mailbox.PageDeposit) (ended bool, err error) {
	for range depositTries {
		records, skipped, err := a.readRecords(ctx, ts)
		if err != nil {
			return false, err
		}
		t.Skipped += skipped
		told, err := a.boxes.DepositJobPage(ctx, c, uuid.NewString(), records, *t)
		if err == nil || told.DepositResult != (mailbox.DepositResult{}) { // an error may mean that it is written, but not yet replicated
			a.metrics.countSuperseded(told.DepositResult)
			forwardWake(ctx, a.waker, a.log, c.ID.App, told.Wake)
		}
		if errors.Is(err, mailbox.ErrJobLost) && !t.All && c.ID.Kind == mailbox.JobResync { // they are marked already
			return false, errors.Join(err, a.CatchUp(ctx, c.ID.App, ts))
		}
		if err != nil || len(told.Stale) == 0 {
			return told.Done, err
		}
		ts, t.All = told.Stale, false
	}
	return false, fmt.Errorf("%d records of the page changed %d times meanwhile", len(ts), depositTries)
}

// readRecords reads tenants' records. Those that this version cannot read are left out and counted in skipped.
func (a *Approvals) readRecords(ctx context.Context, ts []tenant.ID) (records []tenant.Record, skipped int, err error) {
	if len(ts) == 0 {
		return nil, 0, nil
	}
	views, err := a.index.ReplicatedTenants(ctx, ts)
	if errors.Is(err, registry.ErrUnreadable) {
		if len(ts) == 1 {
			a.log.WarnContext(ctx, "a tenant's record cannot be read; the job leaves it out", "tenant", ts[0], "err", err)
			return nil, 1, nil
		}
		half := len(ts) / 2
		left, n, err := a.readRecords(ctx, ts[:half])
		if err != nil {
			return nil, 0, err
		}
		right, m, err := a.readRecords(ctx, ts[half:])
		return append(left, right...), n + m, err
	}
	if err != nil {
		return nil, 0, err
	}
	records = make([]tenant.Record, len(views))
	for i, v := range views {
		records[i] = v.Record
		records[i].Tenant = ts[i]
	}
	return records, 0, nil
}
