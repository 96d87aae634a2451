package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// storeCheck is what /readyz says of the store; code is the whole answer's.
type storeCheck struct {
	code            int
	ok              bool
	detail, warning string
}

func (p *process) storeCheck() (c storeCheck) {
	resp, err := probes.Get("http://" + p.ops + "/readyz")
	if err != nil {
		return c
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Checks []struct {
			Name, Detail, Warning string
			OK                    bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return c
	}
	for _, one := range answer.Checks {
		if one.Name == "store" {
			return storeCheck{resp.StatusCode, one.OK, one.Detail, one.Warning}
		}
	}
	return c
}

// looks are how often each process looked at its store.
func looks(t *testing.T, rdb *redis.Client) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, key := range rdb.Keys(t.Context(), "lamplighter:{config}:count:*").Val() {
		n, err := rdb.Get(t.Context(), key).Int()
		if err != nil {
			t.Fatal(err)
		}
		out[key] = n
	}
	return out
}

// accept runs lamplighter store accept with the bootstrap token.
func (s *stack) accept() {
	s.t.Helper()
	cmd := exec.Command(s.bin, "store", "accept", "--yes", "--server", "http://"+s.api)
	cmd.Env = append(os.Environ(), "LAMPLIGHTER_SERVER=http://"+s.api, "LAMPLIGHTER_TOKEN="+adminToken)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("lamplighter store accept: %v\n%s", err, out)
	}
	s.t.Logf("lamplighter store accept:\n%s", out)
}

// bootstrapped waits until the bootstrap token is in the store again.
func (s *stack) bootstrapped() {
	s.t.Helper()
	rdb := s.redis.Client(s.t)
	redistest.Eventually(s.t, 15*time.Second, "the bootstrap token is back", func() bool {
		return rdb.HLen(s.t.Context(), "lamplighter:{config}:tokens").Val() == 1
	})
}

// refusesStore waits until every process refuses its store, and checks how it says so.
func refusesStore(t *testing.T, word, reason string, ps ...*process) {
	t.Helper()
	for _, p := range ps {
		redistest.Eventually(t, 10*time.Second, p.roles+" refuses the store: "+reason, func() bool {
			c := p.storeCheck()
			return c.code == http.StatusServiceUnavailable && !c.ok && strings.Contains(c.detail, word)
		})
		if got := p.metric("lamplighter_store_changed", `reason="`+reason+`"`); got != 1 {
			t.Errorf("%s: lamplighter_store_changed is %v for %s", p.roles, got, reason)
		}
	}
}

// usesStore waits until every process is ready, with or without a warning about its store.
func usesStore(t *testing.T, warned bool, ps ...*process) {
	t.Helper()
	for _, p := range ps {
		redistest.Eventually(t, 15*time.Second, p.roles+" uses the store", func() bool {
			c := p.storeCheck()
			return c.code == http.StatusOK && c.ok && (c.warning != "") == warned
		})
		if got := p.metric("lamplighter_store_went_back") == 1; got != warned {
			t.Errorf("%s: lamplighter_store_went_back tells of it: %v, want %v", p.roles, got, warned)
		}
	}
}

// works shows that changes are accepted and delivered by an app that is registered anew.
func (s *stack) works(id, prefix string) {
	s.t.Helper()
	r := newReceiver(s.t, id)
	names := []string{"Cust1", "Cust2", "Cust3"}
	s.register(r, "RS256", names)
	tr := newTruth()
	s.all(tr, prefix, names, 2)
	awaitSettled(s.t, tr, 30*time.Second, r)
}

// TestFlushedStore empties Redis under two APIs and a worker. Nobody hears that their token or tenant does not
// exist, nothing is accepted, and all go on when the store is accepted through one of them.
func TestFlushedStore(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	ps := []*process{s.serve("api"), s.another(), s.serve("worker")}
	s.works("app1", "before")
	rdb := s.redis.Client(t)
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	flushed := time.Now()
	answers := map[int]int{}
	for time.Since(flushed) < 3*time.Second {
		for _, path := range []string{"/v1/apps", "/api/state/Cust1"} {
			status, _ := s.call(http.MethodGet, path, "", nil)
			answers[status]++
		}
	}
	if answers[http.StatusServiceUnavailable] == 0 || len(answers) != 1 {
		t.Errorf("after the loss the answers were %v, want 503 alone", answers)
	}
	t.Logf("answers in the 3 s after FLUSHALL: %v", answers)
	refusesStore(t, "lost its identity", "gone", ps...)
	status, body := s.call(http.MethodPost, "/v1/state-changes", "application/json", []byte(`{"tenant":"Cust1","change_type":"suspend"}`))
	if status != http.StatusServiceUnavailable || !strings.Contains(string(body), ":store-changed") {
		t.Errorf("a change was answered %d %s", status, body)
	}
	if keys := rdb.Keys(t.Context(), "lamplighter:{Cust*").Val(); len(keys) != 0 {
		t.Errorf("the empty store has %v", keys)
	}

	// one that starts now cannot know; the others then see another store
	late := s.another()
	refusesStore(t, "another identity", "other", ps...)
	usesStore(t, false, late)
	s.bootstrapped()
	s.accept()
	usesStore(t, false, append(ps, late)...)
	s.works("app2", "after")
	var audit struct{ Items []struct{ Action string } }
	s.want(http.StatusOK, &audit, http.MethodGet, "/v1/audit?limit=500", "")
	if !slices.ContainsFunc(audit.Items, func(i struct{ Action string }) bool { return i.Action == "store.accept" }) {
		t.Errorf("the audit does not tell of it: %v", audit.Items)
	}
}

// TestRedisThatForgets restarts a Redis without persistence, as a failover to an empty replica would: while it
// is away nothing is said to be lost, then it is.
func TestRedisThatForgets(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--save", "")
	s := newStackOn(t, "redis://"+p.Addr+"/0", "LAMPLIGHTER_REDIS_WAIVE_CHECKS=persistence")
	s.redis = p
	ps := []*process{s.serve("api"), s.serve("worker")}
	s.works("app1", "before")
	p.Kill()
	for _, one := range ps {
		redistest.Eventually(t, 10*time.Second, "Redis is away", func() bool { return one.storeCheck().code == http.StatusServiceUnavailable })
	}
	away := time.NewTimer(4 * time.Second) // several looks fail
	for waiting := true; waiting; {
		select {
		case <-away.C:
			waiting = false
		default:
			for _, one := range ps {
				if c := one.storeCheck(); !c.ok || c.warning != "" {
					t.Fatalf("%s says of the store while Redis is away: %+v", one.roles, c)
				}
			}
		}
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	refusesStore(t, "lost its identity", "gone", ps...)
	s.bootstrapped()
	s.accept()
	usesStore(t, false, ps...)
	s.works("app2", "after")
}

// TestOldCopyUnderARunningService: Redis comes back with an older copy. The service goes on, with a warning, and
// owes a fast comparison. A copy from before there were identities is refused.
func TestOldCopyUnderARunningService(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--save", "")
	s := newStackOn(t, "redis://"+p.Addr+"/0", "LAMPLIGHTER_REDIS_WAIVE_CHECKS=persistence")
	s.redis = p
	ps := []*process{s.serve("api"), s.serve("worker")}
	s.works("app1", "before")
	rdb := p.Client(t)
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	saved := looks(t, rdb)
	s.works("app2", "lost") // app2 raises the revision
	redistest.Eventually(t, 10*time.Second, "each process looked again", func() bool {
		for key, n := range looks(t, rdb) {
			if n < saved[key]+2 {
				return false
			}
		}
		return true
	})
	p.Kill()
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	usesStore(t, true, ps...)
	if asked := rdb.Get(t.Context(), "lamplighter:{config}:fast_round").Val(); asked == "" {
		t.Error("no fast round was asked for")
	}
	s.works("app3", "went-back")
	usesStore(t, true, ps...)
	s.accept()
	usesStore(t, false, ps...)

	if err := rdb.Del(t.Context(), "lamplighter:{config}:identity").Err(); err != nil {
		t.Fatal(err)
	}
	refusesStore(t, "lost its identity", "gone", ps...)
	s.accept() // its tokens are there
	usesStore(t, false, ps...)
}
