package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// call is one request while it is handled.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// id is the request id, role and actor identify the caller.
	id    string
	role  Role
	actor registry.Actor
	// token is the hash of the caller's token.
	token string
	// factor multiplies the budgets of a partner's token, see partner.App.EffectiveBudgetFactor; others have 1.
	factor int
	// app, tenant, endpoint and change are the subject of the request, for the log.
	app      partner.ClientID
	tenant   tenant.ID
	endpoint string
	change   string
	// cursors signs the cursors of lists.
	cursors CursorSigner
	// parsing bounds the bodies that are parsed at once.
	parsing *parseLimits
	// body is the body once it was read, doc the parsed one.
	body []byte
	doc  any
}

// handler answers a call or returns the error that becomes a problem.
type handler func(c *call) error

func (c *call) ctx() context.Context { return c.r.Context() }

// writeJSON answers with a document.
func (c *call) writeJSON(status int, v any) error {
	body, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	sendBody(c.w, status, "application/json", body)
	return nil
}

func (c *call) writeNoContent() error {
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// pathClientID reads the path's app.
func (c *call) pathClientID() (partner.ClientID, error) {
	id, err := partner.ParseClientID(c.r.PathValue("client_id"))
	if err != nil {
		return "", invalidProblem(FieldError{Pointer: "/client_id", Detail: err.Error()})
	}
	c.app = id
	return id, nil
}

// pathTenantID reads the path's tenant.
func (c *call) pathTenantID() (tenant.ID, error) {
	id, err := tenant.ParseID(c.r.PathValue("tenant"))
	if err != nil {
		return "", invalidProblem(FieldError{Pointer: "/tenant", Detail: err.Error()})
	}
	c.tenant = id
	return id, nil
}

// pathEndpointKind reads the path's endpoint.
func (c *call) pathEndpointKind() (partner.EndpointKind, error) {
	k, err := partner.ParseEndpointKind(c.r.PathValue("endpoint"))
	if err != nil {
		return 0, invalidProblem(FieldError{Pointer: "/endpoint", Detail: err.Error()})
	}
	c.endpoint = k.String()
	return k, nil
}

// Limits of request bodies: a partner's, and others'.
const (
	maxPartnerBody = 128 << 10
	maxBody        = 1 << 20
)

// readDocument reads the whole body as one JSON text.
func (c *call) readDocument() (any, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	if c.doc == nil {
		c.doc, err = c.parseJSONInTurn(body)
	}
	return c.doc, err
}

// parseJSONInTurn parses when it is its turn.
func (c *call) parseJSONInTurn(body []byte) (any, error) {
	release, err := c.parsing.acquire(c.ctx(), int64(len(body)))
	if err != nil {
		return nil, fmt.Errorf("wait to parse the body: %w", err)
	}
	defer release()
	return parseJSON(body)
}

// readOptionalDocument is readDocument, but returns an empty object when there is no body.
func (c *call) readOptionalDocument() (any, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	return c.readDocument()
}

// requireEmptyDocument accepts no body or an object without members.
func (c *call) requireEmptyDocument() error {
	doc, err := c.readOptionalDocument()
	if err != nil {
		return err
	}
	f := &faults{}
	newObjectReader(doc, f, false).reportUnknownMembers()
	return f.err()
}

func (c *call) readBody() ([]byte, error) {
	if c.body != nil {
		return c.body, nil
	}
	most := int64(maxBody)
	if c.role.Kind == Partner {
		most = maxPartnerBody
	}
	if c.r.ContentLength > most {
		return nil, &http.MaxBytesError{Limit: most}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, most))
	if err != nil {
		return nil, translateReadError(err)
	}
	c.body = body
	return body, nil
}

// bodyKind says which body an operation takes.
type bodyKind uint8

const (
	noBody bodyKind = iota
	// noBodyLong is for an operation without a body that may wait and sets its own deadlines.
	noBodyLong
	jsonBody
	optionalJSON
	patchBody
	linesBody
	jsonOrLines
)

const (
	typeJSON  = "application/json"
	typePatch = "application/merge-patch+json"
	typeLines = "application/x-ndjson"
)

func (k bodyKind) mediaTypes() []string {
	switch k {
	case jsonBody, optionalJSON:
		return []string{typeJSON}
	case patchBody:
		return []string{typePatch, typeJSON}
	case linesBody:
		return []string{typeLines}
	case jsonOrLines:
		return []string{typeJSON, typeLines}
	default:
		return nil
	}
}

// mediaType is the body's type without parameters, empty when it cannot be read or names another
// charset than UTF-8.
func mediaType(r *http.Request) string {
	t, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return ""
	}
	return t
}

// checkMediaType refuses a body that the operation does not take.
func checkMediaType(r *http.Request, k bodyKind) error {
	types := k.mediaTypes()
	if types == nil || k == optionalJSON && r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return nil
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return newProblem(http.StatusUnsupportedMediaType, "unsupported-encoding", "The body's encoding is not supported", "Send the body without Content-Encoding.")
	}
	if slices.Contains(types, mediaType(r)) {
		return nil
	}
	return newProblem(http.StatusUnsupportedMediaType, "unsupported-type", "The body's type is not supported",
		"Send Content-Type: "+strings.Join(types, " or ")+", in UTF-8.")
}
