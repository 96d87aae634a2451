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

// Index is the registry's side of approvals.
type Index interface {
	AddApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	RemoveApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error
	// ReplicatedTenants reads what replicas hold: neither a top nor a status that a failover takes back may
	// get into a mailbox.
	ReplicatedTenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error)
	AppendAudit(ctx context.Context, entries ...registry.AuditEntry) error
	RecordUnfinishedApprovals(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]registry.UnfinishedApproval, error)
	FinishApprovals(ctx context.Context, done []registry.UnfinishedApproval) error
}

// Admissions is the mailbox's side of approvals.
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

// ErrUnknownApp reports an approval for an app that does not exist. It is a registry.ErrNotFound.
var ErrUnknownApp = fmt.Errorf("unknown app: %w", registry.ErrNotFound)

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
// deposited: a change accepted in between reaches the app by one of them. The index is matched
// again after admitting, since a dismissal may have struck the app off in between.
func (a *Approvals) Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return forEachChunk(ts, func(ts []tenant.ID) error {
		if err := a.approveTenants(ctx, app, ts, a.boxes.Approve); err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		return a.writeAudit(ctx, "approval.put", app, ts, actor)
	})
}

// ApproveNew is Approve of a tenant that has not approved the app, and registry.ErrConflict where
// it has: of those who call it at once, one succeeds. What it wrote is in the audit also where it failed
// later: whoever repeats it hears ErrConflict.
func (a *Approvals) ApproveNew(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	ts, before, wrote := []tenant.ID{t}, false, false
	err := a.approveTenants(ctx, app, ts, func(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error) {
		n, err := a.boxes.ApproveNew(ctx, life, since, ts)
		if before = errors.Is(err, mailbox.ErrApproved); before {
			return 1, nil // it may be this call's own, whose answer was lost: then it is still to be told
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
		if errors.Is(err, mailbox.ErrGone) { // consent to an app that is no more is none
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

// wrapUnknownApp is the error of a call that an app's deletion overtook.
func wrapUnknownApp(app partner.ClientID, err error) error {
	if errors.Is(err, mailbox.ErrGone) {
		return fmt.Errorf("%w: %s: %w", ErrUnknownApp, app, err)
	}
	return err
}

// Dismiss takes approvals back: nothing waits for those tenants any more. An approval that
// overtook the dismissal stands, and is put back into the index.
func (a *Approvals) Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	return forEachChunk(ts, func(ts []tenant.ID) error {
		if _, err := a.dismissTenants(ctx, app, ts); err != nil {
			return fmt.Errorf("dismiss: %w", err)
		}
		return a.writeAudit(ctx, "approval.delete", app, ts, actor)
	})
}

// DismissExisting is Dismiss of an approval that stands, and registry.ErrConflict where there is
// none: of those who call it at once, one succeeds. It says whether it took it back, which is in the
// audit also where it failed later: whoever repeats it hears ErrConflict.
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

// dismissTenants returns how many approvals it took back, also with an error.
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

// withApprovalNote runs what changes approvals in several slots. Where it breaks off, the repair finishes it.
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

// admitTries bounds how often an approval that dismissals keep overtaking reads the tops anew.
const admitTries = 20

// admitTenants approves tenants in the mailbox, and returns how many await a telling.
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

// listApproved lists those of the tenants that the mailbox holds an approval of.
func (a *Approvals) listApproved(ctx context.Context, app partner.ClientID, ts []tenant.ID) (is []tenant.ID, err error) {
	standings, err := a.boxes.ReadPairs(ctx, app, ts)
	for i, st := range standings {
		if st.Approved {
			is = append(is, ts[i])
		}
	}
	return is, err
}

// syncIndex writes the index of tenants as the mailbox has their approvals, and returns those that it
// has. approved is what it had when the caller looked. Whoever writes the index looks again
// afterwards: so the last one to write leaves it right, however calls interleave.
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

// ReconcileIndex makes the index of at most mailbox.MaxBatch tenants match an app's mailbox, and tells the app what fan-outs
// may have left out meanwhile. It may be repeated at any time.
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

// CatchUp deposits the records of at most mailbox.MaxBatch tenants anew, for an app that hears: what it knows changes
// nothing. An app that is gone hears nothing.
func (a *Approvals) CatchUp(ctx context.Context, app partner.ClientID, ts []tenant.ID) error {
	err := a.depositCurrent(ctx, app, ts)
	if errors.Is(err, ErrUnknownApp) {
		return nil
	}
	return err
}

// depositCurrent tells an app what fan-outs may have left out while it was not in the index of tenants.
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

// Resync tells an app the status of the given tenants again; a job does so for all. It returns how many will be told. What it
// asked for before it broke off, the repair has told.
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

// requestResync asks for the status of tenants to be told again, and tells it. It returns how many will be told.
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
	return min(asked, written), err // not those with nothing to tell
}

// depositTarget is an app as those see it who write to its mailbox.
type depositTarget struct {
	life mailbox.Life
	// getsDeposits: it gets deposits; one that never had a URL does not.
	getsDeposits bool
}

// readTarget reads the app's settings anew.
func (a *Approvals) readTarget(ctx context.Context, app partner.ClientID) (depositTarget, error) {
	if err := a.apps.Refresh(ctx); err != nil {
		return depositTarget{}, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := a.apps.Lookup(app)
	if unreadable != nil && (!ok || !e.Rec.App.EverHadURL) { // it may be there, and hear, since its last write
		return depositTarget{}, fmt.Errorf("read app %s: %w", app, unreadable)
	}
	if !ok {
		return depositTarget{}, fmt.Errorf("%w: %s", ErrUnknownApp, app)
	}
	return depositTarget{life: lifeOf(e), getsDeposits: e.Rec.App.EverHadURL}, nil
}

// lifeOf names the life that an app's settings are of.
func lifeOf(e *registry.Entry) mailbox.Life {
	return mailbox.Life{App: e.Rec.App.ClientID, Birth: e.Rec.Birth}
}

// readTops reads the highest sequence of each tenant.
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

// depositRecords reads the tenants' records and puts them into the app's mailbox. It counts the entries
// that were written.
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
	if err == nil || d != (mailbox.DepositResult{}) { // an error may say that it is written, but not yet safe
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
		return fmt.Errorf("record in the audit: %w", err)
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
