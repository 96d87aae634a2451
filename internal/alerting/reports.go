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
		// Without new reports there are no events, and the commit deletes those of an endpoint without a reported failure.
		_, err := t.decideAndCommit(ctx, app, k, t.opts.Store.ReadReportedIncident, func(was registry.StoredIncident) ([]incident.Event, error) {
			return eventsFromReports(was.Reports), nil
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
