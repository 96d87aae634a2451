package drain_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// What a run saw of an endpoint that was changed, switched on, resumed or tested meanwhile says nothing of the
// endpoint as it is now: its gate stays open, nobody is told that it fails, and what failed climbs no step.
func TestAnOutdatedRunSaysNothingOfTheEndpoint(t *testing.T) {
	for name, answer := range map[string]delivery.Result{
		"Failure": delivery.ClassifyStatus(500), "TooManyRequests": {Outcome: delivery.Retryable, Status: 503, Fault: delivery.FaultEndpoint, Wait: true, RetryAfter: time.Hour},
		"Refused": delivery.ClassifyStatus(422), "Delivered": delivery.ClassifyStatus(200),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.box.deposit("t1", tenant.Suspend)
				r.box.deposit("t2", tenant.Suspend)
				old := true
				r.answer = func(_ int, m delivery.Message) delivery.Result {
					if old && m.Change.Tenant == "t1" {
						return answer
					}
					return delivery.ClassifyStatus(200)
				}
				r.latency = func(m delivery.Message) time.Duration {
					if m.Change.Tenant == "t2" {
						return time.Second // the run goes on until then
					}
					return 10 * time.Millisecond
				}
				done := make(chan error, 1)
				go func() { done <- r.drain(r.Context(), app, 1) }()
				pass(500 * time.Millisecond)
				r.box.open()
				r.locked(func() { r.revision++ })
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				r.free()
				if !r.box.gate.IsZero() || r.box.gopen != 0 {
					t.Errorf("the gate of the endpoint as it is now closed: %d openings", r.box.gopen)
				}
				for _, o := range r.seen {
					if o.Failure != nil || o.Succeeded || len(o.Rejected) > 0 {
						t.Errorf("people are told of the endpoint as it was: %+v", o)
					}
				}
				old = false
				r.latency = func(delivery.Message) time.Duration { return 10 * time.Millisecond }
				r.follow()
				r.expect(len(r.posts), 0)
			})
		})
	}
}

// A 410 of the endpoint as it was does not switch off the one that took its place.
func TestAnOutdatedRunSwitchesNothingOff(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.answer = only(410, 200)
		r.latency = func(delivery.Message) time.Duration { return time.Second }
		done := make(chan error, 1)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(500 * time.Millisecond)
		r.box.open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(r.offs) > 1 || r.box.off != 0 { // the registry refuses by the endpoint's revision
			t.Errorf("switched off %v, the mailbox by %d", r.offs, r.box.off)
		}
		r.follow()
		r.expect(2, 0)
	})
}

// A drain that knows the app of a former life reads the settings anew, and follows the present one at once.
func TestDrainOfAnAppMadeAnew(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.box.birth, r.births = 5, 5
		r.run()
		r.expect(3, 0)
		r.free()
	})
}

// Where the settings lost what the mailbox was told, nobody is posted to, and the error says so.
func TestDrainOfAnAppThatTheSettingsLost(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(1)
		r.box.birth = 5
		if err := r.drain(r.Context(), app, 1); err == nil {
			t.Error("no error")
		}
		r.expect(0, 1)
	})
}

// What was claimed for a former life is not posted to the endpoint of the present one.
func TestClaimsOfAFormerLifeAreNotPosted(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.births = 5 // in the settings that are read after the claim
		r.run()
		r.expect(0, 3)
		r.free()
		if r.box.released != 3 {
			t.Errorf("%d claims given back", r.box.released)
		}
	})
}

// A run whose app is deleted meanwhile ends quietly: its results are nobody's.
func TestAppDeletedDuringARun(t *testing.T) {
	bubble(t, func(r *rig) {
		r.box.fill(3)
		r.answer = only(500)
		r.latency = func(delivery.Message) time.Duration { return time.Second }
		done := make(chan error, 1)
		go func() { done <- r.drain(r.Context(), app, 1) }()
		pass(500 * time.Millisecond)
		r.box.locked(func() { r.box.birth = 9 })
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(r.seen) != 0 || !r.box.gate.IsZero() {
			t.Errorf("told of a former life: %+v", r.seen)
		}
	})
}

// A deleted app is nobody to drain for.
func TestDrainOfADeletedApp(t *testing.T) {
	bubble(t, func(r *rig) {
		r.deleted = true
		r.box.fill(1)
		if err := r.drain(r.Context(), app, 1); err != nil || r.box.count("begin") != 0 {
			t.Errorf("error %v, calls %v", err, r.box.calls)
		}
	})
}
