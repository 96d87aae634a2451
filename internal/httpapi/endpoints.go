package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// HealthReader reads the health of endpoints.
type HealthReader interface {
	EndpointHealth(ctx context.Context, app *partner.App, kind partner.EndpointKind) (health.Assessment, error)
}

func (a *API) readEndpointHealth(c *call, app *partner.App, kind partner.EndpointKind) (*apitypes.EndpointHealth, error) {
	h, err := a.HealthReader.EndpointHealth(c.ctx(), app, kind)
	if err != nil {
		return nil, err
	}
	return &apitypes.EndpointHealth{
		State: string(h.Status), Since: h.Since.UTC(), FailureInfo: c.explainCause(h.Cause, kind), OperatorDetail: c.detailForOperators(h.Detail),
		CheckedAt: h.CheckedAt.UTC(), NextCheckAt: h.NextCheckAt.UTC(), CertificateEndsAt: h.CertificateEnds.UTC(),
	}, nil
}

func (a *API) getEndpoint(c *call) error {
	kind, err := c.pathEndpointKind()
	if err != nil {
		return err
	}
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	return a.answerEndpoint(c, kind, rec, nil)
}

func (a *API) answerEndpoint(c *call, kind partner.EndpointKind, rec registry.AppRecord, warnings []FieldError) error {
	answer := a.newEndpointAnswer(&rec.App, kind)
	var err error
	if answer.Health, err = a.readEndpointHealth(c, &rec.App, kind); err != nil {
		return err
	}
	answer.Warnings = warnings
	c.w.Header().Set("ETag", revisionETag(rec.Revision))
	return c.writeJSON(http.StatusOK, answer)
}

func (a *API) putEndpoint(c *call) error {
	return a.writeEndpoint(c, "endpoint.put", func(_ partner.Endpoint, doc any, f *faults) partner.Endpoint {
		return readEndpoint(newObjectReader(doc, f, false), partner.New("").Endpoints[0])
	})
}

func (a *API) patchEndpoint(c *call) error {
	return a.writeEndpoint(c, "endpoint.patch", func(old partner.Endpoint, doc any, f *faults) partner.Endpoint {
		return readEndpoint(newObjectReader(doc, f, true), old)
	})
}

func (a *API) writeEndpoint(c *call, action string, read func(old partner.Endpoint, doc any, f *faults) partner.Endpoint) error {
	kind, err := c.pathEndpointKind()
	if err != nil {
		return err
	}
	doc, err := c.readDocument()
	if err != nil {
		return err
	}
	w, err := a.updateApp(c, action, func(old *registry.AppRecord, _ partner.ClientID) (partner.App, error) {
		if old == nil {
			return partner.App{}, notFoundProblem("app")
		}
		app, f := old.App, &faults{}
		app.Endpoints[kind] = read(old.App.Endpoints[kind], doc, f)
		return app, f.err()
	})
	if err != nil {
		return rebaseErrorPointers(kind, err)
	}
	return a.answerEndpoint(c, kind, w.Record, rebasePointers(kind, w.Warnings))
}

// rebaseErrorPointers changes the pointers of an app's faults into pointers into the endpoint that was sent.
func rebaseErrorPointers(kind partner.EndpointKind, err error) error {
	var p *Problem
	var fields partner.ValidationError
	switch {
	case errors.As(err, &fields):
		return invalidProblem(rebasePointers(kind, fields)...)
	case errors.As(err, &p):
		p.Errors = rebasePointers(kind, p.Errors)
	}
	return err
}

func rebasePointers(kind partner.EndpointKind, in []FieldError) []FieldError {
	out := make([]FieldError, len(in))
	for i, e := range in {
		out[i] = FieldError{Pointer: strings.TrimPrefix(e.Pointer, "/endpoints/"+kind.String()), Detail: e.Detail}
	}
	return out
}

// Tester tests endpoints at once.
type Tester interface {
	// Test tests an endpoint of a stored app, whether it is on or off. A success closes its circuit.
	Test(ctx context.Context, app partner.ClientID, kind partner.EndpointKind) (health.TestResult, error)
}

func (a *API) testEndpoint(c *call) error {
	kind, err := c.pathEndpointKind()
	if err != nil {
		return err
	}
	if err := c.requireEmptyDocument(); err != nil {
		return err
	}
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	if rec.App.Endpoints[kind].EffectiveURL(a.Environment) == "" {
		return invalidProblem(FieldError{Pointer: "/url", Detail: "is not set for this environment: there is nothing to try"})
	}
	if err := a.AppWriter.CountTest(&rec.App, kind); err != nil {
		return c.writeProblem(err)
	}
	result, err := a.Tester.Test(c.ctx(), rec.App.ClientID, kind)
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, testAnswer{result.State, c.explainCause(result.Cause, kind), result.Status, c.detailForOperators(result.Detail), result.Duration.Milliseconds()})
}

type testAnswer struct {
	Outcome          health.Status `json:"outcome" api:"ref=TestOutcome"`
	told.FailureInfo `always:"reason,words"`
	Status           int `json:"status" doc:"The HTTP status; 0 without an answer."`
	*apitypes.OperatorDetail
	DurationMS int64 `json:"duration_ms" api:"min=0"`
}
