package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// innerText stands for all that strangers may not read; it is in every text that a failure leaves.
const innerText = "INNER dial tcp 10.1.2.3:443 db7.internal.corp"

// operatorDetail is a world in which everything failed for a reason, and left a text.
type operatorDetail struct {
	*world

	reason string
}

func (w operatorDetail) attempt() delivery.Attempt {
	outcome := delivery.Retryable
	if w.reason == "blocked_address" {
		outcome = delivery.Blocked
	}
	return delivery.Attempt{
		At: start, ClientID: "app1", Tenant: "Cust1", ChangeID: "chg_Cust1_1", WebhookID: "chg_Cust1_1", ChangeType: "suspend", Sequence: 1, Number: 1,
		Outcome: outcome.String(), Reason: w.reason, Detail: innerText, Excerpt: innerText,
	}
}

func (w operatorDetail) Attempts(context.Context, partner.ClientID, registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error) {
	return []delivery.Attempt{w.attempt()}, "", nil
}

func (w operatorDetail) Explain(_ context.Context, app partner.ClientID, t tenant.ID) (intake.Explanation, error) {
	reason, _ := delivery.ParseReason(w.reason)
	return intake.Explanation{
		ClientID: app, Tenant: t, Cause: intake.CircuitOpen, Known: true, Approved: true, Attempts: []delivery.Attempt{w.attempt()}, Breaker: "open", Now: start,
		Waiting: []intake.WaitingChange{{ChangeID: "chg_Cust1_1", Type: tenant.Suspend, Since: start, Attempts: 1, Reason: reason, LastAttempt: start}},
	}, nil
}

func (w operatorDetail) EndpointHealth(_ context.Context, app *partner.App, k partner.EndpointKind) (health.Assessment, error) {
	return health.Assess(health.Subject{
		Kind: k, Endpoint: app.Endpoints[k], Environment: partner.Online, FailingSince: start, FailingCause: told.FindCause(w.reason), FailingDetail: innerText,
	}), nil
}

func (w operatorDetail) result() health.TestResult {
	return health.TestResult{State: health.StatusFailing, Cause: told.FindCause(w.reason), Detail: innerText, Duration: time.Millisecond}
}

func (w operatorDetail) Test(context.Context, partner.ClientID, partner.EndpointKind) (health.TestResult, error) {
	return w.result(), nil
}

func (w operatorDetail) TestSettings(context.Context, partner.App, partner.EndpointKind) (health.TestResult, error) {
	return w.result(), nil
}

func (w operatorDetail) ListIncidents(context.Context, incidents.Query) ([]incidents.Incident, string, error) {
	return []incidents.Incident{{
		ID: "inc_app1_smi2xk0", ClientID: "app1", State: "open", Cause: told.FindCause(w.reason), Detail: innerText, OpenedAt: start,
	}}, "", nil
}

func (w operatorDetail) AuditEntries(context.Context, registry.AuditQuery) ([]registry.AuditEntry, string, error) {
	note := fmt.Sprintf(`{"endpoint":"erp_sync","enabled":true,"forced":true,"probe":{"outcome":"failing","reason":%q,"detail":%q,"duration_ms":1}}`, w.reason, innerText)
	return []registry.AuditEntry{{
		ID: "1-0", At: start, Actor: "a", Role: "operator", Action: apps.ActionSwitchedOn, Subject: "app1", Before: `{"endpoint":"erp_sync","enabled":false}`, After: note,
	}, {
		ID: "1-1", At: start, Actor: "a", Role: "operator", Action: apps.ActionMoved, Subject: "app1", After: innerText,
	}}, "", nil
}

func failingWith(t *testing.T, reason string) *harness {
	t.Helper()
	return newHarness(t, func(d *deps) {
		w, _ := d.Apps.(*world)
		i := operatorDetail{w, reason}
		d.Deliveries, d.Explainer, d.HealthReader, d.Tester, d.Incidents, d.Audit, d.writes.Prober = i, i, i, i, i, i, i
	})
}

// partnersAsk are the answers in which a partner reads of failures, by operation.
func partnersAsk() map[string]request {
	return map[string]request{
		"listDeliveries": {method: "GET", path: "/v1/apps/app1/deliveries"},
		"why":            {method: "GET", path: "/v1/apps/app1/tenants/Cust1/why"},
		"getEndpoint":    {method: "GET", path: "/v1/apps/app1/endpoints/state_change"},
		"testEndpoint":   {method: "POST", path: "/v1/apps/app1/endpoints/state_change/test"},
		"listIncidents":  {method: "GET", path: "/v1/incidents"},
		"listAudit":      {method: "GET", path: "/v1/audit"},
		"exportAudit":    {method: "GET", path: "/v1/audit/export"},
		"patchEndpoint":  {method: "PATCH", path: "/v1/apps/app1/endpoints/erp_sync", body: `{"url":"https://erp.example/","enabled":true}`},
		"putEndpoint":    {method: "PUT", path: "/v1/apps/app1/endpoints/erp_sync", body: `{"url":"https://erp.example/","enabled":true}`},
		"patchApp":       {method: "PATCH", path: "/v1/apps/app1", body: `{"endpoints":{"erp_sync":{"url":"https://erp.example/","enabled":true}}}`},
		"putApp":         {method: "PUT", path: "/v1/apps/app1", body: `{"name":"Awesome App","endpoints":{"erp_sync":{"url":"https://erp.example/","enabled":true}}}`},
		"getApp":         {method: "GET", path: "/v1/apps/app1"},
		"listApps":       {method: "GET", path: "/v1/apps"},
		"getMailbox":     {method: "GET", path: "/v1/apps/app1/mailbox"},
		"pause":          {method: "POST", path: "/v1/apps/app1/pause"},
		"resume":         {method: "POST", path: "/v1/apps/app1/resume"},
		"rotateSecret":   {method: "POST", path: "/v1/apps/app1/secrets"},
		"resync":         {method: "POST", path: "/v1/apps/app1/resync"},
		"listJobs":       {method: "GET", path: "/v1/jobs"},
		"getJob":         {method: "GET", path: "/v1/jobs/job_app1_resync_1"},
		"cancelJob":      {method: "DELETE", path: "/v1/jobs/job_app1_resync_1"},
	}
}

// TestPartnersReadReasonsAlone: whatever fails how, no answer to a partner holds the text that it left, be it an answer of today's or what an
// older version wrote down.
func TestPartnersReadReasonsAlone(t *testing.T) {
	t.Parallel()
	for _, op := range newHarness(t).api.Operations() {
		if _, asked := partnersAsk()[op.ID]; !asked && slices.Contains(op.Roles, httpapi.Partner) {
			t.Errorf("%s is a partner's, and not asked here", op.ID)
		}
	}
	reasons := []string{"a word of another version: " + innerText}
	for _, c := range told.AllCauses() {
		reasons = append(reasons, c.String())
	}
	for _, reason := range reasons {
		h := failingWith(t, reason).withApp(t)
		for op, r := range partnersAsk() {
			for _, role := range []string{"partner:app1", "platform"} {
				r.role = role
				if rec := h.answer(r); strings.Contains(rec.Body.String(), "INNER") || role != "platform" && rec.Code == http.StatusForbidden {
					t.Errorf("%s reads %d of %s, which failed with %s: %s", role, rec.Code, op, reason, rec.Body)
				}
			}
		}
	}
}

// TestOperatorsReadIt: operators and admins are shown the text, beside the exact reason.
func TestOperatorsReadIt(t *testing.T) {
	t.Parallel()
	h := failingWith(t, "blocked_address").withApp(t)
	for _, op := range []string{"listDeliveries", "why", "getEndpoint", "testEndpoint", "listIncidents", "listAudit", "exportAudit", "patchEndpoint"} {
		for _, role := range []string{"operator", "admin"} {
			r := partnersAsk()[op]
			r.role = role
			if text := h.do(r).Body.String(); !strings.Contains(text, "INNER") || op != "patchEndpoint" && !strings.Contains(text, "blocked_address") {
				t.Errorf("%s reads of %s: %s", role, op, text)
			}
		}
	}
}

// TestNamesInsideAreNotTold: in no answer can a partner tell a name that does not exist from one that leads inside.
func TestNamesInsideAreNotTold(t *testing.T) {
	t.Parallel()
	missing, inside := failingWith(t, "dns").withApp(t), failingWith(t, "blocked_address").withApp(t)
	for op, r := range partnersAsk() {
		r.role = "partner:app1"
		a, b := missing.do(r), inside.do(r)
		if a.Code != b.Code || a.Body.String() != b.Body.String() {
			t.Errorf("%s: one reads %s\nthe other %s", op, a.Body, b.Body)
		}
		if strings.Contains(a.Body.String(), `"dns"`) {
			t.Errorf("%s: %s", op, a.Body)
		}
	}
	text := missing.do(request{method: "GET", path: "/v1/incidents", role: "partner:app1"}).Body.String()
	if !strings.Contains(text, `"reason":"unreachable_name"`) || !strings.Contains(text, `"advice":"Check the host name`) {
		t.Errorf("no reason or advice: %s", text)
	}
}

func setURL(role, url string) request {
	body, err := json.Marshal(map[string]string{"url": url})
	if err != nil {
		panic(err)
	}
	return request{method: "PATCH", path: "/v1/apps/app1/endpoints/state_change", role: role, body: string(body)}
}

// TestSettingAURLIsNoOracle: a partner is told one thing of a name that does not exist and of one that leads inside. An operator
// may prepare the first.
func TestSettingAURLIsNoOracle(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	var answers []string
	for _, url := range []string{"https://db7.inside.example/", "https://x.unknown.example/", "https://10.1.2.3/", "https://127.0.0.1/", "https://localhost/", "https://[fd00:ec2::254]/"} {
		p := h.want(t, http.StatusUnprocessableEntity, setURL("partner:app1", url))
		delete(p, "request_id")
		answers = append(answers, fmt.Sprint(p))
	}
	if slices.Sort(answers); answers[0] != answers[len(answers)-1] {
		t.Errorf("the answers differ: %q", answers)
	}
	h.want(t, http.StatusOK, setURL("partner:app1", "https://x.silent.example/"))
	if p := h.want(t, http.StatusUnprocessableEntity, setURL("operator", "https://db7.inside.example/")); !strings.Contains(fmt.Sprint(p), "private network") {
		t.Errorf("an operator is told %v", p)
	}
	if p := h.want(t, http.StatusOK, setURL("operator", "https://x.unknown.example/")); !strings.Contains(fmt.Sprint(p["warnings"]), "does not resolve yet") {
		t.Errorf("an operator who prepares a URL is told %v", p)
	}
	for _, url := range []string{"http://partner.example/", "https://u:p@partner.example/", "https://partner.example:22/", "https://redis/", "https://redis./"} {
		p := h.want(t, http.StatusUnprocessableEntity, setURL("partner:app1", url))
		if text := fmt.Sprint(p["errors"]); strings.Contains(text, "does not exist") {
			t.Errorf("of the text %s a partner is told %s", url, text)
		}
	}
}

// TestLookUpsAreFew: 20 names at once, then one a second, for all tokens of an app's partner together; operators are not bounded. A write of
// several names is done or not done as a whole, and a name in it twice is one.
func TestLookUpsAreFew(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	asked := func() int {
		defer h.lock()()
		return len(h.lookedUp)
	}
	before := asked()
	for n := range 10 { // of two names each, since writes are counted too
		h.want(t, http.StatusOK, request{
			method: "PATCH", path: "/v1/apps/app1/endpoints/state_change", role: "partner:app1",
			body: fmt.Sprintf(`{"url":"https://n%d.example/","urls":{"sod":"https://m%d.example/"}}`, n, n),
		})
	}
	rec := h.do(setURL("partner:app1", "https://n20.example/"))
	if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "1" || asked() != before+20 {
		t.Fatalf("the 21st name: %d, Retry-After %q, %d names asked for: %s", rec.Code, rec.Header().Get("Retry-After"), asked()-before, rec.Body)
	}
	for _, free := range []request{setURL("operator", "https://o.example/"), setURL("partner:app1", "https://8.8.8.8/"), setURL("partner:app1", "https://8.8.8.8/hook")} {
		h.want(t, http.StatusOK, free)
	}
	h.advance(2 * time.Second)
	two := request{
		method: "PATCH", path: "/v1/apps/app1/endpoints/state_change", role: "partner:app1",
		body: `{"url":"https://a.example/","urls":{"sod":"https://a.example/sod","stage":"https://b.example/","online":"https://c.example/"}}`,
	}
	if rec := h.do(two); rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "1" {
		t.Fatalf("three names after two seconds: %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	h.advance(time.Second)
	h.want(t, http.StatusOK, two)
	if rec := h.do(setURL("partner:app1", "https://d.example/")); rec.Code != http.StatusTooManyRequests {
		t.Errorf("one more name: %d", rec.Code)
	}
}

// TestShortKeysAreRefused: a URL whose server has a certificate with a short RSA key is not set.
func TestShortKeysAreRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for _, role := range []string{"partner:app1", "operator"} {
		p := h.want(t, http.StatusUnprocessableEntity, setURL(role, "https://x.short.example/"))
		if text := fmt.Sprint(p["errors"]); !strings.Contains(text, "RSA key") || !slices.Equal(pointers(p), []string{"/url"}) {
			t.Errorf("%s is told %s", role, text)
		}
	}
}
