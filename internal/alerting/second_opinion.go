package alerting

import (
	"context"
	"fmt"
	"sync"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// secondOpinion resyncs another tenant for an endpoint that fails for one tenant. The failures of one tenant may be
// that tenant's fault, and in a quiet time no other notifications are sent that would show it.
type secondOpinion struct {
	boxes     ApprovedMailboxes
	approvals Resyncer

	mu sync.Mutex
	// asked are the incidents for which this process has resynced another tenant.
	asked map[string]bool
}

const (
	// mostAsked limits the memory. Beyond it a tenant may be resynced once more.
	mostAsked = 10_000
	// othersPage is among how many approved tenants another one is looked for.
	othersPage = 20
)

// failsForOne reports whether an open incident is only about failures of one tenant's notifications.
func failsForOne(s *incident.State) bool {
	return s.ID != "" && s.FailingSince.IsZero() && len(s.Rejected) == 1 && s.LastRejection != nil && !s.LastRejection.IsRefusal()
}

// resyncAnotherOnce resyncs another tenant for an app, once per incident.
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

// severalTenantsPending reports whether more than one tenant's notifications are pending, or only one tenant has
// approved. Otherwise another one is resynced, and the next look decides.
func (o *secondOpinion) severalTenantsPending(ctx context.Context, app partner.ClientID) (bool, error) {
	v, err := o.boxes.View(ctx, app)
	if err != nil || v.Diverged > 1 || v.Approvals < 2 {
		return err == nil, err
	}
	told, err := o.resyncAnother(ctx, app)
	return !told, err
}

// resyncAnother resyncs a tenant for which nothing is pending. It reports whether there was one.
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
