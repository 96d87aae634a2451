package service_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// TestStoreAway asks a running service while Redis hangs, is paused, refuses the password and is gone: the
// metrics come within a second, and callers hear 503 with Retry-After, whoever they are.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	s := serve(t, rdb, settings(t))
	plain := p.Client(t)
	get := func(listener, path, bearer string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr(listener)+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	limit := time.Second
	scrape := func(what string) {
		t.Helper()
		began := time.Now()
		resp, page := get("ops", "/metrics", "")
		if took := time.Since(began); took > limit || resp.StatusCode != http.StatusOK || !strings.Contains(page, "\nlamplighter_queue_tasks{") {
			t.Errorf("%s: the metrics came after %v with %d", what, took, resp.StatusCode)
		}
	}
	for range 5 { // a second is for a machine that has time; on a busy one nothing is faster than with a Redis that works
		began := time.Now()
		get("ops", "/metrics", "")
		limit = max(limit, 5*time.Since(began))
	}
	scrape("all well")
	do := func(args ...any) {
		t.Helper()
		if err := plain.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what       string
		away, back func()
	}{
		{"hangs", p.Freeze, p.Thaw},
		{"paused", func() { do("client", "pause", 15_000, "all") }, func() {}}, // it takes no unpausing either
		{"refuses the password", func() {
			do("config", "set", "requirepass", "pw")
			do("client", "kill", "type", "normal", "skipme", "yes")
		}, func() { do("config", "set", "requirepass", "") }},
		{"gone", p.Kill, func() {
			if err := p.Restart(); err != nil {
				t.Error(err)
			}
		}},
	} {
		func() {
			defer c.back()
			c.away()
			for range 3 {
				scrape(c.what)
			}
			for path, bearer := range map[string]string{"/api/state/Cust1": "", "/v1/apps": token} {
				resp, body := get("api", path, bearer)
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %s = %d: %s", c.what, path, resp.StatusCode, body)
				}
			}
		}()
		redistest.Eventually(t, 30*time.Second, "the service is well after Redis "+c.what, func() bool {
			resp, body := get("api", "/api/state/Cust1", "")
			if c.what == "gone" { // it came back without its data, which is another fault
				return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(body, "store-changed")
			}
			return resp.StatusCode == http.StatusNotFound
		})
	}
}
