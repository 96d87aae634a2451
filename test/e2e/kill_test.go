package e2e_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// kills is how often each kill test kills.
const kills = 10

// patience is how long a reporter repeats a batch: longer than any outage of these tests.
const patience = 3 * time.Minute

// load reports random changes until it is stopped, several reporters at once, each with tenants of
// its own so that the order of a tenant's changes is known.
type load struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	sent  atomic.Int64
	error atomic.Pointer[error]
	// pause is what each reporter leaves between two batches.
	pause time.Duration
}

func (s *stack) load(tr *truth, names []string, reporters, batch int) *load {
	return s.pacedLoad(tr, names, reporters, batch, 5*time.Millisecond)
}

func (s *stack) pacedLoad(tr *truth, names []string, reporters, batch int, pause time.Duration) *load {
	ctx, cancel := context.WithCancel(s.t.Context())
	l := &load{stop: cancel, pause: pause}
	run := strconv.FormatUint(rand.Uint64(), 36) // keys of another load are not this one's
	for w := range reporters {
		mine := names[w*len(names)/reporters : (w+1)*len(names)/reporters]
		l.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				var changes []change
				for range batch {
					changes = append(changes, randomChange(mine[rand.IntN(len(mine))]))
				}
				// a batch that was begun is finished: its key makes the repeats harmless
				finish, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
				err := s.publish(finish, tr, run+"-"+strconv.Itoa(w)+"-"+strconv.Itoa(i), changes)
				stop()
				if err != nil {
					l.error.Store(&err)
					return
				}
				l.sent.Add(int64(batch))
				select {
				case <-ctx.Done():
				case <-time.After(l.pause):
				}
			}
		})
	}
	return l
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	if err := l.error.Load(); err != nil {
		t.Fatal(*err)
	}
}

// slow makes a receiver take a while and fail now and then, so that kills meet posts in flight.
func slow(notification) int {
	<-time.After(time.Duration(rand.IntN(4)) * time.Millisecond) // the receiver's own work
	if rand.IntN(20) == 0 {
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// report sums the receivers up and fails the test on anything lost or out of order.
func report(t *testing.T, what string, tr *truth, l *load, rs []*receiver) {
	t.Helper()
	posts, duplicates, backwards := 0, 0, 0
	for _, r := range rs {
		r.healthy()
		r.mu.Lock()
		posts += r.posts
		duplicates += r.duplicates
		backwards += len(r.backwards)
		r.mu.Unlock()
	}
	t.Logf("%s: %d changes accepted, %d notifications taken; lost 0, out of order %d, duplicates %d", what, l.sent.Load(), posts, backwards, duplicates)
	if l.sent.Load() < 500 {
		t.Errorf("only %d changes: the load was too small to mean anything", l.sent.Load())
	}
	_ = tr
}

func TestNothingIsLostWhenWorkersAreKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api")
	workers := []*process{s.serve("worker"), s.serve("worker")}
	names := tenantNames(3000) // so many that what a kill cut off is rarely replaced before it is told again
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		r.answer = slow
		s.register(r, "ES256", names)
	}
	tr := newTruth()
	l := s.load(tr, names, 4, 20)
	for i := range kills {
		wait(t, time.Duration(300+rand.IntN(500))*time.Millisecond)
		w := workers[i%len(workers)]
		w.kill()
		w.start()
	}
	l.end(t)
	awaitSettled(t, tr, time.Minute, rs...)
	report(t, strconv.Itoa(kills)+" SIGKILLs of workers", tr, l, rs)
	s.agree(tr, rs...)
}

func TestNothingIsLostWhenTheAPIIsKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	api := s.serve("api")
	s.serve("worker")
	names := tenantNames(300)
	rs := []*receiver{newReceiver(t, "app1")}
	s.register(rs[0], "ES256", names)
	tr := newTruth()
	l := s.load(tr, names, 4, 20)
	for range kills {
		wait(t, time.Duration(200+rand.IntN(300))*time.Millisecond)
		api.kill()
		api.start()
	}
	l.end(t)
	awaitSettled(t, tr, time.Minute, rs...)
	report(t, strconv.Itoa(kills)+" SIGKILLs of the API", tr, l, rs)
	s.agree(tr, rs...)
}

func TestNothingIsLostWhenRedisIsKilled(t *testing.T) {
	t.Parallel()
	s, tr, l, rs := killRedis(t, "always")
	awaitSettled(t, tr, time.Minute, rs...)
	report(t, strconv.Itoa(kills)+" SIGKILLs of redis-server (appendfsync always)", tr, l, rs)
	s.agree(tr, rs...)
}

// TestWhatEverysecLosesIsTrueAgainAfterAResync measures what a weaker Redis loses, which is Redis's
// to lose, and shows what the service owes all the same: order, and the same truth by push and by
// pull once the apps are told again.
func TestWhatEverysecLosesIsTrueAgainAfterAResync(t *testing.T) {
	t.Parallel()
	s, tr, l, rs := killRedis(t, "everysec")
	s.quiet(rs...)
	lost := 0
	for _, r := range rs {
		lost += len(r.settled(tr))
	}
	t.Logf("%d SIGKILLs of redis-server (appendfsync everysec): %d of %d accepted changes lost to Redis, counted per app", kills, lost, l.sent.Load())
	s.resync(rs...)
	s.quiet(rs...)
	for name := range tr.newest {
		s.sameStatus(name, rs...)
	}
	for _, r := range rs {
		r.healthy()
	}
}

// resync has apps told of all their tenants again, and waits for the jobs.
func (s *stack) resync(rs ...*receiver) {
	s.t.Helper()
	made := make([]string, len(rs))
	for i, r := range rs {
		var a struct{ Job string }
		s.want(http.StatusAccepted, &a, http.MethodPost, "/v1/apps/"+r.id+"/resync", "{}")
		made[i] = a.Job
	}
	for _, id := range made {
		redistest.Eventually(s.t, time.Minute, "job "+id+" is done", func() bool {
			var j struct{ State string }
			s.want(http.StatusOK, &j, http.MethodGet, "/v1/jobs/"+id, "")
			return j.State == "done"
		})
	}
}

// quiet waits until nothing waits for any of the apps.
func (s *stack) quiet(rs ...*receiver) {
	s.t.Helper()
	for _, r := range rs {
		redistest.Eventually(s.t, time.Minute, r.id+" has nothing waiting", func() bool {
			var box struct {
				Diverged int `json:"diverged_tenants"`
			}
			s.want(http.StatusOK, &box, http.MethodGet, "/v1/apps/"+r.id+"/mailbox", "")
			return box.Diverged == 0
		})
	}
}

func killRedis(t *testing.T, fsync string) (*stack, *truth, *load, []*receiver) {
	t.Helper()
	s := newStack(t, fsync)
	s.serve("api,worker")
	names := tenantNames(3000) // so many that what a kill cut off is rarely replaced before it is told again
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		r.answer = slow
		s.register(r, "ES256", names)
	}
	tr := newTruth()
	l := s.load(tr, names, 4, 20)
	for range kills {
		wait(t, time.Duration(300+rand.IntN(500))*time.Millisecond)
		s.redis.Kill()
		if err := s.redis.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	l.end(t)
	return s, tr, l, rs
}
