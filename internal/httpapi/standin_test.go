package httpapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

// TestStandInTellsFaults: a stand-in that is asked or answers otherwise than the document says is told of.
func TestStandInTellsFaults(t *testing.T) {
	t.Parallel()
	c, err := httpapitest.Whole(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(newHarness(t).api.Operations()); c.Operations() != n {
		t.Errorf("the whole contract has %d operations, the API %d", c.Operations(), n)
	}
	const app, pause = "/v1/apps/app1", "/v1/apps/app1/pause"
	for name, test := range map[string]struct {
		ask    request
		answer string // the document's example when empty
		fault  string
	}{
		"Right":         {request{method: "PATCH", path: app, body: `{"name":"A"}`, header: map[string]string{"If-Match": `"1"`}}, "", ""},
		"NoBody":        {request{method: "POST", path: pause}, "", ""},
		"Lines":         {request{method: "POST", path: "/v1/state-changes", contentType: lines, body: changeLine(1) + "\n"}, "", ""},
		"Nowhere":       {request{method: "GET", path: "/v1/app/app1"}, "", "no such operation"},
		"OtherMethod":   {request{method: "POST", path: app, body: `{}`}, "", "no such operation"},
		"Parameter":     {request{method: "GET", path: "/v1/apps?page=2"}, "", "no parameter page"},
		"NoNumber":      {request{method: "GET", path: "/v1/apps?limit=many"}, "", "parameter limit"},
		"TooHigh":       {request{method: "GET", path: "/v1/apps?limit=501"}, "", "parameter limit"},
		"Precondition":  {request{method: "POST", path: pause, header: map[string]string{"If-None-Match": "*"}}, "", ""},
		"NotTaken":      {request{method: "GET", path: "/v1/apps/app1/mailbox", header: map[string]string{"If-Match": "*"}}, "", "takes no If-Match"},
		"Member":        {request{method: "PUT", path: app, body: `{"nam":"A"}`}, "", "nam"},
		"WrongType":     {request{method: "PUT", path: app, body: `{"name":7}`}, "", "name"},
		"MediaType":     {request{method: "PUT", path: app, contentType: "text/plain", body: "x"}, "", `takes no "text/plain"`},
		"MissingBody":   {request{method: "PUT", path: app}, "", "takes no"},
		"UnwantedBody":  {request{method: "GET", path: app, body: "{}"}, "", "takes no body"},
		"BadLine":       {request{method: "POST", path: "/v1/state-changes", contentType: lines, body: "{}\n"}, "", "tenant"},
		"AnswerMember":  {request{method: "GET", path: "/v1/apps"}, `{"items":[],"more":1}`, "more"},
		"AnswerMissing": {request{method: "GET", path: "/v1/apps"}, `{}`, "items"},
	} {
		var faults []string
		h := c.StandIn(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mediaType, body := c.Example(r, http.StatusOK, "")
			if test.answer != "" {
				mediaType, body = "application/json", test.answer
			}
			w.Header().Set("Content-Type", mediaType)
			_, _ = io.WriteString(w, body)
		}), func(err error) { faults = append(faults, err.Error()) })
		h.ServeHTTP(httptest.NewRecorder(), test.ask.make())
		told := strings.Join(faults, "\n")
		if (told == "") != (test.fault == "") || !strings.Contains(told, test.fault) {
			t.Errorf("%s: told %q, want %q", name, told, test.fault)
		}
	}
}
