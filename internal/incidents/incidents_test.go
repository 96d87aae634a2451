package incidents_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// noTracker answers each close with its error.
type noTracker struct{ err error }

func (n noTracker) CloseIncident(context.Context, string, string) error { return n.err }

// auditLog keeps what is appended.
type auditLog struct{ entries []registry.AuditEntry }

func (a *auditLog) AppendAudit(_ context.Context, entries ...registry.AuditEntry) error {
	a.entries = append(a.entries, entries...)
	return nil
}

// An open incident is closed once, with an audit entry; nothing else is.
func TestCloseIncident(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 2)
	open, _ := c.page(incidents.Query{App: appID(0), State: incidents.Open})
	ended, _ := c.page(incidents.Query{App: appID(0), State: incidents.Closed})
	away := errors.New("away")
	for name, test := range map[string]struct {
		id      string
		tracker error
		want    error
	}{
		"Open":          {open[0].ID, nil, nil},
		"ClosedSince":   {open[0].ID, registry.ErrNotFound, registry.ErrNotFound},
		"StoreAway":     {open[0].ID, away, away},
		"Ended":         {ended[0].ID, nil, registry.ErrNotFound},
		"NotAnIncident": {"x", nil, registry.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			audit := &auditLog{}
			m := incidents.New(incidents.Options{Store: c.store, Tracker: noTracker{test.tracker}, Audit: audit})
			i, err := m.CloseIncident(t.Context(), test.id, registry.Actor{Name: "ada", Role: "operator"})
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if test.want != nil {
				if len(audit.entries) > 0 {
					t.Errorf("audit %+v", audit.entries)
				}
				return
			}
			if i.ID != test.id || i.ClientID != appID(0) || i.Endpoint != partner.StateChange || i.State != incidents.Closed || i.ClosedAt.IsZero() {
				t.Errorf("closed: %+v", i)
			}
			if len(audit.entries) != 1 || audit.entries[0].Action != "incident.close" || audit.entries[0].Actor != "ada" || audit.entries[0].Subject != string(appID(0)) {
				t.Errorf("audit %+v", audit.entries)
			}
		})
	}
}
