package service

import (
	"context"
	"errors"

	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// approvals deletes approvals with everything pending for them. A refused notification of such a tenant no longer
// counts for the app's incidents.
type approvals struct {
	*fanout.Approvals

	tracker incidentObserver
}

// Dismiss implements httpapi.Approvals.
func (a *approvals) Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error {
	if err := a.Approvals.Dismiss(ctx, app, ts, actor); err != nil {
		return err
	}
	return a.tracker.Observe(ctx, app, partner.StateChange, incident.DeliveriesWithdrawn{Tenants: ts})
}

// DismissExisting implements httpapi.Approvals.
func (a *approvals) DismissExisting(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error {
	took, err := a.Approvals.DismissExisting(ctx, app, t, actor)
	if !took && !errors.Is(err, registry.ErrConflict) { // a conflict means that there is no approval either
		return err
	}
	return errors.Join(err, a.tracker.Observe(ctx, app, partner.StateChange, incident.DeliveriesWithdrawn{Tenants: []tenant.ID{t}}))
}

// drainObserver passes the observations of drains to the recorder and the tracker.
type drainObserver struct {
	*drain.Recorder

	tracker incidentObserver
}

// Observe implements drain.Observer.
func (o *drainObserver) Observe(ctx context.Context, ob drain.Observation) error {
	var events []incident.Event
	for _, r := range ob.Rejected {
		if e, ok := incident.EventFromResult(r.Result, r.Message.Change.Tenant); ok {
			events = append(events, e)
		}
	}
	for _, m := range ob.Accepted {
		events = append(events, incident.Success{Tenant: m.Change.Tenant})
	}
	if ob.Succeeded && len(ob.Accepted) == 0 {
		events = append(events, incident.Success{})
	}
	if ob.Failure != nil {
		if e, ok := incident.EventFromResult(*ob.Failure, ""); ok {
			events = append(events, e)
		}
	}
	return o.tracker.Observe(ctx, ob.App, partner.StateChange, events...)
}
