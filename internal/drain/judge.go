package drain

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// ownFaultDelay paces what fails by the service's own fault.
const ownFaultDelay = 5 * time.Second

// blockedGate is how long the gate of an endpoint stays closed whose address the guard refuses:
// only a change of its URL helps, and that opens the gate.
const blockedGate = time.Hour

// judgement is what follows from one attempt.
type judgement struct {
	verdict mailbox.Verdict
	delay   time.Duration
	step    bool
	// fault counts against the endpoint's breaker, well for it; neither says nothing of it.
	fault, well bool
	// suspect: the endpoint failed and nothing since the notification's previous attempt shows
	// that it works for others.
	suspect bool
	// gate is how long the endpoint asked, or has, to be left alone; 0 for its usual cool-down.
	gate time.Duration
	// gone: the endpoint must be switched off.
	gone bool
}

// judge decides what follows from an attempt. lastDelivered is when the endpoint last answered
// another notification 2xx, zero when that is not known; began is when the run began; both, and
// the message's last attempt, by the same clock. random is in [0, 1).
func judge(r delivery.Result, m delivery.Message, lastDelivered, began time.Time, schedule delivery.Schedule, random float64) judgement {
	climb := judgement{verdict: mailbox.Failed, delay: schedule.After(m.Steps+1, random), step: true}
	stay := judgement{verdict: mailbox.Failed}
	switch r.Outcome {
	case delivery.Delivered:
		return judgement{verdict: mailbox.OK, well: true}
	case delivery.Rejected:
		climb.well = true
		return climb
	case delivery.Gone:
		stay.fault, stay.suspect, stay.gone = true, true, true
		return stay
	case delivery.Blocked:
		stay.fault, stay.suspect, stay.gate = true, true, blockedGate
		return stay
	case delivery.Aborted:
		stay.delay = ownFaultDelay
		return stay
	default:
		return judgeRetryable(r, m, lastDelivered, began, climb, stay)
	}
}

func judgeRetryable(r delivery.Result, m delivery.Message, lastDelivered, began time.Time, climb, stay judgement) judgement {
	stay.fault = r.Fault == delivery.FaultEndpoint
	if r.Wait {
		stay.suspect = true
		stay.gate = max(r.RetryAfter, time.Millisecond) // at least the usual cool-down
		return stay
	}
	since := m.LastAttempt
	if since.IsZero() {
		since = began
	}
	if lastDelivered.After(since) {
		climb.fault = true
		return climb
	}
	stay.suspect = true
	return stay
}
