// Package httpapitest checks answers of the HTTP API against the OpenAPI document that it serves.
package httpapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/getkin/kin-openapi/openapi3"
)

const (
	lines   = "application/x-ndjson"
	problem = "application/problem+json"
)

// Contract checks answers against one document. It is safe for concurrent use.
type Contract struct {
	// Doc is the document; anything in an answer that it does not describe is a fault.
	Doc *openapi3.T

	mux       *http.ServeMux
	byPattern map[string]*openapi3.Operation
	checked   atomic.Int64
}

// Load reads a document as it is served.
func Load(ctx context.Context, text []byte) (*Contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	if err := doc.Validate(ctx); err != nil {
		return nil, fmt.Errorf("the document: %w", err)
	}
	for _, s := range doc.Components.Schemas {
		strict(s.Value, map[*openapi3.Schema]bool{})
	}
	c := &Contract{Doc: doc, mux: http.NewServeMux(), byPattern: map[string]*openapi3.Operation{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			pattern := method + " " + path
			c.mux.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) {})
			c.byPattern[pattern] = op
		}
	}
	return c, nil
}

// Operations counts what the document describes.
func (c *Contract) Operations() int { return len(c.byPattern) }

// Checked counts the answers of operations that were checked.
func (c *Contract) Checked() int64 { return c.checked.Load() }

// strict makes members that a schema does not name a fault, unless it allows additional ones.
func strict(s *openapi3.Schema, seen map[*openapi3.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	if len(s.Properties) > 0 && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, p := range s.Properties {
		strict(p.Value, seen)
	}
	if s.Items != nil {
		strict(s.Items.Value, seen)
	}
}

// Answer is the answer to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Check returns an error for an answer that the document does not describe. A request for which there is no operation
// MUST be answered with a problem that the document shows.
func (c *Contract) Check(r *http.Request, a Answer) error {
	_, pattern := c.mux.Handler(r)
	op := c.byPattern[pattern]
	if op == nil {
		return c.problem(a, nil)
	}
	said := op.Responses.Status(a.Status)
	if said == nil {
		return fmt.Errorf("%s: status %d is not foreseen", pattern, a.Status)
	}
	c.checked.Add(1)
	if a.Header.Get("X-Request-Id") == "" {
		return fmt.Errorf("%s: no X-Request-Id", pattern)
	}
	if len(a.Body) == 0 || r.Method == http.MethodHead {
		if len(said.Value.Content) > 0 && said.Value.Content[lines] == nil && r.Method != http.MethodHead {
			return fmt.Errorf("%s: no body", pattern)
		}
		return nil
	}
	mediaType, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	media := said.Value.Content[mediaType]
	if media == nil {
		return fmt.Errorf("%s: %d as %s is not foreseen", pattern, a.Status, mediaType)
	}
	var err error
	if mediaType == problem {
		err = c.problem(a, media)
	} else {
		err = c.Body(mediaType, media, a.Body)
	}
	if err != nil {
		return fmt.Errorf("%s: %d: %w", pattern, a.Status, err)
	}
	return nil
}

// Body returns an error for a body that does not match the document's media type.
func (c *Contract) Body(mediaType string, media *openapi3.MediaType, body []byte) error {
	switch mediaType {
	case lines:
		for line := range bytes.Lines(body) {
			if err := matches(c.Line(media), line); err != nil {
				return err
			}
		}
		return nil
	case "text/html":
		return nil
	default:
		return matches(media.Schema.Value, body)
	}
}

func matches(schema *openapi3.Schema, text []byte) error {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return schema.VisitJSON(v, openapi3.MultiErrors())
}

// Push fails unless a body is the notification that the document describes.
func (c *Contract) Push(body []byte) error {
	operation := c.Doc.Webhooks["state-change"].Post
	return matches(operation.RequestBody.Value.Content["application/json"].Schema.Value, body)
}

// Line is the schema of each line of NDJSON.
func (c *Contract) Line(media *openapi3.MediaType) *openapi3.Schema {
	name, _ := media.Schema.Value.Extensions["x-line-schema"].(string)
	return c.Doc.Components.Schemas[name[strings.LastIndexByte(name, '/')+1:]].Value
}

// problem fails unless the problem is one that the document shows an example of.
func (c *Contract) problem(a Answer, media *openapi3.MediaType) error {
	if media == nil {
		shared := c.Doc.Components.Responses[fmt.Sprintf("Problem%d", a.Status)]
		if shared == nil {
			return fmt.Errorf("status %d is not foreseen at all", a.Status)
		}
		if len(a.Body) == 0 {
			return nil
		}
		media = shared.Value.Content[problem]
	}
	var p struct {
		Type   string
		Status int
	}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		return fmt.Errorf("the problem is no JSON: %w", err)
	}
	name := strings.TrimPrefix(p.Type, "urn:lamplighter:problem:")
	if media.Examples[name] == nil || p.Status != a.Status {
		return fmt.Errorf("problem %s of status %d has no example at %d", name, p.Status, a.Status)
	}
	return matches(media.Schema.Value, a.Body)
}
