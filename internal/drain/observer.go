package drain

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// IncidentObserver gets what is observed of endpoints.
type IncidentObserver interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// IncidentReporter is an Observer that records attempts and reports observations to the incidents.
type IncidentReporter struct {
	*Recorder

	incidents IncidentObserver
}

// NewIncidentReporter returns an IncidentReporter.
func NewIncidentReporter(r *Recorder, i IncidentObserver) *IncidentReporter {
	return &IncidentReporter{Recorder: r, incidents: i}
}

// Observe implements Observer.
func (r *IncidentReporter) Observe(ctx context.Context, o Observation) error {
	return r.incidents.Observe(ctx, o.App, partner.StateChange, o.listEvents()...)
}

// listEvents lists what an observation means for the endpoint's incidents.
func (o *Observation) listEvents() []incident.Event {
	var events []incident.Event
	for _, r := range o.Rejected {
		if e, ok := incident.EventFromResult(r.Result, r.Message.Change.Tenant); ok {
			events = append(events, e)
		}
	}
	for _, m := range o.Accepted {
		events = append(events, incident.Success{Tenant: m.Change.Tenant})
	}
	if o.Succeeded && len(o.Accepted) == 0 {
		events = append(events, incident.Success{})
	}
	if o.Failure != nil {
		if e, ok := incident.EventFromResult(*o.Failure, ""); ok {
			events = append(events, e)
		}
	}
	return events
}
