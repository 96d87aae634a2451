package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lamplighter/lamplighter/internal/client"
)

// says is a service that always answers the same.
type says struct {
	status     int
	mediaType  string
	body       string
	breaksOff  bool
	withoutTag bool
}

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	var body io.Reader = strings.NewReader(s.body)
	if s.breaksOff {
		body = io.MultiReader(body, cut{})
	}
	h := http.Header{"Content-Type": {s.mediaType}, "X-Request-Id": {"r1"}}
	if s.withoutTag {
		h.Del("X-Request-Id")
	}
	return &http.Response{StatusCode: s.status, Header: h, Body: io.NopCloser(body), Request: r}, nil
}

type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestTransportTellsFaults: answers come through unchanged, and those that the document does not
// foresee are told.
func TestTransportTellsFaults(t *testing.T) {
	t.Parallel()
	c, err := contractOf(t.Context(), newHarness(t).api)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path  string
		says  says
		fault string
	}{
		"NoProblem":    {"/v1/apps", says{status: 404, mediaType: "text/html", body: "<html>"}, "status 404 is not foreseen"},
		"NotForeseen":  {"/v1/apps", says{status: 418}, "status 418 is not foreseen"},
		"NoList":       {"/v1/apps", says{status: 200, mediaType: "application/json", body: `{"items":"x"}`}, "items"},
		"OneMore":      {"/v1/apps", says{status: 200, mediaType: "application/json", body: `{"items":[],"more":1}`}, "more"},
		"NoBody":       {"/v1/apps", says{status: 200}, "no body"},
		"NoID":         {"/v1/apps", says{status: 200, mediaType: "application/json", body: `{"items":[]}`, withoutTag: true}, "no X-Request-Id"},
		"Right":        {"/v1/apps", says{status: 200, mediaType: "application/json", body: `{"items":[]}`}, ""},
		"BreaksOff":    {"/v1/apps", says{status: 200, mediaType: "application/json", body: `{"items":`, breaksOff: true}, ""},
		"OfAnotherURL": {"/nowhere", says{status: 200, mediaType: "application/json", body: "{}"}, "not foreseen at all"},
	} {
		var faults []string
		caller := &http.Client{Transport: c.Transport(test.says, func(err error) { faults = append(faults, err.Error()) })}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://lamplighter.example"+test.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := caller.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(b) != test.says.body || errors.Is(err, io.ErrUnexpectedEOF) != test.says.breaksOff {
			t.Errorf("%s: the answer became %q, %v", name, b, err)
		}
		told := strings.Join(faults, "\n")
		if (told == "") != (test.fault == "") || !strings.Contains(told, test.fault) {
			t.Errorf("%s: told %q, want %q", name, told, test.fault)
		}
	}
}

// exampleServer answers every request with one example of the document.
func exampleServer(t *testing.T) (c *client.Client, say func(status int, mediaType string, example any)) {
	t.Helper()
	var status int
	var mediaType string
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{URL: server.URL, Token: "lmp_x", UserAgent: "test/1", Timeout: 30 * time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c, func(s int, m string, example any) {
		text, ok := example.(string)
		if !ok {
			b, err := json.Marshal(example)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		status, mediaType, body = s, m, []byte(text)
	}
}

// TestClientReadsTheDocument: what the document gives as an example of a list, of answers to lines and
// of each problem, the client of the command line reads to the last member.
func TestClientReadsTheDocument(t *testing.T) {
	t.Parallel()
	contract, err := contractOf(t.Context(), newHarness(t).api)
	if err != nil {
		t.Fatal(err)
	}
	c, say := exampleServer(t)
	lists, answers, problems := 0, 0, 0
	for path, item := range contract.Doc.Paths.Map() {
		for method, op := range item.Operations() {
			ok := op.Responses.Status(http.StatusOK)
			if ok == nil {
				continue
			}
			if media := ok.Value.Content["application/json"]; method == http.MethodGet && media != nil && isList(media) {
				lists++
				say(http.StatusOK, "application/json", media.Example)
				want := media.Example.(map[string]any)["items"].([]any)
				got := 0
				if err := c.ForEachItem(t.Context(), "/v1/x", nil, len(want), func(json.RawMessage) error { got++; return nil }); err != nil || got != len(want) {
					t.Errorf("%s: %d of %d items, %v", path, got, len(want), err)
				}
			}
			if media := ok.Value.Content[lines]; media != nil && op.RequestBody != nil {
				answers++
				say(http.StatusOK, lines, media.Example)
				readLines(t, c, method+" "+path, media.Example.(string))
			}
		}
	}
	for name, shared := range contract.Doc.Components.Responses {
		var status int
		if _, err := fmt.Sscanf(name, "Problem%d", &status); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for kind, e := range shared.Value.Content["application/problem+json"].Examples {
			problems++
			say(status, "application/problem+json", e.Value.Value)
			_, err := c.Do(t.Context(), client.Request{Method: http.MethodGet, Path: "/v1/x"})
			said := e.Value.Value.(map[string]any)
			fields, _ := said["errors"].([]any)
			r, ok := errors.AsType[*client.Refusal](err)
			if !ok || r.Type != kind || r.Status != status || r.Title != said["title"] || r.Detail != said["detail"] || r.RequestID != said["request_id"] || len(r.Errors) != len(fields) {
				t.Errorf("%s %s was read as %+v, %v", name, kind, r, err)
			}
		}
	}
	if lists == 0 || answers == 0 || problems == 0 {
		t.Error("the document has no example of one of them")
	}
	t.Logf("%d lists, %d bodies of answers to lines, %d problems", lists, answers, problems)
}

func isList(media *openapi3.MediaType) bool {
	example, _ := media.Example.(map[string]any)
	_, ok := example["items"].([]any)
	_, paged := media.Schema.Value.Properties["next_cursor"]
	return ok && paged
}

// readLines reads the answers to the lines that were answered.
func readLines(t *testing.T, c *client.Client, operation, text string) {
	t.Helper()
	want := slices.Collect(strings.Lines(text))
	n := 0
	err := c.SendLines(t.Context(), client.Request{Method: http.MethodPost, Path: "/v1/x"}, func(yield func([]byte) bool) {
		for range want {
			if !yield([]byte("{}")) {
				return
			}
		}
	}, func(a client.LineAnswer) error {
		var said client.LineAnswer
		if err := json.Unmarshal([]byte(want[n]), &said); err != nil {
			return err
		}
		if a.Line != said.Line || a.Status != said.Status || a.Status == 0 {
			t.Errorf("%s: %q was read as %+v", operation, want[n], a)
		}
		n++
		return nil
	})
	if err != nil || n != len(want) {
		t.Errorf("%s: %d of %d answers, %v", operation, n, len(want), err)
	}
}
