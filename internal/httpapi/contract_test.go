package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

// contracts are loaded once per version and table of operations, from which the document follows:
// making it takes longer than most tests.
var contracts sync.Map

func contractOf(ctx context.Context, api *httpapi.API) (*httpapitest.Contract, error) {
	load, _ := contracts.LoadOrStore(fmt.Sprint(api.Version, api.Operations()), sync.OnceValues(func() (*httpapitest.Contract, error) {
		return httpapitest.Load(context.WithoutCancel(ctx), api.OpenAPI())
	}))
	return load.(func() (*httpapitest.Contract, error))()
}

// TestDocumentIsTheTable: each operation is described, and nothing else is.
func TestDocumentIsTheTable(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	c, err := contractOf(t.Context(), h.api)
	if err != nil {
		t.Fatal(err)
	}
	left, err := h.api.ListUnserved()
	left = slices.DeleteFunc(left, func(id string) bool { return id == "postErrorReports" }) // comes next to this
	if err != nil || len(left) > 0 {
		t.Errorf("described, and not served: %v %v", left, err)
	}
	operations, examples := 0, 0
	for path, item := range c.Doc.Paths.Map() {
		for method, op := range item.Operations() {
			operations++
			for _, body := range bodies(op) {
				examples++
				if err := example(c, body.mediaType, body.media); err != nil {
					t.Errorf("%s %s: example of %s: %v", method, path, body.what, err)
				}
			}
		}
	}
	problems := 0
	for name, r := range c.Doc.Components.Responses {
		for kind, e := range r.Value.Content["application/problem+json"].Examples {
			problems++
			text, err := json.Marshal(e.Value.Value)
			if err == nil {
				err = c.Body("application/json", r.Value.Content["application/problem+json"], text)
			}
			if err != nil {
				t.Errorf("%s: example %s: %v", name, kind, err)
			}
		}
	}
	if operations != len(h.api.Operations()) {
		t.Errorf("%d operations in the document, %d in the table", operations, len(h.api.Operations()))
	}
	t.Logf("%d operations, %d examples of bodies and answers, %d of problems", operations, examples, problems)
}

type described struct {
	what, mediaType string
	media           *openapi3.MediaType
}

// bodies lists what an operation takes and answers, in a stable order.
func bodies(op *openapi3.Operation) (out []described) {
	if op.RequestBody != nil {
		for t, m := range op.RequestBody.Value.Content {
			out = append(out, described{"the body", t, m})
		}
	}
	for status, r := range op.Responses.Map() {
		for t, m := range r.Value.Content {
			if m.Example != nil {
				out = append(out, described{status, t, m})
			}
		}
	}
	slices.SortFunc(out, func(a, b described) int { return strings.Compare(a.what+a.mediaType, b.what+b.mediaType) })
	return out
}

func example(c *httpapitest.Contract, mediaType string, media *openapi3.MediaType) error {
	text, ok := media.Example.(string)
	if !ok {
		b, err := json.Marshal(media.Example)
		if err != nil {
			return err
		}
		text = string(b)
	}
	return c.Body(mediaType, media, []byte(text))
}

// TestProblemsInTheDocument holds the document's problems against those of docs/api.md, which
// another test holds against the code.
func TestProblemsInTheDocument(t *testing.T) {
	t.Parallel()
	c, err := contractOf(t.Context(), newHarness(t).api)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range c.Doc.Components.Responses {
		for kind := range r.Value.Content["application/problem+json"].Examples {
			got = append(got, kind)
		}
	}
	// some are one operation's alone, and shown there
	for kind, only := range map[string]struct{ code, operation string }{"overloaded": {"503", "getState"}, "out-of-order": {"409", "postStateChanges"}, "store-not-ours": {"409", "acceptStore"}, "job-kept": {"409", "cancelJob"}, "job-ended": {"409", "cancelJob"}} {
		var shown []string
		for _, path := range c.Doc.Paths.Map() {
			for _, op := range path.Operations() {
				answer := op.Responses.Value(only.code)
				if answer == nil {
					continue
				}
				if media := answer.Value.Content["application/problem+json"]; media != nil && media.Examples[kind] != nil {
					shown = append(shown, op.OperationID)
				}
			}
		}
		if !slices.Equal(shown, []string{only.operation}) {
			t.Errorf("%v are said to answer %s, want %s alone", shown, kind, only.operation)
		}
		got = append(got, kind)
	}
	for _, line := range document(t) {
		if m := problemRow.FindStringSubmatch(line); m != nil {
			for word := range strings.SplitSeq(m[1], ", ") {
				want = append(want, strings.Trim(word, "`"))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the document shows %v\ndocs/api.md lists %v", got, want)
	}
}

func TestDocsPage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	rec := h.do(request{method: "GET", path: "/docs"})
	if rec.Code != 200 || !strings.Contains(rec.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("= %d %v", rec.Code, rec.Header())
	}
	page := rec.Body.String()
	for _, op := range h.api.Operations() {
		if !strings.Contains(page, `<section id="`+op.ID+`">`) {
			t.Errorf("the page lacks %s", op.ID)
		}
	}
	for _, outside := range []string{"<script", "src=", "http-equiv", "@import", "<link"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	if again := h.do(request{method: "GET", path: "/docs", header: map[string]string{"If-None-Match": rec.Header().Get("ETag")}}); again.Code != 304 {
		t.Errorf("asked again = %d", again.Code)
	}
	public := httptest.NewRecorder()
	h.api.PublicHandler().ServeHTTP(public, httptest.NewRequest(http.MethodGet, "/docs", http.NoBody))
	if public.Code != 404 {
		t.Errorf("the public listener answers %d", public.Code)
	}
}
