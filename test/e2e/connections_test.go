package e2e_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

var connections = flag.Int("connections", 500, "how many silent connections TestThousandsOfSilentConnections opens; it opens a tenth more, which are too many")

// perConnection is what a connection that asks nothing may cost the process, in KiB.
const perConnection = 48

// TestThousandsOfSilentConnections opens connections that say nothing, stop within their headers, or
// asked once and stay: the service answers others at once, its memory stays small, and they are
// closed when their time is over. Run it with -args -connections=10000 for the long form.
func TestThousandsOfSilentConnections(t *testing.T) {
	t.Parallel()
	n := *connections
	s := newStack(t, "everysec", fmt.Sprint("LAMPLIGHTER_HTTP_MAX_CONNECTIONS=", n))
	p := s.serve("api,worker")
	s.answered()
	before := peakOf(p.cmd.Process.Pid)
	var dialer net.Dialer
	start := time.Now()
	for i := range n + n/10 {
		conn, err := dialer.DialContext(t.Context(), "tcp", s.api)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		// Who is told to leave cannot write; that is no fault.
		_, _ = io.WriteString(conn, []string{"", "GET /api/state/Cust1 HTTP/1.1\r\nHos", "GET /login/.well-known/jwks HTTP/1.1\r\nHost: a\r\n\r\n"}[i%3])
	}
	opened := time.Since(start)
	var slowest time.Duration
	for range 20 {
		slowest = max(slowest, s.answered())
	}
	open, shed := p.metric("lamplighter_http_connections", `listener="api"`), p.metric("lamplighter_http_connections_shed_total", `listener="api"`)
	if int(open) > n || opened < 4*time.Second && int(shed) < n/10 {
		t.Errorf("%v are open and %v were closed, with at most %d", open, shed, n)
	}
	if slowest > 10*time.Second { // however busy the machine; that room was made is what the count above says
		t.Errorf("a new caller waited %v", slowest)
	}
	grown := peakOf(p.cmd.Process.Pid) - before
	if limit := 32 + float64(n)*perConnection/1024; grown > limit {
		t.Errorf("memory grew by %.0f MiB, more than %.0f", grown, limit)
	}
	redistest.Eventually(t, 30*time.Second, "those without a request are closed", func() bool {
		return int(p.metric("lamplighter_http_connections", `listener="api"`)) <= n*2/5
	})
	t.Logf("%d connections opened in %v, %v open; slowest of 20 answers to new callers %v; memory grew by %.0f MiB", n+n/10, opened.Round(time.Millisecond), open, slowest.Round(time.Millisecond), grown)
}

// answered makes a change on a connection of its own, and says how long that took.
func (s *stack) answered() time.Duration {
	s.t.Helper()
	start := time.Now()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.api+"/v1/state-changes", strings.NewReader(`{"tenant":"Cust1","change_type":"suspend"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		s.t.Fatalf("status %d", resp.StatusCode)
	}
	return time.Since(start)
}
