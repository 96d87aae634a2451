package registry_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func keepLoop(t *testing.T, s *registry.Store, holder string, write *registry.LoopState) registry.LoopLease {
	t.Helper()
	return must[registry.LoopLease](t)(s.TakeLoopLease(t.Context(), "arm", holder, time.Minute, write))
}

// Only the holder of the lease writes how far a loop came, and whoever asks reads it.
func TestKeepLoop(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		rdb := s.rdb
		lease := keys.New("test").Config(keys.ConfigLeases) + ":arm"
		first := keepLoop(t, s.Store, "a", nil)
		same(t, "first", []any{first.Held, first.Anew, first.LoopState}, []any{true, true, registry.LoopState{}})
		began := first.Now
		step := registry.LoopState{Cursor: "app7", Began: began, Open: true, Faults: 2, Note: "not yet"}
		kept := keepLoop(t, s.Store, "a", &step)
		step.Note = ""
		same(t, "after a step", []any{kept.Held, kept.Anew, kept.LoopState}, []any{true, false, step})
		other := keepLoop(t, s.Store, "b", &registry.LoopState{Cursor: "other", Open: true})
		same(t, "another", []any{other.Held, other.LoopState}, []any{false, step})

		// The lease runs out while the first is frozen. The second goes on where it stopped and ends the round, with a fault; then one without.
		rdb.Del(t.Context(), lease)
		other = keepLoop(t, s.Store, "b", nil)
		same(t, "taken over", []any{other.Held, other.Anew, other.LoopState}, []any{true, true, step})
		end := registry.LoopState{Began: began, Faults: 2, Note: "12 mails"}
		other = keepLoop(t, s.Store, "b", &end)
		same(t, "ended with faults", other.LoopState, registry.LoopState{Began: began, Note: "12 mails"})
		end.Faults = 0
		other = keepLoop(t, s.Store, "b", &end)
		if other.Completed.IsZero() || other.Completed.Before(began) || other.Open {
			t.Errorf("complete: %+v", other)
		}

		// Back again, the first learns that it holds nothing, even once the lease is free: what it brings is old.
		late := registry.LoopState{Cursor: "app1", Began: began, Open: true}
		kept = keepLoop(t, s.Store, "a", &late)
		same(t, "late", []any{kept.Held, kept.LoopState}, []any{false, other.LoopState})
		noErr(t, "release", s.ReleaseLease(t.Context(), "arm", "b"))
		kept = keepLoop(t, s.Store, "a", &late)
		same(t, "later", []any{kept.Held, kept.Anew, kept.LoopState}, []any{true, true, other.LoopState})

		// What cannot be read counts as not there.
		rdb.HSet(t.Context(), keys.New("test").Config(keys.ConfigLoops)+":arm", "began", "x", "completed", "-3", "faults", "y")
		kept = keepLoop(t, s.Store, "a", nil)
		same(t, "unreadable", kept.LoopState, registry.LoopState{Open: true, Note: "12 mails"})
	})
}
