package ratelimit

import (
	"strconv"
	"testing"
	"time"
)

// TestLimiterForgetsTheOldest: the memory is bounded, and no key is refused because of many other keys.
func TestLimiterForgetsTheOldest(t *testing.T) {
	t.Parallel()
	l := New(time.Second, 2)
	l.full.Size = 3
	now := time.Unix(1000, 0)
	take := func(key string, want ...bool) {
		t.Helper()
		for n, w := range want {
			if wait, ok := l.Take(key, now); ok != w || !ok && wait <= 0 {
				t.Fatalf("key %s, event %d: %t, wait %v", key, n, ok, wait)
			}
		}
	}
	for i := range 3 {
		take(strconv.Itoa(i), true, true, false)
	}
	for i := range 20 {
		take("new"+strconv.Itoa(i), true, true, false)
		if n := len(l.full.young) + len(l.full.old); n > 2*3 {
			t.Fatalf("%d keys remembered", n)
		}
	}
	take("new19", false)
	take("new17", false)
	take("0", true) // forgotten
	if wait := l.Peek("another", now); wait != 0 {
		t.Errorf("a key that never came waits %v", wait)
	}
}

// TestGenerationsKeepWhatIsUsed: what is put again and again is never forgotten.
func TestGenerationsKeepWhatIsUsed(t *testing.T) {
	t.Parallel()
	g := Map[int]{Size: 3}
	for i := range 100 {
		g.Put("used", i)
		g.Put(strconv.Itoa(i), i)
		if v, ok := g.Get("used"); !ok || v != i {
			t.Fatalf("after %d others it is %d, %t", i, v, ok)
		}
	}
	g.Remove("used")
	if _, ok := g.Get("used"); ok {
		t.Error("it is there after it was removed")
	}
}
