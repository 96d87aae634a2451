package incident

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
)

// commonHold is how long a common cause delays mails. After that they are sent and mention it: a fault that
// lasts for so long is not repaired soon, and recipients must know that calls fail.
const commonHold = 30 * time.Minute

// CommonCause is the newest common cause: so many hosts failed on the connection at once, while none
// answered, that the fault may be the service's own. The zero CommonCause is none.
type CommonCause struct {
	// Since is when it began, Until when it ended, zero while it lasts.
	Since, Until time.Time
}

// IsOngoing reports whether it lasts.
func (c CommonCause) IsOngoing() bool { return !c.Since.IsZero() && c.Until.IsZero() }

// DelaysMails reports whether it delays mails at a time.
func (c CommonCause) DelaysMails(now time.Time) bool {
	return c.IsOngoing() && now.Sub(c.Since) < commonHold
}

// PreventsSwitchOff reports whether it keeps endpoints from being switched off: while it lasts, no endpoint
// can answer, and a working one answers within openAfter of its end.
func (c CommonCause) PreventsSwitchOff(now time.Time, openAfter time.Duration) bool {
	return c.IsOngoing() || !c.Until.IsZero() && now.Sub(c.Until) < openAfter
}

// failureCountsFrom is when the time of a connection failure starts. An endpoint could not answer before the
// end of a common cause, so the time starts there. A common cause that lasted commonHold or longer does not
// move it.
func (c CommonCause) failureCountsFrom(since time.Time) time.Time {
	if c.Until.After(since) && c.Until.Sub(c.Since) < commonHold {
		return c.Until
	}
	return since
}

// failsToConnect reports whether the newest failure is one of the connection that a push or probe saw.
// Engines connect from another network.
func (s *State) failsToConnect() bool {
	if s.FailingSince.IsZero() || s.Last == nil || s.Last.Source == SourceReport {
		return false
	}
	switch s.Last.Reason {
	case delivery.ReasonTimeout, delivery.ReasonDNS, delivery.ReasonRefused, delivery.ReasonReset, delivery.ReasonTLS:
		return true
	case delivery.ReasonBlockedAddress: // treated like a name that does not exist
		return true
	default:
		return false
	}
}
