package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// TestListsArePaged: each operation with a limit takes one of 500 at most, and has a cursor and a next one, so that
// whatever a list holds can be read.
func TestListsArePaged(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct{ Maximum int }
			}
			Responses map[string]struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(h.api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	lists := 0
	for path, operations := range doc.Paths {
		get := operations["get"]
		bounds := map[string]int{}
		for _, p := range get.Parameters {
			bounds[p.Name] = p.Schema.Maximum
		}
		if _, list := bounds["limit"]; !list {
			continue
		}
		lists++
		_, paged := bounds["cursor"]
		schema := strings.TrimPrefix(get.Responses["200"].Content["application/json"].Schema.Ref, "#/components/schemas/")
		if _, next := doc.Components.Schemas[schema].Properties["next_cursor"]; bounds["limit"] != 500 || !paged || !next {
			t.Errorf("%s: limit of at most %d, cursor %v, next_cursor of %s %v", path, bounds["limit"], paged, schema, next)
		}
		at := strings.NewReplacer("{client_id}", "app1").Replace(path)
		h.want(t, 200, request{method: "GET", path: at + "?limit=500", role: "admin"})
		h.want(t, 422, request{method: "GET", path: at + "?limit=501", role: "admin"})
	}
	if lists < 7 {
		t.Errorf("the document has %d lists", lists)
	}
}

// TestCursorsOfOtherLists hands each list the cursors of the others, of other filters, and forged
// ones: 400 each, and nothing is read.
func TestCursorsOfOtherLists(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	for n := range 3 {
		h.want(t, 201, request{method: "PUT", path: fmt.Sprintf("/v1/apps/app%d", n), role: "admin", body: appBody})
		h.want(t, 201, request{method: "POST", path: "/v1/tokens", role: "admin", body: `{"name":"Kim","role":"operator"}`})
	}
	lists := []string{"/v1/apps?limit=1", "/v1/audit?limit=1", "/v1/tokens?limit=1", "/v1/tokens?limit=1&role=operator", "/v1/audit?limit=1&subject=app1", "/v1/audit?limit=1&subject=app2"}
	cursors := map[string]string{}
	for _, l := range lists {
		next, _ := h.want(t, 200, request{method: "GET", path: l, role: "admin"})["next_cursor"].(string)
		if next == "" && !strings.Contains(l, "subject") {
			t.Fatalf("%s has one page", l)
		}
		cursors[l] = next
	}
	own := cursors["/v1/apps?limit=1"]
	h.want(t, 200, request{method: "GET", path: "/v1/apps?limit=2&cursor=" + own, role: "admin"}) // another limit is the same list
	raw, err := base64.RawURLEncoding.DecodeString(own)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	forged := []string{
		base64.RawURLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString([]byte("apps\napp0")), own + "A", own[:len(own)-4], "x", "%00",
		strings.Repeat("A", 513), strings.Repeat("A", 512), "..%2f",
	}
	refused := 0
	for _, l := range append(lists, "/v1/incidents?limit=1", "/v1/apps/app1/approvals?limit=1") {
		for from, c := range cursors {
			if from == l || c == "" {
				continue
			}
			h.want(t, 400, request{method: "GET", path: l + "&cursor=" + c, role: "admin"})
			refused++
		}
		for _, c := range forged {
			p := h.want(t, 400, request{method: "GET", path: l + "&cursor=" + c, role: "admin"})
			if p["type"] != "urn:lamplighter:problem:cursor" {
				t.Errorf("%s with %s: %v", l, c, p)
			}
			refused++
		}
	}
	t.Logf("%d cursors refused", refused)
}

func TestListsAreConditional(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for _, path := range []string{"/v1/apps", "/v1/apps/app1/approvals", "/v1/incidents", "/v1/tokens"} {
		first := h.do(request{method: "GET", path: path, role: "admin"})
		tag := first.Header().Get("ETag")
		if first.Code != 200 || tag == "" {
			t.Fatalf("%s = %d %v", path, first.Code, first.Header())
		}
		for header, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"forged"`: 200, strings.Trim(tag, `"`): 200, "": 200, `"`: 200} {
			again := h.do(request{method: "GET", path: path, role: "admin", header: map[string]string{"If-None-Match": header}})
			if again.Code != want || want == 304 && again.Body.Len() > 0 {
				t.Errorf("%s with %q = %d", path, header, again.Code)
			}
		}
		if other := h.do(request{method: "GET", path: path + "?limit=1", role: "admin"}); other.Code != 200 {
			t.Errorf("%s with a limit = %d", path, other.Code)
		}
	}
	before := h.do(request{method: "GET", path: "/v1/apps", role: "admin"}).Header().Get("ETag")
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "admin", body: `{"name":"Other"}`})
	if rec := h.do(request{method: "GET", path: "/v1/apps", role: "admin", header: map[string]string{"If-None-Match": before}}); rec.Code != 200 {
		t.Errorf("after a change = %d", rec.Code)
	}
}

func TestTenantPreconditions(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	put := func(want int, state string, header map[string]string) string {
		t.Helper()
		rec := h.do(request{method: "PUT", path: "/v1/tenants/Cust1/status", role: "platform", body: `{"state":"` + state + `"}`, header: header})
		if rec.Code != want {
			t.Fatalf("%s with %v = %d %s, want %d", state, header, rec.Code, rec.Body, want)
		}
		return rec.Header().Get("ETag")
	}
	put(412, "Running", map[string]string{"If-Match": "*"})
	first := put(200, "Running", map[string]string{"If-None-Match": "*"})
	put(412, "Running", map[string]string{"If-None-Match": "*"})
	read := h.do(request{method: "GET", path: "/v1/tenants/Cust1", role: "platform"}).Header().Get("ETag")
	if first == "" || first != read {
		t.Errorf("ETag %s when written, %s when read", first, read)
	}
	second := put(200, "Suspended", map[string]string{"If-Match": first})
	for _, forged := range []string{first, `W/` + second, `"forged"`, strings.Trim(second, `"`), `"`, ""} {
		put(412, "Running", map[string]string{"If-Match": forged})
	}
	h.want(t, 202, request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"resume"}`})
	put(412, "Suspended", map[string]string{"If-Match": second})
	put(200, "OnlineMaintenance", map[string]string{"If-Match": "*"})
	put(200, "Running", nil)
}

// A deletion that overtakes a call is no fault of the service: the app is not there any more.
func TestApprovalThatADeletionOvertook(t *testing.T) {
	t.Parallel()
	for _, gone := range []error{fanout.ErrUnknownApp, mailbox.ErrGone} {
		h := newHarness(t).withApp(t)
		h.approveErr = fmt.Errorf("approve: %w", gone)
		rec := h.do(request{method: "PUT", path: "/v1/apps/app1/approvals/Cust1", role: "platform"})
		if rec.Code != 404 || !strings.Contains(rec.Body.String(), "not-found") {
			t.Errorf("%v = %d %s", gone, rec.Code, rec.Body)
		}
	}
}

func TestApprovalsThatOthersUndo(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.approveErr = fmt.Errorf("approve: 20 times: %w", mailbox.ErrDismissed)
	rec := h.do(request{method: "PUT", path: "/v1/apps/app1/approvals/Cust1", role: "platform"})
	if rec.Code != 409 || !strings.Contains(rec.Body.String(), "overtaken") || rec.Header().Get("Retry-After") != "2" {
		t.Errorf("= %d %s", rec.Code, rec.Body)
	}
}

// TestQueriesThatCannotBeRead: half of a query is never taken for the whole.
func TestQueriesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for _, path := range []string{"/v1/apps?limit=1;cursor=x", "/v1/apps?limit=%zz", "/v1/apps/app1?a=%", "/v1/audit?limit=1&b;c", "/api/state/Cust1?a;b", "/v1/config?after=%0"} {
		if rec := h.answer(request{method: "GET", path: path, role: "admin"}); rec.Code != 422 {
			t.Errorf("%s = %d", path, rec.Code)
		}
	}
}
