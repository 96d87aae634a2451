package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestCaches: what holds a secret, and what went wrong, is stored nowhere; what has an ETag to ask with may
// be kept by its caller; what everybody may know says for how long.
func TestCaches(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const (
		never, own  = "no-store", "private, no-cache"
		ask, public = "no-cache", "public, max-age=300"
	)
	h.statuses["Cust1"] = tenant.Status{Tenant: "Cust1", State: tenant.Running}
	h.approvals["app1"] = []tenant.ID{"Cust1"}
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "/v1/apps/app1", appBody, 201, never},
		{"GET", "/v1/apps/app1", "", 200, own},
		{"GET", "/v1/apps", "", 200, own},
		{"GET", "/v1/apps/app1/approvals/Cust1", "", 200, own},
		{"GET", "/v1/apps/app1/endpoints/erp_sync", "", 200, never},
		{"GET", "/v1/apps/app1/mailbox", "", 200, never},
		{"POST", "/v1/apps/app1/secrets", "{}", 200, never},
		{"POST", "/v1/tokens", `{"name":"Kim","role":"operator"}`, 201, never},
		{"GET", "/v1/apps/nobody", "", 404, never},
		{"GET", "/nowhere", "", 404, never},
		{"GET", "/v1/apps?cursor=x", "", 400, never},
		{"PUT", "/v1/apps/app1/approvals/Cust1", "", 204, never},
		{"GET", "/api/state/Cust1", "", 200, ask},
		{"GET", "/api/state/Cust2", "", 404, ask},
		{"GET", "/v1/openapi.json", "", 200, ask},
		{"GET", "/login/.well-known/jwks", "", 200, public},
	} {
		rec := h.do(request{method: test.method, path: test.path, body: test.body, role: "admin"})
		if got := rec.Header().Get("Cache-Control"); rec.Code != test.status || got != test.want {
			t.Errorf("%s %s = %d, %q; want %d, %q", test.method, test.path, rec.Code, got, test.status, test.want)
		}
		if tag := rec.Header().Get("ETag"); test.method == http.MethodGet && strings.Contains(test.want, "no-cache") && rec.Code == 200 {
			again := h.do(request{method: test.method, path: test.path, role: "admin", header: map[string]string{"If-None-Match": tag}})
			if again.Code != http.StatusNotModified || again.Header().Get("Cache-Control") != test.want || again.Header().Get("ETag") != tag {
				t.Errorf("%s asked again = %d %v", test.path, again.Code, again.Header())
			}
		}
	}
}
