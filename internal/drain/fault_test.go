package drain_test

import (
	"context"
	"errors"
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

// The service's own fault counts against nobody and is tried again after five seconds.
func TestOwnFault(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(100)
		r.answer = func(int, delivery.Message) delivery.Result {
			return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn}
		}
		r.run()
		first := len(r.posts)
		if first > 32 || !r.box.gate.IsZero() || r.box.gopen != 0 || len(r.seen) != 0 {
			r.Errorf("%d posts, openings %d, seen %+v", first, r.box.gopen, r.seen)
		}
		r.free()
		start := time.Now()
		for range 10 {
			w := r.next()
			if w.Delay < circuit.OwnFaultDelay {
				r.Fatalf("tried again after %v", w.Delay)
			}
		}
		r.within("ten rounds", time.Since(start), 50*time.Second, time.Minute)
		for k, e := range r.box.entries {
			if e.Steps != 0 {
				r.Errorf("%v climbed", k)
			}
		}
		r.follow2(delivery.ClassifyStatus(200))
	})
}

// One notification that cannot be made ready does not pace those that can.
func TestOwnFaultOfOne(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(300)
		r.answer = func(n int, _ delivery.Message) delivery.Result {
			if n == 1 {
				return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn}
			}
			return delivery.ClassifyStatus(200)
		}
		r.run()
		if w := r.wake(); w.Delay != 0 {
			r.Errorf("others wait %v", w.Delay)
		}
	})
}

// A probe that met our own fault proves nothing: the circuit neither opens again nor closes.
func TestOwnFaultOfAProbe(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.answer = only(500)
		r.run()
		gate := r.box.gate
		r.answer = func(int, delivery.Message) delivery.Result {
			return delivery.Result{Outcome: delivery.Aborted, Fault: delivery.FaultOwn}
		}
		r.next()
		if r.box.gopen != 1 || !r.box.gate.Equal(gate) {
			r.Errorf("openings %d, gate moved by %v", r.box.gopen, r.box.gate.Sub(gate))
		}
	})
}

func TestBusyOffAndGated(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.box.owner, r.box.oexp = "another", time.Now().Add(time.Second)
		r.run()
		r.box.owner, r.box.oexp, r.box.off = "", time.Time{}, 3
		r.run()
		r.box.off, r.box.gate = 0, time.Now().Add(time.Minute)
		if len(r.wakes) != 0 {
			r.Errorf("wakes %v", r.wakes)
		}
		r.run()
		r.expect(0, 1)
		if w := r.wake(); w.Delay != time.Minute {
			r.Errorf("looks again in %v", w.Delay)
		}
	})
}

// Redis does not answer for a moment: the endpoint is looked up again once the mailbox was taken, and
// nothing is put off.
func TestEndpointIsLookedUpAgain(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.lookups = []error{errFake}
		r.box.fails["begin"] = []string{"before", "before"}
		r.run()
		r.expect(1, 0)
		r.free()
	})
}

// A run that begins when the process stops claims nothing.
func TestNothingIsClaimedWhenStopping(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		if err := r.drain(ctx, app, 1); err != nil {
			r.Fatal(err)
		}
		r.expect(0, 3)
		r.free()
		if r.box.released != 0 {
			r.Errorf("%d claims were made and released", r.box.released)
		}
	})
}

// Without an endpoint the mailbox is given back as it was, and looked at again with patience.
func TestNoEndpoint(t *testing.T) {
	for name, set := range map[string]func(r *rig){
		"Missing": func(r *rig) { r.missing = true }, "RegistryAway": func(r *rig) { r.lookup = errFake },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				set(r)
				r.box.fill(1)
				err := r.drain(r.Context(), app, 1)
				if !errors.Is(err, r.lookup) {
					r.Errorf("error %v", err)
				}
				r.expect(0, 1)
				r.free()
				if r.box.gopen != 0 || !r.box.gate.IsZero() {
					r.Error("our own fault closed the gate")
				}
				if len(r.box.flight) != 0 {
					r.Error("what came when the mailbox was taken is still claimed")
				}
				if w := r.wake(); w.Delay != circuit.OwnFaultDelay {
					r.Errorf("looks again in %v", w.Delay)
				}
				if !r.box.sweep().IsNone() {
					r.Error("the sweep may wake a drainer meanwhile")
				}
			})
		})
	}
}

// Who lost the mailbox claims nothing more; what was delivered still leaves it.
func TestLostLease(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(40)
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Sequence == 3 || m.Sequence == 4 {
				return delivery.ClassifyStatus(500)
			}
			return delivery.ClassifyStatus(200)
		}
		r.latency = func(m delivery.Message) time.Duration {
			return time.Second + time.Duration(m.Sequence/3)*100*time.Millisecond
		}
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(500 * time.Millisecond)
		r.box.locked(func() { r.box.owner, r.box.oexp = "another", time.Now().Add(time.Hour) })
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		r.expect(6, 36) // the reserve started before the next exchange said so
		if r.box.owner != "another" || !r.box.gate.IsZero() || r.box.count("finish") != 0 {
			r.Errorf("owner %q, gate %v, calls %v", r.box.owner, r.box.gate, r.box.calls)
		}
		if len(r.box.flight) != 8-4 || len(r.wakes) != 0 {
			r.Errorf("%d claims left, wakes %v", len(r.box.flight), r.wakes)
		}
		for _, o := range r.seen {
			if o.Failure != nil {
				r.Errorf("a run without a gate of its own blames the endpoint: %+v", o)
			}
		}
	}, func(o *drain.Options) { o.InFlightPerApp = 4 })
}

// Each call that fails is repeated, whether or not it was applied, and nothing is lost by it.
func TestCallsAreRepeated(t *testing.T) {
	for _, call := range []string{"begin", "exchange", "finish"} {
		for _, how := range []string{"before", "after"} {
			t.Run(call+" "+how, func(t *testing.T) {
				bubble(t, func(r *rig) {
					r.box.fill(100)
					r.box.fails[call] = []string{how, how, "", "", how}
					r.run()
					r.follow()
					r.free()
					told := map[tenant.ID]int{}
					for _, p := range r.posts {
						told[p.tenant]++
					}
					if len(told) != 100 || len(r.posts) != 100 {
						r.Errorf("%d tenants told by %d posts", len(told), len(r.posts))
					}
				})
			})
		}
	}
}

// Redis stays away: the run is abandoned once what is out has ended, and the leases clear up.
func TestExchangeKeepsFailing(t *testing.T) {
	for _, how := range []string{"before", "after"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.fill(100)
				r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence) * 100 * time.Millisecond }
				r.box.fails["exchange"] = []string{""}
				r.box.broken["exchange"] = how
				start := time.Now()
				if err := r.drain(r.Context(), app, 1); !errors.Is(err, errFake) {
					r.Errorf("error %v", err)
				}
				r.within("gave up", time.Since(start), 3500*time.Millisecond, 10*time.Second)
				if n := len(r.attempts); n != len(r.posts) {
					r.Errorf("%d attempts of %d were written down", n, len(r.posts))
				}
				if n := r.box.count("exchange"); n != 5 {
					r.Errorf("%d exchanges", n)
				}
				r.box.locked(func() { delete(r.box.broken, "exchange") })
				r.follow()
			})
		})
	}
}

func TestFinishKeepsFailing(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(5)
		r.answer = only(500)
		r.box.broken["finish"] = "before"
		if err := r.drain(r.Context(), app, 1); !errors.Is(err, errFake) {
			r.Errorf("error %v", err)
		}
		for _, o := range r.seen {
			if o.Failure != nil {
				r.Errorf("blamed without a gate: %+v", o)
			}
		}
		delete(r.box.broken, "finish")
		r.follow2(delivery.ClassifyStatus(200))
	})
}

// A claim whose lease leaves no room for a whole request goes back untried.
func TestClaimsTooOldAreReleased(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(4)
		r.latency = func(delivery.Message) time.Duration { return 7 * time.Second }
		r.run()
		// the reserve is 7 s old when the first post ends, and 14 s when the second does: 13 is the end
		for _, p := range r.posts {
			if d := p.at.Sub(r.posts[0].at); d%(7*time.Second) > 10*time.Millisecond {
				r.Errorf("post after %v", d)
			}
		}
		r.follow()
		r.expect(4, 0)
		if r.box.released == 0 {
			r.Error("nothing was released")
		}
	}, func(o *drain.Options) {
		o.InFlightPerApp, o.Budget = 1, 30*time.Second
		o.EntryLease = 18 * time.Second
	})
}

func TestOffWhileRunning(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(300)
		r.answer = func(n int, _ delivery.Message) delivery.Result {
			if n == 40 {
				r.box.locked(func() { r.box.off = 9 })
			}
			return delivery.ClassifyStatus(200)
		}
		r.run()
		if n := len(r.posts); n < 40 || n > 40+64+32 || len(r.box.entries) != 300-n || len(r.box.flight) != 0 {
			r.Errorf("%d posts, %d waiting, %d in flight", n, len(r.box.entries), len(r.box.flight))
		}
		r.free()
	})
}

// An entry of a newer version is left for it; the others are told.
func TestUnreadableEntries(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(10)
		r.box.unreadable["t003"] = true
		r.box.entries[slotted{"t004", tenant.SlotStatus}].Change = `{"v":2}`
		r.run()
		r.expect(8, 2)
		r.free()
		if len(r.box.flight) != 2 {
			r.Errorf("%d in flight, want the two until their leases end", len(r.box.flight))
		}
	})
}

func TestStop(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(200)
		r.latency = func(m delivery.Message) time.Duration {
			if m.Change.Tenant == "t000" {
				return 9 * time.Second
			}
			return time.Second
		}
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(500 * time.Millisecond)
		exchanges := r.box.count("exchange")
		stopped := make(chan error)
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
		defer cancel()
		go func() { stopped <- r.d.Stop(ctx) }()
		synctest.Wait()
		r.box.locked(func() {
			if len(r.box.flight) != circuit.Floor {
				r.Errorf("%d claims at once after the order to stop, want those whose posts are out", len(r.box.flight))
			}
		})
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		if err := <-stopped; err != nil {
			r.Fatal(err)
		}
		r.expect(circuit.Floor, 200-circuit.Floor)
		r.free()
		for _, w := range r.box.wants[exchanges:] {
			if w != 0 {
				r.Errorf("asked for %d claims after the order to stop", w)
			}
		}
		if w := r.wake(); w.Delay != 0 {
			r.Errorf("hands over in %v", w.Delay)
		}
		if err := r.drain(r.Context(), app, 2); !errors.Is(err, drain.ErrStopped) {
			r.Errorf("a drain after Stop: %v", err)
		}
		if err := r.d.Stop(ctx); err != nil {
			r.Errorf("Stop again: %v", err)
		}
	}, func(o *drain.Options) { o.Budget = time.Minute })
}

// A reserve that was claimed before the order to stop does not start after it.
func TestStopStartsNothingOfTheReserve(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(8)
		r.latency = func(m delivery.Message) time.Duration { return time.Duration(m.Sequence) * 10 * time.Millisecond }
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if m.Sequence == 1 {
				go func() { _ = r.d.Stop(context.WithoutCancel(r.Context())) }()
				pass(time.Millisecond)
			}
			return delivery.ClassifyStatus(200)
		}
		r.run()
		r.expect(4, 4)
	}, func(o *drain.Options) { o.InFlightPerApp = 4 })
}

func TestStopGivesUpAtItsDeadline(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.latency = func(delivery.Message) time.Duration { return 9 * time.Second }
		done := make(chan error)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(time.Second)
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := r.d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			r.Errorf("error %v", err)
		}
		if err := <-done; err != nil {
			r.Error(err)
		}
	})
}

// The queue gives a run up: what it aborts is released, counts no attempt, and is recorded.
func TestCanceled(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(40)
		r.latency = func(delivery.Message) time.Duration { return time.Second }
		ctx, cancel := context.WithCancel(r.Context())
		done := make(chan error)
		go func() { done <- r.drain(ctx, app, 1) }()
		pass(100 * time.Millisecond) // a run that only waits is the queue's no more
		cancel()
		if err := <-done; err != nil {
			r.Fatal(err)
		}
		r.free()
		if w := r.wake(); w.Delay != 0 {
			r.Errorf("hands over in %v", w.Delay)
		}
		for k, e := range r.box.entries {
			if e.Attempts != 0 {
				r.Errorf("%v counts %d attempts", k, e.Attempts)
			}
		}
		if len(r.box.entries) != 40 || len(r.box.flight) != 0 {
			r.Errorf("%d waiting, %d in flight", len(r.box.entries), len(r.box.flight))
		}
	})
}

func TestWakerThatFailsIsLeftToTheSweep(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.answer = only(500)
		r.wakeErr = errFake
		r.run()
		r.free()
	})
}

func TestNudge(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.d.DispatchWake(r.Context(), app, mailbox.Wake{})
		synctest.Wait()
		r.expect(0, 1)
		ctx, cancel := context.WithCancel(r.Context())
		if !r.d.DispatchWake(ctx, app, mailbox.Wake{Generation: 1}) {
			r.Error("a drain that was started is denied")
		}
		cancel() // a request that ends does not end the drain it caused
		pass(time.Second)
		r.expect(1, 0)

		r.box.fill(1)
		if r.d.DispatchWake(r.Context(), app, mailbox.Wake{Generation: 2, Delay: 10 * time.Second}) {
			r.Error("a wake-up to come needs a task for the case that this process dies")
		}
		r.d.DispatchWake(r.Context(), app, mailbox.Wake{Generation: 3, Delay: 3 * time.Second})
		pass(2 * time.Second)
		r.expect(1, 1)
		pass(1100 * time.Millisecond)
		r.expect(2, 0)
		r.box.fill(1)
		pass(10 * time.Second)
		r.expect(2, 1) // the older timer was replaced

		r.d.DispatchWake(r.Context(), app, mailbox.Wake{Generation: 4, Delay: time.Second})
		if err := r.d.Stop(r.Context()); err != nil {
			r.Fatal(err)
		}
		if r.d.DispatchWake(r.Context(), app, mailbox.Wake{Generation: 5}) {
			r.Error("a stopped drainer took a wake-up")
		}
		r.d.DispatchWake(r.Context(), app, mailbox.Wake{Generation: 6, Delay: time.Second})
		pass(5 * time.Second)
		r.expect(2, 1)
	})
}

func clientID(i int) partner.ClientID {
	return partner.ClientID("app" + string(rune('a'+i/676)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26)))
}

// However many results pile up while Redis does not answer, one exchange holds no more than a script can take.
func TestResultsAreHandedInByPieces(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(delivery.Message) time.Duration { return time.Second }
		r.box.fill(2000)
		for i := range 60 {
			r.box.fails["exchange"] = append(r.box.fails["exchange"], []string{"", "before", "after", "before"}[i%4])
		}
		r.run()
		r.follow()
		r.expect(2000, 0)
		if r.box.handed != mailbox.MaxBatch {
			r.Errorf("%d results at once, want at most, and once, %d", r.box.handed, mailbox.MaxBatch)
		}
	}, func(o *drain.Options) { o.InFlightPerApp, o.InFlight = 1000, 1000 })
}
