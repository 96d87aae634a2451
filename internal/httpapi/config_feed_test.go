package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// fakeFeed is at revision 7 and remembers what was asked.
type fakeFeed struct {
	world  *world
	asked  string
	wait   time.Duration
	made   int
	err    error
	waits  chan struct{}
	leaves chan error
}

func (f *fakeFeed) Revision(context.Context) (string, error) { return "7", f.err }

func (f *fakeFeed) Snapshot(context.Context) (feed.Answer, error) {
	f.made++
	if f.world != nil && f.world.down != nil {
		return feed.Answer{}, f.world.down
	}
	return feed.Answer{Revision: "7", Body: []byte(`{"revision":"7","complete":true,"apps":[],"removed":[]}` + "\n")}, f.err
}

func (f *fakeFeed) ChangesSince(ctx context.Context, after string, wait time.Duration) (feed.Answer, error) {
	f.asked, f.wait = after, wait
	if f.waits != nil {
		f.waits <- struct{}{}
		<-ctx.Done()
		f.leaves <- ctx.Err()
		return feed.Answer{}, ctx.Err()
	}
	return feed.Answer{Revision: "7", Body: []byte(`{"revision":"7","complete":false,"apps":[],"removed":[]}` + "\n")}, f.err
}

func withFeed(f *fakeFeed) func(*deps) { return func(d *deps) { d.ConfigFeed = f } }

func TestConfigFeed(t *testing.T) {
	t.Parallel()
	f := &fakeFeed{}
	h := newHarness(t, withFeed(f))
	get := func(query string, header ...string) *httptest.ResponseRecorder {
		r := request{method: "GET", path: "/v1/config" + query, role: "platform", header: map[string]string{}}
		for i := 0; i+1 < len(header); i += 2 {
			r.header[header[i]] = header[i+1]
		}
		return h.do(r)
	}
	if rec := get(""); rec.Code != 200 || rec.Header().Get("ETag") != `"7"` || rec.Body.String() != `{"revision":"7","complete":true,"apps":[],"removed":[]}`+"\n" {
		t.Errorf("snapshot = %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec := get("", "If-None-Match", `W/"7"`); rec.Code != 304 || rec.Body.Len() != 0 || f.made != 1 {
		t.Errorf("known snapshot = %d %s, made %d", rec.Code, rec.Body, f.made)
	}
	if rec := get("", "If-None-Match", `"6"`); rec.Code != 200 || f.made != 2 {
		t.Errorf("old snapshot = %d", rec.Code)
	}
	if rec := get("?after=5&wait=1m"); rec.Code != 200 || f.asked != "5" || f.wait != time.Minute || !strings.Contains(rec.Body.String(), `"complete":false`) {
		t.Errorf("delta = %d %s, asked %s for %v", rec.Code, rec.Body, f.asked, f.wait)
	}
	if rec := get("?after=7", "If-None-Match", `"7"`); rec.Code != 304 {
		t.Errorf("nothing new = %d", rec.Code)
	}
}

func TestConfigFeedRefuses(t *testing.T) {
	t.Parallel()
	f := &fakeFeed{}
	h := newHarness(t, withFeed(f))
	for query, want := range map[string][]string{
		"?after=": {"/after"}, "?wait=30s": {"/wait"}, "?after=5&wait=61s": {"/wait"}, "?after=5&wait=-1s": {"/wait"}, "?after=5&wait=30": {"/wait"},
		"?after=5&wait=": {"/wait"}, "?after=5&after=6": {"/after"}, "?since=5": {"/since"},
	} {
		p := h.want(t, 422, request{method: "GET", path: "/v1/config" + query, role: "platform"})
		if !slices.Equal(pointers(p), want) {
			t.Errorf("%s: %v, want %v", query, p["errors"], want)
		}
	}
	for _, tc := range []struct {
		err    error
		status int
		kind   string
	}{
		{feed.ErrMalformed, 422, "invalid"},
		{feed.ErrUnknown, 410, "start-over"},
		{feed.ErrBusy, 429, "too-many-requests"},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, 503, "unavailable"},
	} {
		f.err = tc.err
		p := h.want(t, tc.status, request{method: "GET", path: "/v1/config?after=5", role: "operator"})
		if p["type"] != "urn:lamplighter:problem:"+tc.kind {
			t.Errorf("%v: %v", tc.err, p)
		}
	}
	h.want(t, 403, request{method: "GET", path: "/v1/config", role: "partner:app1"})
	h.want(t, 401, request{method: "GET", path: "/v1/config"})
}

// TestAbandonedPoll has an engine leave in the middle, over a real connection with the server's
// real deadlines.
func TestAbandonedPoll(t *testing.T) {
	t.Parallel()
	f := &fakeFeed{waits: make(chan struct{}), leaves: make(chan error, 1)}
	h := newHarness(t, withFeed(f))
	srv := httptest.NewUnstartedServer(h.handler)
	srv.Config = httpapi.NewServer(h.handler, nil)
	srv.Start()
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "GET /v1/config?after=5&wait=60s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+tokenOf("platform")+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	<-f.waits
	_ = conn.Close()
	select {
	case err := <-f.leaves:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the wait ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("an abandoned poll goes on")
	}
	redistest.Eventually(t, 10*time.Second, "the log says so", func() bool { return strings.Contains(h.log.String(), "getConfig") })
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Errorf("leaving is nobody's error:\n%s", h.log)
	}
}

// TestPollOutlivesTheServersDeadlines waits longer than the server lets others read and write.
func TestPollOutlivesTheServersDeadlines(t *testing.T) {
	t.Parallel()
	f := &slowFeed{fakeFeed: &fakeFeed{}}
	h := newHarness(t, func(d *deps) { d.ConfigFeed = f })
	srv := httptest.NewUnstartedServer(h.handler)
	srv.Config = httpapi.NewServer(h.handler, nil)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	srv.Start()
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/v1/config?after=5&wait=60s", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf("platform"))
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), `"revision":"7"`) {
		t.Errorf("answer %d %s, %v", resp.StatusCode, b, err)
	}
}

// TestRevokedWhileItWaits: an engine whose token is revoked while it waits gets no further change.
func TestRevokedWhileItWaits(t *testing.T) {
	t.Parallel()
	f := &revokingFeed{fakeFeed: &fakeFeed{}}
	h := newHarness(t, func(d *deps) { d.ConfigFeed = f })
	f.revoke = func() {
		defer h.lock()()
		hash := httpapi.HashToken(tokenOf("platform"))
		token := h.tokens[hash]
		token.RevokedAt = start
		h.tokens[hash] = token
	}
	p := h.want(t, 401, request{method: "GET", path: "/v1/config?after=5&wait=60s", role: "platform"})
	if p["type"] != "urn:lamplighter:problem:unauthorized" {
		t.Errorf("%v", p)
	}
}

// revokingFeed has the token revoked while its holder waits.
type revokingFeed struct {
	*fakeFeed

	revoke func()
}

func (f *revokingFeed) ChangesSince(ctx context.Context, after string, wait time.Duration) (feed.Answer, error) {
	f.revoke()
	return f.fakeFeed.ChangesSince(ctx, after, wait)
}

// slowFeed answers after a second, unless the request ends before.
type slowFeed struct{ *fakeFeed }

func (f *slowFeed) ChangesSince(ctx context.Context, after string, wait time.Duration) (feed.Answer, error) {
	select {
	case <-time.After(time.Second):
		return f.fakeFeed.ChangesSince(ctx, after, wait)
	case <-ctx.Done():
		return feed.Answer{}, ctx.Err()
	}
}
