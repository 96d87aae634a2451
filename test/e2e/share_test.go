package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestTwoDeploymentsShareARedis runs two with the same apps and tenants on one Redis, apart by redis.prefix alone:
// each tells its own receivers its own changes, by its own workers. Another environment under a prefix that is
// owned is refused.
func TestTwoDeploymentsShareARedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	names := tenantNames(40)
	type deployment struct {
		*stack
		worker *process
		r      *receiver
		tr     *truth
	}
	var both []*deployment
	for _, prefix := range []string{"east", "west"} {
		d := &deployment{stack: newStackOn(t, "redis://"+server.Addr+"/0", "LAMPLIGHTER_REDIS_PREFIX="+prefix), r: newReceiver(t, "app1"), tr: newTruth()}
		d.serve("api")
		d.worker = d.serve("worker")
		d.register(d.r, "ES256", names)
		both = append(both, d)
	}
	east, west := both[0], both[1]
	east.all(east.tr, "one", names, 2)
	west.all(west.tr, "one", names, 0) // the same key, another change
	for _, d := range both {
		awaitSettled(t, d.tr, 30*time.Second, d.r)
	}
	if err := west.worker.terminate(); err != nil {
		t.Error(err)
	}
	west.all(west.tr, "two", names, 3)
	east.all(east.tr, "two", names[:20], 3)
	awaitSettled(t, east.tr, 30*time.Second, east.r)
	east.quiet(east.r)
	if n := len(west.r.settled(west.tr)); n != len(names) {
		t.Errorf("%d changes of the deployment without workers were told by those of the other", len(names)-n)
	}
	west.worker.start()
	awaitSettled(t, west.tr, 30*time.Second, west.r)
	for _, d := range both {
		d.quiet(d.r)
		d.agree(d.tr, d.r)
		d.r.healthy() // tokens and signatures are of its own keys
	}
	for _, key := range server.Client(t).Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, "east:") && !strings.HasPrefix(key, "west:") && !strings.HasPrefix(key, "asynq:") {
			t.Errorf("a key of nobody: %s", key)
		}
	}
	other := newStackOn(t, "redis://"+server.Addr+"/0", "LAMPLIGHTER_REDIS_PREFIX=east", "LAMPLIGHTER_ENVIRONMENT=stage")
	p := &process{stack: other, bin: other.bin, roles: "api", listen: other.api, ops: other.ops}
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	redistest.Eventually(t, 30*time.Second, "the process ends", p.gone)
	for _, word := range []string{"east", "online", "stage"} {
		if !strings.Contains(other.logs(), word) {
			t.Errorf("it does not say %q:\n%s", word, other.logs())
		}
	}
	if status, b := east.call(http.MethodGet, "/v1/apps/app1", "", nil); status != http.StatusOK {
		t.Errorf("the owner was disturbed: %d %s", status, b)
	}
}
