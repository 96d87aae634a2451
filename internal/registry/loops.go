package registry

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

var keepLoop = newScript("loop")

// LoopState is the progress of a loop. It is stored beside the loop's lease, so that another holder continues from it.
type LoopState struct {
	// Cursor is where the next step continues, as the loop itself writes it.
	Cursor string
	// Began is when the last round began, by Redis's clock; Open that it has not ended. Faults counts the faults of an open one.
	Began  time.Time
	Open   bool
	Faults int
	// Completed is when the last round without a fault ended.
	Completed time.Time
	// Note is the note of the last round that ended.
	Note string
}

// LoopLease is the result of TakeLoopLease.
type LoopLease struct {
	// Held is true if the caller holds the loop's lease now. Anew is true if it did not hold it before the call: then nothing was
	// written.
	Held, Anew bool
	// Now is Redis's time.
	Now time.Time
	LoopState
}

// TakeLoopLease takes or renews the lease of a loop for holder, and reads the loop's progress. If write is set, it first writes
// that state: an open one as a step, another as the end of a round. It writes nothing if the lease was lost since, even if the
// holder gets it again. Values that cannot be read count as absent.
func (s *Store) TakeLoopLease(ctx context.Context, name, holder string, ttl time.Duration, write *LoopState) (LoopLease, error) {
	args := []any{holder, max(ttl.Milliseconds(), 1), ""}
	if write != nil {
		what := "end"
		if write.Open {
			what = "step"
		}
		args = append(args[:2], what, write.Cursor, toMillis(write.Began), write.Faults, write.Note)
	}
	ks := append(s.leaseKey(name), s.keys.Config(keys.ConfigLoops)+":"+name)
	v, err := keepLoop.run(ctx, s.rdb, ks, args...).Slice()
	if err != nil {
		return LoopLease{}, wrapError(err, "take the lease of the loop %s", name)
	}
	if len(v) != 7 {
		return LoopLease{}, fmt.Errorf("take the lease of the loop %s: %w", name, newAnswerError(keepLoop, v))
	}
	held, ok1 := v[0].(int64)
	now, ok2 := v[1].(int64)
	if !ok1 || !ok2 {
		return LoopLease{}, fmt.Errorf("take the lease of the loop %s: %w", name, newAnswerError(keepLoop, v))
	}
	text := func(i int) string {
		s, _ := v[i].(string)
		return s
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(text(i), 10, 64)
		if err != nil {
			return 0
		}
		return max(n, 0)
	}
	return LoopLease{Held: held > 0, Anew: held == 2, Now: fromMillis(now), LoopState: LoopState{
		Cursor: text(2), Began: fromMillis(number(3)), Open: text(4) != "", Faults: int(number(4)), Completed: fromMillis(number(5)), Note: text(6),
	}}, nil
}
