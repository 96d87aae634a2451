package service_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const token = "lmp_service_test_0123456789abcdef0123456789"

// running is a service on a Redis of its own, and one app's receiver, which answers as told.
type running struct {
	*testing.T

	base, hook string
	rdb        redis.UniversalClient
	status     atomic.Int64
	retryAfter atomic.Value
}

// start runs a service whose app "app1" has tenant a's approval and a receiver that answers 204.
func start(t *testing.T) *running {
	t.Helper()
	rdb := redistest.Mini(t)
	r := &running{T: t, rdb: rdb}
	r.status.Store(http.StatusNoContent)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if after, _ := r.retryAfter.Load().(string); after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(receiver.Close)
	r.base = "http://" + serve(t, rdb, settings(t)).Addr("api")
	r.hook = receiver.URL + "/hook"
	r.call("PUT", "/v1/apps/app1", `{"name":"App","technical_contact":{"email":"kim@example.com"},"endpoints":{"state_change":{"url":"`+r.hook+`","enabled":true}}}`)
	r.call("PUT", "/v1/apps/app1/approvals/a", "")
	return r
}

// settings are those of a service for tests.
func settings(t *testing.T) config.Config {
	t.Helper()
	l, err := config.Load(config.Sources{Defaults: config.DevDefaults(), Flags: map[string]string{
		"listen": "127.0.0.1:0", "ops-listen": "127.0.0.1:0", "smtp-disabled": "true", "incident-open-after": "5m",
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := l.Config
	cfg.PublicURL, cfg.BootstrapToken = "http://127.0.0.1", secret.New(token)
	if cfg.Encryption.Key, err = secret.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// serve runs a service on rdb until the test ends.
func serve(t *testing.T, rdb redis.UniversalClient, cfg config.Config) *service.Service {
	t.Helper()
	s, err := service.New(t.Context(), service.Options{
		Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler), Redis: rdb, Keys: signingKeys(t), Loopback: true, Unsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service: %v", err)
		}
	})
	return s
}

// rsaPEM is made once: that takes longer than many a test.
var rsaPEM = sync.OnceValues(func() ([]byte, error) {
	return signing.GenerateKey(signing.RS256, "test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
})

func signingKeys(t *testing.T) *signing.KeySet {
	t.Helper()
	text, err := rsaPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey("test", text)
	if err != nil {
		t.Fatal(err)
	}
	set, err := signing.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// call asks the API and returns what it answered with success.
func (r *running) call(method, path, body string) map[string]any {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		r.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	out := map[string]any{}
	if b = bytes.TrimSpace(b); len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			r.Fatal(err)
		}
	}
	return out
}

// change reports a change of tenant a while the receiver answers so, and waits for its attempt to
// be listed.
func (r *running) change(changeType string, status int, outcome string) {
	r.Helper()
	r.status.Store(int64(status))
	id, _ := r.call("POST", "/v1/state-changes", `{"tenant":"a","change_type":"`+changeType+`"}`)["id"].(string)
	redistest.Eventually(r, 10*time.Second, changeType+" is "+outcome, func() bool {
		newest := r.items("/v1/apps/app1/deliveries?limit=1")
		return len(newest) == 1 && newest[0]["change_id"] == id && newest[0]["outcome"] == outcome
	})
}

func (r *running) items(path string) []map[string]any {
	r.Helper()
	list, _ := r.call("GET", path, "")["items"].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, one := range list {
		m, _ := one.(map[string]any)
		out = append(out, m)
	}
	return out
}

// emptied waits until nothing waits for the app.
func (r *running) emptied(why string) {
	r.Helper()
	redistest.Eventually(r, 5*time.Second, why, func() bool { return r.call("GET", "/v1/apps/app1/mailbox", "")["waiting"] == float64(0) })
}

// A test tells of the endpoint as it is, not as it was when something was last sent.
func TestATestIsAnAttemptOfItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.change("suspend", http.StatusInternalServerError, "retryable")
	r.status.Store(http.StatusOK)
	if got := r.call("POST", "/v1/apps/app1/endpoints/state_change/test", ""); got["outcome"] != "healthy" || got["status"] != float64(200) {
		t.Errorf("mended: %v", got)
	}
	r.emptied("a successful test opens the gate")
	r.status.Store(http.StatusNotFound)
	if got := r.call("POST", "/v1/apps/app1/endpoints/state_change/test", ""); got["outcome"] != "failing" || got["status"] != float64(404) {
		t.Errorf("broken: %v", got)
	}
}

// Resuming ends the cool-down, also of an app that was not paused.
func TestResumeOpensTheGate(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.retryAfter.Store("3000")
	r.change("suspend", http.StatusServiceUnavailable, "retryable")
	r.status.Store(http.StatusOK)
	// the attempt is listed before its run has closed the gate
	redistest.Eventually(t, 5*time.Second, "the circuit opens", func() bool { return r.call("GET", "/v1/apps/app1/mailbox", "")["breaker"] == "open" })
	r.call("POST", "/v1/apps/app1/resume", "")
	r.emptied("resumed")
}

// People are told that the endpoint said it is gone, and when.
func TestGoneIsTheIncidentsCause(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.change("suspend", http.StatusGone, "gone")
	redistest.Eventually(t, 5*time.Second, "the incident", func() bool { return len(r.items("/v1/incidents")) == 1 })
	if got := r.items("/v1/incidents")[0]; got["state"] != "open" || got["reason"] != "gone" || got["status"] != float64(410) {
		t.Errorf("%v", got)
	}
}

// A deletion that a crash cut short leaves approvals behind; an app made anew has none of them.
func TestAnAppMadeAnewHasNoApprovals(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.change("suspend", http.StatusNoContent, "delivered")
	tenants := keys.New("").App("app1", keys.AppTenants)
	approvals, err := r.rdb.HGetAll(t.Context(), tenants).Result()
	if err != nil || len(approvals) != 1 {
		t.Fatalf("%v, %v", approvals, err)
	}
	r.call("DELETE", "/v1/apps/app1", "")
	if err := r.rdb.HSet(t.Context(), tenants, approvals).Err(); err != nil {
		t.Fatal(err)
	}
	r.call("PUT", "/v1/apps/app1", `{"name":"Another","endpoints":{"state_change":{"url":"`+r.hook+`","enabled":true}}}`)
	if got := r.items("/v1/apps/app1/approvals"); len(got) != 0 {
		t.Errorf("approvals of the former app: %v", got)
	}
}

// A service that stopped holds no connection to anybody's endpoint.
func TestStoppingClosesConnectionsToEndpoints(t *testing.T) {
	t.Parallel()
	var open, opened atomic.Int64
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	receiver.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
			opened.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	receiver.Start()
	t.Cleanup(receiver.Close)
	t.Run("Serves", func(t *testing.T) {
		r := start(t)
		r.call("PUT", "/v1/apps/app1/endpoints/state_change", `{"url":"`+receiver.URL+`","enabled":true}`)
		r.change("suspend", http.StatusNoContent, "delivered")
		if open.Load() == 0 {
			t.Error("no connection is kept, so this test shows nothing")
		}
	})
	redistest.Eventually(t, 10*time.Second, "all connections are closed", func() bool { return opened.Load() > 0 && open.Load() == 0 })
}

// What another version wrote about an endpoint's probes hides neither its settings nor its health.
func TestUnreadableProbeIsNeverChecked(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.call("PATCH", "/v1/apps/app1?force=true", `{"granted_licenses":["integration_server"],"endpoints":{"erp_sync":{"url":"`+r.hook+`","enabled":true}}}`)
	if err := r.rdb.HSet(t.Context(), keys.New("").App("app1", keys.AppProbes), "erp_sync", "2;of another version").Err(); err != nil {
		t.Fatal(err)
	}
	health, _ := r.call("GET", "/v1/apps/app1/endpoints/erp_sync", "")["health"].(map[string]any)
	if health["state"] != "unchecked" {
		t.Errorf("health %v", health)
	}
}

// An app that another version wrote is served as it was known; all others are told as ever, approved
// and resynced, also by a process that starts now.
func TestAnUnreadableAppStopsNobodyElse(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.call("PUT", "/v1/apps/app2", `{"name":"Other","technical_contact":{"email":"kim@example.com"}}`)
	apps := keys.New("").Config(keys.ConfigApps)
	stored := r.rdb.HGet(t.Context(), apps, "app2").Val()
	newer := strings.Replace(stored, `"v":1`, `"v":9`, 1)
	if newer == stored {
		t.Fatalf("the stored app has no format: %s", stored)
	}
	if err := errors.Join(r.rdb.HSet(t.Context(), apps, "app2", newer).Err(), r.rdb.Incr(t.Context(), keys.New("").Config(keys.ConfigRevision)).Err()); err != nil {
		t.Fatal(err)
	}
	r.change("suspend", http.StatusNoContent, "delivered")
	r.call("PUT", "/v1/apps/app1/approvals/b", "")
	r.base = "http://" + serve(t, r.rdb, settings(t)).Addr("api")
	r.change("resume", http.StatusNoContent, "delivered")
}
