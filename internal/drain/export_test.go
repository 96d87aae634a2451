package drain

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
)

// FlushEvery is the recorder's wait, WaitsAfter the runs'.
const (
	FlushEvery = flushEvery
	WaitsAfter = waitsAfter
)

// Wait returns when no run goes on.
func (d *Drainer) Wait() { d.runs.Wait() }

// Answered has an endpoint known to have answered a minute ago.
func (d *Drainer) Answered(e Endpoint) {
	at := time.Now().Add(-time.Minute)
	d.memories.memoryOf(e).withEndpoint(func(known *circuit.Endpoint) {
		known.BeginRun(&d.circuit, circuit.StartState{}, at, 0).JudgeAttempt(circuit.AttemptResult{Result: delivery.ClassifyStatus(204), Tenant: "t", At: at}, 0)
	})
}

// Load returns how many runs work and wait.
func (d *Drainer) Load() (working, waiting int) {
	n := d.places.currentLoad()
	return n.working, n.waiting
}

// Decisions are what the limits say of a load.
type Decisions struct {
	Share                     int
	MayStart, MayWait, MayTry bool
}

// Decide asks the default limits.
func Decide(working, pooled, waiting, extra int) Decisions {
	l, n := limits{inFlightPerApp: 32, inFlight: 512, pooled: maxPooledRuns, waiting: 5000}, load{working: working, pooled: pooled, waiting: waiting, extra: extra}
	return Decisions{Share: l.appShare(n), MayStart: l.mayStart(n), MayWait: l.mayWait(n), MayTry: l.mayTryFailing(n)}
}

// SetNudges replaces maxPooledRuns in a Drainer that nobody uses yet.
func (d *Drainer) SetNudges(n int) { d.places.limits.pooled = n }

// PassOn lets some join a line, the first of them leave, and returns how many are passed on and stand on then.
func PassOn(joined []time.Duration, left, now time.Duration) (passed, standing int) {
	var l waitlist
	start := time.Now()
	for _, at := range joined {
		l.push(waitingRun{at: start.Add(at)})
	}
	l.pop(start.Add(left))
	passed = len(l.popLate(start.Add(now)))
	return passed, len(l.list)
}
