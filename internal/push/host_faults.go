package push

import (
	"sync"
	"time"
)

// ownFaults decides when a fault that looks like the service's own counts against the host: when it has lasted for
// blameAfter while other hosts answer. A resolver that fails for only one name is that name's fault.
type ownFaults struct {
	mu      sync.Mutex
	streaks map[string]faultStreak
	// lastAnswer is when any host last answered.
	lastAnswer time.Time
}

// faultStreak is an unbroken series of own faults of one host.
type faultStreak struct{ began, last time.Time }

const (
	// blameAfter is how long own faults may last for one host before they count against it.
	blameAfter = 5 * time.Minute
	// othersWithin is how recently another host must have answered for the fault to be the host's.
	othersWithin = time.Minute
	// streakGap ends a streak: a host that was not called for that long may have worked meanwhile.
	streakGap = 2 * time.Minute
	// maxHosts limits the record. Beyond it, hosts that begin to fail are not tracked.
	maxHosts = 10_000
)

func newOwnFaults() *ownFaults { return &ownFaults{streaks: map[string]faultStreak{}} }

func (o *ownFaults) noteAnswer(host string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastAnswer = now
	delete(o.streaks, host)
}

// noteReached records that the host itself failed, which shows that the service reaches it.
func (o *ownFaults) noteReached(host string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.streaks, host)
}

// recordFault records an own fault and reports whether it counts against the host.
func (o *ownFaults) recordFault(host string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.streaks[host]
	if !ok && len(o.streaks) >= maxHosts {
		o.dropEnded(now)
		if len(o.streaks) >= maxHosts {
			return false
		}
	}
	if !ok || now.Sub(s.last) > streakGap {
		s.began = now
	}
	s.last = now
	o.streaks[host] = s
	return now.Sub(s.began) >= blameAfter && now.Sub(o.lastAnswer) <= othersWithin
}

// dropEnded drops streaks that have ended. o.mu is held.
func (o *ownFaults) dropEnded(now time.Time) {
	for host, s := range o.streaks {
		if now.Sub(s.last) > streakGap {
			delete(o.streaks, host)
		}
	}
}
