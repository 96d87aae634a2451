package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestRotatingTwiceKeepsThePromise: a secret that was promised a day signs for a day, whatever
// replaces its successor meanwhile.
func TestRotatingTwiceKeepsThePromise(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	rotate := func(body string, want int) map[string]any {
		return h.want(t, want, request{method: "POST", path: "/v1/apps/app1/secrets", role: "partner:app1", body: body})
	}
	valid := func() (out []string) {
		s := h.secrets["app1"]
		out = append(out, s.Current.Reveal())
		for _, r := range s.Replaced {
			if r.Until.After(*h.now.Load()) {
				out = append(out, r.Secret.Reveal())
			}
		}
		return out
	}
	first := valid()[0]
	rotate(`{"grace_seconds":86400}`, 200)
	h.advance(time.Hour)
	rotate(`{"grace_seconds":60}`, 200)
	if got := valid(); len(got) != 3 || got[2] != first {
		t.Fatalf("%d secrets sign, want the current, its predecessor and the first", len(got))
	}
	rotate("", 200)
	full := rotate("", 422)
	if detail, _ := json.Marshal(full); pointers(full)[0] != "/end_replaced" || !strings.Contains(string(detail), "2026-11-24T11:16:30Z") {
		t.Errorf("a fourth: %s", detail)
	}
	h.advance(2 * time.Minute)
	if got := rotate("", 200); got["valid_secrets"] != 4.0 {
		t.Errorf("after the second ended: %v", got)
	}
	if got := rotate(`{"grace_seconds":0,"end_replaced":true}`, 200); got["valid_secrets"] != 1.0 || len(valid()) != 1 {
		t.Errorf("after a leak: %v, %d sign", got, len(valid()))
	}
	rotate(`{"end_replaced":1}`, 422)
}

func TestReencrypt(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if got := h.want(t, 200, request{method: "POST", path: "/v1/secrets/reencrypt", role: "admin"}); got["examined"] != 3.0 || got["resealed"] != 2.0 {
		t.Errorf("= %v", got)
	}
	h.want(t, 403, request{method: "POST", path: "/v1/secrets/reencrypt", role: "operator"})
}

func TestResyncIsAudited(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.want(t, 202, request{method: "POST", path: "/v1/apps/app1/resync", role: "partner:app1", body: `{"tenants":["Cust1"]}`})
	if len(h.audited) != 1 || h.audited[0].Action != "app.resync" || h.audited[0].After != `{"all":false,"tenants":1}` || h.audited[0].RequestID == "" {
		t.Errorf("audited %+v", h.audited)
	}
}

func TestAuditExport(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	rec := h.do(request{method: "GET", path: "/v1/audit/export", role: "operator"})
	if rec.Code != 200 || rec.Header().Get("Content-Type") != lines || strings.Count(rec.Body.String(), "\n") != 1 || !json.Valid(rec.Body.Bytes()) {
		t.Errorf("= %d %s", rec.Code, rec.Body)
	}
	h.want(t, 403, request{method: "GET", path: "/v1/audit/export?client_id=app1", role: "partner:other"})
}
