package e2e_test

import (
	"io"
	"net/http"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestRestoreOfAnOldCopy goes the way of docs/operations.md: Redis is lost, a copy from before the newest
// changes takes its place, each app is told again what the copy knows, and what the platform reports
// again and anew arrives in order.
func TestRestoreOfAnOldCopy(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	processes := []*process{s.serve("api"), s.serve("worker")}
	names := tenantNames(60)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		s.register(r, "ES256", names)
	}
	tr := newTruth()
	s.all(tr, "before", names, 2)
	awaitSettled(t, tr, 30*time.Second, rs...)
	copied := filepath.Join(t.TempDir(), "copy.rdb")
	if err := s.redis.Snapshot(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	lost := newTruth()
	s.all(lost, "after", names, 3) // the copy does not know that all are back
	awaitSettled(t, lost, 30*time.Second, rs...)
	for _, p := range processes {
		if err := p.terminate(); err != nil {
			t.Error(err)
		}
	}
	s.redis.Kill()

	s.redis = redistest.StartOn(t, copied)
	s.env = append(s.env, "LAMPLIGHTER_REDIS_URL=redis://"+s.redis.Addr+"/0")
	for _, p := range processes {
		p.start()
	}
	s.resync(rs...)
	s.quiet(rs...)
	older := 0
	for _, name := range names {
		for _, r := range rs {
			r.mu.Lock()
			if r.tenants[name].status == 2 {
				older++
			}
			r.mu.Unlock()
		}
	}
	t.Logf("after the resync %d of %d pairs were told the state of the copy", older, len(names)*len(rs))
	if older != len(names)*len(rs) {
		t.Error("the resync did not tell every app what the copy knows")
	}
	for _, r := range rs { // receivers that drop smaller sequences keep the lost truth until the platform reports again
		r.mu.Lock()
		r.backwards = nil
		r.mu.Unlock()
	}
	again := newTruth()
	s.all(again, "again", names, 3)
	awaitSettled(t, again, 30*time.Second, rs...)
	s.quiet(rs...)
	s.agree(again, rs...)
	for _, r := range rs {
		r.healthy() // what is reported after the restore is newer than all that was lost
	}
}

// TestFullDisk lets the disk under Redis' append-only file be full: changes are refused in words, nothing
// that was accepted is lost, and all goes on by itself when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	signal.Ignore(syscall.SIGXFSZ) // so does redis-server, which inherits it: a write beyond the limit fails
	s := newStack(t, "everysec")
	p := s.serve("api,worker")
	names := tenantNames(100)
	r := newReceiver(t, "app1")
	s.register(r, "ES256", names)
	tr := newTruth()
	s.all(tr, "before", names, 2)
	awaitSettled(t, tr, 30*time.Second, r)
	limit := func(bytes string) {
		t.Helper()
		out, err := exec.Command("prlimit", "--pid", strconv.Itoa(s.redis.PID()), "--fsize="+bytes).CombinedOutput()
		if err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	limit("1024:unlimited")
	redistest.Eventually(t, 30*time.Second, "changes are refused", func() bool {
		status, _ := s.call(http.MethodPost, "/v1/state-changes", "application/json", []byte(`{"tenant":"Cust1","change_type":"suspend"}`))
		return status == http.StatusServiceUnavailable
	})
	redistest.Eventually(t, 30*time.Second, "readiness says it", func() bool {
		resp, err := probes.Get("http://" + p.ops + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(b), "cannot write to its disk")
	})
	redistest.Eventually(t, time.Minute, "metrics say it", func() bool { return p.metric("lamplighter_redis_check_failing", `check="persistence"`) == 1 })
	if !strings.Contains(s.logs(), "MISCONF") {
		t.Error("no log says that Redis cannot write to its disk")
	}
	limit("unlimited:unlimited")
	redistest.Eventually(t, 30*time.Second, "the process is ready again", p.ready)
	s.all(tr, "after", names, 3)
	awaitSettled(t, tr, 30*time.Second, r)
	s.quiet(r)
	s.agree(tr, r)
	r.healthy()
}
