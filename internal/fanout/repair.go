package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// RepairIndex is the registry's side of a repair.
type RepairIndex interface {
	UnsettledApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]registry.Unsettled, error)
	RemovedApps(ctx context.Context, since int64, limit int) ([]registry.Removed, error)
}

// Leftovers clears away what a deleted app left behind.
type Leftovers interface {
	AppDeleted(ctx context.Context, id partner.ClientID, revision int64) error
}

// RepairOptions are what a Repairer needs.
type RepairOptions struct {
	Approvals *Approvals
	Index     RepairIndex
	Apps      interface{ All() []*registry.Entry }
	Views     interface {
		Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
	}
	Leftovers Leftovers
}

// Limits of one repair, whose cost is the same however many approvals there are.
const (
	// settleAfter is how long a call may take to change approvals before the repair does.
	settleAfter = time.Minute
	// unsettledLimit is how many approvals one repair settles, removedLimit at how many deleted apps
	// it looks.
	unsettledLimit = 500
	removedLimit   = 200
	// livingLimit is at how many living apps one repair looks, clearWithin how long it clears away after
	// former lives: what is left is the next one's.
	livingLimit = 200
	clearWithin = time.Second
)

// Repairer makes the tenants' index match the mailboxes, which hold the approvals: it finishes the
// calls that broke off while changing approvals, and clears away after deletions that did. It is for one goroutine.
type Repairer struct {
	opts RepairOptions
	// stuck is how many of the approvals that wait longest could not be settled, and are passed over
	// until the others were tried.
	stuck int
	// removed is the revision up to which deleted apps were looked at, failed that of the first one
	// on the way that could not be cleared away, 0 for none.
	removed, failed int64
	// living is the number of the next living app to look at.
	living int
}

// NewRepairer returns a Repairer.
func NewRepairer(o RepairOptions) *Repairer { return &Repairer{opts: o} }

// Repair does one bounded piece of the work.
func (r *Repairer) Repair(ctx context.Context) error {
	return errors.Join(r.settle(ctx), r.clear(ctx))
}

// settle finishes what calls broke off. What cannot be settled does not keep the rest from it.
func (r *Repairer) settle(ctx context.Context) error {
	list, err := r.opts.Index.UnsettledApprovals(ctx, settleAfter, r.stuck, unsettledLimit)
	if err != nil {
		err = fmt.Errorf("repair approvals: %w", err)
	}
	if err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return err
	}
	errs := []error{err}
	more, failed := len(list) == unsettledLimit || err != nil, unsettledLimit-len(list)
	byApp := map[partner.ClientID][]registry.Unsettled{}
	for _, u := range list {
		byApp[u.App] = append(byApp[u.App], u)
	}
	for app, us := range byApp {
		ts := make([]tenant.ID, len(us))
		for i, u := range us {
			ts[i] = u.Tenant
		}
		err := chunks(ts, func(ts []tenant.ID) error { return r.opts.Approvals.Reconcile(ctx, app, ts) })
		if err == nil {
			err = r.opts.Approvals.index.SettleApprovals(ctx, us)
		}
		if err != nil {
			failed += len(us)
			errs = append(errs, fmt.Errorf("repair approvals of app %s: %w", app, err))
		}
	}
	if r.stuck += failed; !more { // those were the last
		r.stuck = 0
	}
	return errors.Join(errs...)
}

// clear ends the lives of deleted apps whose deletion was cut short, and clears away after former lives.
func (r *Repairer) clear(ctx context.Context) error {
	until := time.Now().Add(clearWithin)
	proceed := func() bool { return time.Now().Before(until) }
	return errors.Join(r.endLives(ctx, proceed), r.clearLiving(ctx, proceed))
}

// endLives looks at some deleted apps. One that cannot be cleared away is tried again when all behind it were.
func (r *Repairer) endLives(ctx context.Context, proceed func() bool) error {
	gone, err := r.opts.Index.RemovedApps(ctx, r.removed, removedLimit)
	if err != nil {
		return err
	}
	ids := make([]partner.ClientID, len(gone))
	for i, g := range gone {
		ids[i] = g.App
	}
	views, errs := r.opts.Views.Views(ctx, ids)
	for i, g := range gone {
		if v := views[i]; errs[i] == nil && (v.Approvals+v.Waiting > 0 || v.Birth > 0 && v.Birth < g.Revision) {
			errs[i] = r.opts.Leftovers.AppDeleted(ctx, g.App, g.Revision)
		} else if errs[i] == nil && len(v.Former) > 0 {
			errs[i] = r.opts.Approvals.Clear(ctx, g.App, proceed)
		}
		if errs[i] != nil && r.failed == 0 {
			r.failed = g.Revision
		}
		r.removed = g.Revision
	}
	if len(gone) < removedLimit && r.failed > 0 {
		r.removed, r.failed = r.failed-1, 0
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear away after deleted apps: %w", err)
	}
	return nil
}

// clearLiving looks at some apps that exist, in turns: what is left of a life before theirs.
func (r *Repairer) clearLiving(ctx context.Context, proceed func() bool) error {
	apps := r.opts.Apps.All()
	if r.living >= len(apps) {
		r.living = 0
	}
	some := apps[r.living:min(r.living+livingLimit, len(apps))]
	ids := make([]partner.ClientID, len(some))
	for i, e := range some {
		ids[i] = e.Rec.App.ClientID
	}
	views, errs := r.opts.Views.Views(ctx, ids)
	for i, id := range ids {
		if errs[i] == nil && len(views[i].Former) > 0 {
			errs[i] = r.opts.Approvals.Clear(ctx, id, proceed)
		}
	}
	r.living += len(some)
	return errors.Join(errs...)
}
