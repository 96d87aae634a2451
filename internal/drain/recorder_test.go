package drain_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// shelf is where attempts are written down.
type shelf struct {
	mu    sync.Mutex
	lists map[partner.ClientID][][]int
	err   error
	ended bool
}

func (s *shelf) RecordAttempts(ctx context.Context, a partner.ClientID, list []delivery.Attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := make([]int, len(list))
	for i, x := range list {
		numbers[i] = x.Number
	}
	s.ended = s.ended || ctx.Err() != nil
	s.lists[a] = append(s.lists[a], numbers)
	return s.err
}

func note(r *drain.Recorder, a partner.ClientID, from, to int) {
	for i := from; i <= to; i++ {
		r.RecordAttempt(delivery.Attempt{ClientID: a, Number: i})
	}
}

func TestRecorderFlushes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{lists: map[partner.ClientID][][]int{}}
		r := drain.NewRecorder(s, 5, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx)
		}()
		note(r, "a", 1, 3)
		note(r, "b", 1, 1)
		pass(drain.FlushEvery + time.Millisecond)
		note(r, "a", 4, 4)
		pass(3 * drain.FlushEvery) // nothing new: nothing written
		note(r, "a", 5, 6)
		cancel()
		<-done
		want := map[partner.ClientID][][]int{"a": {{1, 2, 3}, {4}, {5, 6}}, "b": {{1}}}
		if d := cmp.Diff(want, s.lists); d != "" {
			t.Error(d)
		}
		if s.ended {
			t.Error("the last flush was given an ended context")
		}
	})
}

// What comes faster than it is written keeps the newest, in order and in bounded memory.
func TestRecorderBounds(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 5, 6, 9, 10, 11, 14, 15, 16, 1003} {
		s := &shelf{lists: map[partner.ClientID][][]int{}}
		r := drain.NewRecorder(s, 5, slog.New(slog.DiscardHandler))
		note(r, "a", 1, n)
		r.Flush(t.Context())
		var want []int
		for i := max(1, n-4); i <= n; i++ {
			want = append(want, i)
		}
		if d := cmp.Diff([][]int{want}, s.lists["a"]); d != "" {
			t.Errorf("%d attempts: %s", n, d)
		}
	}
}

// A list that cannot be written is dropped, not kept for ever.
func TestRecorderDropsWhatFails(t *testing.T) {
	t.Parallel()
	s := &shelf{lists: map[partner.ClientID][][]int{}, err: errFake}
	r := drain.NewRecorder(s, 0, slog.New(slog.DiscardHandler))
	note(r, "a", 1, 3)
	r.Flush(t.Context())
	r.Flush(t.Context())
	if d := cmp.Diff([][]int{{3}}, s.lists["a"]); d != "" {
		t.Error(d)
	}
}

// Attempts of many apps that nobody takes are bounded in all, and each app keeps its newest.
func TestRecorderBoundsWhatIsPending(t *testing.T) {
	t.Parallel()
	const apps, attempts = 500, 400
	s := &shelf{lists: map[partner.ClientID][][]int{}}
	r := drain.NewRecorder(s, 1000, slog.New(slog.DiscardHandler))
	for n := 1; n <= attempts; n++ {
		for i := range apps {
			note(r, partner.ClientID(fmt.Sprintf("app%d", i)), n, n)
		}
	}
	r.Flush(t.Context())
	total := 0
	for app, lists := range s.lists {
		list := lists[0]
		total += len(list)
		if list[len(list)-1] != attempts || len(list) < 40 {
			t.Fatalf("%s: %d of %d attempts are left, up to number %d", app, len(list), attempts, list[len(list)-1])
		}
	}
	if len(s.lists) != apps || total > 40_000 {
		t.Errorf("%d attempts of %d apps were kept", total, len(s.lists))
	}
}
