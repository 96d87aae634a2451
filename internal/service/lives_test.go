package service_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// receiver answers state changes as told, and keeps whom it was told of.
type receiver struct {
	*httptest.Server

	answer atomic.Pointer[http.HandlerFunc]
	posts  atomic.Int64
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.answer.Store(&answer)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.posts.Add(1)
		(*r.answer.Load())(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// runWith starts a service and no app.
func runWith(t *testing.T, change func(*config.Config)) *running {
	t.Helper()
	cfg := settings(t)
	change(&cfg)
	rdb := redistest.Real(t)
	return &running{T: t, rdb: rdb, base: "http://" + serve(t, rdb, cfg).Addr("api")}
}

func (r *running) put(app, more string) {
	r.Helper()
	r.call("PUT", "/v1/apps/"+app+"?force=true", `{"name":"App","technical_contact":{"email":"kim@example.com"},"endpoints":{`+more+`}}`)
}

// A PUT that takes long, because an endpoint is tried meanwhile, erases nothing of the app that another PUT made.
func TestASlowPutOfANewAppErasesNobody(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	slow := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	})
	well := newReceiver(t, status(http.StatusNoContent))
	r := runWith(t, func(*config.Config) {})
	endpoint := `"state_change":{"url":"` + well.URL + `","enabled":true}`
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.put("app1", endpoint+`,"quote_connector":{"url":"`+slow.URL+`","enabled":true}`)
	}()
	<-asked
	r.put("app1", endpoint)
	for _, id := range []string{"T1", "T2", "T3"} {
		r.call("PUT", "/v1/apps/app1/approvals/"+id, "")
	}
	close(release)
	<-done
	if n := len(r.items("/v1/apps/app1/approvals")); n != 3 {
		t.Errorf("%d approvals after the slow PUT, want 3", n)
	}
	r.call("POST", "/v1/state-changes", `{"tenant":"T1","change_type":"suspend"}`)
	redistest.Eventually(t, 20*time.Second, "the change is told", func() bool { return well.posts.Load() > 0 })
}

// A run that still waits for the old URL does not open the circuit of the new one: neither what the old one
// asked for, nor what it failed with.
func TestARunOfTheOldURLClosesNoNewGate(t *testing.T) {
	t.Parallel()
	hanging, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	old := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(hanging)
			<-release
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	fresh := newReceiver(t, status(http.StatusNoContent))
	r := runWith(t, func(*config.Config) {})
	r.put("app1", `"state_change":{"url":"`+old.URL+`","enabled":true}`)
	for _, id := range []string{"T1", "T2"} {
		r.call("PUT", "/v1/apps/app1/approvals/"+id, "")
	}
	r.call("POST", "/v1/apps/app1/pause", "")
	for _, id := range []string{"T1", "T2"} {
		r.call("POST", "/v1/state-changes", `{"tenant":"`+id+`","change_type":"suspend"}`)
	}
	redistest.Eventually(t, 20*time.Second, "both wait", func() bool {
		waiting, _ := r.call("GET", "/v1/apps/app1/mailbox", "")["waiting"].(float64)
		return waiting == 2
	})
	r.call("POST", "/v1/apps/app1/resume", "")
	select {
	case <-hanging:
	case <-time.After(30 * time.Second):
		t.Fatal("no post came")
	}
	r.call("PATCH", "/v1/apps/app1", `{"endpoints":{"state_change":{"url":"`+fresh.URL+`"}}}`)
	close(release)
	redistest.Eventually(t, 30*time.Second, "the new URL is told of both", func() bool { return fresh.posts.Load() >= 2 })
}

// An app whose partner writes it all the time is judged as any other: its circuit opens, its incident opens,
// and 410 switches its endpoint off.
func TestAnAppThatIsRenamedAllTheTimeIsJudged(t *testing.T) {
	t.Parallel()
	down := newReceiver(t, status(http.StatusInternalServerError))
	r := runWith(t, func(c *config.Config) {
		c.Incident.OpenAfter = 2 * time.Second
		c.Delivery.Sweep = 500 * time.Millisecond
	})
	r.put("app1", `"state_change":{"url":"`+down.URL+`","enabled":true}`)
	r.call("PUT", "/v1/apps/app1/approvals/T1", "")
	r.call("POST", "/v1/state-changes", `{"tenant":"T1","change_type":"suspend"}`)
	rename := time.NewTicker(100 * time.Millisecond)
	defer rename.Stop()
	n := 0
	renaming := func(what string, until func() bool) {
		t.Helper()
		deadline := time.After(40 * time.Second)
		for !until() {
			select {
			case <-rename.C:
				n++
				r.call("PATCH", "/v1/apps/app1", `{"name":"App `+strings.Repeat("x", n%50)+`"}`)
			case <-deadline:
				t.Fatalf("after %d renamings not: %s", n, what)
			}
		}
	}
	opened := false
	renaming("the circuit opens", func() bool {
		opened = opened || r.call("GET", "/v1/apps/app1/mailbox", "")["breaker"] == "open"
		return opened
	})
	renaming("the incident opens", func() bool { return len(r.items("/v1/incidents?client_id=app1&state=open")) == 1 })
	gone := status(http.StatusGone)
	down.answer.Store(&gone)
	renaming("410 switches the endpoint off", func() bool {
		return r.call("GET", "/v1/apps/app1/endpoints/state_change", "")["enabled"] == false
	})
	if n < 5 {
		t.Errorf("only %d renamings", n)
	}
}

// An opening that was lost after a new URL was written is made good by the sweep.
func TestALostOpeningOfANewURLIsMadeGood(t *testing.T) {
	t.Parallel()
	old := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	fresh := newReceiver(t, status(http.StatusNoContent))
	cfg := settings(t)
	cfg.Delivery.Sweep = 500 * time.Millisecond
	rdb := redistest.Real(t)
	r := &running{T: t, rdb: rdb, base: "http://" + serve(t, rdb, cfg).Addr("api")}
	r.put("app1", `"state_change":{"url":"`+old.URL+`","enabled":true}`)
	r.call("PUT", "/v1/apps/app1/approvals/T1", "")
	r.call("POST", "/v1/state-changes", `{"tenant":"T1","change_type":"suspend"}`)
	redistest.Eventually(t, 20*time.Second, "the gate closes", func() bool {
		return r.call("GET", "/v1/apps/app1/mailbox", "")["breaker"] == "open"
	})
	k, err := secret.ParseKey(cfg.Encryption.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	// the write, and nothing of what follows it: its process died
	reg := registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)})
	rec, err := reg.App(t.Context(), "app1")
	if err != nil {
		t.Fatal(err)
	}
	rec.App.Endpoints[partner.StateChange].URL = fresh.URL
	if _, _, err := reg.PutApp(t.Context(), rec.App, rec.Revision, nil, registry.Actor{Name: "test"}, "app.patch"); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 30*time.Second, "the new URL is told", func() bool { return fresh.posts.Load() > 0 })
}
