package drain

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// Judgement shows a judgement to tests.
type Judgement struct {
	Verdict                          mailbox.Verdict
	Delay, Gate                      time.Duration
	Step, Fault, Well, Suspect, Gone bool
}

// Judge is judge.
func Judge(r delivery.Result, m delivery.Message, lastDelivered, began time.Time, s delivery.Schedule, random float64) Judgement {
	j := judge(r, m, lastDelivered, began, s, random)
	return Judgement{
		Verdict: j.verdict, Delay: j.delay, Gate: j.gate, Step: j.step, Fault: j.fault, Well: j.well, Suspect: j.suspect, Gone: j.gone,
	}
}

// OwnFaultDelay and BlockedGate are the drainer's own waits, FlushEvery the recorder's.
const (
	OwnFaultDelay = ownFaultDelay
	BlockedGate   = blockedGate
	FlushEvery    = flushEvery
	WaitsAfter    = waitsAfter
)

// Wait returns when no run goes on.
func (d *Drainer) Wait() { d.runs.Wait() }

// Answered has an endpoint known to have answered.
func (d *Drainer) Answered(e Endpoint) {
	h := d.memory.of(e, time.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastWell = time.Now()
}

// Load returns how many runs work and wait.
func (d *Drainer) Load() (working, waiting int) {
	n := d.places.now()
	return n.working, n.waiting
}

// Decisions are what the limits say of a load.
type Decisions struct {
	Share                     int
	MayStart, MayWait, MayTry bool
}

// Decide asks the default limits.
func Decide(working, pooled, waiting, extra int) Decisions {
	l, n := limits{inFlightPerApp: 32, inFlight: 512, pooled: maxNudges, waiting: 5000}, load{working: working, pooled: pooled, waiting: waiting, extra: extra}
	return Decisions{Share: l.share(n), MayStart: l.mayStart(n), MayWait: l.mayWait(n), MayTry: l.mayTry(n)}
}

// SetNudges replaces maxNudges in a Drainer that nobody uses yet.
func (d *Drainer) SetNudges(n int) { d.places.limits.pooled = n }

// PassOn lets some join a line, the first of them leave, and returns how many are passed on and stand on then.
func PassOn(joined []time.Duration, left, now time.Duration) (passed, standing int) {
	var l line
	start := time.Now()
	for _, at := range joined {
		l.join(arrival{at: start.Add(at)})
	}
	l.next(start.Add(left))
	passed = len(l.late(start.Add(now)))
	return passed, len(l.list)
}
