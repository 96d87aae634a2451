package alerting

import (
	"context"
	"errors"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// applyReports applies what engines reported about an app's endpoints since the last call. All reports of an
// endpoint together are one step of its incident.
func (t *Tracker) applyReports(ctx context.Context, app *partner.App) error {
	kinds, err := t.opts.Store.ReportedEndpoints(ctx, app.ClientID)
	if err != nil {
		return wrapError(err, "find reports about", app.ClientID)
	}
	errs := make([]error, 0, len(kinds))
	for _, k := range kinds {
		_, err := t.decideAndCommit(ctx, app, k, func(decide decideFunc, leave skipFunc) (registry.IncidentStep, error) {
			return t.opts.Store.TransitionReports(ctx, app.ClientID, k, func(s incident.State, r registry.Reports) registry.IncidentStep {
				if !r.HasNewReports() { // the reports of an endpoint without a reported failure are deleted
					return leave(registry.IncidentStep{State: s, TakesReports: s.ReportedAt.IsZero()})
				}
				return decide(s, eventsFromReports(&r))
			})
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// eventsFromReports turns reports into events, in their order: the failures before the newest success, that
// success, and the failures after it.
func eventsFromReports(r *registry.Reports) []incident.Event {
	var events []incident.Event
	failed := func(n int64) {
		if n == 0 || r.Newest == nil {
			return
		}
		f := *r.Newest
		f.Source, f.Count, f.Tenants, f.Affected = incident.SourceReport, n, r.Tenants, r.Affected
		events = append(events, f)
	}
	failed(r.Before)
	if r.Succeeded {
		events = append(events, incident.Success{Source: incident.SourceReport})
	}
	failed(r.After)
	return events
}
