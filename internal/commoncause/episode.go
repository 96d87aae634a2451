package commoncause

import (
	"fmt"
	"time"
)

const (
	// leastHosts in leastNetworks that fail for quiet, while no host answers, are a common cause.
	leastHosts    = 5
	leastNetworks = 3
	quiet         = 30 * time.Second
	// ownAfter is how long a host must have failed before another host's answer shows that the fault is its own.
	ownAfter = 5 * time.Minute
	// resumeWithin is how soon after its end an episode resumes, instead of a new one beginning. On a bad connection
	// an answer may come now and then; it must not restart the time for which mails are held.
	resumeWithin = 10 * time.Minute

	episodeFormat = 1
)

// Episode is a common cause. The zero Episode is none. An ended one is remembered until the next.
type Episode struct {
	// Since is when the episode began, Until when it ended, zero while it lasts.
	Since, Until time.Time
	// resumed is the last end after which it resumed, zero if there was none.
	resumed time.Time
}

// IsOngoing reports whether the cause holds now.
func (e Episode) IsOngoing() bool { return !e.Since.IsZero() && e.Until.IsZero() }

type storedEpisode struct {
	Format  int   `json:"v"`
	Since   int64 `json:"since"`
	Until   int64 `json:"until,omitempty"`
	Resumed int64 `json:"resumed,omitempty"`
}

// Encode writes the episode for the store, "" for none.
func (e Episode) Encode() string {
	if e.Since.IsZero() {
		return ""
	}
	return encodeJSON(storedEpisode{episodeFormat, toMillis(e.Since), toMillis(e.Until), toMillis(e.resumed)})
}

// DecodeEpisode reads the format of Encode.
func DecodeEpisode(text string) (Episode, error) {
	if text == "" {
		return Episode{}, nil
	}
	var s storedEpisode
	if err := decodeJSON(text, &s); err != nil {
		return Episode{}, err
	}
	if s.Format != episodeFormat || s.Since <= 0 || s.Until != 0 && s.Until < s.Since || s.Resumed != 0 && s.Resumed < s.Since {
		return Episode{}, fmt.Errorf("%w: format %d from %d to %d", ErrUnreadable, s.Format, s.Since, s.Until)
	}
	return Episode{fromMillis(s.Since), fromMillis(s.Until), fromMillis(s.Resumed)}, nil
}

// Rules decide. Within is how recently a host must have failed to count. It must be longer than the longest
// cool-down.
type Rules struct{ Within time.Duration }

// NextEpisode is the episode after what was observed until now. hosts is how many hosts fail on the connection since
// the last answer of any host, whether or not that is a common cause.
func (r Rules) NextEpisode(e Episode, v View, now time.Time) (next Episode, hosts int) {
	now = now.UTC().Truncate(time.Millisecond)
	since, hosts, common := r.findCause(e, v, now)
	switch {
	case common && e.Since.IsZero(), common && !e.IsOngoing() && now.Sub(e.Until) > resumeWithin:
		return Episode{Since: since}, hosts
	case common:
		return Episode{Since: e.Since, resumed: e.lastEnd()}, hosts
	case e.IsOngoing():
		return Episode{Since: e.Since, Until: now, resumed: e.resumed}, hosts
	default:
		return e, hosts
	}
}

func (r Rules) findCause(e Episode, v View, now time.Time) (since time.Time, hosts int, common bool) {
	networks := map[string]bool{}
	for _, h := range v.Failing {
		if !h.Last.After(v.Answered) || now.Sub(h.Last) > r.Within {
			continue
		}
		began := e.failingSince(h)
		if isOwnFault(began, v.Answered) {
			continue
		}
		hosts++
		networks[h.Network] = true
		if since.IsZero() || began.Before(since) {
			since = began
		}
	}
	if v.Answered.After(since) {
		since = v.Answered
	}
	common = hosts >= leastHosts && len(networks) >= leastNetworks && now.Sub(since) >= quiet
	if common { // more may fail than are listed
		hosts = max(hosts, v.Hosts)
	}
	return since, hosts, common
}

// lastEnd is when the episode last ended, zero if it never did.
func (e Episode) lastEnd() time.Time {
	if e.Until.IsZero() {
		return e.resumed
	}
	return e.Until
}

// failingSince is when a host began to fail. A host that failed in an earlier episode counts from that episode's end.
func (e Episode) failingSince(h Host) time.Time {
	if end := e.lastEnd(); h.Began.Before(end) && h.Began.After(e.Since.Add(-ownAfter)) {
		return end
	}
	return h.Began
}

// isOwnFault reports whether a host had failed for so long when another answered that the fault is its own.
func isOwnFault(began, answered time.Time) bool {
	return !answered.IsZero() && answered.Sub(began) >= ownAfter
}
