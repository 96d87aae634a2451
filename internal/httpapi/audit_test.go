package httpapi_test

import (
	"strings"
	"testing"
)

// TestAcceptedChangesAreAudited: each that was accepted, once, with its actor and request, and none
// that was refused or repeated.
func TestAcceptedChangesAreAudited(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	one := keyed(request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"move","public_endpoint":"online7.example"}`}, "k")
	one.header["X-Request-Id"] = "req-7"
	id := h.want(t, 202, one)["id"].(string)
	h.want(t, 202, one)
	h.want(t, 422, request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"explode"}`})
	h.post(t, "k2", "{\"tenant\":\"Cust2\",\"change_type\":\"suspend\"}\n{\"tenant\":\"Cust2\",\"change_type\":\"explode\"}\n{\"tenant\":\"Cust3\",\"change_type\":\"resume\"}\n")

	items := h.want(t, 200, request{method: "GET", path: "/v1/audit?of=changes", role: "operator"})["items"].([]any)
	if len(items) != 3 {
		t.Fatalf("%d entries: %v", len(items), items)
	}
	oldest := items[2].(map[string]any)
	after, _ := oldest["after"].(map[string]any)
	if oldest["actor"] != "platform token" || oldest["role"] != "platform" || oldest["request_id"] != "req-7" || oldest["action"] != "change.accept" ||
		oldest["subject"] != "Cust1" || after["id"] != id || after["change_type"] != "move" || after["public_endpoint"] != "online7.example" {
		t.Errorf("audited %v", oldest)
	}
	if got := h.want(t, 200, request{method: "GET", path: "/v1/audit?of=changes&subject=Cust3", role: "operator"})["items"].([]any); len(got) != 1 {
		t.Errorf("of one tenant: %v", got)
	}
	if rec := h.do(request{method: "GET", path: "/v1/audit/export?of=changes", role: "admin"}); rec.Code != 200 || strings.Count(rec.Body.String(), "\n") != 3 {
		t.Errorf("export = %d %s", rec.Code, rec.Body)
	}
	if got := h.want(t, 200, request{method: "GET", path: "/v1/audit", role: "operator"})["items"].([]any); len(got) != 0 {
		t.Errorf("among the others: %v", got)
	}
	h.want(t, 403, request{method: "GET", path: "/v1/audit?of=changes", role: "partner:app1"})
	h.want(t, 422, request{method: "GET", path: "/v1/audit?of=everything", role: "admin"})
	h.want(t, 422, request{method: "GET", path: "/v1/audit?of=changes&client_id=app1", role: "admin"})
}

// TestChangesStandWithoutAudit: what was accepted is answered so, and the log has what the audit
// lacks.
func TestChangesStandWithoutAudit(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.auditErr = errDown
	h.want(t, 202, request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"suspend"}`})
	if !strings.Contains(h.log.String(), "not in the audit") || !strings.Contains(h.log.String(), "chg_Cust1_") {
		t.Error("nobody is told what the audit lacks")
	}
}
