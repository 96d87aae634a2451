package probe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
)

// hanging simulates apps of which the first hang, and wakes a probe of one endpoint of each at once, in their order.
func hanging(t *testing.T, apps, hang int) (s *simulation, start time.Time) {
	t.Helper()
	s, _, reg := simulate(t, apps, func(at spot) (health.Reason, time.Duration) {
		if string(at.app) < appID(hang) {
			return health.Timeout, 10 * time.Second
		}
		return health.Healthy, 50 * time.Millisecond
	})
	s.reg = reg
	start = time.Now()
	for i := range apps {
		if err := s.EnqueueProbe(t.Context(), partner.ClientID(appID(i)), partner.ERPSync, start); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // so that tasks are taken in this order
	}
	return s, start
}

// 400 endpoints that hang at once keep no healthy one waiting, although there are 128 places.
func TestHangingProbesKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, start := hanging(t, 600, 400)
		s.tasks.Wait()
		if n := gauge(t, s); n != 400 {
			t.Errorf("%v hang", n)
		}
		if err := s.runner.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := gauge(t, s); n != 0 {
			t.Errorf("%v hang in the end", n)
		}
		for i := 400; i < 600; i++ {
			at := spot{partner.ClientID(appID(i)), partner.ERPSync}
			if len(s.began[at]) != 1 || s.began[at][0].Sub(start) > time.Second {
				t.Fatalf("%v began %v", at, s.began[at])
			}
		}
		for i := range 600 { // what was found after the task had ended is kept all the same
			at := spot{partner.ClientID(appID(i)), partner.ERPSync}
			if s.claimed[at] || s.observed[at] != 1 || (s.states[at].Reason == health.Timeout) != (i < 400) {
				t.Fatalf("%v: claimed %v, told %d, %v", at, s.claimed[at], s.observed[at], s.states[at].Reason)
			}
		}
	})
}

// Beyond the probes that may hang others keep their places.
func TestHangingProbesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const apps = 2000
		s, _ := hanging(t, apps, apps)
		s.tasks.Wait()
		if err := s.runner.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if most := inFlight * (probe.HangingPerPlace + 1); s.mostCalling != most {
			t.Errorf("%d at once, want %d", s.mostCalling, most)
		}
	})
}

// The end of a task ends its probe, unless that goes on without it.
func TestTheEndOfATaskEndsItsProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after time.Duration
		kept  bool
	}{"AtOnce": {100 * time.Millisecond, false}, "WhileItHangs": {300 * time.Millisecond, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _, _ := simulate(t, 1, func(spot) (health.Reason, time.Duration) { return health.Healthy, time.Second })
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(c.after, cancel)
				if err := s.runner.ProbeIfDue(ctx, "app0000", partner.ERPSync); err != nil {
					t.Error(err)
				}
				<-time.After(2 * time.Second)
				if err := s.runner.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if kept := s.observed[spot{"app0000", partner.ERPSync}] == 1; kept != c.kept {
					t.Errorf("kept: %v", kept)
				}
				cancel()
			})
		})
	}
}

// A stop waits for what hangs, as long as it may, and lets nothing more begin.
func TestStopOfProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := simulate(t, 2, func(spot) (health.Reason, time.Duration) { return health.Timeout, 10 * time.Second })
		if err := s.runner.ProbeIfDue(t.Context(), "app0000", partner.ERPSync); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.runner.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := s.runner.ProbeIfDue(t.Context(), "app0001", partner.ERPSync); err == nil {
			t.Error("a probe began after the stop")
		}
		if err := s.runner.Stop(t.Context()); err != nil || s.observed[spot{"app0000", partner.ERPSync}] != 1 {
			t.Errorf("error %v, told %v", err, s.observed)
		}
	})
}

func gauge(t *testing.T, s *simulation) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "lamplighter_probes_hanging" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no gauge")
	return 0
}
