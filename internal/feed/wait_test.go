package feed_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// result is what one engine heard, and when.
type result struct {
	answer feed.Answer
	err    error
	at     time.Time
}

// wait has an engine wait for a change.
func (r *rig) wait(ctx context.Context, revision string, patience time.Duration) <-chan result {
	out := make(chan result, 1)
	go func() {
		a, err := r.feed.ChangesSince(ctx, revision, patience)
		out <- result{a, err, time.Now()}
	}()
	return out
}

func (r *rig) waiters(reg *prometheus.Registry) int {
	families, err := reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "lamplighter_config_feed_waiters" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return -1
}

func counted(reg *prometheus.Registry) func(*feed.Options) {
	return func(o *feed.Options) { o.Metrics = feed.NewMetrics(reg) }
}

func TestWaitersOfAllReplicasHearOfAChange(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		reg := prometheus.NewRegistry()
		near, far := newRig(t, rdb), newRig(t, rdb, counted(reg))
		near.put(app("a"))
		known := near.snapshot()
		const engines = 50
		var heard [2][]<-chan result
		for range engines {
			heard[0] = append(heard[0], near.wait(t.Context(), known.Revision, time.Minute))
			heard[1] = append(heard[1], far.wait(t.Context(), known.Revision, time.Minute))
		}
		redistest.Eventually(t, 10*time.Second, "all wait", func() bool { return far.waiters(reg) == engines })
		near.put(app("a", off))
		near.feed.PollNow()
		var first string
		for _, replica := range heard {
			for _, ch := range replica {
				res := <-ch
				h := near.read(res.answer, res.err)
				if h.Complete || len(h.Apps) != 1 || h.Apps[0].Endpoints["erp_sync"].Enabled {
					t.Fatalf("heard %+v", h)
				}
				if first == "" {
					first = h.Revision
				}
				if h.Revision != first {
					t.Fatalf("one heard of revision %s, another of %s", first, h.Revision)
				}
			}
		}
		redistest.Eventually(t, 10*time.Second, "nobody waits", func() bool { return far.waiters(reg) == 0 })
	})
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	r := newRig(t, redistest.Mini(t), counted(reg))
	r.put(app("a"))
	known := r.snapshot().Revision
	none := func(what string, res result) {
		t.Helper()
		if h := r.read(res.answer, res.err); h.Complete || len(h.Apps) != 0 || h.Revision != known {
			t.Errorf("%s: %+v", what, h)
		}
	}
	none("time over", <-r.wait(t.Context(), known, 20*time.Millisecond))

	// an engine that leaves is forgotten
	ctx, leave := context.WithCancel(t.Context())
	left := r.wait(ctx, known, time.Minute)
	redistest.Eventually(t, 10*time.Second, "it waits", func() bool { return r.waiters(reg) == 1 })
	leave()
	if res := <-left; !errors.Is(res.err, context.Canceled) {
		t.Errorf("one that left: %v", res.err)
	}
	redistest.Eventually(t, 10*time.Second, "it is forgotten", func() bool { return r.waiters(reg) == 0 })

	// a stop answers who waits, and who comes later does not wait
	stopped := r.wait(t.Context(), known, time.Minute)
	redistest.Eventually(t, 10*time.Second, "it waits", func() bool { return r.waiters(reg) == 1 })
	r.feed.Stop()
	r.feed.Stop()
	none("stopped", <-stopped)
	none("after the stop", <-r.wait(t.Context(), known, time.Minute))
}

func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	r := newRig(t, redistest.Mini(t), counted(reg), func(o *feed.Options) { o.Waiters = 2 })
	ctx, leave := context.WithCancel(t.Context())
	first, second := r.wait(ctx, "0", time.Minute), r.wait(ctx, "0", time.Minute)
	redistest.Eventually(t, 10*time.Second, "two wait", func() bool { return r.waiters(reg) == 2 })
	if res := <-r.wait(t.Context(), "0", time.Minute); !errors.Is(res.err, feed.ErrBusy) {
		t.Errorf("a third: %v, want ErrBusy", res.err)
	}
	if h := r.since("0"); h.Complete {
		t.Errorf("one that does not wait: %+v", h)
	}
	leave()
	<-first
	<-second
	if res := <-r.wait(t.Context(), "0", time.Millisecond); res.err != nil {
		t.Errorf("after they left: %v", res.err)
	}
}

func TestEnginesWaitThroughAnOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	r.put(app("a"))
	known := r.snapshot().Revision
	waiting := r.wait(t.Context(), known, time.Minute)
	redistest.Eventually(t, 10*time.Second, "it is polled", func() bool { return r.polls.Load() > 4 })
	r.down.Store(true)
	before := r.polls.Load()
	redistest.Eventually(t, 10*time.Second, "it is polled on", func() bool { return r.polls.Load() > before+2 })
	if _, err := r.feed.Snapshot(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("snapshot of nothing: %v", err)
	}
	r.put(app("a", off))
	r.down.Store(false)
	res := <-waiting
	if h := r.read(res.answer, res.err); len(h.Apps) != 1 {
		t.Errorf("heard %+v", h)
	}
}

func TestNobodyWaitingCostsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	const patience = 300 * time.Millisecond
	var engines sync.WaitGroup
	start := time.Now()
	for range 200 {
		engines.Go(func() { <-r.wait(t.Context(), "0", patience) })
	}
	engines.Wait()
	spent := r.polls.Load()
	// one read for each that came, and one in each interval however many wait
	if most := 200 + int64(time.Since(start)/(10*time.Millisecond)) + 2; spent > most {
		t.Errorf("200 engines cost %d reads, want at most %d", spent, most)
	}
	<-time.After(100 * time.Millisecond) // ten intervals in which nobody waits
	if more := r.polls.Load() - spent; more > 1 {
		t.Errorf("%d reads for nobody", more)
	}
}

func BenchmarkSnapshot1000(b *testing.B) {
	r := newRig(b, redistest.Real(b))
	for i := range 1000 {
		r.put(app("app" + strconv.Itoa(i)))
	}
	a, err := r.feed.Snapshot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(len(a.Body)), "bytes")
		for b.Loop() {
			if _, err := r.feed.Snapshot(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("anew", func(b *testing.B) {
		b.ReportAllocs()
		on := true
		for b.Loop() {
			b.StopTimer()
			if on = !on; on {
				r.put(app("app0"))
			} else {
				r.put(app("app0", off))
			}
			b.StartTimer()
			if _, err := r.feed.Snapshot(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Benchmark500Waiters measures, on a real redis-server, how long after a switch the last of 500
// waiting engines has its answer, at the interval that serve uses.
func Benchmark500Waiters(b *testing.B) {
	r := newRig(b, redistest.Real(b), func(o *feed.Options) { o.Poll = feed.DefaultPoll })
	for i := range 1000 {
		r.put(app("app" + strconv.Itoa(i)))
	}
	var total, worst time.Duration
	polls, rounds := int64(0), 0
	for b.Loop() {
		revision, err := r.feed.Revision(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		var heard []<-chan result
		for range 500 {
			heard = append(heard, r.wait(b.Context(), revision, time.Minute))
		}
		<-time.After(time.Second) // engines wait
		before := r.polls.Load()
		a := app("app0")
		a.Endpoints[1].URL = "https://erp.example/" + strconv.Itoa(rounds)
		start := time.Now()
		r.put(a)
		for _, ch := range heard {
			res := <-ch
			if res.err != nil {
				b.Fatal(res.err)
			}
			worst = max(worst, res.at.Sub(start))
		}
		total += time.Since(start)
		polls += r.polls.Load() - before
		rounds++
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(rounds), "ms/last-of-500")
	b.ReportMetric(float64(worst.Milliseconds()), "ms/worst")
	b.ReportMetric(float64(polls)/float64(rounds), "polls/change")
}
