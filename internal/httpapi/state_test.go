package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestPullForEveryState: the six members in the wire's order, whatever the state.
func TestPullForEveryState(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, st := range tenant.AllStates() {
		h.statuses["Cust1"] = tenant.Status{State: st, PublicEndpoint: "sod3.superoffice.com"}
		rec := h.do(request{method: "GET", path: "/api/state/Cust1"})
		want := fmt.Sprintf(`{"ContextIdentifier":"Cust1","Endpoint":"https://sod3.superoffice.com/Cust1","State":%q,"IsRunning":%t,"ValidUntil":"2026-11-24T10:16:00.0000000Z","Api":"https://sod3.superoffice.com/Cust1/api"}`+"\n",
			st, st == tenant.Running || st == tenant.OnlineMaintenance)
		if rec.Code != 200 || rec.Body.String() != want {
			t.Errorf("%v = %d %s, want %s", st, rec.Code, rec.Body, want)
		}
	}
}

func TestPullIsConditional(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.statuses["Cust1"] = tenant.Status{State: tenant.Running}
	ask := func(tag string) *httptest.ResponseRecorder {
		return h.do(request{method: "GET", path: "/api/state/Cust1", header: map[string]string{"If-None-Match": tag}})
	}
	tag := ask("").Header().Get("ETag")
	h.advance(29 * time.Second) // the last moment of the cell
	if rec := ask(tag); rec.Code != 304 || rec.Body.Len() != 0 || rec.Header().Get("ETag") != tag {
		t.Errorf("unchanged = %d %s", rec.Code, rec.Body)
	}
	h.statuses["Cust1"] = tenant.Status{State: tenant.Suspended}
	if rec := ask(tag); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"Suspended"`) {
		t.Errorf("changed = %d %s", rec.Code, rec.Body)
	}
	h.statuses["Cust1"] = tenant.Status{State: tenant.Running}
	h.advance(time.Second)
	if rec := ask(tag); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"2026-11-24T10:17:00.0000000Z"`) {
		t.Errorf("next cell = %d %s", rec.Code, rec.Body)
	}
}

func TestUnknownTenantsAreLimitedPerAddress(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.statuses["Known"] = tenant.Status{State: tenant.Running}
	ask := func(id, from string) int {
		return h.do(request{method: "GET", path: "/api/state/" + id, from: from}).Code
	}
	codes := map[int]int{}
	for n := range 100 {
		codes[ask(fmt.Sprintf("Guess%d", n), fmt.Sprintf("[2001:db8::%x]:9", n))]++
	}
	if codes[404] != 60 || codes[429] != 40 {
		t.Errorf("codes of one /64 = %v", codes)
	}
	if got := ask("Known", "[2001:db8::1]:9"); got != 200 {
		t.Errorf("a known tenant = %d", got)
	}
	if got := ask("Guess", "[2001:db8:0:1::1]:9"); got != 404 {
		t.Errorf("another network = %d", got)
	}
	h.advance(time.Second)
	if a, b := ask("Guess", "[2001:db8::1]:9"), ask("Guess", "[2001:db8::1]:9"); a != 404 || b != 429 {
		t.Errorf("a second later = %d, %d", a, b)
	}
}

func TestPublicServesNoAdminRoute(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.statuses["Cust1"] = tenant.Status{State: tenant.Running}
	h.handler = h.api.PublicHandler()
	for path, want := range map[string]int{
		"/api/state/Cust1": 200, "/login/.well-known/openid-configuration": 200, "/login/.well-known/jwks": 200, "/v1/apps": 404, "/metrics": 404,
	} {
		if got := h.answer(request{method: http.MethodGet, path: path, role: "admin"}).Code; got != want {
			t.Errorf("%s = %d, want %d", path, got, want)
		}
	}
	rec := h.do(request{method: http.MethodGet, path: "/login/.well-known/jwks"})
	if again := h.do(request{method: http.MethodGet, path: "/login/.well-known/jwks", header: map[string]string{"If-None-Match": rec.Header().Get("ETag")}}); again.Code != 304 {
		t.Errorf("conditional JWKS = %d", again.Code)
	}
}
