package service_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
)

// The times of TestNothingGetsOut: incidents would open before the way out is mended.
const (
	cutOpensAfter = 50 * time.Second
	cutFor        = 58 * time.Second
	settledAfter  = 10 * time.Second
)

// hosts are many hosts on this machine, all of which can be cut off.
type hosts struct {
	*testing.T

	handler http.Handler
	address string
	server  *http.Server
}

// open lets all hosts listen, on the port that they had before.
func (h *hosts) open() {
	h.Helper()
	l, err := net.Listen("tcp4", h.address)
	if err != nil {
		h.Fatal(err)
	}
	h.address = l.Addr().String()
	h.server = &http.Server{Handler: h.handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = h.server.Serve(l) }()
}

func (h *hosts) close() { _ = h.server.Close() }

// urlOf spreads hosts over 100 networks.
func (h *hosts) urlOf(n int) string {
	_, port, _ := net.SplitHostPort(h.address)
	return fmt.Sprintf("http://127.%d.%d.%d:%s", 1+n%100, n/100/200, 1+n/100%200, port)
}

// TestNothingGetsOut: all hosts refuse connections for longer than it takes to open incidents. None opens, the metric tells of it, and
// once they listen again all apps are told in time. Those incidents that were due never open. With -outage.apps it has more apps.
func TestNothingGetsOut(t *testing.T) { //nolint:tparallel // many apps want the machine to themselves
	if *outageApps < 1000 {
		t.Parallel()
	}
	h := &hosts{T: t, address: "0.0.0.0:0"}
	o := newOutageAt(t, *outageApps, func(handler http.Handler) func(n int) string {
		h.handler = handler
		h.open()
		t.Cleanup(h.close)
		return h.urlOf
	}, func(c *config.Config) { c.Incident.OpenAfter = cutOpensAfter })
	o.status.Store(http.StatusNoContent)
	h.close()
	began, known := time.Now(), time.Duration(0)
	o.call("POST", "/v1/state-changes", `{"tenant":"`+outageTenant+`","change_type":"suspend"}`)
	w, most := watch{since: began}, 0
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	look := func() {
		<-tick.C
		m := o.metrics()
		w.look(m)
		if known == 0 && m["lamplighter_common_cause_since_timestamp_seconds"] > 0 {
			known = time.Since(began)
		}
		if time.Since(o.looked) >= lookEvery {
			o.looked = time.Now()
			most = max(most, o.opened())
		}
	}
	for time.Since(began) < cutFor {
		look()
	}
	failing := o.metrics()["lamplighter_common_cause_hosts"]
	h.open()
	mended := time.Now()
	left := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.apps - len(o.told)
	}
	for left() > 0 && time.Since(mended) < time.Minute+gateAtMost {
		look()
	}
	took := time.Since(mended)
	for time.Since(mended) < took+settledAfter {
		look()
	}
	m := o.metrics()
	t.Logf("%d apps: known after %v with %v hosts, %d incidents; all told %v after the mending; common cause over: %v; a loop was late by %v at most (%s)",
		o.apps, known, failing, most, took, m["lamplighter_common_cause_since_timestamp_seconds"] == 0, w.age, w.loop)
	if most != 0 || known == 0 || known > time.Minute || failing != float64(o.apps) || m["lamplighter_common_cause_since_timestamp_seconds"] != 0 {
		t.Error("somebody is blamed, or nobody knows")
	}
	if n := left(); n > 0 || took > gateAtMost+loopsWithin {
		t.Errorf("%d apps are not told, the last that was %v after the mending", n, took)
	}
}
