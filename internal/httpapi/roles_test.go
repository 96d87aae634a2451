package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// sample is a request that each operation accepts, by operation.
func sample(id string) request {
	switch id {
	case "putApp":
		return request{body: appBody}
	case "patchApp":
		return request{body: `{}`}
	case "putEndpoint", "patchEndpoint":
		return request{body: `{"url":"https://partner.example/hook","enabled":true}`}
	case "putApprovals":
		return request{body: "{\"tenant\":\"Cust1\"}\n", contentType: "application/x-ndjson"}
	case "putTenantStatus":
		return request{body: `{"state":"Running"}`}
	case "postErrorReports":
		return request{body: `{"tenant":"Cust1","reason":"timeout"}`}
	case "postStateChanges":
		return request{body: `{"tenant":"Cust1","change_type":"suspend"}`}
	case "createToken":
		return request{body: `{"name":"Kim","role":"operator"}`}
	default:
		return request{}
	}
}

func pathOf(op httpapi.Operation) string {
	id := "chg_Cust12345_1795449600000"
	switch {
	case op.ID == "closeIncident":
		id = "inc_app1_smi2xk0"
	case strings.HasPrefix(op.Pattern, "/v1/jobs"):
		id = "job_app1_resync_1000"
	case strings.HasPrefix(op.Pattern, "/v1/tokens"):
		id = "spare"
	}
	endpoint := "state_change"
	if op.ID == "postErrorReports" {
		endpoint = "erp_sync"
	}
	return strings.NewReplacer("{client_id}", "app1", "{tenant}", "Cust1", "{endpoint}", endpoint, "{id}", id).Replace(op.Pattern)
}

// TestEveryOperationForEveryRole calls each operation as each role, as a partner of another app,
// and as nobody.
func TestEveryOperationForEveryRole(t *testing.T) {
	t.Parallel()
	ops := newHarness(t).api.Operations()
	if len(ops) < 25 {
		t.Fatalf("only %d operations", len(ops))
	}
	roles := []string{"", "platform", "partner:app1", "partner:other", "operator", "admin"}
	t.Logf("%d operations x %d roles: %d pairs", len(ops), len(roles), len(ops)*len(roles))
	for _, op := range ops {
		for _, role := range roles {
			t.Run(op.ID+"/"+role, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t).withERP(t)
				h.want(t, http.StatusOK, request{method: "PUT", path: "/v1/tenants/Cust1/status", role: "admin", body: `{"state":"Running"}`})
				h.approvals["app1"] = []tenant.ID{"Cust1"}
				r := sample(op.ID)
				r.method, r.path, r.role = op.Method, pathOf(op), role
				got := h.do(r).Code
				if want := expected(t, op, role); !slices.Contains(want, got) {
					t.Errorf("%s %s as %q = %d, want one of %v", r.method, r.path, role, got, want)
				}
			})
		}
	}
}

// expected says what a role must get, from the design's table and not from the routes.
func expected(t *testing.T, op httpapi.Operation, role string) []int {
	t.Helper()
	public := strings.HasPrefix(op.Pattern, "/api/") || strings.HasPrefix(op.Pattern, "/mail/") || strings.HasPrefix(op.Pattern, "/login/") ||
		op.Pattern == "/v1/openapi.json" || op.Pattern == "/docs"
	switch {
	case public:
		return op.Success
	case role == "":
		return []int{http.StatusUnauthorized}
	}
	may := map[string][]string{
		"platform": {
			"listApps", "getApp", "getEndpoint", "listApprovals", "getApproval", "putApprovals", "putApproval", "deleteApproval",
			"getTenant", "putTenantStatus", "postStateChanges", "getStateChange", "getConfig", "postErrorReports",
		},
		"partner": {
			"listApps", "getApp", "getEndpoint", "putApp", "patchApp", "putEndpoint", "patchEndpoint", "testEndpoint", "resync",
			"pause", "resume", "rotateSecret", "getMailbox", "why", "listDeliveries", "listIncidents", "listAudit", "exportAudit",
			"listJobs", "getJob", "cancelJob",
		},
	}
	kind, app, _ := strings.Cut(role, ":")
	if kind == "operator" && (strings.HasPrefix(op.Pattern, "/v1/tokens") || op.ID == "reencryptSecrets" || op.ID == "acceptStore") {
		return []int{http.StatusForbidden}
	}
	list, limited := may[kind]
	if limited && !slices.Contains(list, op.ID) || app == "other" && strings.Contains(op.Pattern, "{client_id}") {
		return []int{http.StatusForbidden}
	}
	if app == "other" && strings.HasPrefix(op.Pattern, "/v1/jobs/") { // it is another's, and so is not there
		return []int{http.StatusNotFound}
	}
	return op.Success
}

func TestPartnersAndOperatorsChangeOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	const app = "/v1/apps/app1"
	for _, test := range []struct {
		name, role, method, body string
		want                     int
		pointers                 []string
	}{
		{"PartnerContact", "partner:app1", "PATCH", `{"technical_contact":{"email":"a@example.com"},"error_emails":["b@example.com"]}`, 200, nil},
		{"PartnerName", "partner:app1", "PATCH", `{"name":"Mine","token_algorithm":"ES256","probe_tenant":"Cust1","required_licenses":["custom_apps"]}`, 403, []string{"/name", "/required_licenses", "/token_algorithm", "/probe_tenant"}},
		{"PartnerLicence", "partner:app1", "PATCH", `{"granted_licenses":["custom_apps"]}`, 403, []string{"/granted_licenses"}},
		{"OperatorName", "operator", "PATCH", `{"name":"Other"}`, 200, nil},
		{"OperatorLicence", "operator", "PATCH", `{"granted_licenses":[]}`, 403, []string{"/granted_licenses"}},
		{"OperatorSameLicences", "operator", "PATCH", `{"granted_licenses":["database_mirroring","integration_server"]}`, 200, nil},
		{"OperatorPutKeepsLicences", "operator", "PUT", appBody, 200, nil},
		{"AdminLicence", "admin", "PATCH", `{"granted_licenses":["custom_apps"]}`, 200, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t).withApp(t)
			h.want(t, 200, request{method: "PATCH", path: app, role: "admin", body: `{"granted_licenses":["integration_server","database_mirroring"]}`})
			got := h.want(t, test.want, request{method: test.method, path: app, role: test.role, body: test.body})
			if !slices.Equal(pointers(got), test.pointers) {
				t.Errorf("pointers %v, want %v", pointers(got), test.pointers)
			}
			if test.role != "admin" && len(h.apps["app1"].App.GrantedLicenses) != 2 {
				t.Errorf("granted licences = %v", h.apps["app1"].App.GrantedLicenses)
			}
		})
	}
	h := newHarness(t)
	h.want(t, http.StatusForbidden, request{method: "PUT", path: app, role: "partner:app1", body: appBody})
	h.want(t, http.StatusForbidden, request{method: "PUT", path: app, role: "operator", body: `{"name":"A","granted_licenses":["custom_apps"]}`})
}

func TestParseRole(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"platform", "partner:app.1", "operator", "admin"} {
		if r, err := httpapi.ParseRole(s); err != nil || r.String() != s {
			t.Errorf("ParseRole(%q) = %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "Admin", "admin:x", "partner", "partner:", "partner:{x}", "root"} {
		if r, err := httpapi.ParseRole(s); err == nil {
			t.Errorf("ParseRole(%q) = %v, want an error", s, r)
		}
	}
}
