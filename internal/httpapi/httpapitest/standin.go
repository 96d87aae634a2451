package httpapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lamplighter/lamplighter/internal/httpapi"
)

// An embedded interface must not have the name of one of its methods.
type (
	reader = httpapi.Apps
	lister = httpapi.Incidents
	work   = httpapi.Jobs
)

// Whole is the contract of an API that has every operation.
func Whole(ctx context.Context) (*Contract, error) {
	api := httpapi.New(httpapi.Deps{ // described, never called
		Tokens: struct{ httpapi.Tokens }{}, TokenKeeper: struct{ httpapi.TokenKeeper }{}, Apps: struct{ reader }{}, AppWriter: struct{ httpapi.AppWriter }{},
		Tester: struct{ httpapi.Tester }{}, Approvals: struct{ httpapi.Approvals }{}, ApprovalList: struct{ httpapi.ApprovalLister }{},
		Resyncer: struct{ httpapi.Resyncer }{}, Jobs: struct{ work }{}, Mailboxes: struct{ httpapi.MailboxViewer }{}, Deliveries: struct{ httpapi.Deliveries }{},
		Explainer: struct{ httpapi.StatusExplainer }{}, Tenants: struct{ httpapi.Tenants }{}, Statuses: struct{ httpapi.Statuses }{},
		Changes: struct{ httpapi.Changes }{}, Keys: struct{ httpapi.KeyBinder }{}, Incidents: struct{ lister }{}, Audit: struct{ httpapi.Audit }{},
		Resealer: struct{ httpapi.Resealer }{}, ErrorReports: struct{ httpapi.ErrorReports }{}, ConfigFeed: struct{ httpapi.ConfigFeed }{}, MailSubscriptions: struct{ httpapi.MailSubscriptions }{}, Store: struct{ httpapi.StoreWatch }{},
		Discovery: func() []byte { return nil }, JWKS: func() []byte { return nil },
	})
	if left, err := api.ListUnserved(); err != nil || len(left) > 0 {
		return nil, fmt.Errorf("described, and not served: %v %w", left, err)
	}
	return Load(ctx, api.OpenAPI())
}

// StandIn makes next stand in for the API. It calls fault for each request and each answer that the document does not
// describe. Answers are sent when they are complete.
func (c *Contract) StandIn(next http.Handler, fault func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the caller disconnected
		}
		if err := c.Request(r, body); err != nil {
			fault(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		rec.Header().Set("X-Request-Id", "r1")
		next.ServeHTTP(rec, r)
		answer := Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}
		if err := c.Check(r, answer); err != nil {
			fault(err)
		}
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.Status)
		_, _ = w.Write(answer.Body)
	})
}

// Example is the document's own example of an operation's answer; of problems, that of one type. It is
// empty where there is none.
func (c *Contract) Example(r *http.Request, status int, kind string) (mediaType, body string) {
	_, pattern := c.mux.Handler(r)
	op := c.byPattern[pattern]
	if op == nil || op.Responses.Status(status) == nil {
		return "", ""
	}
	for mediaType, media := range op.Responses.Status(status).Value.Content {
		example := media.Example
		if e := media.Examples[kind]; e != nil {
			example = e.Value.Value
		}
		if text, ok := example.(string); ok {
			return mediaType, text
		}
		if text, err := json.Marshal(example); err == nil && example != nil {
			return mediaType, string(text)
		}
	}
	return "", ""
}

// Request returns an error for a request that the document does not describe.
func (c *Contract) Request(r *http.Request, body []byte) error {
	_, pattern := c.mux.Handler(r)
	op := c.byPattern[pattern]
	if op == nil {
		return fmt.Errorf("%s %s: there is no such operation", r.Method, r.URL.Path)
	}
	err := parameters(op, r)
	if err == nil {
		err = c.requestBody(op, r, body)
	}
	if err != nil {
		return fmt.Errorf("request of %s: %w", pattern, err)
	}
	return nil
}

func parameters(op *openapi3.Operation, r *http.Request) error {
	for name, values := range r.URL.Query() {
		p := op.Parameters.GetByInAndName("query", name)
		if p == nil {
			return fmt.Errorf("it has no parameter %s", name)
		}
		for _, text := range values {
			var value any = text
			if n, err := strconv.ParseFloat(text, 64); err == nil && !p.Schema.Value.Type.Is("string") {
				value = n
			} else if b, err := strconv.ParseBool(text); err == nil && p.Schema.Value.Type.Is("boolean") {
				value = b
			}
			if err := p.Schema.Value.VisitJSON(value); err != nil {
				return fmt.Errorf("parameter %s: %w", name, err)
			}
		}
	}
	for _, name := range []string{"If-Match", "If-None-Match", "Idempotency-Key"} {
		if r.Header.Get(name) != "" && op.Parameters.GetByInAndName("header", name) == nil {
			return fmt.Errorf("it takes no %s", name)
		}
	}
	return nil
}

func (c *Contract) requestBody(op *openapi3.Operation, r *http.Request, body []byte) error {
	switch {
	case op.RequestBody == nil && len(body) == 0:
		return nil
	case op.RequestBody == nil:
		return errors.New("it takes no body")
	case len(body) == 0 && !op.RequestBody.Value.Required:
		return nil
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	media := op.RequestBody.Value.Content[mediaType]
	if media == nil {
		return fmt.Errorf("it takes no %q", mediaType)
	}
	return c.Body(mediaType, media, body)
}
