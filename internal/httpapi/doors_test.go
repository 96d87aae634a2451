package httpapi_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
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
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, reg: prometheus.NewRegistry()}
		p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		answer := make(chan struct{})
		server := httpapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-answer
			}
			_, _ = io.WriteString(w, "ok")
		}), nil)
		l := httpapi.NewDoors(h.reg).Bound("api", p, server, crowdMost)
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
