package loop_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/registry"
)

var errFake = errors.New("connection lost")

// store is a Redis that does what loop.lua says.
type store struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	state  registry.LoopState
	away   bool
	writes int
}

func (s *store) TakeLoopLease(_ context.Context, name, holder string, ttl time.Duration, write *registry.LoopState) (registry.LoopLease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away || name != "count" {
		return registry.LoopLease{}, errFake
	}
	now := time.Now()
	if !now.Before(s.until) {
		s.holder = ""
	}
	k := registry.LoopLease{Now: now, Held: s.holder == "" || s.holder == holder, Anew: s.holder == ""}
	if k.Held {
		s.holder, s.until = holder, now.Add(ttl)
	}
	if k.Held && !k.Anew && write != nil {
		s.writes++
		completed := s.state.Completed
		if s.state = *write; !write.Open && write.Faults == 0 {
			completed = now
		}
		s.state.Completed = completed
		if !write.Open {
			s.state.Faults = 0
		}
	}
	k.LoopState = s.state
	return k, nil
}

func (s *store) ReleaseLease(ctx context.Context, _, holder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return errFake
	}
	if s.holder == holder {
		s.holder = ""
	}
	return nil
}

// counting counts to end, one a step, and notes who did which.
type counting struct {
	mu   sync.Mutex
	done []string
	end  int
	// during, if set, is called in each step.
	during func(who string, n int) (loop.Report, error)
}

func (c *counting) step(who string) func(ctx context.Context, cursor string) (loop.Report, error) {
	return func(_ context.Context, cursor string) (loop.Report, error) {
		n, _ := strconv.Atoi(cursor)
		c.mu.Lock()
		c.done = append(c.done, fmt.Sprintf("%s%d", who, n))
		c.mu.Unlock()
		r, err := loop.Report{}, error(nil)
		if c.during != nil {
			r, err = c.during(who, n)
		}
		if r.Next = strconv.Itoa(n + 1); n+1 == c.end {
			r.Next, r.End, r.Note = "", true, "counted"
		}
		return r, err
	}
}

func (c *counting) took() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.done
	c.done = nil
	return out
}

func process(s *store, c *counting, who string) (*loop.Loop, *prometheus.Registry) {
	reg := prometheus.NewPedanticRegistry()
	return loop.New(loop.Options{
		Name: "count", Step: c.step(who), Every: 5 * time.Second, Within: 15 * time.Second, Lease: 15 * time.Second,
		Store: s, Holder: who, Metrics: loop.NewMetrics(reg), Log: slog.New(slog.DiscardHandler),
	}), reg
}

func values(t testing.TB, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			parts := []string{f.GetName()}
			for _, l := range m.GetLabel()[1:] {
				parts = append(parts, l.GetValue())
			}
			name := strings.Join(parts, " ")
			if v := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); v != 0 {
				out[name[len("lamplighter_loop_"):]] = v
			}
		}
	}
	return out
}

func turn(t testing.TB, l *loop.Loop) time.Duration {
	t.Helper()
	wait, err := l.TakeTurn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wait
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// A round is done step by step without a pause, the next one begins in time, and another process is left out.
func TestRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, c := &store{}, &counting{end: 3}
		a, reg := process(s, c, "a")
		b, other := process(s, c, "b")
		same(t, "waits", []time.Duration{0, 5 * time.Second, 0, 5 * time.Second}, []time.Duration{turn(t, a), turn(t, b), turn(t, a), turn(t, a)})
		same(t, "too early", 5*time.Second, turn(t, a))
		same(t, "done", []string{"a0", "a1", "a2"}, c.took())
		same(t, "state", "counted", s.state.Note)
		<-time.After(5 * time.Second)
		turn(t, a)
		same(t, "the next round", []string{"a0"}, c.took())
		same(t, "series", map[string]float64{"rounds_total complete": 1, "round_seconds": 1}, values(t, reg))
		same(t, "series of the other", map[string]float64{}, values(t, other))
	})
}

// Whoever takes over goes on where the last holder stopped; that one learns, back from a freeze in the middle of a step, that it holds
// nothing, and writes nothing.
func TestTakingOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, c := &store{}, &counting{end: 9}
		a, _ := process(s, c, "a")
		b, reg := process(s, c, "b")
		turn(t, a)
		turn(t, a)
		c.during = func(who string, n int) (loop.Report, error) {
			if who == "a" && n == 2 { // frozen
				<-time.After(16 * time.Second)
				for range 3 {
					turn(t, b)
				}
			}
			return loop.Report{}, nil
		}
		turn(t, a)
		same(t, "done", []string{"a0", "a1", "a2", "b2", "b3", "b4"}, c.took())
		turn(t, a)
		for range 4 {
			turn(t, b)
		}
		same(t, "the rest", []string{"b5", "b6", "b7", "b8"}, c.took())
		same(t, "series: the round is not one process' own", map[string]float64{"rounds_total complete": 1}, values(t, reg))

		// Frozen between two steps it asks before it does another.
		<-time.After(5 * time.Second)
		turn(t, b)
		<-time.After(time.Minute)
		turn(t, a)
		turn(t, b)
		same(t, "done", []string{"b0", "a1"}, c.took())
	})
}

// What a step passes over leaves the round complete; what fails of the store does not, and neither stops it.
func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, c := &store{}, &counting{end: 3}
		a, reg := process(s, c, "a")
		c.during = func(_ string, n int) (loop.Report, error) {
			return loop.Report{Passed: []error{fmt.Errorf("app %d cannot be read", n), errFake}}, nil
		}
		for range 3 {
			if _, err := a.TakeTurn(t.Context()); !errors.Is(err, errFake) {
				t.Errorf("error %v", err)
			}
		}
		done := s.state.Completed
		if done.IsZero() {
			t.Error("not complete, though only single things failed")
		}
		same(t, "series", map[string]float64{"rounds_total complete": 1, "round_seconds": 1, "failures_total item": 6}, values(t, reg))
		<-time.After(5 * time.Second)
		c.took()
		c.during = func(_ string, n int) (loop.Report, error) {
			if n == 1 {
				return loop.Report{}, errFake
			}
			return loop.Report{}, nil
		}
		for range 3 {
			_, _ = a.TakeTurn(t.Context())
		}
		same(t, "done", []string{"a0", "a1", "a2"}, c.took())
		same(t, "last complete", done, s.state.Completed)
		same(t, "series", map[string]float64{
			"rounds_total complete": 1, "rounds_total incomplete": 1, "round_seconds": 2, "failures_total item": 6, "failures_total step": 1,
		}, values(t, reg))
	})
}

// While Redis is away nothing is done and it is asked every second; then the loop goes on.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, c := &store{}, &counting{end: 3}
		a, _ := process(s, c, "a")
		turn(t, a)
		c.during = func(_ string, n int) (loop.Report, error) {
			s.away = n == 1
			return loop.Report{}, nil
		}
		for range 3 {
			if wait, err := a.TakeTurn(t.Context()); wait != time.Second || !errors.Is(err, errFake) {
				t.Errorf("wait %v, error %v", wait, err)
			}
		}
		s.away, c.during = false, nil
		turn(t, a)
		turn(t, a)
		same(t, "done", []string{"a0", "a1", "a1", "a2"}, c.took())
	})
}

// A step that fails where it stands is tried again after a pause, not at once.
func TestNoProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		l := loop.New(loop.Options{
			Name: "count", Every: 5 * time.Second, Within: time.Second, Lease: 15 * time.Second, Store: s, Holder: "a", Log: slog.New(slog.DiscardHandler),
			Step: func(ctx context.Context, cursor string) (loop.Report, error) {
				<-ctx.Done()
				return loop.Report{Next: cursor}, ctx.Err()
			},
		})
		if wait, err := l.TakeTurn(t.Context()); wait != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait %v, error %v", wait, err)
		}
	})
}

// A process that stops gives the lease back, and another goes on at its next turn, at the place of the step that was cut.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, c := &store{}, &counting{end: 3}
		a, _ := process(s, c, "a")
		b, _ := process(s, c, "b")
		ctx, stop := context.WithCancel(t.Context())
		c.during = func(_ string, n int) (loop.Report, error) {
			if n == 1 {
				stop()
			}
			return loop.Report{}, nil
		}
		a.Run(ctx)
		turn(t, b)
		same(t, "done", []string{"a0", "a1", "b1"}, c.took())
	})
}
