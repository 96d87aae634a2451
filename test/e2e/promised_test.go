package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPromisedBodies keeps more connections than a listener has, each with a request whose body never comes, at each kind
// of route and from addresses of each kind. Other callers are answered all the while. Run it with
// -args -connections=10000 for the long form, which shows how late they are answered.
func TestPromisedBodies(t *testing.T) {
	t.Parallel()
	n := *connections
	const proxy, other = "127.0.0.9", "127.0.0.7"
	s := newStack(t, "everysec", fmt.Sprint("LAMPLIGHTER_HTTP_MAX_CONNECTIONS=", n), "LAMPLIGHTER_HTTP_TRUSTED_PROXIES="+proxy+"/32")
	p := s.serve("api,worker")
	quiet := s.answeredWhile("127.0.0.1", "", func() { s.keepsPromising(0, "", "", "") })
	t.Logf("quiet: p99 %v of %d", quantileOf(quiet, .99), len(quiet))
	for _, route := range []struct{ name, head string }{
		{"Form", "POST /mail/confirm/x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded"},
		{"JSON", "POST /v1/state-changes HTTP/1.1\r\nContent-Type: application/json"},
		{"Lines", "POST /v1/state-changes HTTP/1.1\r\nContent-Type: application/x-ndjson"},
		{"NoBody", "GET /api/state/Cust1 HTTP/1.1"},
		{"Nowhere", "POST /nowhere HTTP/1.1"},
	} {
		for _, from := range []struct{ name, attacker, attackerFor, caller, callerFor string }{
			{"AnotherAddress", other, "", "127.0.0.1", ""},
			{"TheSameAddress", "127.0.0.1", "", "127.0.0.1", ""},
			{"BehindAProxy", proxy, "203.0.113.66", proxy, "203.0.113.7"},
		} {
			t.Run(route.name+"/"+from.name, func(t *testing.T) { //nolint:paralleltest // one listener, one attack at a time
				waits := s.answeredWhile(from.caller, from.callerFor, func() { s.keepsPromising(n+n/100, from.attacker, route.head, from.attackerFor) })
				t.Logf("%d promises at once: p99 %v, slowest %v of %d answers; 3 x quiet + 20 ms is %v", n+n/100, quantileOf(waits, .99), waits[len(waits)-1],
					len(waits), 3*quantileOf(quiet, .99)+20*time.Millisecond)
				if open := p.metric("lamplighter_http_connections", `listener="api"`); int(open) > n {
					t.Errorf("%v connections are open, with at most %d", open, n)
				}
			})
		}
	}
}

// promisesFor is how long each attack goes on, openedIn how long it takes to come, again when one that was closed comes
// back.
const (
	promisesFor = time.Second
	openedIn    = 400 * time.Millisecond
	again       = 200 * time.Millisecond
)

// keepsPromising opens connections that promise a body, and opens each that is closed again. The request is none of a
// connection that was never answered.
func (s *stack) keepsPromising(n int, from, head, behind string) {
	if behind != "" {
		head += "\r\nX-Forwarded-For: " + behind
	}
	request := head + "\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
	ctx, cancel := context.WithTimeout(s.t.Context(), promisesFor)
	defer cancel()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(openedIn * time.Duration(i) / time.Duration(n)):
			}
			for ctx.Err() == nil {
				conn, err := dialer.DialContext(ctx, "tcp", s.api)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = io.WriteString(conn, request)
				_, _ = io.Copy(io.Discard, conn)
				stop()
				_ = conn.Close()
				select { // as fast as it may, it would be a flood, which takes the processor and not the places
				case <-ctx.Done():
				case <-time.After(again):
				}
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
}

// answeredWhile makes changes on new connections while f runs, and returns how long each took, in ascending order. Each of
// them must be answered.
func (s *stack) answeredWhile(from, behind string, f func()) []time.Duration {
	s.t.Helper()
	var over atomic.Bool
	var waits []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		for !over.Load() || len(waits) < 20 {
			start := time.Now()
			if err := s.changes(from, behind); err != nil {
				s.t.Errorf("after %v: %v", time.Since(start).Round(time.Millisecond), err)
			}
			waits = append(waits, time.Since(start))
		}
	})
	f()
	over.Store(true)
	wg.Wait()
	slices.Sort(waits)
	return waits
}

// changes reports a change on a connection of its own.
func (s *stack) changes(from, behind string) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.api+"/v1/state-changes", strings.NewReader(`{"tenant":"Cust1","change_type":"suspend"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	if behind != "" {
		req.Header.Set("X-Forwarded-For", behind)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return err
}

func quantileOf(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(10 * time.Microsecond)
}
