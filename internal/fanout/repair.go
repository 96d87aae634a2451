package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// RepairIndex is the registry's side of a repair.
type RepairIndex interface {
	ReadUnfinishedApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]registry.UnfinishedApproval, error)
}

// RepairOptions are what a Repairer needs.
type RepairOptions struct {
	Approvals *Approvals
	Index     RepairIndex
}

// Limits of one repair, whose cost is the same however many approvals there are.
const (
	// settleAfter is how long a call may take to change approvals before the repair does.
	settleAfter = time.Minute
	// unsettledLimit is how many approvals one repair settles.
	unsettledLimit = 500
)

// Repairer makes the tenants' index match the mailboxes, which hold the approvals: it finishes the
// calls that broke off while changing approvals. It is for one goroutine.
type Repairer struct {
	opts RepairOptions
	// stuck is how many of the approvals that wait longest could not be settled, and are passed over
	// until the others were tried.
	stuck int
}

// NewRepairer returns a Repairer.
func NewRepairer(o RepairOptions) *Repairer { return &Repairer{opts: o} }

// Repair does one bounded piece of the work.
func (r *Repairer) Repair(ctx context.Context) error {
	return r.finishApprovals(ctx)
}

// finishApprovals finishes what calls broke off. What cannot be settled does not keep the rest from it.
func (r *Repairer) finishApprovals(ctx context.Context) error {
	list, err := r.opts.Index.ReadUnfinishedApprovals(ctx, settleAfter, r.stuck, unsettledLimit)
	if err != nil {
		err = fmt.Errorf("repair approvals: %w", err)
	}
	if err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return err
	}
	errs := []error{err}
	more, failed := len(list) == unsettledLimit || err != nil, unsettledLimit-len(list)
	byApp := map[partner.ClientID][]registry.UnfinishedApproval{}
	for _, u := range list {
		byApp[u.App] = append(byApp[u.App], u)
	}
	for app, us := range byApp {
		ts := make([]tenant.ID, len(us))
		for i, u := range us {
			ts[i] = u.Tenant
		}
		err := forEachChunk(ts, func(ts []tenant.ID) error { return r.opts.Approvals.ReconcileIndex(ctx, app, ts) })
		if err == nil {
			err = r.opts.Approvals.index.FinishApprovals(ctx, us)
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
