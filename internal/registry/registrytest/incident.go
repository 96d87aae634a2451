// Package registrytest writes what tests of several packages need into a registry.
package registrytest

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Incidents reads and writes incidents; *registry.IncidentStore is one.
type Incidents interface {
	ReadIncident(ctx context.Context, app partner.ClientID, k partner.EndpointKind) (registry.StoredIncident, error)
	CommitIfUnchanged(ctx context.Context, app partner.ClientID, k partner.EndpointKind, was registry.StoredIncident, d incident.Decision) (bool, error)
}

// Decide writes what decide makes of the stored state. If the incident was written meanwhile, it decides again.
func Decide(
	ctx context.Context, s Incidents, app partner.ClientID, k partner.EndpointKind, decide func(incident.State) incident.Decision,
) (incident.Decision, error) {
	for {
		was, err := s.ReadIncident(ctx, app, k)
		if err != nil {
			return incident.Decision{}, err
		}
		d := decide(was.State)
		if committed, err := s.CommitIfUnchanged(ctx, app, k, was, d); err != nil || committed {
			return d, err
		}
	}
}
