package drain_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestPlacePolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		working, pooled, waiting, extra int
		share                           int
		start, wait, try                bool
	}{
		"Nothing":                  {0, 0, 0, 0, 32, true, true, true},
		"Alone":                    {1, 1, 0, 0, 32, true, true, true},
		"Busy":                     {64, 64, 0, 0, 8, true, true, true},
		"MoreThanTheTarget":        {600, 600, 0, 0, circuit.Floor, true, true, true},
		"LastPlace":                {999, 999, 0, 0, circuit.Floor, true, true, true},
		"Full":                     {1000, 1000, 0, 0, circuit.Floor, false, true, true},
		"BeyondFull":               {1400, 1400, 0, 0, circuit.Floor, false, true, true},
		"WorkersOfTheQueue":        {1400, 400, 0, 0, circuit.Floor, true, true, true},
		"OneHangingPostEachIsFree": {20, 20, 400, 0, 25, true, true, true},
		"MoreCountAsAnybodys":      {20, 20, 400, 400, 5, true, true, true},
		"NeverLessThanIfTheyWorked": {
			16, 16, 16, 496, 16, true, true, true, // 16 that hang with all that they may
		},
		"HalfWait":     {1, 1, 2500, 0, 32, true, true, true},
		"MoreThanHalf": {1, 1, 2501, 0, 32, true, true, false},
		"AllWait":      {1, 1, 5000, 0, 32, true, false, false},
	} {
		got := drain.Decide(c.working, c.pooled, c.waiting, c.extra)
		if want := (drain.Decisions{Share: c.share, MayStart: c.start, MayWait: c.wait, MayTry: c.try}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// crowd is many apps, with one change each, whose posts take as long as hang says.
type crowd struct {
	*rig
	boxes boxes
	ids   []partner.ClientID
}

// newCrowd makes apps that a process knows nothing of. hang is how long the nth app takes to answer.
func newCrowd(r *rig, n int, hang func(i int) time.Duration, change ...func(*drain.Options)) *crowd {
	c := &crowd{rig: r, boxes: boxes{}}
	latency := map[tenant.ID]time.Duration{}
	for i := range n {
		id, b := clientID(i), newBox()
		b.deposit(tenant.ID(id), tenant.Suspend)
		c.ids, c.boxes[id] = append(c.ids, id), b
		if hang != nil {
			latency[tenant.ID(id)] = hang(i)
		}
	}
	r.latency = func(m delivery.Message) time.Duration { return latency[m.Change.Tenant] }
	r.answer = func(_ int, m delivery.Message) delivery.Result {
		if latency[m.Change.Tenant] >= r.opts.Timeout {
			return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonTimeout, Fault: delivery.FaultEndpoint}
		}
		return delivery.ClassifyStatus(200)
	}
	r.opts.Mailbox = c.boxes
	for _, f := range change {
		f(&r.opts)
	}
	r.opts.Metrics = nil
	r.d = drain.New(r.opts)
	if n < 1000 {
		r.d.SetNudges(100) // else a bubble is slow
	}
	return c
}

// nudge wakes all in their order and returns how many were taken on.
func (c *crowd) nudge() (taken int) {
	for _, id := range c.ids {
		if c.d.DispatchWake(c.Context(), id, mailbox.Wake{Generation: 1}) {
			taken++
		}
	}
	return taken
}

// latest is when the last of some apps was posted to first, since the start.
func (c *crowd) latest(start time.Time, ids []partner.ClientID) time.Duration {
	c.Helper()
	first := map[tenant.ID]time.Time{}
	c.locked(func() {
		for _, p := range c.posts {
			if _, ok := first[p.tenant]; !ok {
				first[p.tenant] = p.at
			}
		}
	})
	var last time.Duration
	for _, id := range ids {
		at, ok := first[tenant.ID(id)]
		if !ok {
			return math.MaxInt64
		}
		last = max(last, at.Sub(start))
	}
	return last
}

func (c *crowd) stop() {
	c.Helper()
	if err := c.d.Stop(c.Context()); err != nil {
		c.Error(err)
	}
}

const (
	second = time.Second
	moment = 10 * time.Millisecond
)

// Runs that only wait give their places to those that come after them: 2,200 apps that hang keep 800
// others waiting for no longer than it takes to see that they hang.
func TestHangingAppsKeepNobodyWaiting(t *testing.T) {
	bubble(t, func(r *rig) {
		const hanging, all = 2200, 3000
		c := newCrowd(r, all, func(i int) time.Duration {
			if i < hanging {
				return 10 * second
			}
			return moment
		})
		start := time.Now()
		if n := c.nudge(); n != all {
			r.Errorf("%d of %d wake-ups were taken on", n, all)
		}
		synctest.Wait()
		if n := r.posted(); n != 1000 {
			r.Errorf("%d drains at once", n)
		}
		pass(second)
		// two rounds of a thousand that hang, then 200 of them leave room for 800 others
		if d := c.latest(start, c.ids[hanging:]); d > 500*time.Millisecond {
			r.Errorf("the last healthy app was told after %v", d)
		}
		if working, waiting := r.d.Load(); working != 0 || waiting != hanging {
			r.Errorf("%d work and %d wait", working, waiting)
		}
		c.stop()
		if working, waiting := r.d.Load(); working != 0 || waiting != 0 {
			r.Errorf("in the end %d work and %d wait", working, waiting)
		}
		if len(r.tasks) != 0 {
			r.Errorf("%d wake-ups were passed on", len(r.tasks))
		}
	})
}

// A worker of the queue is free as soon as its run only waits, and the run goes on: it is told of nothing
// by the end of its task.
func TestAWorkerOfTheQueueIsFreeWhenItsRunWaits(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 1, func(int) time.Duration { return 5 * second })
		b := c.boxes[c.ids[0]]
		b.deposit("b", tenant.Suspend)
		r.latency = func(m delivery.Message) time.Duration {
			if m.Change.Tenant == "b" {
				return moment
			}
			return 5 * second
		}
		start := time.Now()
		ctx, task := context.WithCancel(r.Context())
		if err := r.d.Drain(ctx, c.ids[0], 1); err != nil {
			r.Error(err)
		}
		task() // as asynq does when a handler has returned
		if d := time.Since(start); d != drain.WaitsAfter {
			r.Errorf("the worker was free after %v", d)
		}
		pass(5*second - time.Since(start) - time.Millisecond)
		if n := b.waiting(); n != 2 || r.posted() != 1 {
			r.Errorf("%d wait, %d posts, before the first answer", n, r.posted())
		}
		pass(2 * moment) // it goes on at once
		if n := b.waiting(); n != 0 || r.posted() != 2 {
			r.Errorf("%d wait, %d posts, after it", n, r.posted())
		}
		r.d.Wait()
	})
}

// The error of a run whose worker has gone is not lost; the next one is the sweep's.
func TestARunEndsWithoutItsWorker(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 1, func(int) time.Duration { return second })
		c.boxes[c.ids[0]].broken = map[string]string{"exchange": "before", "finish": "before"}
		c.boxes[c.ids[0]].fails["exchange"] = []string{""} // the claim works
		if err := r.d.Drain(r.Context(), c.ids[0], 1); err != nil {
			r.Errorf("before it ended: %v", err)
		}
		r.d.Wait()
		if working, waiting := r.d.Load(); working != 0 || waiting != 0 {
			r.Errorf("%d work and %d wait", working, waiting)
		}
	})
}

// An app that has not answered since the process started gets one post, whatever waits for it, and all that
// it takes once it did; so does one that hangs since its outage began.
func TestOnePostUntilAnAppAnswers(t *testing.T) {
	bubble(t, func(r *rig) {
		r.d = drain.New(r.opts) // knows nothing
		r.box.fill(200)
		start := time.Now()
		r.latency = func(delivery.Message) time.Duration {
			if time.Since(start) < second {
				return 4 * second
			}
			return moment
		}
		done := make(chan error, 1)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(3900 * time.Millisecond)
		if n := r.posted(); n != 1 {
			r.Errorf("%d posts to an app that has not answered", n)
		}
		r.box.locked(func() {
			if n := len(r.box.flight); n > circuit.Floor {
				r.Errorf("%d claims for it", n)
			}
		})
		if n := r.box.count("exchange"); n > 3 {
			r.Errorf("%d exchanges for one post", n)
		}
		pass(200 * time.Millisecond)
		if n := r.posted(); n < 50 {
			r.Errorf("%d posts 100 ms after it answered", n)
		}
		if err := <-done; err != nil {
			r.Error(err)
		}
		r.follow()
		r.expect(200, 0)
	})
}

// However many hang, their looks cost no more than a few hundred calls a second, and what one process deposits
// itself is never looked for.
func TestLooksOfManyAreBounded(t *testing.T) {
	bubble(t, func(r *rig) {
		const n = 600
		c := newCrowd(r, n, func(int) time.Duration { return 9 * second })
		for _, id := range c.ids { // all answered before, so that there is room for more of each
			r.d.Answered(drain.Endpoint{Life: mailbox.Life{App: id}, Revision: registryRevision})
		}
		c.nudge()
		pass(8 * second)
		looks := 0
		for _, b := range c.boxes {
			looks += b.count("exchange")
		}
		// the claim of each, the first looks of a hundred, a new budget for each, and no more than 500 a second
		if most := n + 3*100 + n + 8*500; looks > most {
			r.Errorf("%d exchanges, want at most %d", looks, most)
		}
		id := c.ids[0]
		c.boxes[id].deposit("new", tenant.Suspend)
		r.d.SignalDeposit(id)
		pass(moment)
		if posts := r.posted(); posts != n+1 {
			r.Errorf("%d posts: what came was not told at once", posts)
		}
		c.stop()
	})
}

// Posts that wait for an answer go on through a stop: they are neither cut nor repeated, and the mailboxes
// are handed over when they end.
func TestStopWhileRunsWait(t *testing.T) {
	bubble(t, func(r *rig) {
		const n = 130
		c := newCrowd(r, n, func(int) time.Duration { return 5 * second })
		for _, b := range c.boxes {
			b.deposit("more", tenant.Suspend)
		}
		start := time.Now()
		c.nudge()
		pass(second)
		if posts := r.posted(); posts != n {
			r.Errorf("%d posts out", posts)
		}
		c.stop()
		if d := time.Since(start); d < 5*second || d > 6*second {
			r.Errorf("stopped after %v", d)
		}
		for id, b := range c.boxes {
			if b.owner != "" || len(b.flight) != 0 || len(b.entries) != 1 {
				r.Fatalf("%s: owner %q, %d in flight, %d wait", id, b.owner, len(b.flight), len(b.entries))
			}
		}
		if len(r.posts) != n || len(r.wakes) != n {
			r.Errorf("%d posts, %d handed over", len(r.posts), len(r.wakes))
		}
		r.overlap = false
	})
}

// What stands in line when the process stops is the queue's.
func TestStopPassesTheLineOn(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 150, func(int) time.Duration { return moment })
		if n := c.nudge(); n != 150 {
			r.Fatalf("%d taken on", n)
		}
		c.stop()
		r.locked(func() {
			if len(r.tasks) != 50 || len(r.wakes)+len(r.posts) != 100 {
				r.Errorf("%d tasks, %d mailboxes handed over, %d posts", len(r.tasks), len(r.wakes), len(r.posts))
			}
		})
	})
}

// While as many runs as may are busy the line moves on to the queue, where other processes find it.
func TestTheLineBehindBusyRunsIsPassedOn(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 150, nil)
		for _, b := range c.boxes {
			b.fill(50) // one after the other: five seconds of work
		}
		r.latency = func(delivery.Message) time.Duration { return 100 * time.Millisecond }
		c.nudge()
		pass(2900 * time.Millisecond)
		r.locked(func() {
			if len(r.tasks) != 0 {
				r.Errorf("%d tasks too early", len(r.tasks))
			}
		})
		pass(200 * time.Millisecond)
		synctest.Wait()
		r.locked(func() {
			if len(r.tasks) != 50 {
				r.Errorf("%d tasks", len(r.tasks))
			}
		})
		c.stop()
		r.overlap = false
	}, func(o *drain.Options) { o.InFlightPerApp = 1 })
}

// A line that moves is not passed on, until it moves too slowly.
func TestWhenALineIsPassedOn(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		joined   []time.Duration
		left     time.Duration // when somebody left last, after the start
		now      time.Duration
		passed   int
		standing int
	}{
		"Moving":        {[]time.Duration{0, 0, 0}, 2500 * ms, 5 * second, 0, 2},
		"Stalled":       {[]time.Duration{0, 0, 0}, 2500 * ms, 5500 * ms, 2, 0},
		"StalledForNew": {[]time.Duration{0, 0, 3 * second}, 2500 * ms, 5500 * ms, 1, 1},
		"TooSlow":       {[]time.Duration{0, 0, second}, 7500 * ms, 8 * second, 1, 1},
		"Empty":         {[]time.Duration{0}, second, 20 * second, 0, 0},
	} {
		if passed, standing := drain.PassOn(c.joined, c.left, c.now); passed != c.passed || standing != c.standing {
			t.Errorf("%s: %d passed on, %d stand, want %d and %d", name, passed, standing, c.passed, c.standing)
		}
	}
}

// Beyond the runs that may wait others keep their places, so that memory is bounded; endpoints that are
// known to fail leave half of the room to the others.
func TestWaitingIsBounded(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 250, func(int) time.Duration { return 10 * second }, func(o *drain.Options) { o.Waiting = 100 })
		c.boxes["healthy"] = newBox()
		c.boxes["healthy"].deposit("well", tenant.Suspend)
		c.nudge()
		pass(5 * second)
		if working, waiting := r.d.Load(); working != 100 || waiting != 100 {
			r.Errorf("%d work and %d wait", working, waiting)
		}
		r.locked(func() {
			if len(r.tasks) != 50 {
				r.Errorf("%d were passed on", len(r.tasks))
			}
		})
		pass(6 * second) // their posts are over, and all of them are known to hang
		if working, waiting := r.d.Load(); working != 0 || waiting != 0 {
			r.Errorf("in the end %d work and %d wait", working, waiting)
		}
		pass(5 * second) // the gates are open
		for _, id := range c.ids[:200] {
			c.d.DispatchWake(r.Context(), id, mailbox.Wake{Generation: 2})
			pass(3 * moment)
		}
		if working, waiting := r.d.Load(); working+waiting > 51+9 {
			r.Errorf("%d known to hang are tried again at once", working+waiting)
		}
		if !c.d.DispatchWake(r.Context(), "healthy", mailbox.Wake{Generation: 1}) {
			r.Error("not started")
		}
		pass(moment)
		if c.latest(time.Now(), []partner.ClientID{"well"}) == math.MaxInt64 {
			r.Error("an app that nobody knows to fail was not tried")
		}
		c.stop()
	})
}

// A process that dies while its runs wait leaves what any other leaves: claims that run out, and an owner
// whose lease ends. Until then the owner keeps it, however long a post hangs.
func TestAWaitingRunKeepsItsMailbox(t *testing.T) {
	bubble(t, func(r *rig) {
		c := newCrowd(r, 1, func(int) time.Duration { return 14 * second }, func(o *drain.Options) { o.Timeout = 15 * second })
		b := c.boxes[c.ids[0]]
		c.nudge()
		for range 13 {
			pass(second)
			b.locked(func() {
				if b.owner == "" || time.Until(b.oexp) < 5*second {
					r.Errorf("owner %q, its lease ends in %v", b.owner, time.Until(b.oexp))
				}
			})
		}
		b.locked(func() { b.owner, b.oexp = "another", time.Now().Add(time.Hour) })
		r.d.Wait() // it settles its own result and touches nothing else
		b.locked(func() {
			if b.owner != "another" || len(b.entries) != 0 {
				r.Errorf("owner %q, %d wait", b.owner, len(b.entries))
			}
		})
	})
}
