package probe

import (
	"context"
	"errors"
	"log/slog"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// AppIncidents reads the incidents of one app's endpoints.
type AppIncidents interface {
	Incidents(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error)
}

// Attempts lists an app's recent attempts, newest first.
type Attempts interface {
	Attempts(ctx context.Context, app partner.ClientID, q registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error)
}

// HealthOptions configure a HealthReader.
type HealthOptions struct {
	Incidents AppIncidents
	States    States
	Attempts  Attempts
	Licences  Licences
	// Environment is the one that this deployment serves.
	Environment partner.Environment
	// Idle says that nothing is probed.
	Idle bool
	Log  *slog.Logger
}

// HealthReader assesses endpoints by their incidents, probes and attempts. It probes nothing.
type HealthReader struct{ opts HealthOptions }

// NewHealthReader returns a HealthReader.
func NewHealthReader(opts HealthOptions) *HealthReader { return &HealthReader{opts: opts} }

// EndpointHealth assesses an endpoint of an app.
func (h *HealthReader) EndpointHealth(ctx context.Context, app *partner.App, kind partner.EndpointKind) (health.Assessment, error) {
	states, err := h.opts.Incidents.Incidents(ctx, app.ClientID)
	if err != nil {
		return health.Assessment{}, err
	}
	s := health.Subject{
		Kind: kind, Endpoint: app.Endpoints[kind], Environment: h.opts.Environment, Paused: app.Paused, Missing: h.opts.Licences.Missing(app, kind),
		FailingSince: states[kind].FailingSince, Probing: !h.opts.Idle,
	}
	if last := states[kind].Last; last != nil {
		s.FailingCause, s.FailingDetail = last.Reason.Cause(), last.Detail
	}
	if kind == partner.StateChange {
		recent, _, err := h.opts.Attempts.Attempts(ctx, app.ClientID, registry.AttemptQuery{Limit: 1})
		if err != nil {
			return health.Assessment{}, err
		}
		if len(recent) > 0 {
			s.TriedAt = recent[0].At
		}
	} else {
		probes, err := h.opts.States.Probes(ctx, []partner.ClientID{app.ClientID})
		switch {
		case errors.Is(err, registry.ErrUnreadable): // as if it was never probed: the settings do not depend on it
			h.opts.Log.WarnContext(ctx, "the probe state of an endpoint cannot be read", "app", string(app.ClientID), "endpoint", kind.String(), "err", err)
		case err != nil:
			return health.Assessment{}, err
		}
		s.Probe = probes[0][kind]
	}
	return health.Assess(s), nil
}
