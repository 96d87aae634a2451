package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestAJobOutlivesItsWorkers kills the worker in the middle of a resync, up to three times while it lasts: the job ends, every tenant is told, and
// twice only who was in flight or on a page at hand. Then the app is deleted, and its job leaves nothing behind.
func TestAJobOutlivesItsWorkers(t *testing.T) {
	t.Parallel()
	const tenants, kills, page = 6000, 3, 200
	s := newStack(t, "everysec")
	s.serve("api")
	worker := s.serve("worker")
	r := newReceiver(t, "app1")
	names := tenantNames(tenants)
	s.register(r, "ES256", names)
	tr := newTruth()
	s.all(tr, "first", names, 2)
	awaitSettled(t, tr, 2*time.Minute, r)
	s.quiet(r)
	told := func() (total, least int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		least = 1 << 30
		for _, name := range names {
			n := r.tenants[name].statuses
			total, least = total+n, min(least, n)
		}
		return total, least
	}
	before, _ := told()
	var started struct {
		Job     string
		Tenants int
	}
	s.want(http.StatusAccepted, &started, http.MethodPost, "/v1/apps/app1/resync", "{}")
	if started.Tenants != tenants {
		t.Errorf("%d tenants", started.Tenants)
	}
	job := func() (state string, done int) {
		var j struct {
			State string
			Done  int
		}
		s.want(http.StatusOK, &j, http.MethodGet, "/v1/jobs/"+started.Job, "")
		return j.State, j.Done
	}
	rdb := s.redis.Client(t)
	killed, inFlight := 0, 0
	for at := 0; killed < kills; killed++ {
		state := ""
		redistest.Eventually(t, time.Minute, "the job to go on", func() bool {
			var done int
			state, done = job()
			return state != "running" || done > at
		})
		if state != "running" {
			break
		}
		worker.kill()
		inFlight += int(rdb.ZCard(t.Context(), "lamplighter:{app1}:flight").Val()) // claimed, and perhaps told
		_, at = job()
		worker.start()
	}
	redistest.Eventually(t, 2*time.Minute, "the job to end", func() bool { state, _ := job(); return state == "done" })
	s.quiet(r)
	total, least := told()
	twice := total - before - tenants
	t.Logf("a resync of %d tenants, its worker killed %d times with %d in flight: %d told twice", tenants, killed, inFlight, twice)
	if least < 2 {
		t.Error("somebody was not told again")
	}
	if killed == 0 || twice > inFlight+killed*page {
		t.Errorf("killed %d times with %d in flight, %d told twice", killed, inFlight, twice)
	}
	s.want(http.StatusNoContent, nil, http.MethodDelete, "/v1/apps/app1", "")
	redistest.Eventually(t, time.Minute, "what is left to be cleared away", func() bool {
		var list struct {
			Items []struct{ Kind, State string }
		}
		s.want(http.StatusOK, &list, http.MethodGet, "/v1/jobs?client_id=app1", "")
		return list.Items[0].Kind == "clear" && list.Items[0].State == "done"
	})
	for _, name := range []string{names[0], names[tenants-1]} {
		if n := rdb.Exists(t.Context(), "lamplighter:{"+name+"}:approvals").Val(); n != 0 {
			t.Errorf("the index of %s is left", name)
		}
	}
	for _, key := range rdb.Keys(t.Context(), "lamplighter:{app1}:*").Val() {
		if rdb.TTL(t.Context(), key).Val() <= 0 {
			t.Errorf("%s is left for good", key)
		}
	}
	r.healthy()
}
