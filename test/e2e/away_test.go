package e2e_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestRedisAwayIsSaid stops Redis under a running service: each operation answers 503 with
// Retry-After and a problem document, nothing is half-written, and afterwards all goes on.
func TestRedisAwayIsSaid(t *testing.T) {
	t.Parallel()
	s := newStack(t, "always")
	s.serve("api,worker")
	r := newReceiver(t, "app1")
	s.register(r, "ES256", []string{"Cust1"})
	tr := newTruth()
	if err := s.publish(t.Context(), tr, "before", []change{{"Cust1", 2}}); err != nil {
		t.Fatal(err)
	}
	awaitSettled(t, tr, 10*time.Second, r)
	s.redis.Kill()
	for _, c := range []struct{ method, path, contentType, body string }{
		{http.MethodPost, "/v1/state-changes", "application/json", `{"tenant":"Cust1","change_type":"resume"}`},
		{http.MethodPost, "/v1/state-changes", "application/x-ndjson", `{"tenant":"Cust1","change_type":"resume"}` + "\n"},
		{http.MethodPut, "/v1/apps/app2", "application/json", `{"name":"half"}`},
		{http.MethodPut, "/v1/apps/app1/approvals/Cust2", "", ""},
		{http.MethodGet, "/v1/apps/app1/mailbox", "", ""},
		{http.MethodGet, "/api/state/Cust1", "", ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		req, err := http.NewRequestWithContext(ctx, c.method, "http://"+s.api+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		}
		resp, err := platform.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		_ = resp.Body.Close()
		cancel()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s without Redis: status %d, Retry-After %q", c.method, c.path, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(c.path, "/api/state") && ct != "application/problem+json" {
			t.Errorf("%s %s without Redis: content type %q", c.method, c.path, ct)
		}
	}
	if resp, err := http.Get("http://" + s.ops + "/readyz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz without Redis: %v, %v", resp, err)
	}
	if err := s.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the service is ready again", func() bool {
		resp, err := http.Get("http://" + s.ops + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if status, b := s.call(http.MethodGet, "/v1/apps/app2", "", nil); status != http.StatusNotFound {
		t.Errorf("the app refused with 503 is there: %s", b)
	}
	var st struct{ State string }
	s.get("http://"+s.api+"/api/state/Cust1", &st)
	if st.State != "Suspended" {
		t.Errorf("state after the outage is %s, want the one before it", st.State)
	}
	if err := s.publish(t.Context(), tr, "after", []change{{"Cust1", 3}}); err != nil {
		t.Fatal(err)
	}
	awaitSettled(t, tr, 20*time.Second, r)
	r.healthy()
}
