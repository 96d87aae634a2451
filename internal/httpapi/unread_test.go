package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
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
	public := func(h *harness) http.Handler { return h.api.Public() }
	ops := func(h *harness) http.Handler {
		return h.api.Ops(httpapi.OpsOptions{
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
