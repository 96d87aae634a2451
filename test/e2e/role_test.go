package e2e_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestAReplicaForThePrimary makes the server that redis.url names a read-only replica, as a failover does that nobody
// follows: changes are refused and the reason is said, no process ends, and all goes on by itself when it is the
// primary again.
func TestAReplicaForThePrimary(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	p := s.serve("api,worker")
	names := tenantNames(100)
	well, away := newReceiver(t, "app1"), newReceiver(t, "away")
	s.register(well, "ES256", names)
	s.register(away, "ES256", names)
	away.stop()
	tr := newTruth()
	s.all(tr, "before", names, 2)
	awaitSettled(t, tr, 30*time.Second, well)
	heir := redistest.StartReplica(t, s.redis, "--appendonly", "yes")
	was, is := s.redis.Client(t), heir.Client(t)
	follow := func(of string) error {
		host, port, _ := net.SplitHostPort(of)
		return was.Do(t.Context(), "REPLICAOF", host, port).Err()
	}
	if err := is.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := follow(heir.Addr); err != nil {
		t.Fatal(err)
	}
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
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(b), "read-only replica")
	})
	if !strings.Contains(s.logs(), "READONLY") {
		t.Error("no log says why changes are refused")
	}
	away.start() // what waits for it stays
	if p.gone() {
		t.Fatal("the process ended")
	}
	redistest.Eventually(t, 30*time.Second, "it has the heir's data", func() bool { return redistest.Synced(t.Context(), was) })
	began := time.Now()
	if err := was.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 30*time.Second, "the process is ready again", p.ready)
	s.all(tr, "after", names[:50], 3)
	t.Logf("changes were accepted again %v after it was made the primary", time.Since(began).Round(time.Millisecond))
	awaitSettled(t, tr, 30*time.Second, well, away)
	s.quiet(well, away)
	s.agree(tr, well, away)
	well.healthy()
	away.healthy()
}
