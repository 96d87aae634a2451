package fanout

import (
	"context"
	"errors"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// IncidentObserver gets what is observed of endpoints.
type IncidentObserver interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// ReportedApprovals are Approvals whose dismissals are reported to the incidents: a refused notification of a dismissed
// tenant no longer counts for the app's incidents.
type ReportedApprovals struct {
	*Approvals

	incidents IncidentObserver
}

// NewReportedApprovals returns a ReportedApprovals.
func NewReportedApprovals(a *Approvals, i IncidentObserver) *ReportedApprovals {
	return &ReportedApprovals{Approvals: a, incidents: i}
}

// Dismiss is Approvals.Dismiss.
func (a *ReportedApprovals) Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	if err := a.Approvals.Dismiss(ctx, app, ts, actor); err != nil {
		return err
	}
	return a.reportDismissal(ctx, app, ts)
}

// DismissExisting is Approvals.DismissExisting.
func (a *ReportedApprovals) DismissExisting(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	took, err := a.Approvals.DismissExisting(ctx, app, t, actor)
	if !took && !errors.Is(err, registry.ErrConflict) { // a conflict means that there is no approval either
		return err
	}
	return errors.Join(err, a.reportDismissal(ctx, app, []tenant.ID{t}))
}

func (a *ReportedApprovals) reportDismissal(ctx context.Context, app partner.ClientID, ts []tenant.ID) error {
	return a.incidents.Observe(ctx, app, partner.StateChange, incident.DeliveriesWithdrawn{Tenants: ts})
}
