package drain_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// eventLog keeps what is observed.
type eventLog struct{ events []incident.Event }

func (l *eventLog) Observe(_ context.Context, id partner.ClientID, k partner.EndpointKind, events ...incident.Event) error {
	if id == app && k == partner.StateChange {
		l.events = events
	}
	return nil
}

// TestEventsOfObservations: rejections and successes are events about a tenant, others about the endpoint, which failed
// last.
func TestEventsOfObservations(t *testing.T) {
	t.Parallel()
	refused, broken := delivery.ClassifyStatus(422), delivery.ClassifyStatus(500)
	of := func(t tenant.ID) delivery.Message { return delivery.Message{Change: tenant.Change{Tenant: t}} }
	event := func(r delivery.Result, about tenant.ID) incident.Event {
		e, ok := incident.EventFromResult(r, about)
		if !ok {
			t.Fatalf("%+v is no event", r)
		}
		return e
	}
	for name, tt := range map[string]struct {
		o    drain.Observation
		want []incident.Event
	}{
		"Nothing":  {drain.Observation{}, nil},
		"Success":  {drain.Observation{Succeeded: true}, []incident.Event{incident.Success{}}},
		"Accepted": {drain.Observation{Succeeded: true, Accepted: []delivery.Message{of("a")}}, []incident.Event{incident.Success{Tenant: "a"}}},
		"Failure":  {drain.Observation{Failure: &broken}, []incident.Event{event(broken, "")}},
		"All": {
			drain.Observation{Failure: &broken, Accepted: []delivery.Message{of("b")}, Rejected: []drain.Rejection{{Message: of("a"), Result: refused}}},
			[]incident.Event{event(refused, "a"), incident.Success{Tenant: "b"}, event(broken, "")},
		},
	} {
		var l eventLog
		tt.o.App = app
		if err := drain.NewIncidentReporter(nil, &l).Observe(t.Context(), tt.o); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, l.events); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}
