package httpapi

import (
	"strconv"
	"testing"
	"time"
)

// TestLimiterForgets: the memory is bounded, keys that do not fit share one bucket, and full
// buckets make room again. It looks inside because no request reaches the bound in a test's time.
func TestLimiterForgets(t *testing.T) {
	t.Parallel()
	l := newLimiter(time.Second, 2)
	l.size = 3
	now := time.Unix(1000, 0)
	for i := range 3 {
		for n, want := range []bool{true, true, false} {
			if _, ok := l.take(strconv.Itoa(i), now); ok != want {
				t.Fatalf("key %d, event %d: %t", i, n, ok)
			}
		}
	}
	for n, want := range []bool{true, true, false, false} {
		if _, ok := l.take("new"+strconv.Itoa(n), now); ok != want {
			t.Errorf("event %d of keys without room: %t", n, ok)
		}
	}
	if wait := l.peek("another", now); wait != time.Second {
		t.Errorf("a key without room waits %v", wait)
	}
	later := now.Add(3 * time.Second)
	for n, want := range []bool{true, true, false} {
		if wait, ok := l.take("late", later); ok != want || !ok && wait != time.Second {
			t.Errorf("event %d after buckets filled up: %t, wait %v", n, ok, wait)
		}
	}
	if len(l.full) > 4 {
		t.Errorf("%d keys remembered", len(l.full))
	}
}
