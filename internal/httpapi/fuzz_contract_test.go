package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

// TestAnyRequestIsAnsweredAsDocumented draws requests of every operation from the document, most
// of them twisted, and holds each answer against it: no panic, no 500, nothing that is not
// foreseen. More of them: go test -rapid.checks=10000.
func TestAnyRequestIsAnsweredAsDocumented(t *testing.T) {
	t.Parallel()
	c, err := contractOf(t.Context(), newHarness(t).api)
	if err != nil {
		t.Fatal(err)
	}
	type drawn struct {
		path, method string
		op           *openapi3.Operation
	}
	var ops []drawn
	for _, path := range slices.Sorted(maps.Keys(c.Doc.Paths.Map())) {
		for method, op := range c.Doc.Paths.Value(path).Operations() {
			ops = append(ops, drawn{path, method, op})
		}
	}
	h := newHarness(t)
	requests, codes := 0, map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		h.answer(request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: appBody}) // where a deletion took it away
		for range 10 {
			o := rapid.SampledFrom(ops).Draw(t, "operation")
			r := draw(t, c, o.op, o.method, o.path)
			rec := h.answer(r)
			requests++
			codes[rec.Code]++
			if err := c.Check(r.make(), httpapitest.Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}); err != nil || rec.Code == 500 {
				t.Fatalf("%s %s as %s\n%.300s\n= %d %.300s\n%v", r.method, r.path, r.role, r.body, rec.Code, rec.Body, err)
			}
		}
	})
	t.Logf("%d operations, %d requests, answered %v", len(ops), requests, codes)
}

func draw(t *rapid.T, c *httpapitest.Contract, op *openapi3.Operation, method, path string) request {
	r := request{method: method, header: map[string]string{}}
	r.role = rapid.SampledFrom([]string{"admin", "admin", "operator", "partner:app1", "platform", ""}).Draw(t, "role")
	query := url.Values{}
	for _, p := range op.Parameters {
		switch v := p.Value; v.In {
		case "path":
			path = strings.Replace(path, "{"+v.Name+"}", url.PathEscape(segment(t, v)), 1)
		case "query":
			if rapid.Bool().Draw(t, "has "+v.Name) {
				query.Add(v.Name, scalar(value(t, v.Schema.Value, 0)))
			}
		case "header":
			if rapid.IntRange(0, 3).Draw(t, "has "+v.Name) == 0 {
				r.header[v.Name] = rapid.SampledFrom([]string{`"1"`, `W/"1"`, "*", `"`, ",,", "k", strings.Repeat("x", 300)}).Draw(t, v.Name)
			}
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "odd query") == 0 {
		query.Add(rapid.String().Draw(t, "name"), rapid.String().Draw(t, "value"))
	}
	if r.path = path; len(query) > 0 {
		r.path += "?" + query.Encode()
	}
	if op.RequestBody == nil {
		return r
	}
	types := slices.Sorted(maps.Keys(op.RequestBody.Value.Content))
	r.contentType = rapid.SampledFrom(types).Draw(t, "type")
	media := op.RequestBody.Value.Content[r.contentType]
	if r.contentType == lines {
		for range rapid.IntRange(0, 4).Draw(t, "lines") {
			r.body += body(t, c.Line(media)) + "\n"
		}
		return r
	}
	r.body = body(t, media.Schema.Value)
	return r
}

// segment is a path parameter: mostly one that exists.
func segment(t *rapid.T, p *openapi3.Parameter) string {
	known := map[string][]string{
		"client_id": {"app1", "other"}, "tenant": {"Cust1", "Cust12345"}, "endpoint": {"state_change", "erp_sync", "mirroring", "quote_connector"},
		"id": {"chg_Cust12345_1795449600000", "inc_app1_smi2xk0", "spare"},
	}
	if s := known[p.Name]; len(s) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
		return rapid.SampledFrom(s).Draw(t, p.Name)
	}
	s := rapid.StringN(1, 20, 80).Draw(t, p.Name)
	if s == "." || s == ".." { // a client would resolve it before it asks
		return "x"
	}
	return s
}

// body is a JSON text of the schema, sometimes twisted.
func body(t *rapid.T, s *openapi3.Schema) string {
	text, err := json.Marshal(value(t, s, 0))
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	switch rapid.IntRange(0, 19).Draw(t, "twist") {
	case 0:
		return out[:rapid.IntRange(0, len(out)).Draw(t, "cut")]
	case 1:
		return strings.Repeat("[", 1000) + out
	case 2:
		return strings.Replace(out, "{", `{"name":1,"name":2,`, 1)
	case 3:
		return strings.Replace(out, ":", ":NaN,", 1)
	case 4:
		return out + "\xff"
	case 5:
		return strings.Replace(out, `"`, `"\ud800`, 1)
	default:
		return out
	}
}

func value(t *rapid.T, s *openapi3.Schema, depth int) any {
	if rapid.IntRange(0, 14).Draw(t, "stray") == 0 || depth > 6 {
		return rapid.SampledFrom([]any{nil, true, -1, 1e300, "", "x\u0000y", strings.Repeat("long", 300), []any{}, map[string]any{"a": 1}}).Draw(t, "stray value")
	}
	if len(s.Enum) > 0 {
		return rapid.SampledFrom(s.Enum).Draw(t, "enum")
	}
	switch {
	case s.Type == nil || s.Type.Includes("object"):
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			if slices.Contains(s.Required, name) || rapid.Bool().Draw(t, "has "+name) {
				out[name] = value(t, s.Properties[name].Value, depth+1)
			}
		}
		return out
	case s.Type.Includes("array"):
		out := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			out = append(out, value(t, s.Items.Value, depth+1))
		}
		return out
	case s.Type.Includes("boolean"):
		return rapid.Bool().Draw(t, "flag")
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		return rapid.Int64Range(-3, 3000).Draw(t, "number")
	case s.Format == "date-time":
		return rapid.SampledFrom([]string{"2026-11-25T10:00:00Z", "2026-11-24T10:15:30.5+01:00", "yesterday", "9999-12-31T23:59:59Z"}).Draw(t, "time")
	default:
		return rapid.OneOf(
			rapid.SampledFrom([]string{"Cust1", "app1", "Awesome", "https://partner.example/hook", "kim@example.com", "online3.superoffice.com", "partner:app1", "operator"}),
			rapid.String(),
		).Draw(t, "text")
	}
}

func scalar(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}
