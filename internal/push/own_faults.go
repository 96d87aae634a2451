package push

import (
	"sync"
	"time"
)

// ownFaults decides when a fault that looks like the service's own has lasted so long for one
// host, while others answer, that it is the host's after all: a resolver that fails for one name
// alone is that name's fault.
type ownFaults struct {
	mu sync.Mutex
	// since is when a host's run of own faults began.
	since map[string]time.Time
	// answered is when any host last answered.
	lastAnswer time.Time
}

const (
	// blameAfter is how long own faults may last for one host before they count against it.
	blameAfter = 5 * time.Minute
	// othersWithin is how recently another host must have answered for the fault to be the host's.
	othersWithin = time.Minute
	// maxHosts bounds the record; beyond it, hosts that fail anew are not tracked.
	maxHosts = 10_000
)

func newOwnFaults() *ownFaults { return &ownFaults{since: map[string]time.Time{}} }

func (o *ownFaults) answered(host string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastAnswer = now
	delete(o.since, host)
}

// blame records an own fault and reports whether it counts against the host.
func (o *ownFaults) blame(host string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	began, ok := o.since[host]
	if !ok {
		if len(o.since) < maxHosts {
			o.since[host] = now
		}
		return false
	}
	return now.Sub(began) >= blameAfter && now.Sub(o.lastAnswer) <= othersWithin
}
