package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// FuzzStateChange sends bytes as a state change. Whatever they are, the answer is one of a few
// statuses; what is accepted keeps the domain's rules and says what encoding/json reads in it.
func FuzzStateChange(f *testing.F) {
	for _, seed := range []string{
		`{"tenant":"Cust12345","change_type":"suspend"}`,
		`{"tenant":"Cust12345","change_type":"move","public_endpoint":"sod3.superoffice.com","version_name":"\ud83d\ude00","occurred_at":"2026-11-24T10:15:00+01:00"}`,
		`{"tenant":"a","tenant":"b","change_type":"delete"}`, `{"tenant":"\ud800"}`, `[[[[1]]]]`, `{"a":{"b":[null,1e400]}}`, "\xff", "", "{}{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h := newHarness(t)
		rec := h.do(request{method: "POST", path: "/v1/state-changes", role: "platform", body: string(body), contentType: "application/json"})
		if !slices.Contains([]int{202, 400, 413, 422}, rec.Code) {
			t.Fatalf("%q = %d: %s", body, rec.Code, rec.Body)
		}
		if (rec.Code == http.StatusAccepted) != (len(h.accepted) == 1) {
			t.Fatalf("%q = %d with %d accepted", body, rec.Code, len(h.accepted))
		}
		if len(h.accepted) == 0 {
			return
		}
		got := h.accepted[0]
		var plain struct {
			Tenant         string  `json:"tenant"`
			ChangeType     string  `json:"change_type"`
			PublicEndpoint string  `json:"public_endpoint"`
			VersionName    *string `json:"version_name"`
		}
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", body, err)
		}
		if _, err := tenant.ParseID(string(got.Tenant)); err != nil || plain.Tenant != string(got.Tenant) || plain.ChangeType != got.Type.String() {
			t.Errorf("%q became %+v", body, got)
		}
		if (got.Type == tenant.Move) != (got.PublicEndpoint != "") || plain.PublicEndpoint != got.PublicEndpoint {
			t.Errorf("%q became an endpoint %q", body, got.PublicEndpoint)
		}
		if plain.VersionName != nil && (*plain.VersionName != *got.VersionName || !utf8.ValidString(*got.VersionName)) {
			t.Errorf("%q became version %q", body, *got.VersionName)
		}
	})
}

// FuzzPatch applies arbitrary merge patches to an app: never a panic, never a fault of the
// service, and what is not accepted changes nothing.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`{"name":"B"}`, `{"endpoints":{"erp_sync":{"url":"https://erp.example/","urls":{"sod":null}}}}`, `{"technical_contact":null}`,
		`{"endpoints":[]}`, `null`, `{"error_emails":[null]}`, `{"name":{"a":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		h := newHarness(t)
		h.want(t, http.StatusCreated, request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: appBody})
		rec := h.do(request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: string(patch)})
		if !slices.Contains([]int{200, 400, 413, 422}, rec.Code) || (rec.Code == 200) != (h.revision == 2) {
			t.Fatalf("%q = %d at revision %d: %s", patch, rec.Code, h.revision, rec.Body)
		}
	})
}
