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

// RepairIndex is the part of the registry that a repair uses.
type RepairIndex interface {
	ReadUnfinishedApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]registry.UnfinishedApproval, error)
}

// RepairOptions are what a Repairer needs.
type RepairOptions struct {
	Approvals *Approvals
	Index     RepairIndex
}

// Limits of one repair. Its cost does not depend on the number of approvals.
const (
	// settleAfter is how long a call may take to change approvals before the repair finishes it.
	settleAfter = time.Minute
	// unsettledLimit is how many approvals one repair finishes.
	unsettledLimit = 500
)

// Repairer finishes calls that broke off while they changed approvals, so that the tenants' index matches the
// mailboxes, which hold the approvals. It is for one goroutine.
type Repairer struct {
	opts RepairOptions
	// stuck is how many of the oldest unfinished approvals could not be finished. They are skipped until the others
	// were tried.
	stuck int
}

// NewRepairer returns a Repairer.
func NewRepairer(o RepairOptions) *Repairer { return &Repairer{opts: o} }

// Repair does one bounded step.
func (r *Repairer) Repair(ctx context.Context) error {
	return r.finishApprovals(ctx)
}

// finishApprovals finishes the approvals of calls that broke off. A failure for one app does not stop the others.
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
	if r.stuck += failed; !more { // the end of the list is reached
		r.stuck = 0
	}
	return errors.Join(errs...)
}
