package httpapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestIDsWithEveryByte asks for state changes, tenants, apps and tokens by names that hold each byte
// there is, and by ids of changes that are all but right: nothing fails, and a state change that
// cannot be one is not found, without its name in the answer.
func TestIDsWithEveryByte(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	var names []string
	for b := range 256 {
		names = append(names, "hunter2"+string([]byte{byte(b)}), string([]byte{byte(b)})+"hunter2")
	}
	names = append(names,
		"chg_", "chg__1", "chg_hunter2", "chg_hunter2_", "chg_hunter2_0", "chg_hunter2_-1", "chg_hunter2_1e3", "chg_hunter2_0x10", "chg_hunter2_+5", "chg_hunter2_05",
		"chg_hunter2_99999999999999999999", "chg_hunter2_1_2", "CHG_hunter2_1", "chg_hunter2{config}_1", "chg_../hunter2_1", "chg_hunter2_1\x00", "chg_hunter2_\u0661",
		strings.Repeat("chg_hunter2_1", 5000), "chg_"+strings.Repeat("h", 65)+"_1",
	)
	requests := 0
	for _, name := range names {
		for _, path := range []string{"/v1/state-changes/%s", "/v1/tenants/%s", "/v1/apps/%s", "/v1/apps/app1/tenants/%s/why", "/v1/tokens/%s", "/api/state/%s"} {
			rec := h.answer(request{method: "GET", path: fmt.Sprintf(path, url.PathEscape(name)), role: "admin", from: fmt.Sprintf("[2001:db8:%x::1]:1", requests%5000)})
			requests++
			if rec.Code == 500 || rec.Code == 503 {
				t.Errorf("%s of %q = %d %s", path, name, rec.Code, rec.Body)
			}
			if path == "/v1/state-changes/%s" && strings.HasPrefix(name, "hunter2") && (rec.Code != 404 || strings.Contains(rec.Body.String(), "hunter2")) {
				t.Errorf("%q = %d %s", name, rec.Code, rec.Body)
			}
		}
	}
	t.Logf("%d requests", requests)
}
