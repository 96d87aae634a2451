package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRequestLinesAndHeaders sends requests as no well-meaning client writes them. Each gets one answer,
// and a state change in the same breath is not carried out. What net/http takes although it could refuse
// it is written down here with the answer that its plain form would get.
func TestRequestLinesAndHeaders(t *testing.T) {
	t.Parallel()
	const host, end = "Host: a\r\n", "Connection: close\r\n\r\n"
	admin := "Authorization: Bearer " + tokenOf("admin") + "\r\n"
	change := changeLine(1)
	post := "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\n" + admin
	smuggled := fmt.Sprintf("%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", post, len(change), change)
	for name, test := range map[string]struct {
		raw  string
		want int
	}{
		// Forms of the target and methods.
		"AuthorityOfConnect":    {"CONNECT partner.example:443 HTTP/1.1\r\nHost: partner.example:443\r\n" + end, 404},
		"AuthorityOfGet":        {"GET partner.example:443 HTTP/1.1\r\n" + host + end, 404},
		"ConnectToPath":         {"CONNECT /v1/apps HTTP/1.1\r\n" + host + admin + end, 405},
		"ConnectToNoPort":       {"CONNECT a HTTP/1.1\r\nHost: a\r\n" + end, 404},
		"AsteriskOfOptions":     {"OPTIONS * HTTP/1.1\r\n" + host + end, 404},
		"AsteriskOfPost":        {"POST * HTTP/1.1\r\n" + host + admin + end, 404},
		"AbsoluteOtherHost":     {"GET http://other.example/v1/apps HTTP/1.1\r\n" + host + end, 401},
		"AbsoluteOfFile":        {"GET file:///v1/apps HTTP/1.1\r\n" + host + end, 401},
		"AbsoluteOpaque":        {"GET mailto:kim HTTP/1.1\r\n" + host + end, 404},
		"Trace":                 {"TRACE /v1/apps HTTP/1.1\r\n" + host + admin + end, 405},
		"LowerCaseMethod":       {"get /docs HTTP/1.1\r\n" + host + end, 405},
		"MethodWithAt":          {"G@T /docs HTTP/1.1\r\n" + host + end, 400},
		"NoMethod":              {" /docs HTTP/1.1\r\n" + host + end, 400},
		"HugeMethod":            {strings.Repeat("G", 64<<10) + " /docs HTTP/1.1\r\n" + host + end, 431},
		"OverriddenMethod":      {"GET /v1/apps/app1 HTTP/1.1\r\n" + host + admin + "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\n" + end, 200},
		"TabsInLine":            {"GET\t/docs\tHTTP/1.1\r\n" + host + end, 400},
		"TwoSpacesInLine":       {"GET  /docs HTTP/1.1\r\n" + host + end, 400},
		"NullInTarget":          {"GET /docs\x00 HTTP/1.1\r\n" + host + end, 400},
		"LineFeedInTarget":      {"GET /docs\n HTTP/1.1\r\n" + host + end, 400},
		"FragmentInTarget":      {"GET /docs#a HTTP/1.1\r\n" + host + end, 404},
		"BytesInTarget":         {"GET /docs\xff HTTP/1.1\r\n" + host + end, 404},
		"BlankLinesBefore":      {"\r\n\r\nGET /docs HTTP/1.1\r\n" + host + end, 400},
		"NoVersion":             {"GET /docs\r\n\r\n", 400},
		"Version0.9":            {"GET /docs HTTP/0.9\r\n" + host + end, 505},
		"Version2":              {"GET /docs HTTP/2.0\r\n" + host + end, 505},
		"Version1.10":           {"GET /docs HTTP/1.10\r\n" + host + end, 400},
		"PrefaceOfHTTP2":        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"UpgradeToHTTP2":        {"GET /docs HTTP/1.1\r\n" + host + "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: close, Upgrade, HTTP2-Settings\r\n\r\n", 200},
		"Version1.0WithoutHost": {"GET /docs HTTP/1.0\r\n\r\n", 200},

		// Header fields.
		"OneHugeField":        {"GET /docs HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 64<<10) + "\r\n" + end, 431},
		"OneHugeFieldName":    {"GET /docs HTTP/1.1\r\n" + host + strings.Repeat("a", 64<<10) + ": x\r\n" + end, 431},
		"HugeCookie":          {"GET /docs HTTP/1.1\r\n" + host + "Cookie: " + strings.Repeat("a=b; ", 16<<10) + "\r\n" + end, 431},
		"HugeToken":           {"GET /v1/apps HTTP/1.1\r\n" + host + "Authorization: Bearer lmp_" + strings.Repeat("a", 20<<10) + "\r\n" + end, 401},
		"ManyFields":          {"GET /docs HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 16<<10) + end, 431},
		"BareLineFeeds":       {"GET /docs HTTP/1.1\nHost: a\nConnection: close\n\n", 200}, // RFC 9112 section 2.2 lets a server
		"BareLineFeedInField": {"GET /v1/apps HTTP/1.1\r\n" + host + "X: a\nAuthorization Bearer lmp_admin\r\n" + end, 400},
		"CarriageReturn":      {"GET /docs HTTP/1.1\r\n" + host + "X: a\rb\r\n" + end, 400},
		"Null":                {"GET /docs HTTP/1.1\r\n" + host + "X: a\x00b\r\n" + end, 400},
		"NullInToken":         {"GET /v1/apps HTTP/1.1\r\n" + host + "Authorization: Bearer lmp_admin\x00\r\n" + end, 400},
		"HighBytes":           {"GET /docs HTTP/1.1\r\n" + host + "X: \x80\xff\r\nX-Request-Id: \xff\r\n" + end, 200},
		"Folded":              {"GET /v1/apps HTTP/1.1\r\n" + host + "X: a\r\n " + admin + end, 401},
		"FoldedAtFirst":       {"GET /docs HTTP/1.1\r\n X: a\r\n" + host + end, 400},
		"NoName":              {"GET /docs HTTP/1.1\r\n" + host + ": x\r\n" + end, 400},
		"NoColon":             {"GET /docs HTTP/1.1\r\n" + host + "x\r\n" + end, 400},
		"SpaceInName":         {"GET /docs HTTP/1.1\r\n" + host + "X Y: z\r\n" + end, 400},
		"BytesInName":         {"GET /docs HTTP/1.1\r\n" + host + "X\xff: z\r\n" + end, 400},
		"TwoHosts":            {"GET /docs HTTP/1.1\r\nHost: a\r\nhost: a\r\n" + end, 400},
		"SpaceInHost":         {"GET /docs HTTP/1.1\r\nHost: a b\r\n" + end, 400},
		"NoHost":              {"GET /docs HTTP/1.1\r\n" + end, 400},
		"TwoTokens":           {"GET /v1/apps HTTP/1.1\r\n" + host + admin + "Authorization: Bearer lmp_other\r\n" + end, 401},
		"TwoGoodTokens":       {"GET /v1/apps HTTP/1.1\r\n" + host + admin + admin + end, 401},
		"TokenInTrailer":      {"POST /v1/state-changes HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n" + end + "0\r\n" + admin + "\r\n", 401},
		"HopByHopToken":       {"GET /v1/apps HTTP/1.1\r\n" + host + admin + "Connection: close, Authorization\r\n\r\n", 200},
		"Expectation":         {post + "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 200-ok\r\n" + end, 417},
		"ContinueUnwanted":    {"POST /v1/state-changes HTTP/1.1\r\n" + host + "Content-Length: 1000000000\r\nExpect: 100-continue\r\n" + end, 401},

		// Framing that old or foreign parsers read otherwise.
		"ChunksIn1.0":      {strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + "Connection: keep-alive\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"EmptyChunksIn1.0": {"GET /docs HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", 200},
		"ChunksOfNowhere":  {"POST /nowhere HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", 404},
		"ChunksTwice":      {post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
		"ChunksAndQuote":   {post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501},
		"Identity":         {post + "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501},
		"BodyOfGet":        {fmt.Sprintf("GET /docs HTTP/1.1\r\n"+host+"Connection: close\r\nContent-Length: %d\r\n\r\n", len(smuggled)), 200},
		"BodyOfNowhere":    {fmt.Sprintf("POST /nowhere HTTP/1.1\r\n"+host+"Connection: close\r\nContent-Length: %d\r\n\r\n", len(smuggled)), 404},
		"BodyOfRefused":    {fmt.Sprintf("POST /v1/state-changes HTTP/1.1\r\n"+host+"Connection: close\r\nContent-Length: %d\r\n\r\n", len(smuggled)), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, h *harness, p *pipes) {
				h.withApp(t)
				conn := p.dial()
				tell(conn, test.raw+smuggled)
				got := drain(conn)
				if n := strings.Count(got, "HTTP/1."); n != 1 || !strings.HasPrefix(got[8:], fmt.Sprintf(" %d ", test.want)) {
					t.Errorf("%d answers, want one of %d: %.300q", n, test.want, got)
				}
				if len(h.accepted) != 0 || len(h.apps) != 1 {
					t.Errorf("%d changes accepted, %d apps", len(h.accepted), len(h.apps))
				}
			})
		})
	}
}

// TestPreflightOfDoubtfulFraming: the answer to a preflight ends such a connection, too.
func TestPreflightOfDoubtfulFraming(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(d *deps) { d.Origins = []string{"https://portal.example"} })
	for name, doubt := range map[string]func(*http.Request){
		"Chunks":     func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"Version1.0": func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 },
		"None":       func(*http.Request) {},
	} {
		r := request{method: "OPTIONS", path: "/v1/apps", header: map[string]string{"Origin": "https://portal.example", "Access-Control-Request-Method": "GET"}}.make()
		doubt(r)
		rec := httptest.NewRecorder()
		h.handler.ServeHTTP(rec, r)
		if closes := rec.Header().Get("Connection") == "close"; rec.Code != http.StatusNoContent || closes != (name != "None") {
			t.Errorf("%s = %d, closes %t", name, rec.Code, closes)
		}
	}
}

// TestPathsOfAPartner: however a partner spells the path, it reaches no other app than its own.
func TestPathsOfAPartner(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/other", role: "admin", body: `{"name":"Other"}`})
	for path, want := range map[string]int{
		"/v1/apps/app1":                 200,
		"/v1/apps/other":                403,
		"/v1/apps/%6fther":              403,
		"/v1/apps/app1%2f..%2fother":    404,
		"/v1/apps/app1/../other":        404,
		"/v1/apps/app1/%2e%2e/other":    404,
		"/v1/apps/app1/..%2fother":      404,
		"/v1/apps/app1/.%2e/other":      404,
		"/v1/apps/app1%00other":         403,
		"/v1/apps/other%00app1":         403,
		"/v1/apps/other%20":             403,
		"/v1/apps/app1;/../other":       404,
		"/v1/apps/..;/other":            404,
		"/v1/apps/other?client_id=app1": 403,
		"/v1/apps/App1":                 403,
		"/v1/apps/%2561pp1":             403,
		"/v1/apps/%c0%ae%c0%ae":         403,
		"/v1/apps//other":               404,
		"/v1//apps/other":               404,
		"/v1/apps/other/":               404,
		"/v1/apps/other/mailbox":        403,
		"/v1/apps/app1%2fmailbox":       403,
		"/V1/apps/other":                404,
		"/v1/tokens":                    403,
		"/v1/apps/%2e%2e/tokens":        404,
		"/v1/%74okens":                  403,
	} {
		if rec := h.answer(request{method: "GET", path: path, role: "partner:app1"}); rec.Code != want || rec.Code != 200 && strings.Contains(rec.Body.String(), "Other") {
			t.Errorf("%s = %d %s, want %d", path, rec.Code, rec.Body, want)
		}
	}
}
