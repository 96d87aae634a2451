package incidents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// State says whether an incident goes on.
type State string

// The closed set of states.
const (
	Open   State = "open"
	Closed State = "closed"
)

// AllStates lists the closed set, in the order of the list.
func AllStates() []State { return []State{Open, Closed} }

// Incident is an incident with all that is known about it.
type Incident struct {
	ID       string
	ClientID partner.ClientID
	Endpoint partner.EndpointKind
	State    State
	// Cause is that of the newest failure, Status its HTTP status, 0 when there was no answer.
	Cause  told.Cause
	Status int
	// Detail is the failure's text, for operators and admins only.
	Detail string
	// OccurredAt is when the newest failed call was made, if an engine reported it and said so.
	OccurredAt time.Time

	Since, OpenedAt, ClosedAt time.Time
	// Tenants are those whose notification the endpoint refuses, if it is about them.
	Tenants []string
	// Reported is how many failed calls engines reported during an open incident, AffectedTenants how many tenants
	// they were made for, Affected some of those tenants.
	Reported, AffectedTenants int64
	Affected                  []string
}

// Query selects incidents; its zero value is the first page of all.
type Query struct {
	// App and Endpoint select those of one app and of one endpoint.
	App      partner.ClientID
	Endpoint string
	// State selects those in one state.
	State State
	// After is the position after the previous page. It may come from a caller.
	After string
	Limit int
}

// ErrCursor reports a Query.After that ListIncidents did not return.
var ErrCursor = errors.New("not a position in the list of incidents")

// Store keeps incidents; *registry.IncidentStore is one.
type Store interface {
	Incidents(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error)
	IncidentsOf(ctx context.Context, apps []partner.ClientID) ([]map[partner.EndpointKind]incident.State, error)
	// ReadLastEndedTimes returns when each app's newest incident ended that did so at until or before.
	ReadLastEndedTimes(ctx context.Context, apps []partner.ClientID, until time.Time) ([]time.Time, error)
	CountEnded(ctx context.Context, apps []partner.ClientID, since, until time.Time) ([]int, error)
	// ListEnded returns up to limit ended incidents of each app, the last ended first.
	ListEnded(ctx context.Context, apps []partner.ClientID, since, until time.Time, limit int) ([][]incident.EndedIncident, error)
}

// Tracker ends incidents. Its error is registry.ErrNotFound when the incident is not open.
type Tracker interface {
	CloseIncident(ctx context.Context, id, by string) error
}

// Apps is the directory of apps.
type Apps interface {
	Refresh(ctx context.Context) error
	App(id partner.ClientID) (*registry.Entry, bool)
	All() []*registry.Entry
}

// Audit records who closed an incident.
type Audit interface {
	AppendAudit(ctx context.Context, entries ...registry.AuditEntry) error
}

// Options of a Manager.
type Options struct {
	Store   Store
	Tracker Tracker
	Apps    Apps
	Audit   Audit
}

// Manager lists and closes incidents. It is safe for concurrent use.
type Manager struct{ opts Options }

// New returns a Manager.
func New(opts Options) *Manager { return &Manager{opts: opts} }

// CloseIncident ends an open incident, even if its endpoint is still failing, and returns it. Errors:
// registry.ErrNotFound when no open incident has the id.
func (m *Manager) CloseIncident(ctx context.Context, id string, actor registry.Actor) (Incident, error) {
	app, k, _, err := incident.ParseID(id)
	if err != nil {
		return Incident{}, fmt.Errorf("incident: %w", registry.ErrNotFound)
	}
	states, err := m.opts.Store.Incidents(ctx, app)
	if err != nil {
		return Incident{}, err
	}
	s := states[k]
	if s.ID != id {
		return Incident{}, fmt.Errorf("incident: %w", registry.ErrNotFound)
	}
	if err := m.opts.Tracker.CloseIncident(ctx, id, actor.Name); err != nil {
		return Incident{}, err
	}
	i := newOpenIncident(app, k, s)
	i.State, i.ClosedAt = Closed, time.Now().UTC()
	return i, m.opts.Audit.AppendAudit(ctx, registry.AuditEntry{
		Actor: actor.Name, Role: actor.Role, RequestID: actor.RequestID, Action: "incident.close", Subject: string(app), After: `{"incident":"` + id + `"}`,
	})
}

func newOpenIncident(app partner.ClientID, k partner.EndpointKind, s incident.State) Incident {
	i := Incident{ID: s.ID, ClientID: app, Endpoint: k, State: Open, Since: s.Since, OpenedAt: s.OpenedAt}
	addFailure(&i, s.Last)
	if s.Last == nil {
		addFailure(&i, s.LastRejection)
	}
	for t := range s.Rejected {
		i.Tenants = append(i.Tenants, string(t))
	}
	slices.Sort(i.Tenants)
	i.Reported, i.AffectedTenants = s.Reported, s.AffectedCount
	for _, t := range s.Affected {
		i.Affected = append(i.Affected, string(t))
	}
	slices.Sort(i.Affected)
	return i
}

func addFailure(i *Incident, f *incident.Failure) {
	if f != nil {
		i.Cause, i.Status, i.Detail, i.OccurredAt = f.Reason.Cause(), f.Status, f.Detail, f.OccurredAt
	}
}
