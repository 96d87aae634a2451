package httpapi

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// rateLimiter spaces events per key by the generic cell rate algorithm (ITU-T I.371): burst events at
// once, then one per interval. It remembers at least size keys, and drops those without an event for longest. A key is
// never refused because of other keys.
type rateLimiter struct {
	interval time.Duration
	burst    int

	mu sync.Mutex
	// full is, per key, when its bucket will be full again.
	full boundedMap[time.Time]
}

const limiterKeys = 10_000

func newRateLimiter(interval time.Duration, burst int) *rateLimiter {
	return &rateLimiter{interval: interval, burst: burst, full: boundedMap[time.Time]{size: limiterKeys}}
}

// take counts an event, or says how long the caller has to wait.
func (l *rateLimiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	return l.takeMany(key, 1, 1, now)
}

// takeMany counts n events of a key, at most a burst of them, or none and says how long the caller has to wait.
// factor multiplies the key's rate and burst.
func (l *rateLimiter) takeMany(key string, n, factor int, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, _ := l.full.get(key)
	if at.Before(now) {
		at = now
	}
	end := at.Add(l.eventCost(n, factor))
	if wait = end.Sub(now) - time.Duration(l.burst)*l.interval; wait > 0 {
		l.full.put(key, at)
		return wait, false
	}
	l.full.put(key, end)
	return 0, true
}

// eventCost is how much of a bucket n events take.
func (l *rateLimiter) eventCost(n, factor int) time.Duration {
	return time.Duration(n) * l.interval / time.Duration(factor)
}

// takeWithDebt counts n events of a key if there is room for one. Later events wait until all of them are paid for.
func (l *rateLimiter) takeWithDebt(key string, n, factor int, now time.Time) (wait time.Duration, ok bool) {
	if wait, ok = l.takeMany(key, 1, factor, now); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		at, _ := l.full.get(key)
		l.full.put(key, at.Add(l.eventCost(n-1, factor)))
	}
	return wait, ok
}

// peek says how long the key has to wait, without counting.
func (l *rateLimiter) peek(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, _ := l.full.get(key)
	return l.remainingWait(at, now)
}

func (l *rateLimiter) remainingWait(at, now time.Time) time.Duration {
	if !at.After(now) {
		return 0
	}
	return max(at.Sub(now)-time.Duration(l.burst-1)*l.interval, 0)
}

// boundedMap is a map that drops the keys that were not put for longest. It holds at least the last size keys, and at most
// twice as many.
type boundedMap[V any] struct {
	size       int
	young, old map[string]V
}

func (g *boundedMap[V]) get(key string) (V, bool) {
	if v, ok := g.young[key]; ok {
		return v, true
	}
	v, ok := g.old[key]
	return v, ok
}

func (g *boundedMap[V]) put(key string, v V) {
	if _, known := g.young[key]; !known && len(g.young) >= g.size {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = map[string]V{}
	}
	g.young[key] = v
	delete(g.old, key)
}

func (g *boundedMap[V]) remove(key string) {
	delete(g.young, key)
	delete(g.old, key)
}

// callerNetwork is the network of a request's caller to which limits apply.
func callerNetwork(r *http.Request) string { return addressName(r.RemoteAddr) }

// addressName is an IPv4 address, or the IPv6 /64, which usually belongs to one subscriber.
func addressName(addr string) string { return networkOf(addr, 64) }

// ipv6SiteOf is the IPv6 /48 of an address, empty for IPv4. One site may have a whole /48.
func ipv6SiteOf(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err != nil || ap.Addr().Unmap().Is4() {
		return ""
	}
	return networkOf(addr, 48)
}

func networkOf(addr string, bits int) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "unknown"
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
