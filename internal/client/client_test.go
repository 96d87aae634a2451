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
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/client"
)

// serve starts a stand-in for the API and a client of it that never waits between attempts.
func serve(t *testing.T, attempts int, h http.HandlerFunc) (*client.Client, *[]time.Duration) {
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
		if got := client.Path(segments...); got != want {
			t.Errorf("Path(%q) = %s, want %s", segments, got, want)
		}
	}
}

func TestDoSendsWhatWasSaid(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, 1, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("ETag", `"7"`)
		fmt.Fprintf(w, "%s %s %s|%s|%s|%s|%s|%s|%s", r.Method, r.URL, body, r.Header.Get("Authorization"), r.Header.Get("User-Agent"),
			r.Header.Get("Content-Type"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), r.Header.Get("Idempotency-Key"))
	})
	for name, tc := range map[string]struct {
		r    client.Request
		want string
	}{
		"Get":   {client.Request{Method: "GET", Path: "/v1/x", Query: url.Values{"a": {"b c"}}}, "GET /v1/x?a=b+c |Bearer lmp_secret|test/1||||"},
		"Patch": {client.Request{Method: "PATCH", Path: "/v1/x", Body: []byte("{}"), IfMatch: `"1"`}, `PATCH /v1/x {}|Bearer lmp_secret|test/1|application/json|"1"||`},
		"Post":  {client.Request{Method: "POST", Path: "/v1/x", Body: []byte("{}"), Type: "text/x", IfNoneMatch: "*", IdempotencyKey: "k"}, "POST /v1/x {}|Bearer lmp_secret|test/1|text/x||*|k"},
	} {
		a, err := c.Do(t.Context(), tc.r)
		if err != nil || string(a.Body) != tc.want || a.ETag != `"7"` || a.Status != 200 {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, a.Body, tc.want)
		}
	}
}

func TestDoRepeatsWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		r      client.Request
		status int
		after  string
		calls  int
		pauses []time.Duration
	}{
		"Get429":          {client.Request{Method: "GET"}, 429, "3", 3, []time.Duration{3 * time.Second, 3 * time.Second}},
		"Get503":          {client.Request{Method: "GET"}, 503, "", 3, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}},
		"LongRetryAfter":  {client.Request{Method: "PUT"}, 503, "99999", 3, []time.Duration{30 * time.Second, 30 * time.Second}},
		"BadRetryAfter":   {client.Request{Method: "DELETE"}, 502, "-1", 3, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}},
		"Patch":           {client.Request{Method: "PATCH"}, 503, "", 1, nil},
		"PatchIfMatch":    {client.Request{Method: "PATCH", IfMatch: `"1"`}, 503, "1", 3, []time.Duration{time.Second, time.Second}},
		"Post":            {client.Request{Method: "POST"}, 503, "", 1, nil},
		"PostWithKey":     {client.Request{Method: "POST", IdempotencyKey: "k"}, 504, "1", 3, []time.Duration{time.Second, time.Second}},
		"Invalid":         {client.Request{Method: "PUT"}, 422, "", 1, nil},
		"Stale":           {client.Request{Method: "PUT"}, 412, "", 1, nil},
		"Unauthorized":    {client.Request{Method: "GET"}, 401, "", 1, nil},
		"OurFault":        {client.Request{Method: "GET"}, 500, "", 1, nil},
		"RedirectNoToken": {client.Request{Method: "GET"}, 307, "", 1, nil},
	} {
		var calls atomic.Int32
		c, pauses := serve(t, 3, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			if tc.after != "" {
				w.Header().Set("Retry-After", tc.after)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tc.status)
		})
		tc.r.Path = "/v1/x"
		_, err := c.Do(t.Context(), tc.r)
		if client.StatusOf(err) != tc.status || int(calls.Load()) != tc.calls || !slices.Equal(*pauses, tc.pauses) {
			t.Errorf("%s: %v after %d calls and pauses %v", name, err, calls.Load(), *pauses)
		}
	}
}

func TestDoRepeatsUntilItSucceeds(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c, _ := serve(t, 5, func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := io.ReadAll(r.Body); {
		case calls.Add(1) < 3:
			panic(http.ErrAbortHandler) // no answer
		case string(body) != "{}":
			t.Errorf("the repeated body is %q", body)
		}
	})
	if _, err := c.Do(t.Context(), client.Request{Method: "PUT", Path: "/v1/x", Body: []byte("{}")}); err != nil || calls.Load() != 3 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("the user left")
	c, pauses := serve(t, 100, func(http.ResponseWriter, *http.Request) { cancel(left); panic(http.ErrAbortHandler) })
	_, err := c.Do(ctx, client.Request{Method: "GET", Path: "/v1/x"})
	if _, ok := errors.AsType[*client.NoAnswer](err); !ok || len(*pauses) != 0 {
		t.Errorf("%v after pauses %v", err, *pauses)
	}
}

func TestRefusalSpeaks(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, 1, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<html>")
		default:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"type":"urn:lamplighter:problem:unavailable","title":"Away\u001b[2J","detail":"Later.","errors":[{"pointer":"","detail":"x"}],"request_id":"r1"}`)
		}
	})
	_, err := c.Do(t.Context(), client.Request{Method: "GET", Path: "/page"})
	if err == nil || err.Error() != "the service answered 404 Not Found without saying why: is --url right?" {
		t.Errorf("page: %v", err)
	}
	_, err = c.Do(t.Context(), client.Request{Method: "GET", Path: "/x"})
	want := "refused with 503 Service Unavailable: Away[2J: Later.\n  (body): x\n  try again in 7 s\n  the service's log calls the request r1"
	if err == nil || err.Error() != want {
		t.Errorf("problem: %v", err)
	}
	if r, ok := errors.AsType[*client.Refusal](err); !ok || r.Type != "unavailable" {
		t.Errorf("type: %+v", r)
	}
	if client.StatusOf(io.EOF) != 0 {
		t.Error("an error that is no refusal has a status")
	}
}

func TestEachFollowsPages(t *testing.T) {
	t.Parallel()
	var asked []string
	c, _ := serve(t, 1, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		switch r.URL.Query().Get("cursor") {
		case "":
			_, _ = io.WriteString(w, `{"items":[1,2],"next_cursor":"c1"}`)
		case "c1":
			_, _ = io.WriteString(w, `{"items":[3]}`)
		}
	})
	read := func(limit int) (got []string, err error) {
		asked = nil
		err = c.Each(t.Context(), "/v1/x", url.Values{"a": {"b"}}, limit, func(item json.RawMessage) error {
			got = append(got, string(item))
			return nil
		})
		return got, err
	}
	got, err := read(0)
	if err != nil || !cmp.Equal(got, []string{"1", "2", "3"}) || !cmp.Equal(asked, []string{"a=b&limit=500", "a=b&cursor=c1&limit=500"}) {
		t.Errorf("all: %v, %v, asked %v", got, err, asked)
	}
	got, err = read(2)
	if err != nil || !cmp.Equal(got, []string{"1", "2"}) || !cmp.Equal(asked, []string{"a=b&limit=2"}) {
		t.Errorf("two: %v, %v, asked %v", got, err, asked)
	}
	enough := errors.New("enough")
	if err := c.Each(t.Context(), "/v1/x", nil, 0, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the caller's error: %v", err)
	}
	stranger, _ := serve(t, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"hello":1}`) })
	if err := stranger.Each(t.Context(), "/v1/x", nil, 0, nil); !errors.Is(err, client.ErrStranger) {
		t.Errorf("another service: %v", err)
	}
}

func TestLinesAnswersWhileItSends(t *testing.T) {
	t.Parallel()
	const n = 20_000
	c, _ := serve(t, 1, func(w http.ResponseWriter, r *http.Request) {
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
	})
	lines := func(yield func([]byte) bool) {
		for i := 1; i <= n && yield(fmt.Appendf(nil, `{"N":%d}`, i)); i++ {
		}
	}
	got := 0
	err := c.Lines(t.Context(), client.Request{Method: "PUT", Path: "/v1/x"}, lines, func(a client.LineAnswer) error {
		if got++; a.Line != got {
			t.Errorf("answer %d is of line %d", got, a.Line)
		}
		return nil
	})
	if err != nil || got != n {
		t.Errorf("%d answers, %v", got, err)
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
			func(err error) bool { return client.StatusOf(err) == 401 },
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
			func(err error) bool { return errors.Is(err, client.ErrStranger) },
		},
	} {
		c, _ := serve(t, 1, tc.h)
		err := c.Lines(t.Context(), client.Request{Method: "PUT", Path: "/v1/x"}, endless, func(client.LineAnswer) error { return nil })
		if !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
