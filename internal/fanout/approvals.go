package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Index is the registry's side of approvals.
type Index interface {
	AddApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	RemoveApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	Tenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error)
	Audit(ctx context.Context, entries ...registry.AuditEntry) error
}

// Admissions is the mailbox's side of approvals.
type Admissions interface {
	Approve(ctx context.Context, app partner.ClientID, ts []mailbox.Admission) (int, error)
	Again(ctx context.Context, app partner.ClientID, ts []mailbox.Admission) (int, error)
	Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error)
	Deposit(ctx context.Context, app partner.ClientID, nonce string, recs []tenant.Record) (mailbox.Deposited, error)
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []tenant.ID, next string, err error)
}

// ErrUnknownApp reports an approval for an app that does not exist.
var ErrUnknownApp = errors.New("unknown app")

// Approvals keeps which app hears of which tenant, and tells an app again what it may have
// missed. It is safe for concurrent use, and each call may be repeated.
type Approvals struct {
	index   Index
	boxes   Admissions
	apps    Apps
	waker   Waker
	metrics *Metrics
	log     *slog.Logger
}

// ApprovalsOptions are what Approvals needs.
type ApprovalsOptions struct {
	Index      Index
	Admissions Admissions
	Apps       Apps
	Waker      Waker
	Metrics    *Metrics
	Log        *slog.Logger
}

// NewApprovals returns an Approvals.
func NewApprovals(o ApprovalsOptions) *Approvals {
	return &Approvals{index: o.Index, boxes: o.Admissions, apps: o.Apps, waker: o.Waker, metrics: o.Metrics, log: o.Log}
}

// Approve records tenants' consent to an app and tells it their status. Tenants that were
// approved before are left as they are.
//
// The tenant's index is written first, then the mailbox admits, then the record is read and
// deposited: a change accepted in between reaches the app by one of them.
func (a *Approvals) Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return chunks(ts, func(ts []tenant.ID) error {
		hears, err := a.hears(ctx, app)
		if err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		if err := a.index.AddApprover(ctx, ts, app); err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		if _, err := a.tell(ctx, app, ts, hears, a.boxes.Approve); err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		return a.audit(ctx, "approval.put", app, ts, actor)
	})
}

// Dismiss takes approvals back: nothing waits for those tenants any more.
func (a *Approvals) Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return chunks(ts, func(ts []tenant.ID) error {
		if _, err := a.boxes.Dismiss(ctx, app, ts); err != nil {
			return fmt.Errorf("dismiss: %w", err)
		}
		if err := a.index.RemoveApprover(ctx, ts, app); err != nil {
			return fmt.Errorf("dismiss: %w", err)
		}
		return a.audit(ctx, "approval.delete", app, ts, actor)
	})
}

// Forget removes a deleted app from the index of every tenant that approved it; the app's mailbox
// still lists them. It may be repeated until the mailbox is dropped.
func (a *Approvals) Forget(ctx context.Context, app partner.ClientID) error {
	return a.each(ctx, app, func(ts []tenant.ID) error { return a.index.RemoveApprover(ctx, ts, app) })
}

// Resync tells an app the status of the given tenants again, of all that approved it when ts is
// nil. It returns how many will be told.
func (a *Approvals) Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error) {
	hears, err := a.hears(ctx, app)
	if err != nil {
		return 0, fmt.Errorf("resync: %w", err)
	}
	n := 0
	again := func(ts []tenant.ID) error {
		told, err := a.tell(ctx, app, ts, hears, a.boxes.Again)
		n += told
		return err
	}
	if ts == nil {
		err = a.each(ctx, app, again)
	} else {
		err = chunks(ts, again)
	}
	if err != nil {
		return n, fmt.Errorf("resync: %w", err)
	}
	return n, nil
}

// hears reports whether an app gets deposits; one that never had a URL does not.
func (a *Approvals) hears(ctx context.Context, app partner.ClientID) (bool, error) {
	if err := a.apps.Refresh(ctx); err != nil {
		return false, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok := a.apps.App(app)
	if !ok {
		return false, fmt.Errorf("%w: %s", ErrUnknownApp, app)
	}
	return e.Rec.App.EverHadURL, nil
}

// tell admits tenants and deposits what they have to tell. It counts the tenants of which
// something was deposited: not those without approval, nor those with nothing to tell.
func (a *Approvals) tell(
	ctx context.Context, app partner.ClientID, ts []tenant.ID, hears bool,
	admit func(context.Context, partner.ClientID, []mailbox.Admission) (int, error),
) (int, error) {
	views, err := a.index.Tenants(ctx, ts)
	if err != nil {
		return 0, err
	}
	admissions := make([]mailbox.Admission, len(ts))
	for i, v := range views {
		admissions[i] = mailbox.Admission{Tenant: ts[i], Top: v.Record.Top}
	}
	n, err := admit(ctx, app, admissions)
	if err != nil || n == 0 || !hears {
		return 0, err
	}
	if views, err = a.index.Tenants(ctx, ts); err != nil {
		return 0, err
	}
	records := make([]tenant.Record, len(views))
	for i, v := range views {
		records[i] = v.Record
		records[i].Tenant = ts[i]
	}
	d, err := a.boxes.Deposit(ctx, app, uuid.NewString(), records)
	if err != nil {
		return 0, err
	}
	a.metrics.deposited(d)
	wake(ctx, a.waker, a.log, app, d.Wake)
	return min(n, d.Written), nil
}

func (a *Approvals) each(ctx context.Context, app partner.ClientID, f func([]tenant.ID) error) error {
	cursor := ""
	for {
		page, next, err := a.boxes.Approvals(ctx, app, cursor, mailbox.MaxBatch)
		if err != nil {
			return err
		}
		if err := chunks(page, f); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

func (a *Approvals) audit(ctx context.Context, action string, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	entries := make([]registry.AuditEntry, len(ts))
	for i, t := range ts {
		entries[i] = registry.AuditEntry{
			Actor: actor.Name, Role: actor.Role, RequestID: actor.RequestID, Action: action, Subject: string(app), After: `{"tenant":"` + string(t) + `"}`,
		}
	}
	if err := a.index.Audit(ctx, entries...); err != nil {
		return fmt.Errorf("record in the audit: %w", err)
	}
	return nil
}

// chunks calls f with at most mailbox.MaxBatch tenants at a time.
func chunks(ts []tenant.ID, f func([]tenant.ID) error) error {
	for len(ts) > 0 {
		n := min(len(ts), mailbox.MaxBatch)
		if err := f(ts[:n]); err != nil {
			return err
		}
		ts = ts[n:]
	}
	return nil
}
