package drain_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// These are whole outages on the clock of synctest, with the default settings: how long until everybody was told.

// soon is how long an endpoint that is well may leave a healthy tenant waiting: breaker.open_for_max and 15 s.
const soon = time.Minute + 15*time.Second

// live follows wake-ups, and sweeps where there is none, until done or for so long.
func (r *rig) live(most time.Duration, done func() bool) {
	r.Helper()
	for end := time.Now().Add(most); !done() && time.Now().Before(end); {
		if len(r.wakes) == 0 {
			if w := r.box.sweep(); w.IsNone() {
				pass(5 * time.Second)
				continue
			} else {
				r.wakes = append(r.wakes, w)
			}
		}
		w := r.wakes[len(r.wakes)-1]
		r.wakes = nil
		if left := time.Until(end); w.Delay > left {
			pass(left)
			w.Delay -= left
			r.wakes = []mailbox.Wake{w}
			return
		}
		pass(w.Delay)
		if err := r.drain(r.Context(), app, w.Generation); err != nil {
			r.Fatal(err)
		}
	}
}

// rearm has a deposit arm a wake-up of its own.
func (r *rig) rearm() {
	r.wakes = nil
	r.box.locked(func() { r.box.armed = time.Time{} })
}

// toldSince is when each tenant was told last, since a time.
func (r *rig) toldSince(since time.Time) map[tenant.ID]time.Duration {
	out := map[tenant.ID]time.Duration{}
	r.locked(func() {
		for _, a := range r.attempts {
			if a.Outcome == delivery.Delivered.String() && !a.At.Before(since) {
				out[a.Tenant] = a.At.Sub(since) + time.Duration(a.DurationMS)*time.Millisecond
			}
		}
	})
	return out
}

// last is the longest of them.
func last(told map[tenant.ID]time.Duration) (most time.Duration) {
	for _, d := range told {
		most = max(most, d)
	}
	return most
}

// outcomes counts attempts by reason.
func (r *rig) outcomes(reason delivery.Reason, since time.Time) (n int) {
	r.locked(func() {
		for _, a := range r.attempts {
			if a.Reason == reason.String() && !a.At.Before(since) {
				n++
			}
		}
	})
	return n
}

func number(t tenant.ID) (n int) {
	_, _ = fmt.Sscanf(string(t), "t%d", &n)
	return n
}

// Sick tenants, whose posts fail for good, do not hold healthy ones back, wherever they stand.
func TestSickTenantsHoldNobodyBack(t *testing.T) {
	for name, c := range map[string]struct {
		tenants int
		sick    func(n int) bool
		within  time.Duration
	}{
		"First":                 {80, func(n int) bool { return n < 60 }, soon},
		"Last":                  {80, func(n int) bool { return n >= 20 }, soon},
		"Mixed":                 {80, func(n int) bool { return n%4 != 0 }, soon},
		"InTheMiddle":           {80, func(n int) bool { return n >= 10 && n < 70 }, soon},
		"FiveHealthyOf505":      {505, func(n int) bool { return n%101 != 50 }, 10 * time.Minute},
		"FiveHealthyInTheMidst": {505, func(n int) bool { return n < 250 || n >= 255 }, 10 * time.Minute},
	} {
		for _, code := range []int{500, 404, 422} {
			t.Run(fmt.Sprint(name, code), func(t *testing.T) {
				bubble(t, func(r *rig) {
					r.box.fill(c.tenants)
					healthy := 0
					for n := range c.tenants {
						if !c.sick(n) {
							healthy++
						}
					}
					r.answer = func(_ int, m delivery.Message) delivery.Result {
						if c.sick(number(m.Change.Tenant)) {
							return delivery.ClassifyStatus(code)
						}
						return delivery.ClassifyStatus(204)
					}
					start := time.Now()
					r.live(2*c.within, func() bool { return len(r.toldSince(start)) == healthy })
					if told := r.toldSince(start); len(told) != healthy || last(told) > c.within {
						r.Errorf("%d of %d healthy ones told, the last after %v; want %v", len(told), healthy, last(told), c.within)
					} else {
						r.Logf("the last of %d healthy ones was told after %v, by %d posts", healthy, last(told).Round(time.Second), r.posted())
					}
				})
			})
		}
	}
}

// A host that does not answer gets one post a gate, however many tenants wait.
func TestADeadHostGetsOnePostAGate(t *testing.T) {
	for name, reason := range map[string]delivery.Reason{"Refused": delivery.ReasonRefused, "DNS": delivery.ReasonDNS, "TLS": delivery.ReasonTLS, "Timeout": delivery.ReasonTimeout} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				tenants := 500
				if name == "Refused" {
					tenants = 10_000
				}
				r.box.fill(tenants)
				r.answer = func(int, delivery.Message) delivery.Result {
					return delivery.Result{Outcome: delivery.Retryable, Reason: reason, Fault: delivery.FaultEndpoint}
				}
				r.live(10*time.Minute, func() bool { return false })
				first := r.posts[0].at
				n := 0
				for _, p := range r.posts {
					if p.at.Sub(first) > time.Second {
						n++
					}
				}
				if gates := r.box.gopen; n > gates {
					r.Errorf("%d posts in %d gates", n, gates)
				}
				back := time.Now()
				r.answer = only(204)
				r.live(2*soon, func() bool { return r.box.waiting() == 0 })
				if told := r.toldSince(back); len(told) != tenants || last(told) > soon {
					r.Errorf("%d told, the last after %v", len(told), last(told))
				}
			})
		})
	}
}

// An endpoint that refuses everything alike for a while is to blame itself, whatever the status: once it takes one, all are told.
func TestRefusingEverythingIsTheEndpoints(t *testing.T) {
	for _, code := range []int{400, 408, 409, 415, 421, 422, 423, 425, 500, 502} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(200)
				start := time.Now()
				r.answer = func(int, delivery.Message) delivery.Result {
					if time.Since(start) < 6*time.Minute {
						return delivery.ClassifyStatus(code)
					}
					return delivery.ClassifyStatus(204)
				}
				r.live(6*time.Minute, func() bool { return false })
				r.live(time.Until(start.Add(6*time.Minute))+time.Hour, func() bool { return r.box.waiting() == 0 })
				told := r.toldSince(start)
				if after := last(told) - 6*time.Minute; len(told) != 200 || after > soon {
					r.Errorf("%d told, the last %v after the mending", len(told), after)
				}
			})
		})
	}
}

// Also beside one that has failed all the time before.
func TestRefusingEverythingBesideASickTenant(t *testing.T) {
	bubble(t, func(r *rig) {
		refuses := false
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			switch {
			case refuses:
				return delivery.ClassifyStatus(408)
			case m.Change.Tenant == "t000":
				return delivery.ClassifyStatus(500)
			default:
				return delivery.ClassifyStatus(204)
			}
		}
		r.box.fill(8)
		r.live(10*time.Minute, func() bool { return false })
		refuses = true
		r.box.fill(8)
		r.rearm()
		r.live(6*time.Minute, func() bool { return false })
		if r.box.gopen == 0 {
			r.Error("the gate is not closed")
		}
		refuses = false
		mended := time.Now()
		r.live(time.Hour, func() bool { return len(r.toldSince(mended)) >= 7 })
		if told := r.toldSince(mended); len(told) < 7 || last(told) > soon {
			r.Errorf("%d told, the last %v after the mending", len(told), last(told))
		}
	})
}

// Tenants that are refused for good reasons of their own are not repeated each time that others are taken.
func TestWhatIsRefusedForItsOwnSakeIsNotRepeated(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1000)
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if number(m.Change.Tenant) < 500 {
				return delivery.ClassifyStatus(422)
			}
			return delivery.ClassifyStatus(204)
		}
		start := time.Now()
		r.live(2*time.Minute, func() bool { return false })
		if n := len(r.toldSince(start)); n != 500 {
			r.Errorf("%d told", n)
		}
		refused := r.outcomes(delivery.ReasonClientError, start)
		if refused > 3*500 { // once, after 5 s, and once more where the endpoint seemed to refuse all
			r.Errorf("%d posts of 500 that are refused, in two minutes", refused)
		}
		for range 20 {
			r.box.deposit("t999", tenant.Resume)
			r.rearm()
			r.live(time.Second, func() bool { return r.box.waiting() == 500 })
			pass(2 * time.Second)
		}
		if more := r.outcomes(delivery.ReasonClientError, start) - refused; more > 100 {
			r.Errorf("%d more while others were taken", more)
		}
	})
}

// Every second post fails for six minutes: nobody waits for long, neither meanwhile nor afterwards.
func TestAMixedEndpointLeavesNobodyBehind(t *testing.T) {
	for name, fault := range map[string]delivery.Result{
		"502":   delivery.ClassifyStatus(502),
		"Reset": {Outcome: delivery.Retryable, Reason: delivery.ReasonReset, Fault: delivery.FaultEndpoint},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				start := time.Now()
				bad := func() bool { return time.Since(start) < 6*time.Minute }
				r.answer = func(n int, _ delivery.Message) delivery.Result {
					if bad() && n%2 == 0 {
						return fault
					}
					return delivery.ClassifyStatus(204)
				}
				since := map[tenant.ID]time.Time{}
				longest := time.Duration(0)
				look := func() {
					told := r.toldSince(start)
					for id, at := range since {
						if d, ok := told[id]; ok && start.Add(d).After(at) {
							longest = max(longest, start.Add(d).Sub(at))
							delete(since, id)
						}
					}
				}
				for round := 0; bad(); round++ {
					for n := range 200 {
						if (n+round)%8 == 0 {
							id := tenant.ID(fmt.Sprintf("t%03d", n))
							if r.box.deposit(id, tenant.Suspend); since[id].IsZero() {
								since[id] = time.Now()
							}
						}
					}
					r.live(10*time.Second, func() bool { return r.box.waiting() == 0 })
					look()
				}
				mended := time.Now()
				r.live(time.Hour, func() bool { return r.box.waiting() == 0 })
				look()
				if left := time.Since(mended); longest > time.Minute || left > time.Minute {
					r.Errorf("the longest wait was %v, the last was told %v after the mending", longest, left)
				}
				r.Logf("the longest wait was %v", longest)
			})
		})
	}
}

// server is a receiver with so many workers; load says how long one post takes it with so many at work.
type server struct {
	mu      sync.Mutex
	free    []time.Time
	inside  int
	load    func(inside int) time.Duration
	timeout time.Duration
}

// serve waits as a post to it does, and reports whether it was answered in time.
func (s *server) serve() bool {
	s.mu.Lock()
	s.inside++
	now := time.Now()
	took := s.load(s.inside)
	at := 0
	for i := range s.free {
		if s.free[i].Before(s.free[at]) {
			at = i
		}
	}
	if s.free[at].Before(now) {
		s.free[at] = now
	}
	s.free[at] = s.free[at].Add(took)
	wait := s.free[at].Sub(now)
	s.mu.Unlock()
	pass(min(wait, s.timeout))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside--
	return wait <= s.timeout
}

// A slow receiver is told at the pace it can take.
func TestThePaceFollowsTheReceiver(t *testing.T) {
	const tenants = 200
	steady := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	for name, c := range map[string]struct {
		workers int
		load    func(inside int) time.Duration
		ideal   time.Duration
	}{
		"OneAtATime1s":    {1, steady(time.Second), 200 * time.Second},
		"OneAtATime100ms": {1, steady(100 * time.Millisecond), 20 * time.Second},
		"PoolOf4":         {4, steady(time.Second), 50 * time.Second},
		"PoolOf4Fast":     {4, steady(300 * time.Millisecond), 15 * time.Second},
		"SlowsDown": {1000, func(inside int) time.Duration { // the more at once, the less in a time
			return time.Duration(inside*inside) * 50 * time.Millisecond
		}, 10 * time.Second},
		"SlowsDownAbove8": {1000, func(inside int) time.Duration {
			return 400*time.Millisecond + time.Duration(max(inside-8, 0))*200*time.Millisecond
		}, 10 * time.Second},
		"AsMuchAsIsSent": {1000, steady(time.Second), 200 * time.Second / 32},
		"NowAndThenAtOnce": {1000, func() func(int) time.Duration { // one short answer must not be taken for the price of a low limit
			n := 0
			return func(int) time.Duration {
				if n++; n%4 == 1 {
					return 5 * time.Millisecond
				}
				return time.Second
			}
		}(), 150 * time.Second / 32},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				s := &server{free: make([]time.Time, c.workers), load: c.load, timeout: r.opts.Timeout}
				r.latency = func(delivery.Message) time.Duration { return 0 }
				r.answer = func(int, delivery.Message) delivery.Result {
					if !s.serve() {
						return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonTimeout, Fault: delivery.FaultEndpoint}
					}
					return delivery.ClassifyStatus(204)
				}
				r.box.fill(tenants)
				start := time.Now()
				r.live(time.Hour, func() bool { return r.box.waiting() == 0 })
				took := last(r.toldSince(start))
				late := r.outcomes(delivery.ReasonTimeout, start.Add(10*time.Second))
				failed := slices.ContainsFunc(r.seen, func(o drain.Observation) bool { return o.Failure != nil })
				r.Logf("%v, ideal %v (%.2f), %d time-outs later than 10 s, at most %d at once", took.Round(time.Millisecond), c.ideal, float64(took)/float64(c.ideal), late, r.most)
				if late > 0 || failed {
					r.Errorf("%d time-outs, blamed: %v", late, failed)
				}
				limit := 1.15
				switch name { // the limit has to be found out first, in a few seconds
				case "SlowsDown", "SlowsDownAbove8":
					limit = 1.35
				case "AsMuchAsIsSent", "NowAndThenAtOnce":
					limit = 3
				}
				if float64(took) > limit*float64(c.ideal) {
					r.Errorf("took %v, ideal %v", took, c.ideal)
				}
			})
		})
	}
}

// A gateway that lets ten a second through, and says when to come again, gets nearly ten, and none before that time.
func TestRetryAfterIsKeptTo(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(600)
		tokens, at, until := 10.0, time.Now(), time.Time{}
		early := 0
		r.answer = func(int, delivery.Message) delivery.Result {
			r.mu.Lock()
			defer r.mu.Unlock()
			now := time.Now()
			if p := r.posts[len(r.posts)-1].at; !until.IsZero() && p.Before(until) && p.After(until.Add(-990*time.Millisecond)) {
				early++
			}
			tokens, at = min(10, tokens+10*now.Sub(at).Seconds()), now
			if tokens >= 1 {
				tokens--
				return delivery.ClassifyStatus(204)
			}
			res := delivery.ClassifyStatus(429)
			res.RetryAfter = time.Second
			until = now.Add(res.RetryAfter)
			return res
		}
		r.latency = func(delivery.Message) time.Duration { return 20 * time.Millisecond }
		start := time.Now()
		r.live(10*time.Minute, func() bool { return r.box.waiting() == 0 })
		took := last(r.toldSince(start))
		rate := 600 / took.Seconds()
		r.Logf("%.1f a second, %d posts", rate, r.posted())
		if rate < 7 || early > 0 {
			r.Errorf("%.1f a second, %d posts before the time it named", rate, early)
		}
	})
}

// One sick tenant in a quiet week is that tenant's trouble: the endpoint is never said to fail, and the next upgrade reaches the others.
func TestOneSickTenantInAQuietWeek(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Change.Tenant == "t049" {
				return delivery.ClassifyStatus(500)
			}
			return delivery.ClassifyStatus(204)
		}
		r.box.deposit("t049", tenant.Suspend)
		r.live(6*24*time.Hour, func() bool { return false })
		for _, o := range r.seen {
			if o.Failure != nil {
				r.Fatalf("the endpoint was said to fail: %+v", o)
			}
			for _, x := range o.Rejected {
				if x.Message.Change.Tenant != "t049" {
					r.Errorf("another tenant was named: %+v", x)
				}
			}
		}
		if n := len(r.seen); n == 0 {
			r.Error("nobody was told of the tenant")
		}
		r.box.fill(49)
		r.rearm()
		start := time.Now()
		r.live(time.Minute, func() bool { return len(r.toldSince(start)) == 49 })
		if told := r.toldSince(start); len(told) != 49 || last(told) > 10*time.Second {
			r.Errorf("%d of 49 told, the last after %v", len(told), last(told))
		}
	})
}

// What climbed while the endpoint was not well is due at once when somebody saw to it.
func TestAnOpeningRecallsWhatClimbed(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.answer = only(422)
		r.live(10*time.Minute, func() bool { return false })
		r.answer = only(204)
		start := time.Now()
		r.box.open()
		r.wakes = []mailbox.Wake{r.box.sweep()}
		r.live(time.Minute, func() bool { return r.box.waiting() == 0 })
		if told := r.toldSince(start); len(told) != 3 || last(told) > 6*time.Second {
			r.Errorf("%d told, the last after %v", len(told), last(told))
		}
	})
}
