package httpapi

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// limiter spaces events per key by the generic cell rate algorithm (ITU-T I.371): burst events at
// once, then one per interval. It remembers at most size keys; what does not fit shares one.
type limiter struct {
	interval time.Duration
	burst    int
	size     int

	mu sync.Mutex
	// full is, per key, when its bucket will be full again.
	full  map[string]time.Time
	swept time.Time
}

const limiterKeys = 10_000

func newLimiter(interval time.Duration, burst int) *limiter {
	return &limiter{interval: interval, burst: burst, size: limiterKeys, full: map[string]time.Time{}}
}

// take counts an event, or says how long the caller has to wait.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	return l.takeMany(key, 1, now)
}

// takeMany counts n events at once, where there is room for one. The next ones wait for all of them.
func (l *limiter) takeMany(key string, n int, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key = l.room(key, now)
	if wait = l.wait(key, now); wait > 0 {
		return wait, false
	}
	at := l.full[key]
	if at.Before(now) {
		at = now
	}
	l.full[key] = at.Add(time.Duration(n) * l.interval)
	return 0, true
}

// peek says how long the key has to wait, without counting.
func (l *limiter) peek(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.full[key]; !known && len(l.full) >= l.size {
		key = ""
	}
	return l.wait(key, now)
}

func (l *limiter) wait(key string, now time.Time) time.Duration {
	at := l.full[key]
	if !at.After(now) {
		return 0
	}
	return max(at.Sub(now)-time.Duration(l.burst-1)*l.interval, 0)
}

// room returns the key under which an event counts, after forgetting full buckets when there is
// no room; it looks through all of them at most once per interval.
func (l *limiter) room(key string, now time.Time) string {
	if _, known := l.full[key]; known || len(l.full) < l.size {
		return key
	}
	if now.Sub(l.swept) >= l.interval {
		l.swept = now
		for k, at := range l.full {
			if !at.After(now) {
				delete(l.full, k)
			}
		}
	}
	if len(l.full) < l.size {
		return key
	}
	return ""
}

// remote is the network a request came from, as far as limits are concerned: an IPv4 address, or
// an IPv6 /64, which one subscriber has to itself.
func remote(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
