package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestPartnersSettingsHaveABudget: 20 writes of an app at once, then one a second, whatever token and operation; others
// and staff have none of it.
func TestPartnersSettingsHaveABudget(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	patch := func(role, app string, n int) *httptest.ResponseRecorder {
		return h.do(request{method: "PATCH", path: "/v1/apps/" + app, role: role, body: fmt.Sprintf(`{"technical_contact":{"name":"K%d"}}`, n)})
	}
	for n := range 19 {
		if rec := patch("partner:app1", "app1", n); rec.Code != 200 {
			t.Fatalf("write %d = %d %s", n, rec.Code, rec.Body)
		}
	}
	h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/pause", role: "partner:app1"})
	rec := patch("partner:app1", "app1", 20)
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "1" || !strings.Contains(rec.Body.String(), "20 at once, then one a second") {
		t.Errorf("beyond the budget = %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec := patch("operator", "app1", 21); rec.Code != 200 {
		t.Errorf("an operator: %d %s", rec.Code, rec.Body)
	}
	if rec := h.do(request{method: "GET", path: "/v1/apps/app1", role: "partner:app1"}); rec.Code != 200 {
		t.Errorf("reading = %d", rec.Code)
	}
	h.advance(time.Second)
	if rec := patch("partner:app1", "app1", 22); rec.Code != 200 {
		t.Errorf("a second later = %d %s", rec.Code, rec.Body)
	}
}

// TestOperatorsRaiseAnAppsBudgets: the factor multiplies the budgets of one app, holds within 10 s, is the
// operator's to set and shows in the audit; other apps have what they had.
func TestOperatorsRaiseAnAppsBudgets(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	h.withApp(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/other", role: "operator", body: `{"name":"B"}`})
	accepted := func(app string) (n int, refusal string) {
		for ; n < 200; n++ {
			rec := h.do(request{method: "PATCH", path: "/v1/apps/" + app, role: "partner:" + app, body: fmt.Sprintf(`{"technical_contact":{"name":"K%d"}}`, n)})
			if rec.Code != 200 {
				return n, rec.Body.String()
			}
		}
		return n, ""
	}
	if n, _ := accepted("app1"); n != 20 {
		t.Fatalf("%d writes before the factor, want 20", n)
	}
	h.advance(time.Minute)
	h.want(t, 403, request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"budget_factor":3}`})
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"budget_factor":3}`})
	h.advance(time.Minute)
	n, refusal := accepted("app1")
	if n != 60 || !strings.Contains(refusal, "60 at once, then 3 a second") {
		t.Errorf("%d writes with the factor 3, want 60: %s", n, refusal)
	}
	if n, _ := accepted("other"); n != 20 {
		t.Errorf("%d writes of another app, want 20", n)
	}
	h.advance(time.Minute)
	rec := h.want(t, 200, request{method: "PUT", path: "/v1/apps/app1", role: "partner:app1", body: `{"name":"Awesome App"}`})
	if rec["budget_factor"] != 3. {
		t.Errorf("a PUT without the factor must keep it: %v", rec)
	}
	rec = h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"budget_factor":null}`})
	if rec["budget_factor"] != 1. {
		t.Errorf("null must reset it: %v", rec)
	}
	for _, bad := range []string{`0`, `101`, `-1`, `1.5`, `"3"`, `true`, `1e400`} {
		h.want(t, 422, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"budget_factor":` + bad + `}`})
	}
	entries, _, err := store.AuditEntries(t.Context(), registry.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", entries); !strings.Contains(text, `"budget_factor":3`) {
		t.Errorf("the audit does not say who raised what: %.2000s", text)
	}
}

// TestPartnersWritesStopBeforeTheStoreIsFull: at 90 % partners are refused, and no other role is.
func TestPartnersWritesStopBeforeTheStoreIsFull(t *testing.T) {
	t.Parallel()
	full := true
	h := newHarness(t, func(d *deps) { d.StoreFull = func() (int, bool) { return 91, full } }).withApp(t)
	for _, r := range []request{
		{method: "PATCH", path: "/v1/apps/app1", body: `{"technical_contact":{"name":"K"}}`},
		{method: "POST", path: "/v1/apps/app1/resync"},
		{method: "POST", path: "/v1/apps/app1/secrets"},
	} {
		r.role = "partner:app1"
		rec := h.do(r)
		if rec.Code != 503 || !strings.Contains(rec.Body.String(), "store-nearly-full") || !strings.Contains(rec.Body.String(), "91 %") || rec.Header().Get("Retry-After") != "60" {
			t.Errorf("%s = %d %v %s", r.path, rec.Code, rec.Header(), rec.Body)
		}
	}
	h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "partner:app1"})
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"name":"B"}`})
	h.want(t, 202, request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"suspend"}`})
	full = false
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"technical_contact":{"name":"K"}}`})
}

// TestWritesThatChangeNothing: the revision stays, and the audit has nothing of them.
func TestWritesThatChangeNothing(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	h.withApp(t)
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"technical_contact":{"name":"Lee"}}`})
	before := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "partner:app1"})
	entries := func() int {
		list, _, err := store.AuditEntries(t.Context(), registry.AuditQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	noted := entries()
	for _, r := range []request{
		{method: "PATCH", path: "/v1/apps/app1", body: `{"technical_contact":{"name":"Lee"}}`},
		{method: "PATCH", path: "/v1/apps/app1", body: `{}`},
		{method: "POST", path: "/v1/apps/app1/resume"},
		{method: "PATCH", path: "/v1/apps/app1/endpoints/state_change", body: `{"enabled":true}`},
	} {
		h.advance(time.Minute)
		r.role = "partner:app1"
		h.want(t, 200, r)
	}
	after := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "partner:app1"})
	if after["revision"] != before["revision"] || entries() != noted {
		t.Errorf("revision %v, then %v; %d entries, then %d", before["revision"], after["revision"], noted, entries())
	}
	h.want(t, 200, request{method: "POST", path: "/v1/apps/app1/secrets", role: "partner:app1"})
	if entries() != noted+1 {
		t.Error("another secret is not in the audit")
	}
}

// TestAppsAreBoundedAsTheyAreStored: what partners send may be small, and what they make the store keep is too.
func TestAppsAreBoundedAsTheyAreStored(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	h.withApp(t)
	url := func(n int) string {
		return fmt.Sprintf(`"https://partner.example/%d/%s"`, n, strings.Repeat("&<", 1000))
	}
	var kinds []string
	for i, k := range partner.AllEndpointKinds() {
		kinds = append(kinds, fmt.Sprintf(`%q:{"url":%s,"urls":{"sod":%s,"stage":%s,"online":%s}}`, k, url(4*i), url(4*i+1), url(4*i+2), url(4*i+3)))
	}
	key := `"` + strings.Repeat(`\n`, 7000) + `"`
	rec := h.do(request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"public_keys":[` + key + `],"endpoints":{` + strings.Join(kinds, ",") + `}}`})
	if rec.Code != 422 {
		t.Fatalf("= %d %s", rec.Code, rec.Body)
	}
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"endpoints":{` + strings.Join(kinds, ",") + `}}`})
}

// TestAnswersAreReadAgain: an app's answer is not stored under a key, and a repeat gets the present app.
func TestAnswersAreReadAgain(t *testing.T) {
	t.Parallel()
	outcomes := &fakeOutcomes{kept: map[string]*keptOutcome{}}
	h := newHarness(t, func(d *deps) { d.IdempotencyStore = outcomes }).withApp(t)
	pause := keyed(request{method: "POST", path: "/v1/apps/app1/pause", role: "partner:app1"}, "k")
	h.want(t, 200, pause)
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: `{"name":"Other"}`})
	if got := h.want(t, 200, pause); got["name"] != "Other" {
		t.Errorf("a repeat is told %v", got["name"])
	}
	h.want(t, 200, keyed(request{method: "POST", path: "/v1/apps/app1/secrets", role: "partner:app1"}, "k2"))
	for name, k := range outcomes.kept {
		if len(k.outcome) > 600 || strings.Contains(name, "k2") != strings.Contains(string(k.outcome), "body\":\"") {
			t.Errorf("kept under %q: %s", name, k.outcome)
		}
	}
}

// TestAnswersDoNotOutliveTheApp: who has the id later gets an answer of its own under the same key and name.
func TestAnswersDoNotOutliveTheApp(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	for _, role := range []string{"partner:app1", "operator"} {
		rotate := keyed(request{method: "POST", path: "/v1/apps/app1/secrets", role: role}, "rotate-1")
		h.withApp(t)
		first := h.want(t, 200, rotate)
		if again := h.want(t, 200, rotate); again["webhook_secret"] != first["webhook_secret"] {
			t.Errorf("%s: a repeat is told another secret", role)
		}
		if rec := h.do(request{method: "DELETE", path: "/v1/apps/app1", role: "admin"}); rec.Code != 204 {
			t.Fatalf("delete = %d %s", rec.Code, rec.Body)
		}
		h.withApp(t)
		rec := h.do(rotate)
		if rec.Code != 200 || rec.Header().Get("Idempotent-Replayed") != "" || strings.Contains(rec.Body.String(), first["webhook_secret"].(string)) {
			t.Errorf("%s: the next owner is told %d %v %s", role, rec.Code, rec.Header(), rec.Body)
		}
		if rec := h.do(request{method: "DELETE", path: "/v1/apps/app1", role: "admin"}); rec.Code != 204 {
			t.Fatalf("delete = %d", rec.Code)
		}
	}
}

// slowResync holds a resync of named tenants until it may go on.
type slowResync struct {
	*world
	entered, leave chan struct{}
}

func (s slowResync) Resync(_ context.Context, _ partner.ClientID, ts []tenant.ID) (int, error) {
	s.entered <- struct{}{}
	<-s.leave
	return len(ts), nil
}

func (slowResync) ResyncAll(context.Context, registry.AppRecord, registry.Actor) (string, int64, error) {
	return "", 0, &jobs.TooSoonError{Wait: 42 * time.Second}
}

// TestResyncsOfNamedTenantsComeOneByOne: of 200 calls at once one runs, and the tenants per minute are limited.
func TestResyncsOfNamedTenantsComeOneByOne(t *testing.T) {
	t.Parallel()
	var slow slowResync
	h := newHarness(t, func(d *deps) {
		slow = slowResync{d.Resyncer.(*world), make(chan struct{}, 200), make(chan struct{})}
		d.Resyncer = slow
	}).withApp(t)
	body := `{"tenants":["Cust0"` + strings.Repeat(`,"Cust1"`, 9_999) + `]}`
	call := func(body string) *httptest.ResponseRecorder {
		return h.answer(request{method: "POST", path: "/v1/apps/app1/resync", role: "operator", body: body})
	}
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- call(body) }()
	<-slow.entered
	var others sync.WaitGroup
	for range 199 {
		others.Go(func() {
			if rec := call(`{"tenants":["Cust0"]}`); rec.Code != 429 || !strings.Contains(rec.Body.String(), "one at a time") {
				t.Errorf("meanwhile = %d %s", rec.Code, rec.Body)
			}
		})
	}
	others.Wait()
	close(slow.leave)
	if rec := <-first; rec.Code != http.StatusAccepted {
		t.Fatalf("the first = %d %s", rec.Code, rec.Body)
	}
	if rec := call(`{"tenants":["Cust0"]}`); rec.Code != 429 || rec.Header().Get("Retry-After") != "55" {
		t.Errorf("after 10,000 tenants = %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	h.advance(time.Minute)
	if rec := call(`{"tenants":["Cust0"]}`); rec.Code != http.StatusAccepted {
		t.Errorf("a minute later = %d %s", rec.Code, rec.Body)
	}
	rec := h.do(request{method: "POST", path: "/v1/apps/app1/resync", role: "partner:app1"})
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "42" {
		t.Errorf("of all too soon = %d %v", rec.Code, rec.Header())
	}
}

// revoking is a caller of an export whose token ends while it reads.
type revoking struct {
	*httptest.ResponseRecorder
	pages  int
	revoke func()
}

func (r *revoking) Write(b []byte) (int, error) {
	if r.pages++; r.pages == 2 {
		r.revoke()
	}
	return r.ResponseRecorder.Write(b)
}

// TestExportEndsWithItsToken: after a revocation one page at most leaves, and the answer is not complete.
func TestExportEndsWithItsToken(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := &revoking{ResponseRecorder: httptest.NewRecorder()}
	w.revoke = func() {
		defer h.lock()()
		hash := httpapi.HashToken(tokenOf("admin"))
		token := h.tokens[hash]
		token.RevokedAt = start
		h.tokens[hash] = token
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			t.Errorf("the answer ends with %v", v)
		}
		if w.pages != 2 {
			t.Errorf("%d pages left", w.pages)
		}
	}()
	h.handler.ServeHTTP(w, request{method: "GET", path: "/v1/audit/export?subject=endless", role: "admin"}.make())
}
