package drain_test

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestNothingDueGivesBackAtOnce(t *testing.T) {
	bubble(t, func(r *rig) {
		r.run()
		r.expect(0, 0)
		r.free()
		if len(r.wakes) != 0 || r.box.count("exchange") != 1 || r.box.count("finish") != 1 || len(r.seen) != 0 {
			r.Errorf("wakes %v, calls %v, seen %v", r.wakes, r.box.calls, r.seen)
		}
	})
}

func TestEverythingDueIsTold(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(400)
		r.run()
		r.expect(400, 0)
		r.free()
		if r.most != 32 {
			r.Errorf("at most %d posts at once, want the cap of 32", r.most)
		}
		// 400 posts of 10 ms, 32 at a time after a start with 4, 8, 16
		if took := time.Since(r.posts[0].at); took > 200*time.Millisecond {
			r.Errorf("took %v", took)
		}
		if got := r.value("lamplighter_delivery_attempts_total", "delivered,none"); got != 400 {
			r.Errorf("counted %v deliveries", got)
		}
		if got := r.value("lamplighter_delivery_lag_seconds", "no"); got != 400 {
			r.Errorf("%v lags of deliveries that nothing held", got)
		}
		if len(r.seen) != 0 {
			r.Errorf("an endpoint that is and was well is no news: %+v", r.seen)
		}
	})
}

func TestReserveIsAsLargeAsTheCap(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(200)
		r.run()
		// four may run at first
		if got := slices.Max(r.box.wants); got > 64 || r.box.wants[0] != 36 {
			r.Errorf("asked for up to %d claims, first for %d", got, r.box.wants[0])
		}
	})
}

func TestCapOfOne(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(9)
		r.answer = only(500, 200) // the ramp after the outage must not pass the cap either
		r.run()
		r.follow()
		if r.most != 1 {
			r.Errorf("%d posts at once", r.most)
		}
	}, func(o *drain.Options) { o.InFlightPerApp = 1 })
}

// Apps that drain share the process's target; who comes to an end leaves its part to the others.
func TestShare(t *testing.T) {
	bubble(t, func(r *rig) {
		other := newBox()
		r.d = drain.New(func() drain.Options {
			o := r.opts
			o.Mailbox = boxes{app: r.box, "app2": other}
			return o
		}())
		r.d.Answered(drain.Endpoint{Life: mailbox.Life{App: app}, Revision: registryRevision})
		r.box.fill(300)
		for _, c := range []tenant.ChangeType{tenant.Suspend, tenant.Move, tenant.BackupRestored} { // one after the other
			other.deposit("slow", c)
		}
		r.latency = func(m delivery.Message) time.Duration {
			if m.Change.Tenant == "slow" {
				return 150 * time.Millisecond
			}
			return 100 * time.Millisecond
		}
		done := make(chan error, 2)
		go func() { done <- r.drain(r.Context(), "app2", 1) }()
		synctest.Wait()
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(440 * time.Millisecond)
		r.locked(func() {
			if r.most != 11 { // ten of its own beside the slow one
				r.Errorf("%d posts at once beside another app", r.most)
			}
			r.most = 0
		})
		<-done
		if err := <-done; err != nil || r.most != 20 {
			r.Errorf("%d posts at once when alone, %v", r.most, err)
		}
	}, func(o *drain.Options) { o.InFlight, o.InFlightPerApp = 20, 32 })
}

func TestFloor(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(50)
		r.run()
		r.expect(50, 0)
		if r.most != circuit.Floor {
			r.Errorf("%d posts at once, want the floor", r.most)
		}
	}, func(o *drain.Options) { o.InFlight = 1 })
}

// A tenant's entries go out one after the other, lowest sequence first, over all slots; a newer
// one that comes meanwhile waits.
func TestOneTenantInOrder(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(delivery.Message) time.Duration { return 300 * time.Millisecond }
		r.box.deposit("a", tenant.Suspend)
		r.box.deposit("a", tenant.BackupRestored)
		r.box.deposit("a", tenant.Move)
		r.box.fill(10)
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(100 * time.Millisecond)
		r.box.deposit("a", tenant.Resume) // the suspend is out
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		var seqs []int64
		for _, p := range r.posts {
			if p.tenant == "a" {
				seqs = append(seqs, p.seq)
			}
		}
		if d := cmp.Diff([]int64{1, 2, 3, 14}, seqs); d != "" {
			r.Error(d)
		}
		if len(r.box.entries) != 0 {
			r.Errorf("left: %v", r.box.entries)
		}
	})
}

func TestBudget(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(delivery.Message) time.Duration { return 900 * time.Millisecond }
		r.box.fill(1000)
		start := time.Now()
		r.run()
		took := time.Since(start)
		if took < 2*time.Second || took > 3*time.Second {
			r.Errorf("ran %v with a budget of 2 s and posts of 0.9 s", took)
		}
		r.free()
		if w := r.wake(); w.Delay != 0 {
			r.Errorf("hands over in %v", w.Delay)
		}
		if len(r.box.flight) != 0 {
			r.Errorf("%d claims were kept", len(r.box.flight))
		}
		r.wakes = append(r.wakes, r.box.sweep()) // armed, hence none
		if !r.wakes[0].IsNone() {
			r.Error("the wake-up was not armed")
		}
	}, func(o *drain.Options) { o.Budget = 2 * time.Second })
}

// What comes in between the last exchange and finish keeps the run going.
func TestMoreGoesOn(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.opts.Mailbox = &lateBox{box: r.box, at: map[int]tenant.ID{1: "late", 2: "later"}}
		r.d = drain.New(r.opts)
		r.run()
		r.expect(3, 0)
		if n := r.box.count("finish"); n != 3 || r.box.count("begin") != 1 {
			r.Errorf("calls: %v", r.box.calls)
		}
	})
}

func TestLeasesAreRenewedWhilePostsAreOut(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(delivery.Message) time.Duration { return 9 * time.Second }
		r.box.fill(1)
		r.run()
		r.expect(1, 0)
		if n := r.box.count("exchange"); n < 2 {
			r.Errorf("%d exchanges in 9 s", n)
		}
	})
}

// A slow post keeps the others' results and claims from nothing.
func TestSlowPostDoesNotHoldTheOthers(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(m delivery.Message) time.Duration {
			if m.Change.Tenant == "t000" {
				return 4 * time.Second
			}
			return 10 * time.Millisecond
		}
		r.box.fill(100)
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(time.Second)
		r.box.locked(func() {
			if len(r.box.entries) != 1 {
				r.Errorf("%d waiting after a second", len(r.box.entries))
			}
		})
		if err := <-done; err != nil {
			r.Fatal(err)
		}
	})
}

func TestAttemptsAreWrittenDown(t *testing.T) {
	bubble(t, func(r *rig) {
		start := time.Now().UTC()
		r.answer = func(n int, _ delivery.Message) delivery.Result {
			res := delivery.ClassifyStatus([]int{422, 200}[n-1])
			res.Detail, res.Excerpt = "words", "piece"
			return res
		}
		r.box.deposit("a", tenant.Suspend)
		r.box.deposit("a", tenant.Upgrade)
		r.run()
		if n := len(r.attempts); n != 1 {
			r.Fatalf("%d attempts", n)
		}
		got := r.attempts[0]
		next := got.NextAttemptAt
		if d := next.Sub(start); d < 4*time.Second || d > 6100*time.Millisecond {
			r.Errorf("tried again in %v", d)
		}
		got.NextAttemptAt = time.Time{}
		want := delivery.Attempt{
			At: start, ClientID: app, Tenant: "a", ChangeID: "chg_a_2", WebhookID: "chg_a_2", ChangeType: "upgrade", Sequence: 2, Number: 1,
			Superseded: 1, Outcome: "rejected", Reason: "client_error", Status: 422, DurationMS: 10, Detail: "words", Excerpt: "piece",
		}
		if d := cmp.Diff(want, got); d != "" {
			r.Error(d)
		}
		r.follow()
		if n := len(r.attempts); n != 2 || r.attempts[1].Number != 2 || !r.attempts[1].NextAttemptAt.IsZero() {
			r.Errorf("%d attempts, the last %+v", n, r.attempts[n-1])
		}
		if r.value("lamplighter_delivery_lag_seconds", "yes") != 1 || r.value("lamplighter_delivery_lag_seconds", "no") != 0 {
			r.Error("a refused notification's lag is not what is owed")
		}
	})
}

// Nothing is lost and order holds with many tenants, slow and failing posts, and changes that come
// all the time.
func TestChurn(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence%97) * time.Millisecond }
		r.answer = func(n int, _ delivery.Message) delivery.Result {
			return delivery.ClassifyStatus([]int{200, 200, 200, 500, 200, 200, 400, 200, 503, 200, 429}[n%11])
		}
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for i := range 2000 {
				r.box.deposit(tenant.ID("t"+strconv.Itoa(i*7%50)), tenant.AllChangeTypes()[i%6])
				pass(3 * time.Millisecond)
			}
		}()
		r.run()
		r.follow()
		<-stop
		r.follow()
		last := map[tenant.ID]int64{}
		for _, p := range r.posts {
			if p.seq < last[p.tenant] {
				r.Fatalf("tenant %s heard %d after %d", p.tenant, p.seq, last[p.tenant])
			}
			last[p.tenant] = p.seq
		}
	})
}
