package drain_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const transitions = "lamplighter_breaker_transitions_total"

// within fails the test unless lo <= d <= hi.
func (r *rig) within(what string, d, lo, hi time.Duration) {
	r.Helper()
	if d < lo || d > hi {
		r.Errorf("%s: %v, want %v to %v", what, d, lo, hi)
	}
}

// One failure of an endpoint that only one tenant approved opens the circuit.
func TestTheOnlyTenantIsEvidence(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.box.sole = true
		r.answer = only(500)
		r.run()
		r.expect(1, 1)
		r.free()
		if r.box.gopen != 1 || r.value(transitions, "open") != 1 {
			r.Errorf("openings %d", r.box.gopen)
		}
		r.within("gate", time.Until(r.box.gate), 3900*time.Millisecond, 5*time.Second)
		if r.box.entries[slotted{"t000", tenant.SlotStatus}].Steps != 0 {
			r.Error("an endpoint's fault climbed the notification's schedule")
		}
		if len(r.seen) != 1 || r.seen[0].Failure == nil || r.seen[0].Failure.Status != 500 || r.seen[0].Succeeded || r.seen[0].App != app {
			r.Errorf("seen %+v", r.seen)
		}
	})
}

// What was held against single tenants before the evidence was enough is the endpoint's.
func TestTheEndpointsFailureIsNobodyElses(t *testing.T) {
	for name, code := range map[string]int{"Failures": 500, "Refusals": 408} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(8)
				r.answer = only(code)
				r.run()
				if r.box.gopen != 1 || r.box.probes != 5 || r.box.refusing.IsZero() != (code == 500) {
					r.Errorf("openings %d, probes %d, refusing %v", r.box.gopen, r.box.probes, r.box.refusing)
				}
				if len(r.seen) != 1 || r.seen[0].Failure == nil || r.seen[0].Failure.Status != code || len(r.seen[0].Rejected) != 0 {
					r.Errorf("seen %+v", r.seen)
				}
			})
		})
	}
}

// One failure holds nobody back, and is that tenant's.
func TestOneFailureHoldsNobodyBack(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Change.Tenant == "t000" && m.Attempts == 0 {
				return delivery.ClassifyStatus(500)
			}
			return delivery.ClassifyStatus(200)
		}
		r.box.fill(3)
		r.run()
		r.expect(3, 1)
		if !r.box.gate.IsZero() || r.box.gopen != 0 || r.value(transitions, "open") != 0 {
			r.Error("the gate was closed")
		}
		if len(r.seen) != 1 || r.seen[0].Failure != nil || len(r.seen[0].Rejected) != 1 || r.seen[0].Rejected[0].Message.Change.Tenant != "t000" {
			r.Errorf("seen %+v", r.seen)
		}
		r.follow()
		r.expect(4, 0)
	}, func(o *drain.Options) { o.InFlightPerApp = 2 })
}

// An endpoint that answered a moment ago and begins to hang is blamed itself: what hung first must not
// wait minutes for its turn once the endpoint is back.
func TestBeginningToHangIsTheEndpointsFault(t *testing.T) {
	bubble(t, func(r *rig) {
		const well = 40
		r.latency = func(m delivery.Message) time.Duration {
			if m.Change.Tenant >= "t040" {
				return r.opts.Timeout
			}
			return 10 * time.Millisecond
		}
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Change.Tenant >= "t040" {
				return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonTimeout, Fault: delivery.FaultEndpoint}
			}
			return delivery.ClassifyStatus(200)
		}
		r.box.fill(2 * well)
		r.run()
		if n := r.box.waiting(); n != well {
			r.Fatalf("%d wait, want %d", n, well)
		}
		for at, e := range r.box.entries {
			if e.Steps != 0 {
				r.Errorf("%v climbed %d steps of its schedule", at, e.Steps)
			}
		}
		if r.box.gate.IsZero() {
			r.Error("the gate stays open")
		}
	})
}

// A failure and a refusal are each their tenant's.
func TestFailureAndRefusalOfTwoTenants(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence) * 100 * time.Millisecond }
		r.answer = func(n int, m delivery.Message) delivery.Result {
			switch {
			case m.Change.Tenant == "t001":
				return delivery.ClassifyStatus(400)
			case m.Attempts == 0:
				return delivery.ClassifyStatus(500)
			}
			return delivery.ClassifyStatus(200)
		}
		r.box.fill(2)
		r.run()
		r.expect(2, 2)
		if !r.box.gate.IsZero() {
			r.Error("the gate was closed")
		}
		if e := r.box.entries[slotted{"t001", tenant.SlotStatus}]; e == nil || e.Steps != 1 {
			r.Errorf("the refused one: %+v", e)
		}
	})
}

// An endpoint that refuses everything tells nothing about a failing one: what it fails on is due
// when the cool-down ends, and climbs no schedule.
func TestRefusalsDoNotMakeOthersClimb(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Change.Tenant == "t000" {
				return delivery.ClassifyStatus(400)
			}
			return delivery.ClassifyStatus(500)
		}
		r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence) * 100 * time.Millisecond }
		r.box.fill(2)
		r.run()
		if e := r.box.entries[slotted{"t001", tenant.SlotStatus}]; e == nil || e.Steps != 0 {
			r.Errorf("the failed one: %+v", e)
		}
	})
}

// A probe that is refused for its own sake shows that the endpoint works: the circuit closes, the
// others follow, and the refused one climbs its own schedule.
func TestRefusedProbeClearsTheGate(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = only(500)
		r.box.fill(2)
		r.run()
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			return delivery.ClassifyStatus(map[bool]int{true: 400, false: 200}[m.Change.Tenant == "t000"])
		}
		r.next()
		if r.box.gopen != 0 || !r.box.gate.IsZero() {
			r.Errorf("openings %d, gate %v after the refusal", r.box.gopen, r.box.gate)
		}
		if e := r.box.entries[slotted{"t000", tenant.SlotStatus}]; e == nil || e.Steps != 1 {
			r.Errorf("the refused one: %+v", e)
		}
		if e := r.box.entries[slotted{"t001", tenant.SlotStatus}]; e != nil {
			r.Errorf("the other one still waits: %+v", e)
		}
	})
}

func TestProbeLetsOneOutAndRampsUp(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = refuses
		r.box.fill(200)
		r.run()
		before := len(r.posts)
		if before > 32 {
			r.Errorf("%d posts into a failing endpoint", before)
		}
		r.answer = only(200)
		r.latency = func(delivery.Message) time.Duration { return time.Second }
		w := r.wake()
		r.within("next try", w.Delay, 3900*time.Millisecond, 5*time.Second)
		pass(w.Delay)
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, w.Generation) }()
		pass(100 * time.Millisecond)
		for second, most := range []int{1, 4, 5, 8, 8} {
			if second > 0 {
				pass(time.Second)
			}
			r.locked(func() {
				if got := len(r.posts) - before; got < 1 || got > most || second == 0 && got != 1 {
					r.Errorf("second %d: %d posts, want at most %d", second, got, most)
				}
				before = len(r.posts)
			})
		}
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		if r.box.gopen != 0 || !r.box.gate.IsZero() {
			r.Error("the success did not clear the gate")
		}
		if r.value(transitions, "half_open") != 1 || r.value(transitions, "closed") != 1 {
			r.Error("transitions")
		}
		if n := len(r.seen); n != 2 || !r.seen[1].Succeeded || r.seen[1].Failure != nil {
			r.Errorf("seen %+v", r.seen)
		}
	})
}

func TestProbeFailureClosesTheGateForLonger(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = refuses
		r.box.fill(10)
		r.run()
		for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			posts := len(r.posts)
			w := r.wake()
			if w.IsNone() { // beyond the horizon in the real mailbox; here always armed
				r.Fatal("no wake-up")
			}
			want *= time.Second
			r.within("cool-down", w.Delay, want*8/10-time.Second, want)
			pass(w.Delay)
			if err := r.drain(r.Context(), app, w.Generation); err != nil {
				r.Fatal(err)
			}
			if len(r.posts) != posts+1 || r.box.gopen != i+2 {
				r.Errorf("probe %d: %d posts, %d openings", i, len(r.posts)-posts, r.box.gopen)
			}
		}
	})
}

// An app that comes back hears everything within the longest cool-down, however long it was away.
func TestBackWithinAMinute(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = only(500)
		r.box.fill(100)
		r.run()
		for away := time.Now(); time.Since(away) < 6*time.Hour; {
			r.next()
		}
		r.answer = only(200)
		back := time.Now()
		r.follow()
		r.within("told", time.Since(back), 0, time.Minute+time.Second)
	})
}

// A failure after a probe's success is a first one again.
func TestCoolDownStartsAnewAfterSuccess(t *testing.T) {
	bubble(t, func(r *rig) {
		r.answer = refuses
		r.box.fill(3)
		r.run()
		for range 5 {
			r.next()
		}
		n := len(r.posts)
		r.answer = func(k int, m delivery.Message) delivery.Result {
			if k == n+1 {
				return delivery.ClassifyStatus(200)
			}
			return refuses(k, m)
		}
		r.next()
		if r.box.gopen != 1 {
			r.Fatalf("%d openings", r.box.gopen)
		}
		r.within("cool-down", r.wake().Delay, 3900*time.Millisecond, 5*time.Second)
	}, func(o *drain.Options) { o.BreakerFailures = 1 })
}

// refuses is a host that takes no connection.
func refuses(int, delivery.Message) delivery.Result {
	return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRefused, Fault: delivery.FaultEndpoint}
}

// failing answers 500 to the given posts.
func failing(which func(n int) bool) func(int, delivery.Message) delivery.Result {
	return func(n int, _ delivery.Message) delivery.Result {
		if which(n) {
			return delivery.ClassifyStatus(500)
		}
		return delivery.ClassifyStatus(200)
	}
}

// one makes posts finish one after the other, so that their order is known.
func one(o *drain.Options) { o.InFlightPerApp = 1 }

// An endpoint that takes others is to blame after so many failures in a row.
func TestBreakerTripsInARow(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		open     bool
	}{"OneLess": {4, false}, "Enough": {5, true}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(40)
				r.answer = failing(func(n int) bool { return n > 10 && n <= 10+c.failures })
				r.run()
				if open := r.box.gopen > 0; open != c.open {
					r.Errorf("gate closed: %v after %d failures in a row", open, c.failures)
				}
			}, one)
		})
	}
}

// Failures beside others that are taken trip nothing.
func TestBreakerForgets(t *testing.T) {
	bubble(t, func(r *rig) {
		for i := range 40 {
			r.box.deposit("good", tenant.Suspend)
			r.box.deposit("bad", tenant.Suspend)
			r.answer = func(_ int, m delivery.Message) delivery.Result {
				if m.Change.Tenant == "bad" {
					return delivery.ClassifyStatus(500)
				}
				return delivery.ClassifyStatus(200)
			}
			r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence) }
			r.run()
			if r.box.gopen > 0 {
				r.Fatalf("round %d: gate closed", i)
			}
			pass(20 * time.Second)
		}
	})
}

func TestGoneSwitchesOff(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.answer = only(410)
		r.run()
		if d := cmp.Diff([]int64{registryRevision}, r.offs); d != "" {
			r.Error(d)
		}
		if r.box.off != registryRevision+1 || len(r.box.entries) != 3 || len(r.wakes) != 0 {
			r.Errorf("off %d, %d entries, wakes %v", r.box.off, len(r.box.entries), r.wakes)
		}
		r.free()
		if len(r.seen) != 1 || r.seen[0].Failure == nil || r.seen[0].Failure.Outcome != delivery.Gone {
			r.Errorf("seen %+v", r.seen)
		}
		posts := len(r.posts)
		r.run() // off: nothing happens
		if len(r.posts) != posts {
			r.Error("posted to an endpoint that is off")
		}
	})
}

// Another client wrote the app meanwhile, or the registry is away: the circuit opens instead.
func TestGoneNotSwitchedOff(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.answer = only(410)
		r.switchErr = errFake
		r.run()
		if r.box.off != 0 || r.box.gopen != 1 || len(r.wakes) != 1 {
			r.Errorf("off %d, openings %d, wakes %v", r.box.off, r.box.gopen, r.wakes)
		}
		r.free()
	})
}

func TestGates(t *testing.T) {
	waiting := func(code int, d time.Duration) delivery.Result {
		res := delivery.ClassifyStatus(code)
		res.RetryAfter = d
		return res
	}
	for name, c := range map[string]struct {
		result delivery.Result
		lo, hi time.Duration
	}{
		"Blocked":               {delivery.Result{Outcome: delivery.Blocked, Reason: delivery.ReasonBlockedAddress, Fault: delivery.FaultEndpoint}, time.Hour, time.Hour},
		"TooMany":               {waiting(429, 0), 4 * time.Second, 5 * time.Second},
		"TooManyRetryAfter":     {waiting(429, 10*time.Minute), 10 * time.Minute, 10 * time.Minute},
		"TooManyRetryAfterless": {waiting(429, time.Second), time.Second, time.Second},
		"UnavailableRetryAfter": {waiting(503, time.Hour), time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(2)
				r.answer = func(n int, _ delivery.Message) delivery.Result {
					if n == 1 { // others being answered does not open this gate
						return delivery.ClassifyStatus(200)
					}
					return c.result
				}
				r.run()
				r.within("gate", time.Until(r.box.gate), c.lo-10*time.Millisecond, c.hi+time.Millisecond)
				if r.box.gopen != r.box.probes || r.box.probes != map[bool]int{true: 1}[name == "Blocked"] || len(r.seen) != 1 || r.seen[0].Failure == nil {
					r.Errorf("openings %d, seen %+v", r.box.gopen, r.seen)
				}
				r.follow2(delivery.ClassifyStatus(200))
			}, one)
		})
	}
}

// follow2 lets the receiver answer alike from now on and follows wake-ups until all is told.
func (r *rig) follow2(res delivery.Result) {
	r.Helper()
	r.answer = func(int, delivery.Message) delivery.Result { return res }
	r.follow()
}

// A poisonous notification among others: they are told, it is repeated soon, and people hear
// that it alone is refused, not that the endpoint fails.
func TestPoison(t *testing.T) {
	bubble(t, func(r *rig) {
		sick := true
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Change.Tenant == "bad" && sick {
				return delivery.ClassifyStatus(500)
			}
			return delivery.ClassifyStatus(200)
		}
		r.box.deposit("bad", tenant.Suspend)
		r.box.fill(50)
		r.run()
		start := time.Now()
		for time.Since(start) < 2*time.Minute {
			if r.box.deposit("good", tenant.Resume); len(r.wakes) == 0 {
				r.wakes = append(r.wakes, r.box.sweep())
			}
			r.next()
			pass(time.Second)
		}
		e := r.box.entries[slotted{"bad", tenant.SlotStatus}]
		if len(r.box.entries) != 1 || e == nil || e.Steps != 0 || e.Attempts < 10 {
			r.Fatalf("entries %v, the bad one %+v", r.box.entries, e)
		}
		for _, o := range r.seen {
			if o.Failure != nil && r.box.gopen == 0 && len(o.Rejected) > 0 {
				r.Errorf("seen as the endpoint's: %+v", o)
			}
			for _, x := range o.Rejected {
				if x.Message.Change.Tenant != "bad" || x.Result.Outcome != delivery.Rejected || x.Result.Status != 500 {
					r.Errorf("refused: %+v", x)
				}
			}
		}
		sick = false
		r.seen = nil
		r.wakes = nil
		pass(40 * time.Minute)
		r.run()
		want := []drain.Observation{{App: app, Succeeded: true, Accepted: []delivery.Message{{Change: tenant.Change{Tenant: "bad"}}}}}
		opts := cmp.Options{
			cmpopts.IgnoreFields(drain.Observation{}, "At"),
			cmp.Transformer("tenant", func(m delivery.Message) tenant.ID { return m.Change.Tenant }),
		}
		if d := cmp.Diff(want, r.seen, opts); d != "" {
			r.Error(d)
		}
	})
}

// A worker whose clock is off against Redis's judges as one whose clock is right: an outage's
// first failures do not climb.
func TestSkewedClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"RedisBehind": -time.Hour, "RedisAhead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.skew = skew
				r.box.fill(20)
				r.answer = failing(func(n int) bool { return n > 10 })
				r.run()
				for range 25 { // each is tried at least twice
					r.next()
				}
				for k, e := range r.box.entries {
					if e.Steps > 1 {
						r.Errorf("%v climbed to step %d", k, e.Steps)
					}
				}
				back := time.Now()
				r.follow2(delivery.ClassifyStatus(200))
				r.within("told", time.Since(back), 0, time.Minute+time.Second)
			}, one)
		})
	}
}
