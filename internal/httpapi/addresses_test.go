package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// emails is the body of a write of an app's error emails.
func emails(addresses ...string) string {
	if len(addresses) == 0 {
		return `{"error_emails":[]}`
	}
	return `{"error_emails":["` + strings.Join(addresses, `","`) + `"]}`
}

// TestNewAddressesOfAPartnerAreCounted: ten in 24 h for an app, and an operator's do not count.
func TestNewAddressesOfAPartnerAreCounted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "operator", body: `{"name":"App"}`})
	patch := func(role, body string) request {
		return request{method: "PATCH", path: "/v1/apps/app1", role: role, body: body}
	}
	var ten []string
	for i := range 10 {
		ten = append(ten, fmt.Sprintf("kim%d@example.com", i))
	}
	h.want(t, 200, patch("partner:app1", emails(ten...)))
	before := h.apps["app1"].Revision
	for range 3 {
		rec := h.answer(patch("partner:app1", emails("lee@example.com")))
		if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "86400" {
			t.Fatalf("the eleventh: %d %v %s", rec.Code, rec.Header(), rec.Body)
		}
		if body := rec.Body.String(); !strings.Contains(body, "10 new addresses for an app in 24 h") || !strings.Contains(body, start.Add(24*time.Hour).Format(time.RFC3339)) || strings.Contains(body, "lee") {
			t.Errorf("it says %s", body)
		}
	}
	if now := h.apps["app1"]; now.Revision != before || len(now.App.ErrorEmails) != 10 {
		t.Errorf("a refused write left %+v", now)
	}
	h.want(t, 200, patch("partner:app1", emails()))
	answer := h.want(t, 200, patch("partner:app1", emails("kim3+again@example.com"))) // known, and nobody is asked again
	if text := fmt.Sprint(answer); !strings.Contains(text, "was asked on 2026-11-24") {
		t.Errorf("no warning in %s", text)
	}
	h.want(t, 200, patch("operator", emails("lee@example.com", "ada@example.com")))
	h.want(t, 429, patch("partner:app1", emails("bo@example.com")))
	later := start.Add(24 * time.Hour)
	h.now.Store(&later)
	h.want(t, 200, patch("partner:app1", emails("bo@example.com")))

	more := newHarness(t, func(d *deps) { d.writes.NewAddresses = 11 })
	more.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "operator", body: `{"name":"App"}`})
	more.want(t, 200, patch("partner:app1", emails(ten...)))
	more.want(t, 200, patch("partner:app1", emails("lee@example.com")))
	more.want(t, 429, patch("partner:app1", emails("ada@example.com")))
}

// TestAddressesAreJudgedWhenTheyAreSet: addresses are checked for every role; stored ones do not block writes of the rest.
func TestAddressesAreJudgedWhenTheyAreSet(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: `{"name":"App"}`})
	bad := []string{"root@localhost", "postmaster@internal.corp", "|cmd@x.example", "kіm@example.com"}
	for _, role := range []string{"partner:app1", "operator", "admin"} {
		for _, address := range bad {
			for _, body := range []string{emails(address), `{"technical_contact":{"email":"` + address + `"}}`} {
				rec := h.answer(request{method: "PATCH", path: "/v1/apps/app1", role: role, body: body})
				if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), `"detail":"m`) || strings.Contains(rec.Body.String(), address) {
					t.Errorf("%s sets %s: %d %s", role, body, rec.Code, rec.Body)
				}
			}
		}
	}
	rec := h.apps["app1"]
	rec.App.ErrorEmails, rec.App.TechnicalContact = bad, partner.Contact{Email: bad[0]}
	h.apps["app1"] = rec
	for _, role := range []string{"partner:app1", "admin"} {
		h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: role, body: `{"technical_contact":{"name":"Kim"}}`})
		h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: role, body: emails(bad[1:]...)})
	}
	h.want(t, 422, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: emails(bad[0] + "x")})
}
