package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// incidentAnswer is an incident as the caller may see it.
type incidentAnswer struct {
	ID       string           `json:"id"`
	ClientID partner.ClientID `json:"client_id"`
	Endpoint string           `json:"endpoint" api:"ref=EndpointKind"`
	State    string           `json:"state" api:"ref=IncidentState"`
	told.FailureInfo
	Status int `json:"status,omitempty"`
	*apitypes.OperatorDetail
	OccurredAt      time.Time `json:"occurred_at,omitzero"`
	Since           time.Time `json:"since,omitzero"`
	OpenedAt        time.Time `json:"opened_at,omitzero"`
	ClosedAt        time.Time `json:"closed_at,omitzero"`
	Tenants         []string  `json:"tenants,omitempty"`
	Reported        int64     `json:"reported,omitempty" doc:"How many failed calls engines reported."`
	AffectedTenants int64     `json:"affected_tenants,omitempty"`
	Affected        []string  `json:"affected,omitempty"`
}

func (c *call) newIncidentAnswer(i *incidents.Incident) incidentAnswer {
	return incidentAnswer{
		ID: i.ID, ClientID: i.ClientID, Endpoint: i.Endpoint.String(), State: string(i.State), FailureInfo: c.explainCause(i.Cause, i.Endpoint), Status: i.Status,
		OperatorDetail: c.detailForOperators(i.Detail), OccurredAt: i.OccurredAt, Since: i.Since, OpenedAt: i.OpenedAt, ClosedAt: i.ClosedAt,
		Tenants: i.Tenants, Reported: i.Reported, AffectedTenants: i.AffectedTenants, Affected: i.Affected,
	}
}

// Incidents lists and closes incidents.
type Incidents interface {
	// ListIncidents returns a page; next is empty on the last. Errors: incidents.ErrCursor.
	ListIncidents(ctx context.Context, q incidents.Query) (list []incidents.Incident, next string, err error)
	// CloseIncident ends an open incident, even if its endpoint is still failing, and returns it.
	// Errors: registry.ErrNotFound when no open incident has the id.
	CloseIncident(ctx context.Context, id string, actor registry.Actor) (incidents.Incident, error)
}

// readAppFilter reads the app by which a list is filtered. For a partner it is always its own app.
func (c *call) readAppFilter(parameter string) (partner.ClientID, error) {
	s := c.r.URL.Query().Get(parameter)
	if c.role.Kind == Partner {
		if s != "" && s != string(c.role.App) {
			return "", forbiddenProblem("It is a partner's token for another app.")
		}
		return c.role.App, nil
	}
	if s == "" {
		return "", nil
	}
	id, err := partner.ParseClientID(s)
	if err != nil {
		return "", invalidProblem(FieldError{Pointer: "/" + parameter, Detail: err.Error()})
	}
	return id, nil
}

func (a *API) listIncidents(c *call) error {
	p, err := c.readPage("incidents", "client_id", "endpoint", "state")
	if err != nil {
		return err
	}
	app, err := c.readAppFilter("client_id")
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	q := incidents.Query{App: app, Endpoint: query.Get("endpoint"), State: incidents.State(query.Get("state")), After: p.after, Limit: p.limit}
	f := &faults{}
	if q.Endpoint != "" {
		if _, err := partner.ParseEndpointKind(q.Endpoint); err != nil {
			f.add("/endpoint", err.Error())
		}
	}
	if q.State != "" && !slices.Contains(incidents.AllStates(), q.State) {
		f.add("/state", "must be open or closed")
	}
	if err := f.err(); err != nil {
		return err
	}
	c.app = app
	items, next, err := a.Incidents.ListIncidents(c.ctx(), q)
	if errors.Is(err, incidents.ErrCursor) {
		return badCursorProblem()
	}
	if err != nil {
		return err
	}
	answers := make([]incidentAnswer, len(items))
	for i := range items {
		answers[i] = c.newIncidentAnswer(&items[i])
	}
	return answerList(c, p, answers, next)
}

func (a *API) closeIncident(c *call) error {
	if err := c.requireEmptyDocument(); err != nil {
		return err
	}
	id := c.r.PathValue("id")
	app, kind, _, err := incident.ParseID(id)
	if err != nil {
		return notFoundProblem("open incident")
	}
	c.app, c.endpoint = app, kind.String()
	i, err := a.Incidents.CloseIncident(c.ctx(), id, c.actor)
	if errors.Is(err, registry.ErrNotFound) {
		return notFoundProblem("open incident")
	}
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, c.newIncidentAnswer(&i))
}
