package e2e_test

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// logs is what every process of the stack has logged.
func (s *stack) logs() string {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "serve-*.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	var all strings.Builder
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			s.t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// metric sums the series of a metric that a process exports whose labels hold all of parts.
func (p *process) metric(name string, parts ...string) float64 {
	p.stack.t.Helper()
	resp, err := probes.Get("http://" + p.ops + "/metrics")
	if err != nil {
		p.stack.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.stack.t.Fatal(err)
	}
	sum := 0.0
series:
	for line := range strings.Lines(string(b)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || (series != name && !strings.HasPrefix(series, name+"{")) {
			continue
		}
		for _, part := range parts {
			if !strings.Contains(series, part) {
				continue series
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.stack.t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

// all reports one change of every tenant.
func (s *stack) all(tr *truth, key string, names []string, kind int) {
	s.t.Helper()
	var changes []change
	for _, n := range names {
		changes = append(changes, change{n, kind})
	}
	if err := s.publish(s.t.Context(), tr, key, changes); err != nil {
		s.t.Fatal(err)
	}
}

// TestReceiversThatMisbehave: each way shows its reason, holds up nobody else, and ends with the truth
// once the receiver is well.
func TestReceiversThatMisbehave(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	p := s.serve("api,worker")
	names := tenantNames(40)
	wellOne := newReceiver(t, "well")
	s.register(wellOne, "ES256", names)
	var sent atomic.Int64
	gigabyte := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		w.WriteHeader(http.StatusBadGateway)
		chunk := make([]byte, 64<<10)
		for range (1 << 30) / len(chunk) {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				break
			}
		}
		return true
	}
	var sick []*receiver
	var cures []func()
	reasons := map[string]string{}
	for name, c := range map[string]struct {
		way    int32
		own    func(w http.ResponseWriter, req *http.Request) bool
		reason string
	}{
		"hangs": {hangs, nil, "timeout"}, "resets": {resets, nil, "reset"}, "trickles": {trickles, nil, "server_error"},
		"early": {answersBeforeReading, nil, "server_error"}, "half": {closesHalfway, nil, "reset"}, "gigabyte": {well, gigabyte, "server_error"},
		"busy": {answers429, nil, "rate_limited"},
	} {
		r := newReceiver(t, name)
		d := &sickness{receiver: r}
		d.set(c.way)
		var healed atomic.Bool
		r.behave = func(w http.ResponseWriter, req *http.Request) bool {
			if c.own != nil && !healed.Load() {
				return c.own(w, req)
			}
			return d.behave(w, req)
		}
		s.register(r, "ES256", names)
		sick, reasons[name] = append(sick, r), c.reason
		cures = append(cures, func() { d.cure(); healed.Store(true) })
	}
	tr := newTruth()
	s.all(tr, "k", names, 2)
	awaitSettled(t, tr, 20*time.Second, wellOne)
	for _, r := range sick {
		redistest.Eventually(t, 20*time.Second, r.id+" shows its reason", func() bool {
			var got struct {
				Items []struct {
					Reason string `json:"reason"`
				} `json:"items"`
			}
			s.want(http.StatusOK, &got, http.MethodGet, "/v1/apps/"+r.id+"/deliveries?limit=500", "")
			for _, i := range got.Items {
				if i.Reason == reasons[r.id] {
					return p.metric("lamplighter_delivery_attempts_total", `reason="`+reasons[r.id]+`"`) > 0
				}
			}
			return false
		})
		if n := len(r.settled(tr)); n != len(names) {
			t.Errorf("%s took %d of %d although it misbehaves", r.id, len(names)-n, len(names))
		}
	}
	if sent.Load() > 256<<20 {
		t.Errorf("%d MiB of an answer were read", sent.Load()>>20)
	}
	for _, cure := range cures {
		cure()
	}
	awaitSettled(t, tr, 30*time.Second, sick...)
	s.quiet(sick...)
	for _, r := range append(sick, wellOne) {
		r.healthy()
	}
}

// TestFullRedis: with Redis at maxmemory the intake answers 503 and says why, what waits is still told,
// and with memory again all goes on.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	p := s.serve("api,worker")
	names := tenantNames(300)
	r := newReceiver(t, "app1")
	var open atomic.Bool
	r.answer = func(notification) int {
		if !open.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
	s.register(r, "ES256", names)
	tr := newTruth()
	s.all(tr, "before", names, 2)
	redistest.Eventually(t, 20*time.Second, "every change is in the mailbox", func() bool {
		var box struct {
			Waiting int `json:"waiting"`
		}
		s.want(http.StatusOK, &box, http.MethodGet, "/v1/apps/app1/mailbox", "")
		return box.Waiting == len(names)
	})
	admin := s.redis.Client(t)
	if err := admin.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for _, contentType := range []string{"application/json", "application/x-ndjson"} {
		status, b := s.call(http.MethodPost, "/v1/state-changes", contentType, []byte(`{"tenant":"Cust10001","change_type":"resume"}`+"\n"))
		if status != http.StatusServiceUnavailable {
			t.Errorf("%s on a full Redis: status %d: %s", contentType, status, b)
		}
	}
	if n := p.metric("lamplighter_state_changes_total", `result="error"`); n == 0 {
		t.Error("no metric shows that changes were refused")
	}
	if !strings.Contains(s.logs(), "OOM") {
		t.Error("no log says that Redis is out of memory")
	}
	open.Store(true)
	awaitSettled(t, tr, 30*time.Second, r)
	s.quiet(r)
	if err := admin.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	s.all(tr, "after", names, 3)
	awaitSettled(t, tr, 30*time.Second, r)
	r.healthy()
}

// soakFrozen is longer than every lease of the stack's settings, as a minute is with the defaults, which
// are taken from a minute on.
var soakFrozen = flag.Duration("soak.frozen", 12*time.Second, "how long TestAFrozenWorkerIsReplaced freezes one, with default leases from 1m on")

// TestAFrozenWorkerIsReplaced freezes one of two workers under load for longer than its leases: the
// other takes over, and when the first goes on, its late results and posts do no harm.
func TestAFrozenWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	frozenFor := *soakFrozen
	var settings []string
	if frozenFor >= time.Minute {
		settings = []string{
			"LAMPLIGHTER_DELIVERY_TIMEOUT=10s", "LAMPLIGHTER_DELIVERY_ENTRY_LEASE=25s", "LAMPLIGHTER_DELIVERY_OWNER_LEASE=15s",
			"LAMPLIGHTER_DELIVERY_GRACE=10s", "LAMPLIGHTER_DELIVERY_SWEEP=5s", "LAMPLIGHTER_DELIVERY_DRAIN_BUDGET=5s",
		}
	}
	s := newStack(t, "everysec", settings...)
	s.serve("api")
	workers := []*process{s.serve("worker"), s.serve("worker")}
	names := tenantNames(300)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2"), newReceiver(t, "app3"), newReceiver(t, "app4")}
	for _, r := range rs {
		r.answer = func(notification) int {
			<-time.After(time.Duration(rand.IntN(40)) * time.Millisecond) // the receiver's own work
			return http.StatusOK
		}
		s.register(r, "ES256", names)
	}
	tr := newTruth()
	l := s.pacedLoad(tr, names, 2, 20, 200*time.Millisecond)
	wait(t, time.Second)
	frozen := workers[0]
	if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.cmd.Process.Signal(syscall.SIGCONT) }()
	began := time.Now()
	wait(t, frozenFor-4*time.Second)
	l.end(t)
	t.Cleanup(func() {
		if t.Failed() {
			for _, r := range rs {
				for _, missing := range r.settled(tr) {
					name, _, _ := strings.Cut(missing, " ")
					_, b, err := s.try(context.WithoutCancel(t.Context()), http.MethodGet, "/v1/apps/"+r.id+"/tenants/"+name+"/why", "", nil)
					t.Logf("%s %s: %s %v", r.id, missing, b, err)
				}
			}
		}
	})
	awaitSettled(t, tr, 30*time.Second, rs...) // by the other alone
	if left := frozenFor - time.Since(began); left > 0 {
		wait(t, left)
	}
	if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the worker is ready again", frozen.ready)
	l = s.pacedLoad(tr, names, 2, 20, 200*time.Millisecond)
	wait(t, time.Second)
	l.end(t)
	awaitSettled(t, tr, 30*time.Second, rs...)
	s.quiet(rs...)
	duplicates := 0
	for _, r := range rs {
		r.healthy()
		duplicates += r.duplicates
	}
	const most = 4 * 32 // what one worker may have in flight
	if duplicates > most {
		t.Errorf("%d notifications came twice, more than one worker can have in flight", duplicates)
	}
	t.Logf("a worker was frozen for %v: nothing lost, %d told twice", time.Since(began).Round(time.Second), duplicates)
}

// TestForeignMailbox puts into one app's mailbox what a newer version, or another program, would: that
// app stands still and the reason is said; the others go on; when it is gone, the app hears the truth.
func TestForeignMailbox(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ spoil, mend []any }{
		"NewerVersion": {
			[]any{"HSET", "lamplighter:{app1}:mailbox", "format", "99"}, []any{"HSET", "lamplighter:{app1}:mailbox", "format", "1"},
		},
		"OtherType": {
			[]any{"SET", "lamplighter:{app1}:waiting", "not ours"}, []any{"DEL", "lamplighter:{app1}:waiting"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, "everysec")
			p := s.serve("api,worker")
			names := tenantNames(20)
			rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
			for _, r := range rs {
				s.register(r, "ES256", names)
			}
			tr := newTruth()
			s.all(tr, "before", names, 2)
			awaitSettled(t, tr, 20*time.Second, rs...)
			s.quiet(rs...)
			admin := s.redis.Client(t)
			if err := admin.Do(t.Context(), c.spoil...).Err(); err != nil {
				t.Fatal(err)
			}
			s.all(tr, "after", names, 3)
			awaitSettled(t, tr, 20*time.Second, rs[1])
			if n := len(rs[0].settled(tr)); n == 0 {
				t.Error("the spoilt mailbox was delivered from, so that the test proves nothing")
			}
			redistest.Eventually(t, 20*time.Second, "the log names the app and the metrics show what is owed", func() bool {
				log := s.logs()
				return strings.Contains(log, "app1") && (strings.Contains(log, "FORMAT") || strings.Contains(log, "WRONGTYPE")) &&
					p.metric("lamplighter_fanouts_owed") > 0
			})
			if err := admin.Do(t.Context(), c.mend...).Err(); err != nil {
				t.Fatal(err)
			}
			awaitSettled(t, tr, 30*time.Second, rs...)
			for _, r := range rs {
				r.healthy()
			}
		})
	}
}
