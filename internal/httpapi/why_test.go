package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	const path = "/v1/apps/app1/tenants/Cust1/why"
	got := h.want(t, http.StatusOK, request{method: "GET", path: path, role: "operator"})
	words, _ := got["words"].(string)
	if got["cause"] != "gate_closed" || got["in_step"] != false || !strings.Contains(words, "answered with an error of its own") {
		t.Errorf("why = %v", got)
	}
	waiting, _ := got["waiting"].([]any)
	endpoint, _ := got["endpoint"].(map[string]any)
	health, _ := endpoint["health"].(map[string]any)
	if len(waiting) != 1 || waiting[0].(map[string]any)["reason"] != "server_error" || endpoint["breaker"] != "open" || health["state"] != "failing" {
		t.Errorf("why = %v", got)
	}
	if rec := h.do(request{method: "GET", path: path, role: "operator"}); !strings.Contains(rec.Body.String(), "oops") {
		t.Errorf("an operator reads no excerpt: %s", rec.Body)
	}
	if rec := h.do(request{method: "GET", path: path, role: "partner:app1"}); rec.Code != 200 || strings.Contains(rec.Body.String(), "oops") {
		t.Errorf("a partner reads %s", rec.Body)
	}
	for role, seen := range map[string]bool{"operator": true, "partner:app1": false} {
		rec := h.do(request{method: "GET", path: "/v1/apps/app1/tenants/Stranger/why", role: role})
		if strings.Contains(rec.Body.String(), "newest_change") != seen {
			t.Errorf("%s reads of a tenant that did not approve: %s", role, rec.Body)
		}
	}
	h.want(t, http.StatusNotFound, request{method: "GET", path: "/v1/apps/none/tenants/Cust1/why", role: "operator"})
	h.want(t, http.StatusUnprocessableEntity, request{method: "GET", path: "/v1/apps/app1/tenants/C%20/why", role: "operator"})
}

// TestPartnersEnumerateSlowly: a partner learns only slowly which tenants there are besides its own, whichever
// addresses it asks from; about its own it may ask on, and so may others about all.
func TestPartnersEnumerateSlowly(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	ask := func(role, tenant string, n int) int {
		return h.do(request{method: "GET", path: "/v1/apps/app1/tenants/" + tenant + "/why", role: role, from: fmt.Sprintf("192.0.2.%d:9", n)}).Code
	}
	codes := map[int]int{}
	for n := range 100 {
		codes[ask("partner:app1", "Stranger", n)]++
	}
	if codes[200] != 60 || codes[429] != 40 {
		t.Errorf("codes of one token = %v", codes)
	}
	for role, tenant := range map[string]string{"partner:app1": "Cust1", "operator": "Stranger"} {
		if got := ask(role, tenant, 1); got != 200 {
			t.Errorf("%s about %s = %d", role, tenant, got)
		}
	}
	h.advance(time.Second)
	if a, b := ask("partner:app1", "Stranger", 1), ask("partner:app1", "Stranger", 1); a != 200 || b != 429 {
		t.Errorf("a second later = %d, %d", a, b)
	}
}
