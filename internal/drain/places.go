package drain

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// maxPooledRuns limits the working runs that occupy no worker of the queue: those started by local wake-ups, and
// those that work again after they waited.
const maxPooledRuns = 1000

// waitsAfter is how long no attempt of a run may begin or end before the run counts as waiting.
const waitsAfter = 200 * time.Millisecond

// load counts the runs of a process.
type load struct {
	// working runs have something to do; pooled is how many of them occupy no worker of the queue.
	working, pooled int
	// waiting runs only wait for attempts in flight; extra counts their attempts beyond one each.
	waiting, extra int
}

// limits say how many runs may work and wait.
type limits struct {
	inFlightPerApp, inFlight, pooled, waiting int
}

// appShare is how many attempts one app may have in flight. It is an equal share of what the process may have,
// without the attempts of waiting runs. One attempt of each waiting run is not counted, since limits.waiting bounds
// those. The share is at least what it would be if the waiting runs worked.
func (l limits) appShare(n load) int {
	working := max(n.working, 1)
	part := max((l.inFlight-n.extra)/working, l.inFlight/(working+n.waiting))
	return max(circuit.Floor, min(l.inFlightPerApp, part))
}

// mayStart reports whether a local wake-up may start a run.
func (l limits) mayStart(n load) bool { return n.pooled < l.pooled }

// mayWait reports whether a run that only waits may give up its place.
func (l limits) mayWait(n load) bool { return n.waiting < l.waiting }

// mayTryFailing reports whether an endpoint that did not answer the last time is tried now. Endpoints known to fail
// leave half of the places for waiting runs to endpoints not known to fail.
func (l limits) mayTryFailing(n load) bool { return n.waiting <= l.waiting/2 }

// looksPerSecond limits how often all waiting runs together read their mailboxes for deposits of other processes.
const looksPerSecond = 500

// minLookInterval is the least time between two looks of one run that has attempts in flight.
func (l limits) minLookInterval(n load) time.Duration {
	return time.Duration(n.waiting) * time.Second / looksPerSecond
}

// places hands out places to runs.
type places struct {
	limits  limits
	metrics *Metrics
	// freed is called, with mu unlocked, when a local wake-up may start a run again.
	freed func()

	mu   sync.Mutex
	load load
	// part is limits.appShare of the load, looks is limits.minLookInterval.
	part, looks atomic.Int64
}

func newPlaces(l limits, m *Metrics, freed func()) *places {
	p := &places{limits: l, metrics: m, freed: freed}
	p.part.Store(int64(l.appShare(load{})))
	return p
}

// updateLoad changes the load.
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
	// pooled says that the run counts against maxPooledRuns while it works, and not against the queue's workers.
	pooled  bool
	waiting bool
	extra   int
	// left is closed when the run waits for the first time: it then frees its worker of the queue. It is nil when the
	// run has no worker.
	left chan struct{}
}

// takeForWorker returns a place for a run of a queue worker. There is always one.
func (p *places) takeForWorker() *place {
	p.updateLoad(func(n *load) { n.working++ })
	return &place{all: p, left: make(chan struct{})}
}

// tryTakeLocal returns a place for a run of a local wake-up, or nil when there is none.
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

// startWaiting gives up the place while the run only waits for results. It returns false when too many runs wait
// already; the run then keeps its place.
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

// resumeWork takes a place again, at once and beyond the limit if necessary: the run owns a mailbox and has results
// to record. Other runs start later for it.
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

// freePlace gives the place back at the end of a run.
func (p *place) freePlace() {
	p.resumeWork()
	p.all.updateLoad(func(n *load) {
		n.working--
		if p.pooled {
			n.pooled--
		}
	})
}

// isUnattended reports whether the worker that began the run has gone on to others.
func (p *place) isUnattended() bool {
	select {
	case <-p.left:
		return true
	default:
		return false
	}
}
