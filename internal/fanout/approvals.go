package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Index is the part of the registry that approvals use.
type Index interface {
	AddApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	RemoveApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	// ReplicatedTenants reads what replicas have confirmed: neither a top nor a status that a failover takes back may
	// get into a mailbox.
	ReplicatedTenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error)
	AppendAudit(ctx context.Context, entries ...registry.AuditEntry) error
	RecordUnfinishedApprovals(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]registry.UnfinishedApproval, error)
	FinishApprovals(ctx context.Context, done []registry.UnfinishedApproval) error
}

// Admissions is the part of the mailbox that approvals use.
type Admissions interface {
	Dismissals(ctx context.Context, app partner.ClientID) (int64, error)
	Approve(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error)
	ApproveNew(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error)
	RequestResync(ctx context.Context, life mailbox.Life, ts []mailbox.Admission) (int, error)
	Dismiss(ctx context.Context, life mailbox.Life, ts []tenant.ID) (int, error)
	Deposit(ctx context.Context, life mailbox.Life, nonce string, recs []tenant.Record) (mailbox.DepositResult, error)
	ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error)
	JobPages
}

// ErrUnknownApp is returned for an app that does not exist. It is a registry.ErrNotFound.
var ErrUnknownApp = fmt.Errorf("unknown app: %w", registry.ErrNotFound)

// Approvals writes and deletes approvals, and resyncs apps. It is safe for concurrent use, and each call may be
// repeated.
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

// Approve records tenants' consent to an app and deposits their status for it. Tenants that have approved the app
// already are left alone.
//
// The tenants' index is written first, then the mailbox admits the app, then the record is read and deposited. So a
// change accepted in between reaches the app by its fan-out or by this deposit. The index is synchronized again after
// the admission, since a dismissal may have removed the app in between.
func (a *Approvals) Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return forEachChunk(ts, func(ts []tenant.ID) error {
		if err := a.approveTenants(ctx, app, ts, a.boxes.Approve); err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		return a.writeAudit(ctx, "approval.put", app, ts, actor)
	})
}

// ApproveNew is Approve for a tenant that has not approved the app. It returns registry.ErrConflict if it has: of
// concurrent calls, one succeeds. A written approval is in the audit log even if a later step failed; a repeated call
// then returns ErrConflict.
func (a *Approvals) ApproveNew(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	ts, before, wrote := []tenant.ID{t}, false, false
	err := a.approveTenants(ctx, app, ts, func(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error) {
		n, err := a.boxes.ApproveNew(ctx, life, since, ts)
		if before = errors.Is(err, mailbox.ErrApproved); before {
			return 1, nil // it may be this call's own, whose answer was lost: then the deposit is still to be made
		}
		wrote = wrote || n > 0
		return n, err
	})
	if err == nil && before {
		err = fmt.Errorf("tenant %s has approved app %s: %w", t, app, registry.ErrConflict)
	}
	if err != nil {
		err = fmt.Errorf("approve: %w", err)
	}
	if wrote {
		err = errors.Join(err, a.writeAudit(ctx, "approval.put", app, ts, actor))
	}
	return err
}

// admitFunc approves tenants in the mailbox; see mailbox.Store.Approve.
type admitFunc func(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error)

func (a *Approvals) approveTenants(ctx context.Context, app partner.ClientID, ts []tenant.ID, admit admitFunc) error {
	to, err := a.readTarget(ctx, app)
	if err != nil {
		return err
	}
	return a.withApprovalNote(ctx, app, ts, func() error {
		if err := a.index.AddApprover(ctx, ts, app); err != nil {
			return err
		}
		n, err := a.admitTenants(ctx, to.life, ts, admit)
		if errors.Is(err, mailbox.ErrGone) { // consent to an app that does not exist any more is void
			_, matched := a.syncIndex(ctx, app, ts, nil)
			return errors.Join(wrapUnknownApp(app, err), matched)
		}
		if err != nil {
			return err
		}
		approved, err := a.syncIndex(ctx, app, ts, ts)
		if err != nil || n == 0 || len(approved) == 0 || !to.getsDeposits {
			return err
		}
		_, err = a.depositRecords(ctx, to.life, approved)
		return err
	})
}

// wrapUnknownApp returns ErrUnknownApp for a call during which the app was deleted.
func wrapUnknownApp(app partner.ClientID, err error) error {
	if errors.Is(err, mailbox.ErrGone) {
		return fmt.Errorf("%w: %s: %w", ErrUnknownApp, app, err)
	}
	return err
}

// Dismiss deletes approvals, and what is pending for them. An approval that was written after the dismissal stays,
// and is put back into the index.
func (a *Approvals) Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return forEachChunk(ts, func(ts []tenant.ID) error {
		if _, err := a.dismissTenants(ctx, app, ts); err != nil {
			return fmt.Errorf("dismiss: %w", err)
		}
		return a.writeAudit(ctx, "approval.delete", app, ts, actor)
	})
}

// DismissExisting is Dismiss of an existing approval. It returns registry.ErrConflict if there is none: of concurrent
// calls, one succeeds. took says that this call deleted it, which is in the audit log even if a later step failed; a
// repeated call then returns ErrConflict.
func (a *Approvals) DismissExisting(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) (took bool, err error) {
	ts := []tenant.ID{t}
	n, err := a.dismissTenants(ctx, app, ts)
	if err == nil && n == 0 {
		err = fmt.Errorf("tenant %s has not approved app %s: %w", t, app, registry.ErrConflict)
	}
	if err != nil {
		err = fmt.Errorf("dismiss: %w", err)
	}
	if n > 0 {
		err = errors.Join(err, a.writeAudit(ctx, "approval.delete", app, ts, actor))
	}
	return n > 0, err
}

// dismissTenants returns how many approvals it deleted, also with an error.
func (a *Approvals) dismissTenants(ctx context.Context, app partner.ClientID, ts []tenant.ID) (n int, err error) {
	to, err := a.readTarget(ctx, app)
	if err != nil {
		return 0, err
	}
	err = a.withApprovalNote(ctx, app, ts, func() (err error) {
		if n, err = a.boxes.Dismiss(ctx, to.life, ts); err != nil {
			return wrapUnknownApp(app, err)
		}
		back, err := a.syncIndex(ctx, app, ts, nil)
		if err != nil {
			return err
		}
		return a.depositCurrent(ctx, app, back)
	})
	return n, err
}

// withApprovalNote runs a change of approvals in several slots. If it breaks off, the repair finishes it.
func (a *Approvals) withApprovalNote(ctx context.Context, app partner.ClientID, ts []tenant.ID, change func() error) error {
	noted, err := a.index.RecordUnfinishedApprovals(ctx, app, ts)
	if err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return a.index.FinishApprovals(ctx, noted)
}

// admitTries limits how often an approval reads the tops again because of concurrent dismissals.
const admitTries = 20

// admitTenants approves tenants in the mailbox, and returns how many are marked for a deposit.
func (a *Approvals) admitTenants(ctx context.Context, life mailbox.Life, ts []tenant.ID, admit admitFunc) (n int, err error) {
	for range admitTries {
		since, err := a.boxes.Dismissals(ctx, life.App)
		if err != nil {
			return 0, err
		}
		admissions, err := a.readTops(ctx, ts)
		if err != nil {
			return 0, err
		}
		if n, err = admit(ctx, life, since, admissions); !errors.Is(err, mailbox.ErrDismissed) {
			return n, err
		}
	}
	return 0, fmt.Errorf("%d times: %w", admitTries, mailbox.ErrDismissed)
}

// listApproved lists the tenants whose approval the mailbox holds.
func (a *Approvals) listApproved(ctx context.Context, app partner.ClientID, ts []tenant.ID) (is []tenant.ID, err error) {
	standings, err := a.boxes.ReadPairs(ctx, app, ts)
	for i, st := range standings {
		if st.Approved {
			is = append(is, ts[i])
		}
	}
	return is, err
}

// syncIndex makes the index of tenants match the approvals in the mailbox, and returns the approved tenants. approved
// is what the caller has read last. The mailbox is read again after each write of the index. So the last writer
// leaves the index right, however calls interleave.
func (a *Approvals) syncIndex(ctx context.Context, app partner.ClientID, ts, approved []tenant.ID) ([]tenant.ID, error) {
	for range admitTries {
		is := make(map[tenant.ID]bool, len(approved))
		for _, t := range approved {
			is[t] = true
		}
		others := slices.DeleteFunc(slices.Clone(ts), func(t tenant.ID) bool { return is[t] })
		if len(approved) > 0 {
			if err := a.index.AddApprover(ctx, approved, app); err != nil {
				return nil, err
			}
		}
		if len(others) > 0 {
			if err := a.index.RemoveApprover(ctx, others, app); err != nil {
				return nil, err
			}
		}
		now, err := a.listApproved(ctx, app, ts)
		if err != nil || slices.Equal(now, approved) {
			return now, err
		}
		approved = now
	}
	return nil, fmt.Errorf("match the index %d times: %w", admitTries, mailbox.ErrDismissed)
}

// ReconcileIndex makes the index of at most mailbox.MaxBatch tenants match an app's mailbox. It also deposits what
// fan-outs may have left out meanwhile. It may be repeated at any time.
func (a *Approvals) ReconcileIndex(ctx context.Context, app partner.ClientID, ts []tenant.ID) error {
	approved, err := a.listApproved(ctx, app, ts)
	if err != nil {
		return err
	}
	if approved, err = a.syncIndex(ctx, app, ts, approved); err != nil {
		return err
	}
	return a.CatchUp(ctx, app, approved)
}

// CatchUp deposits the records of at most mailbox.MaxBatch tenants again. The mailbox ignores what it has already.
// Nothing is deposited for an app that is deleted, or never had a URL.
func (a *Approvals) CatchUp(ctx context.Context, app partner.ClientID, ts []tenant.ID) error {
	err := a.depositCurrent(ctx, app, ts)
	if errors.Is(err, ErrUnknownApp) {
		return nil
	}
	return err
}

// depositCurrent deposits what fan-outs may have left out while the app was not in the tenants' index.
func (a *Approvals) depositCurrent(ctx context.Context, app partner.ClientID, ts []tenant.ID) error {
	if len(ts) == 0 {
		return nil
	}
	to, err := a.readTarget(ctx, app)
	if err != nil || !to.getsDeposits {
		return err
	}
	_, err = a.depositRecords(ctx, to.life, ts)
	return wrapUnknownApp(app, err)
}

// Resync deposits the present status of the given tenants again; a job does so for all tenants. It returns how many
// notifications will follow. If it breaks off, the repair deposits what was requested.
func (a *Approvals) Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error) {
	to, err := a.readTarget(ctx, app)
	if err != nil {
		return 0, fmt.Errorf("resync: %w", err)
	}
	n := 0
	err = forEachChunk(ts, func(ts []tenant.ID) error {
		return a.withApprovalNote(ctx, app, ts, func() error {
			told, err := a.requestResync(ctx, to, ts)
			n += told
			return wrapUnknownApp(app, err)
		})
	})
	if err != nil {
		return n, fmt.Errorf("resync: %w", err)
	}
	return n, nil
}

// requestResync marks tenants for a resync and deposits their status. It returns how many notifications will follow.
func (a *Approvals) requestResync(ctx context.Context, to depositTarget, ts []tenant.ID) (int, error) {
	admissions, err := a.readTops(ctx, ts)
	if err != nil {
		return 0, err
	}
	asked, err := a.boxes.RequestResync(ctx, to.life, admissions)
	if err != nil || asked == 0 || !to.getsDeposits {
		return 0, err
	}
	written, err := a.depositRecords(ctx, to.life, ts)
	return min(asked, written), err // without those that have no status
}

// depositTarget is what a deposit needs to know about an app.
type depositTarget struct {
	life mailbox.Life
	// getsDeposits is false for an app that never had a URL.
	getsDeposits bool
}

// readTarget reads the app's settings again.
func (a *Approvals) readTarget(ctx context.Context, app partner.ClientID) (depositTarget, error) {
	if err := a.apps.Refresh(ctx); err != nil {
		return depositTarget{}, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := a.apps.Lookup(app)
	if unreadable != nil && (!ok || !e.Rec.App.EverHadURL) { // the unreadable write may have created it, or given it a URL
		return depositTarget{}, fmt.Errorf("read app %s: %w", app, unreadable)
	}
	if !ok {
		return depositTarget{}, fmt.Errorf("%w: %s", ErrUnknownApp, app)
	}
	return depositTarget{life: lifeOf(e), getsDeposits: e.Rec.App.EverHadURL}, nil
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(e *registry.Entry) mailbox.Life {
	return mailbox.Life{App: e.Rec.App.ClientID, Birth: e.Rec.Birth}
}

// readTops reads each tenant's highest sequence.
func (a *Approvals) readTops(ctx context.Context, ts []tenant.ID) ([]mailbox.Admission, error) {
	views, err := a.index.ReplicatedTenants(ctx, ts)
	if err != nil {
		return nil, err
	}
	admissions := make([]mailbox.Admission, len(ts))
	for i, v := range views {
		admissions[i] = mailbox.Admission{Tenant: ts[i], Top: v.Record.Top}
	}
	return admissions, nil
}

// depositRecords reads the tenants' records and deposits them in the app's mailbox. It returns the number of entries
// written.
func (a *Approvals) depositRecords(ctx context.Context, life mailbox.Life, ts []tenant.ID) (written int, err error) {
	views, err := a.index.ReplicatedTenants(ctx, ts)
	if err != nil {
		return 0, err
	}
	records := make([]tenant.Record, len(views))
	for i, v := range views {
		records[i] = v.Record
		records[i].Tenant = ts[i]
	}
	d, err := a.boxes.Deposit(ctx, life, uuid.NewString(), records)
	if err == nil || d != (mailbox.DepositResult{}) { // an error may mean that it is written, but not yet replicated
		a.metrics.countSuperseded(d)
		forwardWake(ctx, a.waker, a.log, life.App, d.Wake)
	}
	return d.Written, err
}

func (a *Approvals) writeAudit(ctx context.Context, action string, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	entries := make([]registry.AuditEntry, len(ts))
	for i, t := range ts {
		entries[i] = registry.AuditEntry{
			Actor: actor.Name, Role: actor.Role, RequestID: actor.RequestID, Action: action, Subject: string(app), After: `{"tenant":"` + string(t) + `"}`,
		}
	}
	if err := a.index.AppendAudit(ctx, entries...); err != nil {
		return fmt.Errorf("write audit entry: %w", err)
	}
	return nil
}

// forEachChunk calls f with at most mailbox.MaxBatch tenants at a time.
func forEachChunk(ts []tenant.ID, f func([]tenant.ID) error) error {
	for len(ts) > 0 {
		n := min(len(ts), mailbox.MaxBatch)
		if err := f(ts[:n]); err != nil {
			return err
		}
		ts = ts[n:]
	}
	return nil
}
