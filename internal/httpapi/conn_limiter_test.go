package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/httpapi"
)

const crowdMost = 8

// crowded runs f in a bubble against a server that has at most crowdMost connections and answers
// /slow when it is told to.
func crowded(t *testing.T, f func(t *testing.T, p *pipes, h *harness, answer chan struct{})) {
	t.Parallel()
	crowdedIn(t, httpapi.ConnLimits{Total: crowdMost, PerAddress: crowdMost}, f)
}

// crowdedIn is crowded with other limits.
func crowdedIn(t *testing.T, limits httpapi.ConnLimits, f func(t *testing.T, p *pipes, h *harness, answer chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, reg: prometheus.NewRegistry()}
		p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		answer := make(chan struct{})
		server := httpapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				<-answer
			case "/long":
				_, _ = w.Write(make([]byte, 1<<20))
			case "/reads":
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(w, "ok")
		}), nil)
		l := httpapi.NewConnLimiter(h.reg).LimitListener("api", p, server, limits)
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		f(t, p, h, answer)
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		synctest.Wait()
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 0`)
	})
}

// ask makes a request on a connection that is kept.
func ask(conn net.Conn, path string) (status int) {
	tell(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// alive reports whether the server still keeps a silent connection.
func alive(conn net.Conn) bool {
	gone := make(chan struct{})
	go func() {
		_, _ = conn.Read(make([]byte, 1))
		close(gone)
	}()
	synctest.Wait()
	select {
	case <-gone:
		return false
	default:
		_ = conn.SetReadDeadline(time.Now())
		<-gone
		_ = conn.SetReadDeadline(time.Time{})
		return true
	}
}

// TestSilentConnectionsMakeRoom: who connects and asks nothing, or never ends its headers, keeps nobody
// out; the one that has waited the longest goes first.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	crowded(t, func(t *testing.T, p *pipes, h *harness, _ chan struct{}) {
		kept := p.dial()
		if got := ask(kept, "/"); got != 200 {
			t.Fatalf("first = %d", got)
		}
		silent := make([]net.Conn, crowdMost-1)
		for i := range silent {
			<-time.After(time.Millisecond)
			silent[i] = p.dial()
			if i%2 == 0 {
				tell(silent[i], "GET / HTTP/1.1\r\nHos")
			}
		}
		synctest.Wait()
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 8`, `lamplighter_http_connections_shed_total{kind="waiting",listener="api"} 0`)
		if got := ask(kept, "/"); got != 200 { // now it is the last that would go
			t.Errorf("kept = %d", got)
		}
		for n := range 3 {
			if got := ask(p.dial(), "/"); got != 200 {
				t.Errorf("newcomer %d = %d", n, got)
			}
		}
		for i, conn := range silent {
			if got, want := alive(conn), i >= 3; got != want {
				t.Errorf("silent connection %d: alive %v, want %v", i, got, want)
			}
		}
		if got := ask(kept, "/"); got != 200 {
			t.Errorf("kept = %d", got)
		}
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 8`, `lamplighter_http_connections_shed_total{kind="waiting",listener="api"} 3`)
		<-time.After(3 * time.Minute) // the times for headers and between requests
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 0`)
	})
}

// TestConnectionsBeingAnsweredStay: where nobody waits, the newcomer goes.
func TestConnectionsBeingAnsweredStay(t *testing.T) {
	crowded(t, func(t *testing.T, p *pipes, h *harness, answer chan struct{}) {
		got := make(chan int, crowdMost)
		for range crowdMost {
			conn := p.dial()
			go func() { got <- ask(conn, "/slow") }()
		}
		synctest.Wait()
		if got := ask(p.dial(), "/"); got != 0 {
			t.Errorf("newcomer = %d", got)
		}
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 8`, `lamplighter_http_connections_shed_total{kind="new",listener="api"} 1`)
		close(answer)
		for range crowdMost {
			if s := <-got; s != 200 {
				t.Errorf("one being answered got %d", s)
			}
		}
		if got := ask(p.dial(), "/"); got != 200 {
			t.Errorf("afterwards = %d", got)
		}
	})
}

// TestPromisedBodiesMakeRoom: who promises a body and keeps it back, or takes no answer, keeps nobody out;
// the one that has done so the longest goes first.
func TestPromisedBodiesMakeRoom(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{
		"FormThatIsRead": "POST /reads HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4000\r\n\r\n",
		"BodyThatBegins": "POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\nbegin",
		"Chunks":         "POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin",
		"NobodyReads":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n",
		"TakesNoAnswer":  "GET /long HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			crowded(t, func(t *testing.T, p *pipes, h *harness, _ chan struct{}) {
				conns := make([]net.Conn, crowdMost)
				for i := range conns {
					conns[i] = p.dial()
					tell(conns[i], sent)
					<-time.After(time.Millisecond)
				}
				for n := range 3 {
					if got := ask(p.dial(), "/"); got != 200 {
						t.Errorf("newcomer %d = %d", n, got)
					}
				}
				h.hasMetric(t, `lamplighter_http_connections_shed_total{kind="waiting",listener="api"} 3`)
				for _, conn := range conns {
					_ = conn.Close()
				}
			})
		})
	}
}

// TestOneAddressHasAShare: an address with too many connections loses its own; those of others stay, and
// those of a trusted proxy are not counted as one caller's.
func TestOneAddressHasAShare(t *testing.T) {
	t.Parallel()
	limits := httpapi.ConnLimits{Total: crowdMost, PerAddress: crowdMost / 2, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	crowdedIn(t, limits, func(t *testing.T, p *pipes, h *harness, answer chan struct{}) {
		other := p.dialFrom("192.0.2.1:1")
		if got := ask(other, "/"); got != 200 {
			t.Fatalf("first = %d", got)
		}
		for n := range 3 * crowdMost {
			<-time.After(time.Millisecond)
			tell(p.dialFrom(fmt.Sprintf("[2001:db8::%d]:%d", n, n+1)), "GET / HTTP/1.1\r\nHos")
		}
		synctest.Wait()
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 5`, `lamplighter_http_connections_shed_total{kind="waiting",listener="api"} 20`)
		if got := ask(other, "/"); got != 200 {
			t.Errorf("the other address = %d", got)
		}
		got := make(chan int, crowdMost)
		for n := range crowdMost { // all at work: none of them can leave
			conn := p.dialFrom(fmt.Sprintf("10.0.0.1:%d", n+1))
			go func() { got <- ask(conn, "/slow") }()
			synctest.Wait()
		}
		h.hasMetric(t, `lamplighter_http_connections{listener="api"} 8`)
		if s := ask(p.dialFrom("192.0.2.9:1"), "/"); s != 0 {
			t.Errorf("one more than there is limits for = %d", s)
		}
		close(answer)
		for range crowdMost {
			if s := <-got; s != 200 {
				t.Errorf("one behind the proxy got %d", s)
			}
		}
	})
}
