package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/delivery"
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

// incidentBacklog gives incidents to the loops; it also switches off endpoints that have failed too long.
type incidentBacklog struct {
	tracker   *alerting.Tracker
	store     *registry.IncidentStore
	dir       *registry.Directory
	endpoints *endpointSwitcher
	settings  incident.Settings
	// commonCause returns the newest common cause of failures.
	commonCause func() incident.CommonCause
	env         partner.Environment
	second      secondOpinion
}

// ReadOpenIncidents implements sweep.Incidents.
func (t *incidentBacklog) ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error) {
	out, errs := t.store.ReadOpenIncidents(ctx, apps)
	for i := range out {
		if e, ok := t.dir.App(apps[i]); ok && out[i] == nil && errs[i] == nil && t.tracker.NeedsConfirmations(&e.Rec.App) {
			out[i] = &registry.OpenIncidents{}
		}
	}
	return out, errs
}

// Tick implements sweep.Incidents.
func (t *incidentBacklog) Tick(ctx context.Context, app partner.ClientID, found registry.OpenIncidents) error {
	states, err := t.tracker.TickApp(ctx, app, found)
	errs := []error{err}
	for k, s := range states {
		errs = append(errs, t.switchOffFailing(ctx, app, k, s))
	}
	if s := states[partner.StateChange]; failsForOne(&s) {
		errs = append(errs, t.second.resyncAnotherOnce(ctx, app, &s))
	}
	return errors.Join(errs...)
}

// seenFailing is how recently an integration endpoint must have been seen failing to be switched off. Nothing is
// pending for it that would show that it still fails.
const seenFailing = 24 * time.Hour

// switchOffFailing switches off an endpoint that notifications or probes have seen failing for too long. Reports of
// engines are not enough: they may come from one tenant's calls.
func (t *incidentBacklog) switchOffFailing(ctx context.Context, app partner.ClientID, k partner.EndpointKind, s incident.State) error {
	e, ok := t.dir.App(app)
	if !ok {
		return nil
	}
	ep, now := e.Rec.App.Endpoints[k], time.Now()
	if !ep.IsOn(t.env) || !t.failedTooLong(k, &ep, &s, now) {
		return nil
	}
	states, err := t.store.Incidents(ctx, app) // s was read for many apps at once: the endpoint may have answered since
	if err != nil {
		return fmt.Errorf("read the failing %s endpoint of app %s again: %w", k, app, err)
	}
	if s = states[k]; !t.failedTooLong(k, &ep, &s, now) {
		return nil
	}
	if k == partner.StateChange {
		if more, err := t.second.severalTenantsPending(ctx, app); err != nil || !more {
			return err
		}
	}
	unchanged := func(rec registry.AppRecord) bool {
		now := rec.App.Endpoints[k]
		return lifeOf(rec) == lifeOf(e.Rec) && now.SettingsDigest(false) == ep.SettingsDigest(false) && now.SwitchedAt.Equal(ep.SwitchedAt)
	}
	if _, err := t.endpoints.SwitchOffUnlessChanged(ctx, app, k, unchanged, partner.OffFailing, delivery.Result{}); err != nil {
		return fmt.Errorf("it has been failing for too long: %w", err)
	}
	return nil
}

// failedTooLong reports whether an endpoint must be switched off.
func (t *incidentBacklog) failedTooLong(k partner.EndpointKind, ep *partner.Endpoint, s *incident.State, now time.Time) bool {
	if t.commonCause().PreventsSwitchOff(now, t.settings.OpenAfter) {
		return false
	}
	since, seen := s.SeenFailing()
	at := t.settings.SwitchOffAt(since, ep.SwitchedAt)
	return !at.IsZero() && !now.Before(at) && (k == partner.StateChange || now.Sub(seen) <= seenFailing)
}
