package e2e_test

import (
	"context"
	"flag"
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
// -args -connections=10000 -promises=10s for the long form, which shows how late they are answered.
func TestPromisedBodies(t *testing.T) {
	t.Parallel()
	n := *connections
	const proxy, other, own = "127.0.0.9", "127.0.0.7", "127.0.0.8" // servers have the ports of 127.0.0.1
	s := newStack(t, "everysec", fmt.Sprint("LAMPLIGHTER_HTTP_MAX_CONNECTIONS=", n), "LAMPLIGHTER_HTTP_TRUSTED_PROXIES="+proxy+"/32")
	p := s.serve("api,worker")
	quiet, _ := s.answeredWhile(own, "", func() { s.keepsPromising(0, "", "", "") })
	t.Logf("quiet: p99 %v of %d", quantileOf(quiet, .99), len(quiet))
	for _, route := range []struct{ name, head string }{
		{"Form", "POST /mail/confirm/x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded"},
		{"FormWithAToken", "POST /mail/confirm/x HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Type: application/x-www-form-urlencoded"},
		{"JSON", "POST /v1/state-changes HTTP/1.1\r\nContent-Type: application/json"},
		{"Lines", "POST /v1/state-changes HTTP/1.1\r\nContent-Type: application/x-ndjson"},
		{"NoBody", "GET /api/state/Cust1 HTTP/1.1"},
		{"Nowhere", "POST /nowhere HTTP/1.1"},
	} {
		for _, from := range []struct{ name, attacker, attackerFor, caller, callerFor string }{
			{"AnotherAddress", other, "", own, ""},
			{"TheSameAddress", own, "", own, ""},
			{"BehindAProxy", proxy, "203.0.113.66", proxy, "203.0.113.7"},
		} {
			t.Run(route.name+"/"+from.name, func(t *testing.T) { //nolint:paralleltest // one listener, one attack at a time
				waits, closed := s.answeredWhile(from.caller, from.callerFor, func() { s.keepsPromising(n+n/100, from.attacker, route.head, from.attackerFor) })
				t.Logf("%d promises at once: p99 %v, slowest %v of %d answers, %d closed; 3 x quiet + 20 ms is %v", n+n/100, quantileOf(waits, .99),
					waits[len(waits)-1], len(waits), closed, 3*quantileOf(quiet, .99)+20*time.Millisecond)
				// whoever shares the attacker's address may lose a connection that asked nothing yet, while all come at once
				if closed > len(waits)/20 || closed > 0 && from.name != "TheSameAddress" {
					t.Errorf("%d of %d callers were closed", closed, len(waits))
				}
				if open := p.metric("lamplighter_http_connections", `listener="api"`); int(open) > n {
					t.Errorf("%v connections are open, with at most %d", open, n)
				}
			})
		}
	}
}

var promisesFor = flag.Duration("promises", time.Second, "how long TestPromisedBodies keeps each promise")

// openedIn is how long it takes to open all of them.
const openedIn = 400 * time.Millisecond

// keepsPromising opens connections that promise a body, once each.
func (s *stack) keepsPromising(n int, from, head, behind string) {
	if behind != "" {
		head += "\r\nX-Forwarded-For: " + behind
	}
	request := head + "\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
	ctx, cancel := context.WithTimeout(s.t.Context(), *promisesFor)
	defer cancel()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(openedIn * time.Duration(i) / time.Duration(n)):
			}
			conn, err := dialer.DialContext(ctx, "tcp", s.api)
			if err != nil {
				return
			}
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, request)
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	<-ctx.Done()
	wg.Wait()
}

// answeredWhile makes changes on new connections while f runs, and returns how long each took, in ascending order, and how
// many were closed without an answer.
func (s *stack) answeredWhile(from, behind string, f func()) (waits []time.Duration, closed int) {
	s.t.Helper()
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !over.Load() || len(waits) < 20 {
			start := time.Now()
			if err := s.changes(from, behind); err != nil {
				closed++
				s.t.Logf("after %v: %v", time.Since(start).Round(time.Millisecond), err)
			}
			waits = append(waits, time.Since(start))
		}
	})
	f()
	over.Store(true)
	wg.Wait()
	slices.Sort(waits)
	return waits, closed
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
