package probe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// findings is what is stored about one app.
type findings struct {
	incidents map[partner.EndpointKind]incident.State
	attempts  []delivery.Attempt
	probes    registry.ProbeStates
	// unread fails the reading of probes, away that of incidents.
	unread, away error
}

func (f *findings) Incidents(context.Context, partner.ClientID) (map[partner.EndpointKind]incident.State, error) {
	return f.incidents, f.away
}

func (f *findings) Attempts(context.Context, partner.ClientID, registry.AttemptQuery) ([]delivery.Attempt, string, error) {
	return f.attempts, "", nil
}

func (f *findings) Probes(context.Context, []partner.ClientID) ([]registry.ProbeStates, error) {
	return []registry.ProbeStates{f.probes}, f.unread
}

// TestEndpointHealth: notifications show the health of a state-change endpoint, probes that of the others, and an
// incident that of all.
func TestEndpointHealth(t *testing.T) {
	t.Parallel()
	now := time.Now()
	failing := incident.State{FailingSince: now.Add(-time.Hour), Last: &incident.Failure{Reason: delivery.ReasonRefused, Detail: "refused"}}
	away := errors.New("away")
	for name, tt := range map[string]struct {
		f    findings
		kind partner.EndpointKind
		want health.Status
		err  error
	}{
		"NeverTried":      {findings{}, partner.StateChange, health.StatusUnchecked, nil},
		"Tried":           {findings{attempts: []delivery.Attempt{{At: now}}}, partner.StateChange, health.StatusHealthy, nil},
		"Fails":           {findings{attempts: []delivery.Attempt{{At: now}}, incidents: map[partner.EndpointKind]incident.State{partner.StateChange: failing}}, partner.StateChange, health.StatusFailing, nil},
		"NeverProbed":     {findings{}, partner.ERPSync, health.StatusUnchecked, nil},
		"UnreadableProbe": {findings{unread: fmt.Errorf("format 9: %w", registry.ErrUnreadable)}, partner.ERPSync, health.StatusUnchecked, nil},
		"ProbesAway":      {findings{unread: away}, partner.ERPSync, "", away},
		"IncidentsAway":   {findings{away: away}, partner.StateChange, "", away},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := partner.New("app1")
			app.GrantedLicenses = partner.AllLicenses()
			app.Endpoints[tt.kind] = partner.Endpoint{URL: "https://partner.example/", Enabled: true}
			r := probe.NewHealthReader(probe.HealthOptions{
				Incidents: &tt.f, States: &tt.f, Attempts: &tt.f, Licences: partner.DefaultRequirements(), Environment: partner.Online, Log: slog.New(slog.DiscardHandler),
			})
			h, err := r.EndpointHealth(t.Context(), &app, tt.kind)
			if h.Status != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%+v, %v, want %q, %v", h, err, tt.want, tt.err)
			}
		})
	}
}
