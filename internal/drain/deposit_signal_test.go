package drain_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// slowFirst lets the post of t000 take its time.
func slowFirst(m delivery.Message) time.Duration {
	if m.Change.Tenant == "t000" {
		return 9 * time.Second
	}
	return 10 * time.Millisecond
}

// told is how long after start a tenant was first posted.
func (r *rig) told(t tenant.ID, start time.Time) time.Duration {
	r.Helper()
	for _, p := range r.posts {
		if p.tenant == t {
			return p.at.Sub(start)
		}
	}
	r.Fatalf("%s was not posted", t)
	return 0
}

// While a drainer owns a mailbox a deposit wakes nobody, so a post that hangs must not keep what
// comes meanwhile waiting.
func TestWhatComesWhileAPostHangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stir bool
		// after is how long the post has hung; the budget is 5 s.
		after, most time.Duration
	}{
		"ToldOf": {true, 4 * time.Second, 0}, "NotToldOf": {false, 4 * time.Second, time.Second},
		"WhenTheBudgetIsSpent": {true, 5100 * time.Millisecond, time.Second}, "InANewBudget": {true, 7500 * time.Millisecond, 0},
		"NotToldOfInANewBudget": {false, 7500 * time.Millisecond, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(1)
				r.latency = slowFirst
				done := make(chan error)
				go func() { done <- r.drain(r.Context(), app, 1) }()
				pass(c.after) // long enough that the drainer looks seldom
				r.box.deposit("t777", tenant.Suspend)
				start := time.Now()
				if c.stir {
					r.d.SignalDeposit(app)
				}
				if err := <-done; err != nil {
					r.Fatal(err)
				}
				if d := r.told("t777", start); d > c.most {
					r.Errorf("told after %v, want within %v", d, c.most)
				}
				r.d.SignalDeposit(app) // nobody drains: nothing happens
			})
		})
	}
}

// A run that goes on because a post hangs posts to where the endpoint is by then, gives way when told to,
// and is given back when the post ends.
func TestARunWithAHangingPostIsLikeTheNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(r *rig)
		told   bool
	}{
		"GoesOn":     {func(*rig) {}, true},
		"NoEndpoint": {func(r *rig) { r.locked(func() { r.missing = true }) }, false},
		"Stopped":    {func(r *rig) { go func() { _ = r.d.Stop(r.Context()) }() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(1)
				r.latency = slowFirst
				done := make(chan error)
				go func() { done <- r.drain(r.Context(), app, 1) }()
				pass(4 * time.Second)
				c.change(r)
				pass(3500 * time.Millisecond)
				r.box.deposit("t777", tenant.Suspend)
				r.d.SignalDeposit(app)
				pass(time.Second)
				var posts int
				r.locked(func() { posts = len(r.posts) })
				if told := posts == 2; told != c.told {
					r.Errorf("%d posts while the first hangs", posts)
				}
				if err := <-done; err != nil {
					r.Fatal(err)
				}
				r.free()
			})
		})
	}
}

// A run goes on for as long as posts hang, but not until the queue cuts it off; whoever comes next goes on.
func TestARunEndsSometime(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(m delivery.Message) time.Duration { // something is always out
			return time.Second + time.Duration(m.Sequence%17)*120*time.Millisecond
		}
		r.box.fill(999)
		start := time.Now()
		r.run()
		if took := time.Since(start); took < 20*time.Second || took > 100*time.Second {
			r.Errorf("ran %v", took)
		}
		r.free()
		r.follow()
		r.expect(999, 0)
	})
}

// What a post says that was made to the URL before is not said of the new one.
func TestGoneIsOfTheURLThatAnswered(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.latency = slowFirst
		r.answer = only(410)
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(4 * time.Second)
		r.locked(func() { r.revision++ })
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		if len(r.offs) != 1 || r.offs[0] != registryRevision {
			r.Errorf("switched off by revisions %v, want %d", r.offs, registryRevision)
		}
	})
}

// Looking costs little: a hanging post makes a drainer ask once a second in the end.
func TestLooksGrowRare(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.latency = slowFirst
		r.run()
		if n := r.box.count("exchange"); n > 20 {
			r.Errorf("%d exchanges for one post of 9 s", n)
		}
	})
}

// An endpoint that took 32 at once a moment ago need not prove it again in the next run; one that
// was left alone for a while is asked gently.
func TestThePaceIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pause time.Duration
		want  int
	}{"AtOnce": {time.Second, 64}, "AfterAPause": {2 * time.Minute, 36}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(300)
				r.run()
				pass(c.pause)
				r.box.deposit("t900", tenant.Suspend)
				before := r.box.count("exchange")
				r.run()
				if got := r.box.wants[before]; got != c.want {
					r.Errorf("asked for %d claims, want %d", got, c.want)
				}
			})
		})
	}
}
