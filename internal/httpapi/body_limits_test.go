package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lamplighter/lamplighter/internal/httpapi"
)

// TestUnreadBodies: who promises a body that no handler reads, and sends none, gets the answer after about
// a second and loses the connection, with a token or without.
func TestUnreadBodies(t *testing.T) {
	t.Parallel()
	api := func(h *harness) http.Handler { return h.handler }
	public := func(h *harness) http.Handler { return h.api.PublicHandler() }
	ops := func(h *harness) http.Handler {
		return h.api.OpsHandler(httpapi.OpsOptions{
			Metrics:   promhttp.HandlerFor(h.reg, promhttp.HandlerOpts{}),
			Readiness: func(context.Context) []httpapi.Check { return nil },
		})
	}
	post := "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
	lines := "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" }
	for name, test := range map[string]struct {
		of   func(*harness) http.Handler
		sent string
		want int
	}{
		"Unauthorised":         {api, post + "Content-Length: 5\r\n\r\n", 401},
		"UnauthorisedInBody":   {api, post + "Content-Length: 5000\r\n\r\n{", 401},
		"UnauthorisedInChunk":  {api, post + "Transfer-Encoding: chunked\r\n\r\n5\r\n{", 401},
		"UnauthorisedLines":    {api, lines + "Content-Length: 5\r\n\r\n", 401},
		"UnauthorisedContinue": {api, post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 401},
		"Get":                  {public, get("/api/state/a"), 404},
		"GetOfALongAnswer":     {api, get("/v1/openapi.json"), 200},
		"Nowhere":              {public, get("/nowhere"), 404},
		"OpsHealth":            {ops, get("/healthz"), 200},
		"OpsReady":             {ops, get("/readyz"), 200},
		"OpsMetrics":           {ops, get("/metrics"), 200},
		"OpsNowhere":           {ops, get("/nowhere"), 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostileTo(t, test.of, func(t *testing.T, _ *harness, p *pipes) {
				start, conn := time.Now(), p.dial()
				tell(conn, test.sent)
				got := drain(conn)
				if took := time.Since(start); took > 2500*time.Millisecond {
					t.Errorf("cut off after %v", took)
				}
				if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", test.want)) {
					t.Errorf("answer %q", got)
				}
			})
		})
	}
}

// TestUnreadBodiesThatCome: a body that comes within the second costs nobody the connection, and the
// second is not counted on the next request.
func TestUnreadBodiesThatCome(t *testing.T) {
	t.Parallel()
	hostile(t, func(t *testing.T, _ *harness, p *pipes) {
		conn := p.dial()
		answers := bufio.NewReader(conn)
		for range 3 {
			tell(conn, "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{")
			time.AfterFunc(500*time.Millisecond, func() { tell(conn, "    ") })
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != http.StatusUnauthorized || resp.Close {
				t.Errorf("status %d, closing %v", resp.StatusCode, resp.Close)
			}
			<-time.After(time.Minute)
		}
		_ = conn.Close()
	})
}

// TestReadBodiesAreNotHurried: who read the body may answer as slowly as it likes, and its request lives on.
func TestReadBodiesAreNotHurried(t *testing.T) {
	t.Parallel()
	slow := func(*harness) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
			select {
			case <-r.Context().Done():
				_, _ = io.WriteString(w, " cancelled")
			case <-time.After(10 * time.Second):
				_, _ = io.WriteString(w, " whole")
			}
		})
	}
	hostileTo(t, slow, func(t *testing.T, _ *harness, p *pipes) {
		conn := p.dial()
		tell(conn, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody")
		if got := drain(conn); !strings.HasSuffix(got, "body whole") {
			t.Errorf("answer %q", got)
		}
	})
}

// TestEveryRouteBoundsBodies: there is no operation, of today or later, at which a body that was promised
// and does not come keeps a connection: without a token, and with one.
func TestEveryRouteBoundsBodies(t *testing.T) {
	t.Parallel()
	listeners := map[string]func(*harness) http.Handler{
		"Admin":  func(h *harness) http.Handler { return h.handler },
		"Public": func(h *harness) http.Handler { return h.api.PublicHandler() },
	}
	for _, op := range newHarness(t).api.Operations() {
		for listener, of := range listeners {
			for _, role := range []string{"", "admin"} {
				t.Run(op.ID+"/"+listener+"/"+role, func(t *testing.T) {
					t.Parallel()
					within, kind := 3500*time.Millisecond, "application/json"
					switch {
					case op.ID == "putApprovals":
						kind = "application/x-ndjson"
						if role != "" && listener == "Admin" { // by progress
							within = 32 * time.Second
						}
					case op.Method == http.MethodPatch:
						kind = "application/merge-patch+json"
					case strings.HasPrefix(op.Pattern, "/mail/"):
						kind = "application/x-www-form-urlencoded"
					}
					head := op.Method + " " + pathOf(op) + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + kind + "\r\nContent-Length: 4000\r\n"
					if role != "" {
						head += "Authorization: Bearer " + tokenOf(role) + "\r\n"
					}
					hostileTo(t, of, func(t *testing.T, h *harness, p *pipes) {
						links := &desk{}
						h.api.MailSubscriptions = links
						start, conn := time.Now(), p.dial()
						tell(conn, head+"\r\n")
						got := drain(conn)
						if took := time.Since(start); took > within {
							t.Errorf("cut off after %v, want %v", took, within)
						}
						if !strings.HasPrefix(got, "HTTP/1.1 ") {
							t.Errorf("answer %q", got)
						}
						if op.Method == http.MethodPost && len(links.did) > 0 {
							t.Errorf("half a form was obeyed: %v", links.did)
						}
					})
				})
			}
		}
	}
}

// TestWorstBodies: what a partner's largest bodies cost, whatever they hold, stays below 64 times their
// size.
func TestWorstBodies(t *testing.T) { //nolint:paralleltest // it measures what the process allocates
	const size, most = 128 << 10, 64
	filled := func(begin, item, end string, n int) string {
		var b strings.Builder
		b.WriteString(begin)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.ReplaceAll(item, "#", strconv.Itoa(i)))
		}
		b.WriteString(end)
		return b.String() + strings.Repeat(" ", max(size-b.Len(), 0))
	}
	h := newHarness(t).withApp(t)
	for name, test := range map[string]struct {
		body string
		want int
	}{
		"Members":        {filled("{", `"a#":1`, "}", 1000), 422},
		"TooManyMembers": {filled("{", `"a#":1`, "}", 10_000), 413},
		"Pointers":       {filled("{", `"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~#":1`, "}", 1000), 422},
		"Values":         {filled(`{"error_emails":[`, "0", "]}", 9_990), 422},
		"TooManyValues":  {filled(`{"error_emails":[`, "0", "]}", 60_000), 413},
		"Objects":        {filled(`{"error_emails":[`, "{}", "]}", 4_990), 422},
		"Faults":         {filled(`{"error_emails":[`, `"@"`, "]}", 9_000), 422},
		"Escapes":        {filled(`{"technical_contact":{"name":"`, `\u00e9\n\/`, `"}}`, 9_000), 422},
		"Deep":           {filled("{", strings.Repeat(`{"a":`, 29)+"#"+strings.Repeat("}", 29), "}", 30), 400},
		"Nested":         {filled(`{"a":[`, strings.Repeat(`[`, 29)+"#"+strings.Repeat("]", 29), "]}", 160), 422},
		"Numbers":        {filled(`{"a":[`, "1e-0000000000000#", "]}", 6_000), 422},
		"LongText":       {`{"technical_contact":{"name":"` + strings.Repeat("x", size-50) + `"}}`, 422},
	} {
		if len(test.body) > size {
			t.Fatalf("%s has %d bytes", name, len(test.body))
		}
		r := request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: test.body}
		req, rec := r.make(), httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.handler.ServeHTTP(rec, req)
		runtime.ReadMemStats(&after)
		cost := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d, %d bytes, %.1f times its size; answer of %d", name, rec.Code, len(test.body), float64(cost)/float64(size), rec.Body.Len())
		if rec.Code != test.want || cost > most*size || rec.Body.Len() > 32<<10 {
			t.Errorf("%s = %d, want %d, for %d bytes: %.200s", name, rec.Code, test.want, cost, rec.Body)
		}
	}
	large := request{method: "PATCH", path: "/v1/apps/app1", role: "partner:app1", body: `{"name":"` + strings.Repeat("x", size) + `"}`}
	if got := h.do(large).Code; got != http.StatusRequestEntityTooLarge {
		t.Errorf("more than a partner may send = %d", got)
	}
	large.role = "operator"
	if got := h.do(large).Code; got != http.StatusUnprocessableEntity {
		t.Errorf("the same from an operator = %d", got)
	}
}
