package service

import (
	"context"
	"fmt"
	"sync"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// secondOpinion has an endpoint that fails for one tenant told of another one, whose state it is told again as it is: what one
// tenant's posts meet may be that tenant's, and in a quiet week nobody else is heard of.
type secondOpinion struct {
	boxes interface {
		View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
		Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) ([]tenant.ID, string, error)
		ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error)
	}
	approvals interface {
		Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error)
	}

	mu sync.Mutex
	// asked are the incidents about which somebody else was asked by this process.
	asked map[string]bool
}

const (
	// mostAsked bounds the memory; beyond it somebody may be told once more.
	mostAsked = 10_000
	// othersPage is among how many approved tenants another one is looked for.
	othersPage = 20
)

// failsForOne reports whether an incident is open that is about failures of one tenant's notifications alone.
func failsForOne(s *incident.State) bool {
	return s.ID != "" && s.FailingSince.IsZero() && len(s.Rejected) == 1 && s.LastRejection != nil && !s.LastRejection.IsRefusal()
}

// resyncAnotherOnce tells an app of another tenant, once in an incident.
func (o *secondOpinion) resyncAnotherOnce(ctx context.Context, app partner.ClientID, s *incident.State) error {
	o.mu.Lock()
	known := o.asked[s.ID]
	if len(o.asked) >= mostAsked {
		clear(o.asked)
	}
	o.asked[s.ID] = true
	o.mu.Unlock()
	if known {
		return nil
	}
	if _, err := o.resyncAnother(ctx, app); err != nil {
		o.mu.Lock()
		delete(o.asked, s.ID)
		o.mu.Unlock()
		return err
	}
	return nil
}

// severalTenantsPending reports whether more than one tenant's notifications wait, or more could not. Else another one is told, and the next look
// knows more.
func (o *secondOpinion) severalTenantsPending(ctx context.Context, app partner.ClientID) (bool, error) {
	v, err := o.boxes.View(ctx, app)
	if err != nil || v.Diverged > 1 || v.Approvals < 2 {
		return err == nil, err
	}
	told, err := o.resyncAnother(ctx, app)
	return !told, err
}

// resyncAnother has the state of a tenant told again for which nothing waits. It reports whether there was one.
func (o *secondOpinion) resyncAnother(ctx context.Context, app partner.ClientID) (bool, error) {
	ids, _, err := o.boxes.Approvals(ctx, app, "", othersPage)
	if err != nil {
		return false, fmt.Errorf("find another tenant of app %s: %w", app, err)
	}
	standings, err := o.boxes.ReadPairs(ctx, app, ids)
	if err != nil {
		return false, fmt.Errorf("find another tenant of app %s: %w", app, err)
	}
	for _, st := range standings {
		if st.Approved && !st.HasPending() && st.Known > 0 {
			n, err := o.approvals.Resync(ctx, app, []tenant.ID{st.Tenant})
			return n > 0, err
		}
	}
	return false, nil
}
