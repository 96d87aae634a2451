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
)
