package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestStoreAway asks every operation while the store is away.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	for _, op := range newHarness(t).api.Operations() {
		if strings.HasPrefix(op.Pattern, "/login/") || op.ID == "getOpenAPI" || op.ID == "getDocs" {
			continue
		}
		h := newHarness(t).withApp(t)
		h.down = errDown
		if len(op.Roles) > 0 { // the look-up of the token fails as well
			h.tokensDown = errDown
			h.want(t, 503, request{method: op.Method, path: pathOf(op), role: "admin"})
			h.tokensDown = nil
		}
		r := sample(op.ID)
		r.method, r.path, r.role = op.Method, pathOf(op), "admin"
		rec := h.do(r)
		if rec.Code != 503 || rec.Header().Get("Retry-After") != "2" {
			t.Errorf("%s = %d, Retry-After %q: %s", op.ID, rec.Code, rec.Header().Get("Retry-After"), rec.Body)
		}
		if strings.Contains(rec.Body.String(), "10.9.8.7") {
			t.Errorf("%s shows internals: %s", op.ID, rec.Body)
		}
		if h.revision != 1 || len(h.accepted) != 0 || len(h.bound) != 0 {
			t.Errorf("%s wrote something", op.ID)
		}
		if !strings.Contains(h.log.String(), "level=ERROR") {
			t.Errorf("%s: the cause is not in the log", op.ID)
		}
	}
}

// storeAnswer is an error that Redis answered.
type storeAnswer string

func (a storeAnswer) Error() string { return string(a) }

// RedisError marks it as the library does.
func (storeAnswer) RedisError() {}

// TestNoAnswerOfTheStoreIsTheCallersFault: whatever the store says is 503 with Retry-After, where a token is
// looked up, where a status is pulled, and for a line of many; never 401, 404 or 500.
func TestNoAnswerOfTheStoreIsTheCallersFault(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"MOVED 1 10.9.8.7:6379", "ASK 1 10.9.8.7:6379", "NOAUTH Authentication required.", "WRONGPASS invalid username-password pair",
		"NOPERM this user has no permissions", "LOADING Redis is loading", "READONLY You can't write", "CLUSTERDOWN Hash slot not served",
		"TRYAGAIN Multiple keys", "MASTERDOWN Link with MASTER is down", "OOM command not allowed", "MISCONF Errors writing",
		"NOREPLICAS Not enough good replicas", "BUSY Redis is busy",
	} {
		h := newHarness(t).withApp(t)
		h.down = fmt.Errorf("ask: %w", storeAnswer(words))
		for what, r := range map[string]request{
			"pull":  {method: "GET", path: "/api/state/Cust1"},
			"one":   {method: "POST", path: "/v1/state-changes", role: "admin", body: `{"tenant":"Cust1","change_type":"suspend"}`},
			"lines": {method: "POST", path: "/v1/state-changes", role: "admin", contentType: "application/x-ndjson", body: `{"tenant":"Cust1","change_type":"suspend"}` + "\n"},
		} {
			rec := h.do(r)
			if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || strings.Contains(rec.Body.String(), strings.Fields(words)[0]) {
				t.Errorf("%s: %s = %d, Retry-After %q: %s", words, what, rec.Code, rec.Header().Get("Retry-After"), rec.Body)
			}
		}
		h.tokensDown = h.down
		rec := h.do(request{method: "GET", path: "/v1/apps/app1", role: "admin"})
		if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || rec.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%s: token = %d: %s", words, rec.Code, rec.Body)
		}
	}
}

func TestUnavailableIsWhatTheServiceSays(t *testing.T) {
	t.Parallel()
	oom := errors.New("OOM command not allowed")
	h := newHarness(t, func(d *deps) {
		d.StoreFault = func(err error) string {
			if errors.Is(err, oom) {
				return "memory"
			}
			return ""
		}
	}).withApp(t)
	h.down = fmt.Errorf("read: %w", oom)
	h.want(t, 503, request{method: "GET", path: "/v1/apps/app1", role: "admin"})
	if log := h.log.String(); !strings.Contains(log, "store=memory") {
		t.Errorf("the log does not say which: %s", log)
	}
	h.down = errors.New("something else at 10.9.8.7")
	p := h.want(t, 500, request{method: "GET", path: "/v1/apps/app1", role: "admin", header: map[string]string{"X-Request-Id": "find-me"}})
	if p["request_id"] != "find-me" || strings.Contains(fmt.Sprint(p), "10.9.8.7") {
		t.Errorf("problem = %v", p)
	}
	if log := h.log.String(); !strings.Contains(log, "request_id=find-me") || !strings.Contains(log, "10.9.8.7") {
		t.Errorf("the log does not tell the cause: %s", log)
	}
}

// fewError is the store's: of n replicas that were asked for, none confirmed the write.
type fewError int

func (e fewError) Error() string                    { return "replicas at 10.9.8.7 are away" }
func (e fewError) Replicas() (confirmed, asked int) { return 0, int(e) }

// TestTooFewReplicasAreSaid tells a caller apart from one whose request came to nothing.
func TestTooFewReplicasAreSaid(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.down = fmt.Errorf("accept: %w", fewError(2))
	p := h.want(t, 503, request{method: "POST", path: "/v1/state-changes", role: "admin", body: `{"tenant":"Cust1","change_type":"resume"}`})
	text := fmt.Sprint(p)
	if p["type"] != "urn:lamplighter:problem:not-replicated" || !strings.Contains(text, "0 of the 2 replicas") || strings.Contains(text, "10.9.8.7") {
		t.Errorf("problem = %v", p)
	}
	h.lineErrs = map[tenant.ID]error{"Cust2": h.down}
	h.down = nil
	rec := h.do(request{
		method: "POST", path: "/v1/state-changes", role: "admin", contentType: "application/x-ndjson",
		body: `{"tenant":"Cust1","change_type":"resume"}` + "\n" + `{"tenant":"Cust2","change_type":"resume"}` + "\n",
	})
	if body := rec.Body.String(); !strings.Contains(body, `"status":503`) || !strings.Contains(body, "Not confirmed by enough replicas") {
		t.Errorf("NDJSON answer = %s", body)
	}
	if log := h.log.String(); !strings.Contains(log, "10.9.8.7") {
		t.Error("the cause is not in the log")
	}
}

func TestPanicIsAnsweredAndCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.panics = true
	p := h.want(t, 500, request{method: "GET", path: "/v1/apps/app1", role: "admin"})
	if strings.Contains(fmt.Sprint(p), "exploded") {
		t.Errorf("problem = %v", p)
	}
	if !strings.Contains(h.log.String(), "exploded") {
		t.Error("the panic is not in the log")
	}
	text := h.metricsText(t)
	for _, want := range []string{
		"lamplighter_http_panics_total 1",
		`lamplighter_http_requests_total{code="500",method="GET",route="/v1/apps/{client_id}"} 1`,
		`lamplighter_http_requests_total{code="202",method="POST",route="/v1/state-changes"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func (h *harness) metricsText(t *testing.T) string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(h.reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestLabelsAreClosed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, path := range []string{"/hunter2", "/v1/apps/hunter2", "/api/state/hunter2"} {
		h.do(request{method: "HUNTER2", path: path})
		h.do(request{method: "GET", path: path, role: "admin"})
	}
	if text := h.metricsText(t); strings.Contains(strings.ToLower(text), secretWord) {
		t.Errorf("a metric repeats the input:\n%s", text)
	}
}

func TestOneLogLinePerAdminRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
	if len(lines) != 1 {
		t.Fatalf("log = %q", lines)
	}
	for _, want := range []string{
		"level=INFO", `msg="request handled"`, "operation=putApp", "route=/v1/apps/{client_id}", "status=201", "app=app1", "role=admin", `actor="admin token"`, "duration_ms=",
	} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("the line lacks %s: %s", want, lines[0])
		}
	}
	for _, secret := range []string{"lmp_", "whsec_", "kim@example.com"} {
		if strings.Contains(lines[0], secret) {
			t.Errorf("the line holds %s", secret)
		}
	}
	h.do(request{method: "GET", path: "/api/state/Cust1"})
	if log := h.log.String(); strings.Count(log, "level=INFO") != 1 || strings.Count(log, "level=DEBUG") != 1 {
		t.Errorf("the pull is logged: %s", log)
	}
}

// TestNoUpdateIsLost: writers that name the revision either write on what they read or get 412;
// writers that do not name it all succeed.
func TestNoUpdateIsLost(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	const writers = 20
	var wg sync.WaitGroup
	codes := make([]int, writers)
	for i := range writers {
		wg.Go(func() {
			body := fmt.Sprintf(`{"endpoints":{"erp_sync":{"url":"https://erp%d.example/"}}}`, i)
			codes[i] = h.do(request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: body, header: map[string]string{"If-Match": `"1"`}}).Code
		})
	}
	wg.Wait()
	slices.Sort(codes)
	if codes[0] != 200 || codes[1] != 412 || codes[writers-1] != 412 || h.revision != 2 {
		t.Errorf("codes = %v, revision %d", codes, h.revision)
	}
	// Another write slips in between reading and writing: the patch is applied to it.
	h.beforePut = func() {
		h.beforePut = nil
		h.revision++
		rec := h.apps["app1"]
		rec.App.Name, rec.Revision = "Slipped in", h.revision
		h.apps["app1"] = rec
	}
	got := h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: `{"technical_contact":{"name":"Lee"}}`})
	if got["name"] != "Slipped in" || h.apps["app1"].App.TechnicalContact.Name != "Lee" {
		t.Errorf("an update was lost: %v", got)
	}
	h.beforePut = func() {
		h.revision++
		rec := h.apps["app1"]
		rec.Revision = h.revision
		h.apps["app1"] = rec
	}
	h.want(t, 503, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: `{}`})
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, header, value string
		exists                bool
		want                  int
	}{
		{"PUT", "If-Match", `"1"`, true, 200},
		{"PUT", "If-Match", `"0", "1"`, true, 200},
		{"PUT", "If-Match", `W/"1"`, true, 412},
		{"PUT", "If-Match", `1`, true, 412},
		{"PUT", "If-Match", `"1"`, false, 412},
		{"PUT", "If-Match", `*`, true, 200},
		{"PUT", "If-Match", `*`, false, 412},
		{"PUT", "If-None-Match", `*`, true, 412},
		{"PUT", "If-None-Match", `*`, false, 201},
		{"DELETE", "If-Match", `"2"`, true, 412},
		{"DELETE", "If-Match", `"1"`, true, 204},
		{"GET", "If-None-Match", `W/"1"`, true, 304},
		{"GET", "If-None-Match", `"2"`, true, 200},
	} {
		h := newHarness(t)
		if test.exists {
			h.withApp(t)
		}
		r := request{method: test.method, path: "/v1/apps/app1", role: "admin", header: map[string]string{test.header: test.value}}
		if test.method == "PUT" {
			r.body = appBody
		}
		if got := h.do(r).Code; got != test.want {
			t.Errorf("%s with %s: %s (exists %t) = %d, want %d", test.method, test.header, test.value, test.exists, got, test.want)
		}
	}
}

// TestAWriteStandsWhenItsEventFails: the sweep repairs what follows, the caller is not told to
// write again.
func TestAWriteStandsWhenItsEventFails(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.eventErr = errors.New("mailbox away")
	h.withApp(t)
	h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/pause", role: "admin"})
	h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/resume", role: "admin"})
	h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/resume", role: "admin"})
	h.do(request{method: "DELETE", path: "/v1/apps/app1", role: "admin"})
	again := []string{"written app1 new=false", "resumed app1"}
	want := slices.Concat([]string{"written app1 new=true", "written app1 new=false"}, again, again, []string{"deleted app1"})
	if !slices.Equal(h.events, want) {
		t.Errorf("events = %q, want %q", h.events, want)
	}
	if strings.Count(h.log.String(), "mailbox away") != len(want) {
		t.Error("the failures are not in the log")
	}
}

func TestRotationKeepsTheOldSecretForAWhile(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	first := h.secrets["app1"].Current.Reveal()
	got := h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/secrets", role: "partner:app1", body: `{"grace_seconds":60}`})
	s := h.secrets["app1"]
	if s.Current.Reveal() != got["webhook_secret"] || len(s.Replaced) != 1 || s.Replaced[0].Secret.Reveal() != first || !s.Replaced[0].Until.Equal(start.Add(60e9)) || first == got["webhook_secret"] {
		t.Errorf("%d replaced secrets after rotation", len(s.Replaced))
	}
	if a := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "admin"}); a["webhook_secret"] != nil {
		t.Error("a GET shows the secret")
	}
}

func TestAbsentPartsAreAbsentRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld()
	api := httpapi.New(httpapi.Deps{Environment: partner.Online, Tokens: w, Apps: w})
	for _, op := range api.Operations() {
		if !slices.Contains([]string{"listApps", "getApp", "getEndpoint", "getOpenAPI", "getDocs"}, op.ID) {
			t.Errorf("%s is there without what it needs", op.ID)
		}
	}
	rec := httptest.NewRecorder()
	api.AdminHandler().ServeHTTP(rec, request{method: "GET", path: "/v1/audit", role: "admin"}.make())
	if rec.Code != 404 {
		t.Errorf("= %d", rec.Code)
	}
}

func TestEndpointTestsAreLimited(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	r := request{method: "POST", path: "/v1/apps/app1/endpoints/state_change/test", role: "partner:app1"}
	for range 3 {
		h.want(t, 200, r)
	}
	if rec := h.do(r); rec.Code != 429 || rec.Header().Get("Retry-After") != "10" {
		t.Errorf("= %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	h.advance(10e9)
	h.want(t, 200, r)
}

func TestOps(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var broken error
	ops := func(pprof bool) http.Handler {
		return h.api.OpsHandler(httpapi.OpsOptions{
			Metrics: promhttp.HandlerFor(h.reg, promhttp.HandlerOpts{}), Pprof: pprof,
			Readiness: func(context.Context) []httpapi.Check {
				return []httpapi.Check{{Name: "redis", Err: broken}, {Name: "keys"}}
			},
		})
	}
	get := func(pprof bool, method, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		ops(pprof).ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec
	}
	for _, test := range []struct {
		pprof        bool
		method, path string
		want         int
	}{
		{false, "GET", "/healthz", 200},
		{false, "GET", "/readyz", 200},
		{false, "GET", "/metrics", 200},
		{false, "GET", "/debug/pprof/", 404},
		{true, "GET", "/debug/pprof/", 200},
		{false, "POST", "/healthz", 405},
		{false, "GET", "/v1/apps", 404},
	} {
		if got := get(test.pprof, test.method, test.path).Code; got != test.want {
			t.Errorf("%s %s = %d, want %d", test.method, test.path, got, test.want)
		}
	}
	broken = errors.New("maxmemory-policy is allkeys-lru")
	rec := get(false, "GET", "/readyz")
	var got struct {
		Ready  bool
		Checks []struct {
			Name, Detail string
			OK           bool
		}
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != 503 || got.Ready || len(got.Checks) != 2 ||
		got.Checks[0].OK || got.Checks[0].Detail != broken.Error() || !got.Checks[1].OK {
		t.Errorf("readyz = %d %s", rec.Code, rec.Body)
	}
}
