package ratelimit

import (
	"sync"
	"time"
)

// Limiter spaces events per key by the generic cell rate algorithm (ITU-T I.371): burst events at
// once, then one per interval. It drops the keys without an event for longest. A key is never refused because of other
// keys.
type Limiter struct {
	interval time.Duration
	burst    int

	mu sync.Mutex
	// full is, per key, when its bucket will be full again.
	full Map[time.Time]
}

// limiterKeys is how many keys a Limiter certainly remembers.
const limiterKeys = 10_000

// New returns a Limiter.
func New(interval time.Duration, burst int) *Limiter {
	return &Limiter{interval: interval, burst: burst, full: Map[time.Time]{Size: limiterKeys}}
}

// Take counts an event, or says how long the caller has to wait.
func (l *Limiter) Take(key string, now time.Time) (wait time.Duration, ok bool) {
	return l.TakeMany(key, 1, 1, now)
}

// TakeMany counts n events of a key, at most a burst of them, or none and says how long the caller has to wait.
// factor multiplies the key's rate and burst.
func (l *Limiter) TakeMany(key string, n, factor int, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, _ := l.full.Get(key)
	if at.Before(now) {
		at = now
	}
	end := at.Add(l.eventCost(n, factor))
	if wait = end.Sub(now) - time.Duration(l.burst)*l.interval; wait > 0 {
		l.full.Put(key, at)
		return wait, false
	}
	l.full.Put(key, end)
	return 0, true
}

// eventCost is how much of a bucket n events take.
func (l *Limiter) eventCost(n, factor int) time.Duration {
	return time.Duration(n) * l.interval / time.Duration(factor)
}

// TakeWithDebt counts n events of a key if there is room for one. Later events wait until all of them are paid for.
func (l *Limiter) TakeWithDebt(key string, n, factor int, now time.Time) (wait time.Duration, ok bool) {
	if wait, ok = l.TakeMany(key, 1, factor, now); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		at, _ := l.full.Get(key)
		l.full.Put(key, at.Add(l.eventCost(n-1, factor)))
	}
	return wait, ok
}

// Peek says how long the key has to wait, without counting.
func (l *Limiter) Peek(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, _ := l.full.Get(key)
	return l.remainingWait(at, now)
}

func (l *Limiter) remainingWait(at, now time.Time) time.Duration {
	if !at.After(now) {
		return 0
	}
	return max(at.Sub(now)-time.Duration(l.burst-1)*l.interval, 0)
}

// Map is a map that drops the keys that were not put for longest. It holds at least the last Size keys, and at most
// twice as many. The caller locks it.
type Map[V any] struct {
	// Size is how many keys are certainly kept.
	Size       int
	young, old map[string]V
}

// Get returns the value of a key.
func (g *Map[V]) Get(key string) (V, bool) {
	if v, ok := g.young[key]; ok {
		return v, true
	}
	v, ok := g.old[key]
	return v, ok
}

// Put sets the value of a key.
func (g *Map[V]) Put(key string, v V) {
	if _, known := g.young[key]; !known && len(g.young) >= g.Size {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = map[string]V{}
	}
	g.young[key] = v
	delete(g.old, key)
}

// Remove drops a key.
func (g *Map[V]) Remove(key string) {
	delete(g.young, key)
	delete(g.old, key)
}
