package incident

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
)

// commonHold is how long a common cause keeps letters back. Then they go, and say so: what lasts for so long is not mended soon, and people
// must know that they hear nothing.
const commonHold = 30 * time.Minute

// CommonCause is the newest common cause: so many hosts failed on the connection at once, while none answered, that the fault
// may be the service's own. The zero Common is none.
type CommonCause struct {
	// Since is when it began, Until when it ended, zero while it lasts.
	Since, Until time.Time
}

// IsOngoing reports whether it holds now.
func (c CommonCause) IsOngoing() bool { return !c.Since.IsZero() && c.Until.IsZero() }

// DelaysMails reports whether it keeps letters back at a time.
func (c CommonCause) DelaysMails(now time.Time) bool {
	return c.IsOngoing() && now.Sub(c.Since) < commonHold
}

// PreventsSwitchOff reports whether an endpoint must not be switched off yet because of it: nothing was heard of anybody while it
// lasted, and what is well shows so within openAfter.
func (c CommonCause) PreventsSwitchOff(now time.Time, openAfter time.Duration) bool {
	return c.IsOngoing() || !c.Until.IsZero() && now.Sub(c.Until) < openAfter
}

// failureCountsFrom is since when a failure on the connection counts: what began before the end of a common cause had no chance to show
// that it is well, so its time begins anew there. One that lasted too long to be waited for takes no time from anybody.
func (c CommonCause) failureCountsFrom(since time.Time) time.Time {
	if c.Until.After(since) && c.Until.Sub(c.Since) < commonHold {
		return c.Until
	}
	return since
}

// failsToConnect reports whether the endpoint fails on the connection, as pushes or probes see it. Engines have a way of their own.
func (s *State) failsToConnect() bool {
	if s.FailingSince.IsZero() || s.Last == nil || s.Last.Source == SourceReport {
		return false
	}
	switch s.Last.Reason {
	case delivery.ReasonTimeout, delivery.ReasonDNS, delivery.ReasonRefused, delivery.ReasonReset, delivery.ReasonTLS:
		return true
	case delivery.ReasonBlockedAddress: // as a name that does not exist
		return true
	default:
		return false
	}
}
