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

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Report remembers reports; lines of a key come once.
func (w *world) Report(_ context.Context, app partner.ClientID, kind partner.EndpointKind, key string, reports []registry.Report) ([]bool, error) {
	defer w.lock()()
	if w.down != nil {
		return nil, w.down
	}
	out := make([]bool, len(reports))
	for i, r := range reports {
		id := fmt.Sprintf("%s %s %s %d", app, kind, key, r.Line)
		if out[i] = key != "" && w.reportedLines[id]; out[i] {
			continue
		}
		w.reportedLines[id] = true
		w.reports = append(w.reports, r)
	}
	return out, nil
}

const reportsPath = "/v1/apps/app1/endpoints/erp_sync/error-reports"

func (h *harness) withERP(t *testing.T) *harness {
	t.Helper()
	h.withApp(t)
	h.want(t, 200, request{method: "PUT", path: "/v1/apps/app1/endpoints/erp_sync", role: "operator", body: `{"url":"https://erp.example/","enabled":true}`})
	return h
}

func TestErrorReport(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withERP(t)
	post := request{
		method: "POST", path: reportsPath, role: "platform", header: map[string]string{"Idempotency-Key": "k"},
		body: `{"tenant":"Cust12345","occurred_at":"2026-11-24T10:15:00Z","status":503,"reason":"server_error","excerpt":"Authorization: Bearer hunter2hunter2 failed"}`,
	}
	if got := h.want(t, 202, post); got["replayed"] != false {
		t.Errorf("first: %v", got)
	}
	if got := h.want(t, 202, post); got["replayed"] != true {
		t.Errorf("repeated: %v", got)
	}
	other := post
	other.body = `{"tenant":"Cust12345","reason":"timeout"}`
	h.want(t, 409, other)
	ok := request{method: "POST", path: reportsPath, role: "operator", body: `{"tenant":"Cust12345","outcome":"succeeded"}`}
	h.want(t, 202, ok)
	if len(h.reports) != 2 || h.reports[1].Failure != nil || h.reports[1].Tenant != "Cust12345" {
		t.Fatalf("reports %+v", h.reports)
	}
	f := *h.reports[0].Failure
	if strings.Contains(f.Excerpt, "hunter2") {
		t.Errorf("the excerpt is not redacted: %q", f.Excerpt)
	}
	f.Excerpt = ""
	if d := cmp.Diff(incident.Failure{Reason: delivery.ReasonServerError, Status: 503, Source: incident.SourceReport, OccurredAt: time.Date(2026, 11, 24, 10, 15, 0, 0, time.UTC)}, f); d != "" {
		t.Errorf("failure (-want +got):\n%s", d)
	}
}

func TestErrorReportLines(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withERP(t)
	body := `{"tenant":"Cust1","reason":"timeout"}` + "\n\n" + `{"tenant":"Cust 2","reason":"timeout"}` + "\nx\n" + `{"tenant":"Cust3","outcome":"succeeded"}` + "\n"
	post := func(body string) (statuses []int, replayed []bool) {
		t.Helper()
		rec := h.do(request{
			method: "POST", path: reportsPath, role: "platform", body: body, contentType: "application/x-ndjson",
			header: map[string]string{"Idempotency-Key": "k"},
		})
		for line := range strings.Lines(rec.Body.String()) {
			var a struct {
				Status   int
				Replayed bool
			}
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatal(err)
			}
			statuses, replayed = append(statuses, a.Status), append(replayed, a.Replayed)
		}
		return statuses, replayed
	}
	if got, _ := post(body); !slices.Equal(got, []int{202, 422, 422, 202}) {
		t.Errorf("answered %v", got)
	}
	got, replayed := post(strings.Replace(body, "Cust 2", "Cust2", 1))
	if !slices.Equal(got, []int{202, 202, 422, 202}) || !slices.Equal(replayed, []bool{true, false, false, true}) {
		t.Errorf("repeated and put right: %v, replayed %v", got, replayed)
	}
	if got, _ := post(strings.Replace(body, "Cust1", "Cust9", 1)); got[0] != 409 {
		t.Errorf("another body under the key: %v", got)
	}
	if len(h.reports) != 3 {
		t.Errorf("%d reports, want 3", len(h.reports))
	}
}

func TestBadErrorReports(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withERP(t)
	for name, tc := range map[string]struct {
		body string
		want []string
	}{
		"Empty":           {`{}`, []string{"/tenant", "/reason"}},
		"BadTenant":       {`{"tenant":"a b","reason":"timeout"}`, []string{"/tenant"}},
		"UnknownReason":   {`{"tenant":"a","reason":"weather"}`, []string{"/reason"}},
		"NoReason":        {`{"tenant":"a","reason":"none"}`, []string{"/reason"}},
		"OwnFault":        {`{"tenant":"a","reason":"own_fault"}`, []string{"/reason"}},
		"Status":          {`{"tenant":"a","reason":"timeout","status":600}`, []string{"/status"}},
		"LowStatus":       {`{"tenant":"a","reason":"timeout","status":7}`, []string{"/status"}},
		"TextStatus":      {`{"tenant":"a","reason":"timeout","status":"503"}`, []string{"/status"}},
		"Time":            {`{"tenant":"a","reason":"timeout","occurred_at":"yesterday"}`, []string{"/occurred_at"}},
		"LongExcerpt":     {`{"tenant":"a","reason":"timeout","excerpt":"` + strings.Repeat("x", 2001) + `"}`, []string{"/excerpt"}},
		"Unknown":         {`{"tenant":"a","reason":"timeout","count":7}`, []string{"/count"}},
		"Outcome":         {`{"tenant":"a","reason":"timeout","outcome":"so-so"}`, []string{"/outcome"}},
		"SuccessWithMore": {`{"tenant":"a","outcome":"succeeded","reason":"timeout","status":200}`, []string{"/reason", "/status"}},
		"Array":           {`[]`, []string{"", "/tenant", "/reason"}},
	} {
		p := h.want(t, 422, request{method: "POST", path: reportsPath, role: "platform", body: tc.body})
		if !slices.Equal(pointers(p), tc.want) {
			t.Errorf("%s: %v, want %v", name, p["errors"], tc.want)
		}
	}
	good := `{"tenant":"a","reason":"timeout"}`
	for _, tc := range []struct {
		path, role string
		status     int
	}{
		{"/v1/apps/nobody/endpoints/erp_sync/error-reports", "platform", 404},
		{"/v1/apps/app1/endpoints/fax/error-reports", "platform", 422},
		{"/v1/apps/app1/endpoints/state_change/error-reports", "platform", 422},
		{"/v1/apps/app1/endpoints/mirroring/error-reports", "platform", 422}, // no URL
		{reportsPath, "partner:app1", http.StatusForbidden},
		{reportsPath, "", http.StatusUnauthorized},
	} {
		h.want(t, tc.status, request{method: "POST", path: tc.path, role: tc.role, body: good})
	}
	if len(h.reports) != 0 {
		t.Errorf("%d reports were taken", len(h.reports))
	}
}
