package drain

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// maxPooledRuns bounds the runs at work that occupy no worker of the queue: those that local wake-ups
// started, and those that went on after they had waited.
const maxPooledRuns = 1000

// waitsAfter is how long nothing of a run may begin or end until it counts as waiting.
const waitsAfter = 200 * time.Millisecond

// load counts the runs of a process.
type load struct {
	// working runs have something to do; pooled ones of them occupy no worker of the queue.
	working, pooled int
	// waiting runs do nothing but wait for posts that are out; extra counts their posts beyond one each.
	waiting, extra int
}

// limits say how many runs may work and wait.
type limits struct {
	inFlightPerApp, inFlight, pooled, waiting int
}

// appShare is how many posts one app may have in flight: an equal part of what the process may have beside
// the posts that hang. One post of each waiting run is free, since limits.waiting bounds them. It is
// never less than if those that wait worked.
func (l limits) appShare(n load) int {
	working := max(n.working, 1)
	part := max((l.inFlight-n.extra)/working, l.inFlight/(working+n.waiting))
	return max(circuit.Floor, min(l.inFlightPerApp, part))
}

// mayStart reports whether a local wake-up may start a run.
func (l limits) mayStart(n load) bool { return n.pooled < l.pooled }

// mayWait reports whether a run that only waits may give its place back.
func (l limits) mayWait(n load) bool { return n.waiting < l.waiting }

// mayTryFailing reports whether an endpoint that did not answer the last time is tried now: what is known to fail
// leaves half of the room for what hangs to endpoints that nobody knows to fail.
func (l limits) mayTryFailing(n load) bool { return n.waiting <= l.waiting/2 }

// looksPerSecond bounds how often all waiting runs together ask their mailboxes for what other processes
// deposited.
const looksPerSecond = 500

// minLookInterval is the least time between two looks of one run that has posts out.
func (l limits) minLookInterval(n load) time.Duration {
	return time.Duration(n.waiting) * time.Second / looksPerSecond
}

// places hands out places to runs.
type places struct {
	limits  limits
	metrics *Metrics
	// freed is called, with mu unlocked, when a local wake-up may start a run that might not before.
	freed func()

	mu   sync.Mutex
	load load
	// part is limits.share of the load, looks limits.minLookInterval.
	part, looks atomic.Int64
}

func newPlaces(l limits, m *Metrics, freed func()) *places {
	p := &places{limits: l, metrics: m, freed: freed}
	p.part.Store(int64(l.appShare(load{})))
	return p
}

// updateLoad alters the load.
func (p *places) updateLoad(f func(n *load)) {
	p.mu.Lock()
	before := p.limits.mayStart(p.load)
	f(&p.load)
	free := !before && p.limits.mayStart(p.load)
	p.part.Store(int64(p.limits.appShare(p.load)))
	p.looks.Store(int64(p.limits.minLookInterval(p.load)))
	p.metrics.setRuns(p.load)
	p.mu.Unlock()
	if free {
		p.freed()
	}
}

func (p *places) appShare() int { return int(p.part.Load()) }

func (p *places) minLookInterval() time.Duration { return time.Duration(p.looks.Load()) }

// currentLoad is the load at this moment.
func (p *places) currentLoad() load {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.load
}

// place is what one run occupies, from its start to its end; the run's goroutine owns it.
type place struct {
	all *places
	// pooled: it counts against maxPooledRuns while it works, and not against the queue's workers.
	pooled  bool
	waiting bool
	extra   int
	// left is closed when the run waits for the first time: it needs its worker of the queue no more. It is
	// nil where there is none.
	left chan struct{}
}

// takeForWorker gives a run that a worker of the queue makes its place: there is one for each worker.
func (p *places) takeForWorker() *place {
	p.updateLoad(func(n *load) { n.working++ })
	return &place{all: p, left: make(chan struct{})}
}

// tryTakeLocal gives a run of a local wake-up its place, nil where there is none.
func (p *places) tryTakeLocal() *place {
	var got *place
	p.updateLoad(func(n *load) {
		if p.limits.mayStart(*n) {
			n.working++
			n.pooled++
			got = &place{all: p, pooled: true}
		}
	})
	return got
}

// startWaiting gives the place back while nothing but posts is out. It reports whether that was possible: only so
// many runs may wait, beyond them one keeps its place.
func (p *place) startWaiting(posts int) bool {
	p.all.updateLoad(func(n *load) {
		if !p.all.limits.mayWait(*n) {
			return
		}
		p.waiting, p.extra = true, posts-1
		n.working--
		n.waiting++
		n.extra += p.extra
		if p.pooled {
			n.pooled--
		}
	})
	if p.waiting && !p.pooled {
		p.pooled = true
		close(p.left)
	}
	return p.waiting
}

// resumeWork takes a place again, at once and beyond the limit if need be: the run owns a mailbox, and what its
// posts brought has to be written down. Others start later for it.
func (p *place) resumeWork() {
	if !p.waiting {
		return
	}
	p.waiting = false
	p.all.updateLoad(func(n *load) {
		n.waiting--
		n.extra -= p.extra
		n.working++
		n.pooled++
	})
}

// freePlace ends what take began.
func (p *place) freePlace() {
	p.resumeWork()
	p.all.updateLoad(func(n *load) {
		n.working--
		if p.pooled {
			n.pooled--
		}
	})
}

// isUnattended reports whether the worker that began the run went on to others.
func (p *place) isUnattended() bool {
	select {
	case <-p.left:
		return true
	default:
		return false
	}
}
