package httpapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func withLicences(d *deps) {
	d.Licences = partner.DefaultRequirements()
	d.HealthReader.(*world).licences = d.Licences
}

const mirroring = "/v1/apps/app1/endpoints/mirroring"

func on(url string) string { return `{"url":"` + url + `","enabled":true}` }

// grant gives app1 the licence that mirroring needs.
func (h *harness) grant(t *testing.T, licences string) {
	t.Helper()
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: `{"granted_licenses":[` + licences + `]}`})
}

func TestSwitchingOnNeedsTheLicence(t *testing.T) {
	t.Parallel()
	h := newHarness(t, withLicences).withApp(t)
	put := request{method: "PUT", path: mirroring, role: "operator", body: on("https://mirror.example/")}
	for _, path := range []string{mirroring, mirroring + "?force=true"} {
		r := put
		r.path = path
		p := h.want(t, 409, r)
		if p["type"] != "urn:lamplighter:problem:licence-missing" || !slices.Equal(pointers(p), []string{"/enabled"}) ||
			!strings.Contains(p["errors"].([]any)[0].(map[string]any)["detail"].(string), "database_mirroring") {
			t.Errorf("%s: %v", path, p)
		}
	}
	whole := h.want(t, 409, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"endpoints":{"mirroring":` + on("https://mirror.example/") + `}}`})
	if !slices.Equal(pointers(whole), []string{"/endpoints/mirroring/enabled"}) {
		t.Errorf("the app as a whole: %v", whole)
	}
	if h.tried != 0 {
		t.Errorf("the endpoint was tried %d times without a licence", h.tried)
	}
	// an operator may not grant it, an admin may, in the very write that switches on
	both := `{"granted_licenses":["database_mirroring"],"required_licenses":["database_mirroring","custom_apps"],"endpoints":{"mirroring":` + on("https://mirror.example/") + `}}`
	h.want(t, 403, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: both})
	app := h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: both})
	if missing := app["missing_licenses"].([]any); len(missing) != 1 || missing[0] != "custom_apps" {
		t.Errorf("missing licences %v", missing)
	}
	// taken back, it stays on and waits; it can still be switched off, and not on again
	h.grant(t, "")
	e := h.want(t, 200, request{method: "GET", path: mirroring, role: "platform"})
	if health := e["health"].(map[string]any); e["enabled"] != true || e["missing_license"] != "database_mirroring" || health["state"] != "waiting_for_license" {
		t.Errorf("after the licence was taken back: %v", e)
	}
	h.want(t, 200, request{method: "PATCH", path: mirroring, role: "partner:app1", body: `{"send_error_emails":false}`})
	h.want(t, 200, request{method: "PATCH", path: mirroring, role: "partner:app1", body: `{"enabled":false}`})
	h.want(t, 409, request{method: "PATCH", path: mirroring, role: "partner:app1", body: `{"enabled":true}`})
}

func TestSwitchingOnNeedsAProbe(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	failing := request{method: "PUT", path: mirroring, role: "partner:app1", body: on("https://failing.example/")}
	p := h.want(t, 409, failing)
	if p["type"] != "urn:lamplighter:problem:probe-failed" || !slices.Equal(pointers(p), []string{"/enabled"}) {
		t.Errorf("problem %v", p)
	}
	if e := h.want(t, 200, request{method: "GET", path: mirroring, role: "partner:app1"}); e["url"] != "" {
		t.Errorf("the refused write left %v", e)
	}
	failing.path += "?force=true"
	e := h.want(t, 200, failing)
	if e["enabled"] != true || e["switched_by"] != "partner:app1 token" {
		t.Errorf("forced: %v", e)
	}
	note := h.lastNote(t, apps.ActionSwitchedOn)
	if note.Before != `{"endpoint":"mirroring","enabled":false}` ||
		note.After != `{"endpoint":"mirroring","enabled":true,"forced":true,"probe":{"outcome":"failing","reason":"refused","detail":"it refused the connection","duration_ms":0}}` {
		t.Errorf("audited %+v", note)
	}
	// a write that does not move the switch makes no probe
	tried := h.tried
	h.want(t, 200, request{method: "PATCH", path: mirroring, role: "partner:app1", body: `{"send_error_emails":false}`})
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"name":"B"}`})
	off := h.want(t, 200, request{method: "PATCH", path: mirroring, role: "partner:app1", body: `{"enabled":false}`})
	if h.tried != tried || off["off_by"] != "people" || off["off_reason"] != nil {
		t.Errorf("tried %d times more; off: %v", h.tried-tried, off)
	}
	if note := h.lastNote(t, apps.ActionSwitchedOff); note.After != `{"endpoint":"mirroring","enabled":false}` {
		t.Errorf("audited %+v", note)
	}
	// healthy now
	h.want(t, 200, request{method: "PATCH", path: mirroring, role: "partner:app1", body: on("https://mirror.example/")})
	if note := h.lastNote(t, apps.ActionSwitchedOn); strings.Contains(note.After, "forced") || !strings.Contains(note.After, `"outcome":"healthy"`) {
		t.Errorf("audited %+v", note)
	}
}

func (h *harness) lastNote(t *testing.T, action string) registry.AuditNote {
	t.Helper()
	defer h.lock()()
	for _, n := range slices.Backward(h.notes) {
		if n.Action == action {
			return n
		}
	}
	t.Fatalf("nothing audited as %s", action)
	return registry.AuditNote{}
}

// A state-change endpoint is not probed: its notifications are kept until it answers.
func TestSwitchingStateChangeOnAsksNobody(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "operator", body: strings.ReplaceAll(appBody, "partner.example", "failing.example")})
	if h.tried != 0 {
		t.Errorf("it was tried %d times", h.tried)
	}
	note := h.lastNote(t, apps.ActionSwitchedOn)
	if note.After != `{"endpoint":"state_change","enabled":true}` {
		t.Errorf("audited %+v", note)
	}
}

func TestSwitchingOnChecksURLAndAddress(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for name, tc := range map[string]struct {
		body string
		want []string
	}{
		"NoURL":         {`{"enabled":true}`, []string{"/enabled"}},
		"EmptyOverride": {`{"urls":{"online":""},"enabled":true}`, []string{"/enabled"}},
		"Private":       {on("https://10.0.0.1/"), []string{"/url"}},
		"PlainHTTP":     {on("http://mirror.example/"), []string{"/url"}},
		"Credentials":   {on("https://kim:secret@mirror.example/"), []string{"/url"}},
		"Fragment":      {on("https://mirror.example/#a"), []string{"/url"}},
		"Relative":      {on("/mirror"), []string{"/url"}},
		"NoHost":        {on("https:///mirror"), []string{"/url"}},
		"Opaque":        {on("https:mirror"), []string{"/url"}},
		"Port":          {on("https://mirror.example:0/"), []string{"/url"}},
		"Spaces":        {on("https://mirror.example/a b"), []string{"/url"}},
		"TooLong":       {on("https://mirror.example/" + strings.Repeat("a", 2100)), []string{"/url"}},
		"OtherPlace":    {`{"url":"https://mirror.example/","urls":{"stage":"https://10.0.0.1/"},"enabled":true}`, []string{"/urls/stage"}},
		"Number":        {`{"url":7,"enabled":true}`, []string{"/url"}},
	} {
		p := h.want(t, 422, request{method: "PUT", path: mirroring, role: "operator", body: tc.body})
		if !slices.Equal(pointers(p), tc.want) {
			t.Errorf("%s: %v, want %v", name, p["errors"], tc.want)
		}
	}
	if h.tried != 0 {
		t.Errorf("tried %d times", h.tried)
	}
	// for another environment alone: nothing to ask here
	h.want(t, 200, request{method: "PUT", path: mirroring, role: "operator", body: `{"urls":{"stage":"https://failing.example/"},"enabled":true}`})
	// one that lies there since before the guard learnt of it is looked at when it is switched on
	h.mu.Lock()
	rec := h.apps["app1"]
	rec.App.Endpoints[partner.ERPSync] = partner.Endpoint{URL: "https://10.0.0.1/"}
	h.apps["app1"] = rec
	h.mu.Unlock()
	p := h.want(t, 422, request{method: "PATCH", path: "/v1/apps/app1/endpoints/erp_sync", role: "operator", body: `{"enabled":true}`})
	if !slices.Equal(pointers(p), []string{"/url"}) {
		t.Errorf("an old address: %v", p)
	}
	for _, force := range []string{"?force=1", "?force=", "?force=true&force=true"} {
		p := h.want(t, 422, request{method: "PATCH", path: mirroring + force, role: "operator", body: `{}`})
		if !slices.Equal(pointers(p), []string{"/force"}) {
			t.Errorf("%s: %v", force, p)
		}
	}
}

// An endpoint that is on is asked at the URL it gets, also when it had none here before.
func TestMovingNeedsAProbe(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	patch := func(status int, query, body string) map[string]any {
		t.Helper()
		return h.want(t, status, request{method: "PATCH", path: mirroring + query, role: "partner:app1", body: body})
	}
	patch(200, "", `{"urls":{"stage":"https://failing.example/"},"enabled":true}`)
	if h.tried != 0 {
		t.Errorf("tried %d times where it has no URL", h.tried)
	}
	for pointer, body := range map[string]string{"/url": `{"url":"https://failing.example/"}`, "/urls/online": `{"urls":{"online":"https://failing.example/b"}}`} {
		if p := patch(409, "", body); p["type"] != "urn:lamplighter:problem:probe-failed" || !slices.Equal(pointers(p), []string{pointer}) {
			t.Errorf("%s: %v", body, p)
		}
	}
	patch(200, "", `{"url":"https://mirror.example/"}`)
	if note := h.lastNote(t, apps.ActionMoved); !strings.Contains(note.After, `"outcome":"healthy"`) || strings.Contains(note.After, "forced") {
		t.Errorf("audited %+v", note)
	}
	tried := h.tried
	patch(200, "", `{"urls":{"stage":"https://other.example/"}}`)
	if h.tried != tried {
		t.Error("another environment's URL had it tried")
	}
	h.advance(time.Hour)
	patch(200, "?force=true", `{"url":"https://failing.example/c"}`)
	if note := h.lastNote(t, apps.ActionMoved); !strings.Contains(note.After, `"forced":true,"probe":{"outcome":"failing"`) {
		t.Errorf("audited %+v", note)
	}
}

// A probe that says nothing about the endpoint does not block the write.
func TestSwitchingOnWhatCannotBeTried(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.want(t, 200, request{method: "PUT", path: mirroring, role: "partner:app1", body: on("https://unheard.example/")})
	if note := h.lastNote(t, apps.ActionSwitchedOn); strings.Contains(note.After, "forced") || !strings.Contains(note.After, `"outcome":"unchecked","reason":"no_tenant"`) {
		t.Errorf("audited %+v", note)
	}
}

func TestSwitchingToAndFroIsLimited(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	toggle := func(enabled, force string) int {
		return h.do(request{method: "PATCH", path: mirroring + force, role: "partner:app1", body: `{"url":"https://mirror.example/","enabled":` + enabled + `}`}).Code
	}
	for range 3 {
		if a, b := toggle("true", ""), toggle("false", ""); a != 200 || b != 200 {
			t.Fatalf("switched on %d, off %d", a, b)
		}
	}
	if a, b := toggle("true", ""), toggle("false", ""); a != 200 || b != 200 || h.tried != 3 {
		t.Errorf("a fourth time at once, of an endpoint that was healthy a moment ago: on %d, off %d, tried %d times", a, b, h.tried)
	}
	other := strings.NewReplacer("mirror.", "mirror2.")
	if got := h.do(request{method: "PATCH", path: mirroring, role: "partner:app1", body: other.Replace(on("https://mirror.example/"))}).Code; got != http.StatusTooManyRequests {
		t.Errorf("at another URL = %d", got)
	}
	h.advance(time.Minute)
	for range 3 { // the budget of tests goes to another URL
		toggle("false", "")
		h.do(request{method: "PATCH", path: mirroring, role: "partner:app1", body: other.Replace(on("https://mirror.example/"))})
	}
	toggle("false", "")
	if got := toggle("true", ""); got != http.StatusTooManyRequests {
		t.Errorf("of an endpoint that was healthy a minute ago = %d", got)
	}
	if got := toggle("true", "?force=true"); got != 200 || h.tried != 6 {
		t.Errorf("forced = %d, tried %d times", got, h.tried)
	}
	if note := h.lastNote(t, apps.ActionSwitchedOn); !strings.Contains(note.After, `"reason":"not_tried"`) {
		t.Errorf("audited %+v", note)
	}
}

// Others' writes make a write start over; the endpoint is asked once all the same.
func TestSwitchingOnAsksOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	times := 0
	h.beforePut = func() {
		if times++; times <= 2 {
			rec := h.apps["app1"]
			rec.Revision++
			h.apps["app1"] = rec
		}
	}
	h.want(t, 200, request{method: "PATCH", path: mirroring, role: "operator", body: on("https://mirror.example/")})
	if times != 3 || h.tried != 1 {
		t.Errorf("written %d times, tried %d times, want 3 and 1", times, h.tried)
	}
}

func TestProbeThatCannotBeMadeWritesNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(d *deps) { d.writes.Prober = brokenTester{} }).withApp(t)
	h.want(t, 503, request{method: "PATCH", path: mirroring, role: "operator", body: on("https://mirror.example/")})
	if e := h.want(t, 200, request{method: "GET", path: mirroring, role: "operator"}); e["enabled"] != false {
		t.Errorf("written all the same: %v", e)
	}
}

type brokenTester struct{}

func (brokenTester) TestSettings(_ context.Context, _ partner.App, _ partner.EndpointKind) (health.TestResult, error) {
	return health.TestResult{}, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
}

func TestServicesSwitchOffIsToldApart(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.mu.Lock()
	rec := h.apps["app1"]
	rec.App.Endpoints[partner.StateChange] = partner.Endpoint{URL: "https://partner.example/", OffReason: partner.OffFailing, SwitchedAt: start, SwitchedBy: "lamplighter"}
	h.apps["app1"] = rec
	h.mu.Unlock()
	e := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1/endpoints/state_change", role: "partner:app1"})
	if e["off_by"] != "service" || e["off_reason"] != "failing" || e["switched_by"] != "lamplighter" {
		t.Errorf("%v", e)
	}
	if never := h.want(t, 200, request{method: "GET", path: mirroring, role: "partner:app1"}); never["off_by"] != nil {
		t.Errorf("never switched: %v", never)
	}
}
