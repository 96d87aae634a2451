package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

// whole is the API's contract, read once.
var whole struct {
	once sync.Once
	*httpapitest.Contract

	err error
}

func contract(t *testing.T) *httpapitest.Contract {
	t.Helper()
	whole.once.Do(func() { whole.Contract, whole.err = httpapitest.Whole(context.WithoutCancel(t.Context())) })
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	return whole.Contract
}

// api starts a stand-in for the API, and fails the test where it is asked or answers otherwise than the
// API's document says.
func api(t *testing.T, attempts int, h http.HandlerFunc) (*client.Client, *[]time.Duration) {
	t.Helper()
	return serve(t, attempts, contract(t).StandIn(h, func(err error) { t.Error(err) }))
}

// say answers with the document's own example; kind is the problem's, where there are several.
func say(t *testing.T, w http.ResponseWriter, r *http.Request, status int, kind string) {
	t.Helper()
	mediaType, body := contract(t).Example(r, status, kind)
	answer(w, status, mediaType, body)
}

func answer(w http.ResponseWriter, status int, mediaType, body string) {
	if body != "" {
		w.Header().Set("Content-Type", mediaType)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// serve starts somebody who answers in the API's place, such as a proxy, and a client that never waits
// between attempts.
func serve(t *testing.T, attempts int, h http.Handler) (*client.Client, *[]time.Duration) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	pauses := &[]time.Duration{}
	c, err := client.New(client.Options{
		URL: server.URL, Token: "lmp_secret", UserAgent: "test/1", Timeout: 30 * time.Second, Attempts: attempts,
		Pause: func(_ context.Context, d time.Duration) error { *pauses = append(*pauses, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, pauses
}

func TestNewRefusesURLs(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "ftp://x", "http://", "https://a:b@x", "127.0.0.1:8080", "://"} {
		if _, err := client.New(client.Options{URL: raw}); !errors.Is(err, client.ErrURL) {
			t.Errorf("New(%q) = %v", raw, err)
		}
	}
}

func TestPathEscapes(t *testing.T) {
	t.Parallel()
	for want, segments := range map[string][]string{
		"/v1/apps/a%2Fb":    {"v1", "apps", "a/b"},
		"/v1/apps/%2E%2E":   {"v1", "apps", ".."},
		"/v1/apps/a%3Fb%23": {"v1", "apps", "a?b#"},
		"/v1/apps/":         {"v1", "apps", ""},
	} {
		if got := client.JoinPath(segments...); got != want {
			t.Errorf("Path(%q) = %s, want %s", segments, got, want)
		}
	}
}

func TestDoSendsWhatWasSaid(t *testing.T) {
	t.Parallel()
	var sent string
	c, _ := api(t, 1, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = fmt.Sprintf("%s %s %s|%s|%s|%s|%s|%s|%s", r.Method, r.URL, body, r.Header.Get("Authorization"), r.Header.Get("User-Agent"),
			r.Header.Get("Content-Type"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), r.Header.Get("Idempotency-Key"))
		w.Header().Set("ETag", `"7"`)
		if r.Method == http.MethodPost {
			w.Header().Set("Idempotent-Replayed", "true")
		}
		say(t, w, r, http.StatusOK, "")
	})
	app, lines := []byte(`{"name":"A"}`), []byte("{\"tenant\":\"Cust1\",\"change_type\":\"suspend\"}\n")
	for name, tc := range map[string]struct {
		r    client.Request
		want string
	}{
		"Get":   {client.Request{Method: "GET", Path: "/v1/apps", Query: url.Values{"cursor": {"b c"}}}, "GET /v1/apps?cursor=b+c |Bearer lmp_secret|test/1||||"},
		"Put":   {client.Request{Method: "PUT", Path: "/v1/apps/a", Body: app, IfNoneMatch: "*"}, `PUT /v1/apps/a {"name":"A"}|Bearer lmp_secret|test/1|application/json||*|`},
		"Patch": {client.Request{Method: "PATCH", Path: "/v1/apps/a", Body: app, IfMatch: `"1"`}, `PATCH /v1/apps/a {"name":"A"}|Bearer lmp_secret|test/1|application/json|"1"||`},
		"Post":  {client.Request{Method: "POST", Path: "/v1/state-changes", Body: lines, Type: "application/x-ndjson", IdempotencyKey: "k"}, "POST /v1/state-changes " + string(lines) + "|Bearer lmp_secret|test/1|application/x-ndjson|||k"},
	} {
		a, err := c.Do(t.Context(), tc.r)
		if err != nil || sent != tc.want || a.ETag != `"7"` || a.Status != 200 || len(a.Body) == 0 || a.Replayed != (name == "Post") {
			t.Errorf("%s: %v, %+v\n got %s\nwant %s", name, err, a, sent, tc.want)
		}
	}
}

// kinds are problems by their status.
func kinds() map[int]string {
	return map[int]string{401: "unauthorized", 412: "stale", 422: "invalid", 429: "too-many-requests", 500: "internal", 503: "unavailable"}
}

func TestDoRepeatsWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	const app, pause = "/v1/apps/a", "/v1/apps/a/pause"
	body := []byte(`{"name":"A"}`)
	for name, tc := range map[string]struct {
		r      client.Request
		status int
		after  string
		calls  int
		pauses []time.Duration
	}{
		"Get429":          {client.Request{Method: "GET", Path: app}, 429, "3", 3, []time.Duration{3 * time.Second, 3 * time.Second}},
		"Get503":          {client.Request{Method: "GET", Path: app}, 503, "", 3, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}},
		"LongRetryAfter":  {client.Request{Method: "PUT", Path: app, Body: body}, 503, "99999", 3, []time.Duration{30 * time.Second, 30 * time.Second}},
		"BadRetryAfter":   {client.Request{Method: "DELETE", Path: app}, 502, "-1", 3, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}},
		"Patch":           {client.Request{Method: "PATCH", Path: app, Body: body}, 503, "", 1, nil},
		"PatchIfMatch":    {client.Request{Method: "PATCH", Path: app, Body: body, IfMatch: `"1"`}, 503, "1", 3, []time.Duration{time.Second, time.Second}},
		"Post":            {client.Request{Method: "POST", Path: pause}, 503, "", 1, nil},
		"PostWithKey":     {client.Request{Method: "POST", Path: pause, IdempotencyKey: "k"}, 504, "1", 3, []time.Duration{time.Second, time.Second}},
		"Invalid":         {client.Request{Method: "PUT", Path: app, Body: body}, 422, "", 1, nil},
		"Stale":           {client.Request{Method: "PUT", Path: app, Body: body}, 412, "", 1, nil},
		"Unauthorized":    {client.Request{Method: "GET", Path: app}, 401, "", 1, nil},
		"OurFault":        {client.Request{Method: "GET", Path: app}, 500, "", 1, nil},
		"RedirectNoToken": {client.Request{Method: "GET", Path: app}, 307, "", 1, nil},
	} {
		var calls atomic.Int32
		h := func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			if tc.after != "" {
				w.Header().Set("Retry-After", tc.after)
			}
			w.Header().Set("Location", "/elsewhere")
			say(t, w, r, tc.status, kinds()[tc.status])
		}
		start := api
		if kinds()[tc.status] == "" { // the API never says so, but what stands before it may
			start = func(t *testing.T, attempts int, h http.HandlerFunc) (*client.Client, *[]time.Duration) {
				t.Helper()
				return serve(t, attempts, h)
			}
		}
		c, pauses := start(t, 3, h)
		_, err := c.Do(t.Context(), tc.r)
		if client.RefusalStatus(err) != tc.status || int(calls.Load()) != tc.calls || !slices.Equal(*pauses, tc.pauses) {
			t.Errorf("%s: %v after %d calls and pauses %v", name, err, calls.Load(), *pauses)
		}
	}
}

func TestDoRepeatsUntilItSucceeds(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	const sent = `{"name":"A"}`
	c, _ := api(t, 5, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) < 3 {
			panic(http.ErrAbortHandler) // no answer
		}
		if string(body) != sent {
			t.Errorf("the repeated body is %q", body)
		}
		say(t, w, r, http.StatusOK, "")
	})
	if _, err := c.Do(t.Context(), client.Request{Method: "PUT", Path: "/v1/apps/a", Body: []byte(sent)}); err != nil || calls.Load() != 3 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("the user left")
	c, pauses := api(t, 100, func(http.ResponseWriter, *http.Request) { cancel(left); panic(http.ErrAbortHandler) })
	_, err := c.Do(ctx, client.Request{Method: "GET", Path: "/v1/apps"})
	if _, ok := errors.AsType[*client.NoAnswer](err); !ok || len(*pauses) != 0 {
		t.Errorf("%v after pauses %v", err, *pauses)
	}
}

func TestRefusalSpeaks(t *testing.T) {
	t.Parallel()
	page, _ := serve(t, 1, http.NotFoundHandler())
	_, err := page.Do(t.Context(), client.Request{Method: "GET", Path: "/page"})
	if err == nil || err.Error() != "the service answered 404 Not Found without saying why: is --server right?" {
		t.Errorf("page: %v", err)
	}
	c, _ := api(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/apps/nobody" {
			say(t, w, r, http.StatusNotFound, "not-found")
			return
		}
		w.Header().Set("Retry-After", "7")
		answer(w, http.StatusServiceUnavailable, "application/problem+json",
			`{"type":"urn:lamplighter:problem:unavailable","title":"Away\u001b[2J","status":503,"detail":"Later.","errors":[{"pointer":"","detail":"x"}],"request_id":"r1"}`)
	})
	_, err = c.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/apps"})
	want := "refused with 503 Service Unavailable: Away[2J: Later.\n  (body): x\n  try again in 7 s\n  the request's id in the service's log: r1"
	if err == nil || err.Error() != want {
		t.Errorf("problem: %v", err)
	}
	if r, ok := errors.AsType[*client.Refusal](err); !ok || r.Type != "unavailable" {
		t.Errorf("type: %+v", r)
	}
	_, err = c.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/apps/nobody"})
	if want := "refused with 404 Not Found: There is no such app."; err == nil || err.Error() != want {
		t.Errorf("nobody: %v", err)
	}
	if client.RefusalStatus(io.EOF) != 0 {
		t.Error("an error that is no refusal has a status")
	}
}

func TestEachFollowsPages(t *testing.T) {
	t.Parallel()
	var asked []string
	const path = "/v1/audit"
	entry := func(id string) string {
		return `{"id":"` + id + `","at":"2026-11-24T01:12:49Z","actor":"Kim","role":"admin","action":"app.put","subject":"a"}`
	}
	c, _ := api(t, 1, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		page := `{"items":[` + entry("1") + "," + entry("2") + `],"next_cursor":"c1"}`
		if r.URL.Query().Get("cursor") == "c1" {
			page = `{"items":[` + entry("3") + `]}`
		}
		answer(w, http.StatusOK, "application/json", page)
	})
	read := func(limit int) (got []string, err error) {
		asked = nil
		err = c.ForEachItem(t.Context(), path, url.Values{"subject": {"a"}}, limit, func(item json.RawMessage) error {
			got = append(got, string(item))
			return nil
		})
		return got, err
	}
	got, err := read(0)
	if err != nil || !cmp.Equal(got, []string{entry("1"), entry("2"), entry("3")}) || !cmp.Equal(asked, []string{"limit=500&subject=a", "cursor=c1&limit=500&subject=a"}) {
		t.Errorf("all: %v, %v, asked %v", got, err, asked)
	}
	got, err = read(2)
	if err != nil || !cmp.Equal(got, []string{entry("1"), entry("2")}) || !cmp.Equal(asked, []string{"limit=2&subject=a"}) {
		t.Errorf("two: %v, %v, asked %v", got, err, asked)
	}
	enough := errors.New("enough")
	if err := c.ForEachItem(t.Context(), path, nil, 0, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the caller's error: %v", err)
	}
	stranger, _ := serve(t, 1, says(`{"hello":1}`))
	if err := stranger.ForEachItem(t.Context(), path, nil, 0, nil); !errors.Is(err, client.ErrUnexpectedAnswer) {
		t.Errorf("another service: %v", err)
	}
}

// says is somebody who always answers the same.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// TestLinesAnswersWhileItSends: its stand-in answers each line as it comes, which a checked one cannot.
func TestLinesAnswersWhileItSends(t *testing.T) {
	t.Parallel()
	const n = 20_000
	c, _ := serve(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		// Each line is answered at once, so a client that does not read gets stuck.
		d, e := json.NewDecoder(r.Body), json.NewEncoder(w)
		for line := 1; d.More(); line++ {
			var doc struct{ N int }
			if err := d.Decode(&doc); err != nil || doc.N != line {
				t.Errorf("line %d: %v, %v", line, doc, err)
				return
			}
			_ = e.Encode(client.LineAnswer{Line: line, Status: 204, Detail: strings.Repeat("x", 200)})
		}
	}))
	lines := func(yield func([]byte) bool) {
		for i := 1; i <= n && yield(fmt.Appendf(nil, `{"N":%d}`, i)); i++ {
		}
	}
	got := 0
	err := c.SendLines(t.Context(), client.Request{Method: "PUT", Path: "/v1/x"}, lines, func(a client.LineAnswer) error {
		if got++; a.Line != got {
			t.Errorf("answer %d is of line %d", got, a.Line)
		}
		return nil
	})
	if err != nil || got != n {
		t.Errorf("%d answers, %v", got, err)
	}
}

// TestLinesOfTheAPI: what the API says of a line arrives, a repeat's mark and what is wrong with it too.
func TestLinesOfTheAPI(t *testing.T) {
	t.Parallel()
	c, _ := api(t, 1, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "application/x-ndjson", `{"line":1,"status":202,"id":"chg_a_1","sequence":1,"replayed":true}
{"line":2,"status":422,"detail":"No.","errors":[{"pointer":"/tenant","detail":"is required"}]}
`)
	})
	lines := func(yield func([]byte) bool) {
		for range 2 {
			if !yield([]byte(`{"tenant":"Cust1","change_type":"suspend"}`)) {
				return
			}
		}
	}
	want := []client.LineAnswer{
		{Line: 1, Status: 202, ID: "chg_a_1", Sequence: 1, Replayed: true},
		{Line: 2, Status: 422, Detail: "No.", Errors: []client.FieldError{{Pointer: "/tenant", Detail: "is required"}}},
	}
	var got []client.LineAnswer
	err := c.SendLines(t.Context(), client.Request{Method: "POST", Path: "/v1/state-changes", IdempotencyKey: "k"}, lines, func(a client.LineAnswer) error {
		got = append(got, a)
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestLinesFails(t *testing.T) {
	t.Parallel()
	endless := func(yield func([]byte) bool) {
		for yield([]byte(`{}`)) {
		}
	}
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		want func(error) bool
	}{
		"Refused": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
			func(err error) bool { return client.RefusalStatus(err) == 401 },
		},
		"BrokeOff": {
			func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_, _ = io.WriteString(w, `{"line":1,"status":204}`+"\n")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
			func(err error) bool { _, ok := errors.AsType[*client.NoAnswer](err); return ok },
		},
		"Stranger": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"hello":1}`) },
			func(err error) bool { return errors.Is(err, client.ErrUnexpectedAnswer) },
		},
	} {
		c, _ := serve(t, 1, tc.h)
		err := c.SendLines(t.Context(), client.Request{Method: "PUT", Path: "/v1/x"}, endless, func(client.LineAnswer) error { return nil })
		if !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
