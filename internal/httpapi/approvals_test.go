package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

const oneApproval = "/v1/apps/app1/approvals/Cust1"

// TestApprovalPreconditions: an approval has an ETag while it stands, and writes may rest on it.
func TestApprovalPreconditions(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.approvals["app1"] = []tenant.ID{"Cust1"}
	tag := h.do(request{method: "GET", path: oneApproval, role: "platform"}).Header().Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	header := func(name, value string) map[string]string { return map[string]string{name: value} }
	for name, test := range map[string]struct {
		method string
		header map[string]string
		// stands is the status and what is left where the approval stands, absent where it does not.
		stands, absent         int
		standsAfter, andAbsent bool
	}{
		"Read":             {"GET", nil, 200, 404, true, false},
		"ReadKnown":        {"GET", header("If-None-Match", tag), 304, 404, true, false},
		"ReadAnything":     {"GET", header("If-None-Match", "*"), 304, 404, true, false},
		"ReadOther":        {"GET", header("If-None-Match", `"x"`), 200, 404, true, false},
		"Put":              {"PUT", nil, 204, 204, true, true},
		"PutStanding":      {"PUT", header("If-Match", tag), 204, 412, true, false},
		"PutAny":           {"PUT", header("If-Match", "*"), 204, 412, true, false},
		"PutStale":         {"PUT", header("If-Match", `"x"`), 412, 412, true, false},
		"PutWeak":          {"PUT", header("If-Match", "W/"+tag), 412, 412, true, false},
		"PutForged":        {"PUT", header("If-Match", `"`), 412, 412, true, false},
		"PutFirst":         {"PUT", header("If-None-Match", "*"), 412, 204, true, true},
		"PutNotThis":       {"PUT", header("If-None-Match", tag), 412, 204, true, true},
		"PutNotAnother":    {"PUT", header("If-None-Match", `"x"`), 204, 204, true, true},
		"PutBoth":          {"PUT", map[string]string{"If-Match": "*", "If-None-Match": "*"}, 412, 412, true, false},
		"Delete":           {"DELETE", nil, 204, 204, false, false},
		"DeleteStanding":   {"DELETE", header("If-Match", tag), 204, 412, false, false},
		"DeleteAny":        {"DELETE", header("If-Match", "*"), 204, 412, false, false},
		"DeleteStale":      {"DELETE", header("If-Match", `"x"`), 412, 412, true, false},
		"DeleteAbsent":     {"DELETE", header("If-None-Match", "*"), 412, 204, true, false},
		"DeleteNotAnother": {"DELETE", header("If-None-Match", `"x"`), 204, 204, false, false},
	} {
		for _, row := range []struct {
			before      []tenant.ID
			status      int
			standsAfter bool
		}{{[]tenant.ID{"Cust1"}, test.stands, test.standsAfter}, {nil, test.absent, test.andAbsent}} {
			h.approvals["app1"] = row.before
			rec := h.do(request{method: test.method, path: oneApproval, role: "platform", header: test.header})
			if after := len(h.approvals["app1"]) == 1; rec.Code != row.status || after != row.standsAfter {
				t.Errorf("%s of %v = %d, stands %t; want %d, %t", name, row.before, rec.Code, after, row.status, row.standsAfter)
			}
			if said := rec.Header().Get("ETag"); (said == tag) != (rec.Code < 400 && test.method != "DELETE") {
				t.Errorf("%s of %v: %d with ETag %q", name, row.before, rec.Code, said)
			}
		}
	}
}

// TestApprovalPreconditionsThatOthersBreak: what held when the API looked and not when it wrote is 412.
func TestApprovalPreconditionsThatOthersBreak(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.approvedMeanwhile, h.dismissedMeanwhile = true, true
	h.want(t, http.StatusPreconditionFailed, request{method: "PUT", path: oneApproval, role: "platform", header: map[string]string{"If-None-Match": "*"}})
	h.approvals["app1"] = []tenant.ID{"Cust1"}
	h.want(t, http.StatusPreconditionFailed, request{method: "DELETE", path: oneApproval, role: "platform", header: map[string]string{"If-Match": "*"}})
	h.down = errDown
	h.want(t, http.StatusServiceUnavailable, request{method: "GET", path: oneApproval, role: "platform"})
}

// TestNothingElseIgnoresAPrecondition: where there is no ETag to compare with, nothing is written.
func TestNothingElseIgnoresAPrecondition(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for _, name := range []string{"If-Match", "If-None-Match"} {
		r := request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"suspend"}`, header: map[string]string{name: "*"}}
		if h.want(t, http.StatusPreconditionFailed, r); len(h.accepted) != 0 {
			t.Errorf("%s: accepted %v", name, h.accepted)
		}
	}
}

// TestReplayedLines: a line that was taken before says so, and no other does.
func TestReplayedLines(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	first := h.post(t, "k", "{}\n"+changeLine(1)+"\n")
	second := h.post(t, "k", changeLine(3)+"\n"+changeLine(1)+"\n"+changeLine(2)+"\n") // line 1 was put right
	third := h.post(t, "k", changeLine(3)+"\n"+changeLine(1)+"\n"+changeLine(2)+"\n")
	marks := func(list []answerLine) (out []bool) {
		for _, a := range list {
			out = append(out, a.Replayed)
		}
		return out
	}
	want := [][]bool{{false, false}, {false, true, false}, {true, true, true}}
	if d := cmp.Diff(want, [][]bool{marks(first), marks(second), marks(third)}); d != "" || len(h.accepted) != 3 {
		t.Errorf("%d accepted; marked as repeated (-want +got):\n%s", len(h.accepted), d)
	}
}
