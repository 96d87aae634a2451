package incident

import "time"

// Settings say how patient the machine is.
type Settings struct {
	// OpenAfter is how long an endpoint must fail before people are told.
	OpenAfter time.Duration
	// RecoverAfter is how long it must be well without a break before it is called recovered.
	RecoverAfter time.Duration
	// RemindAfter lists the times since the opening after which a failing endpoint is mentioned
	// again, in growing order.
	RemindAfter []time.Duration
	// SwitchOffAfter is delivery.switch_off_after; the mails name the date. 0 is never.
	SwitchOffAfter time.Duration
	// ReopenWithin is how soon after a recovery a new incident is called a reopened one.
	ReopenWithin time.Duration
	// AbandonAfter ends an incident of which nothing was heard for so long.
	AbandonAfter time.Duration
}

// DefaultSettings are the documented defaults.
func DefaultSettings() Settings {
	return Settings{
		OpenAfter: 5 * time.Minute, RecoverAfter: time.Minute,
		RemindAfter:    []time.Duration{24 * time.Hour, 72 * time.Hour},
		SwitchOffAfter: 120 * time.Hour, ReopenWithin: time.Hour, AbandonAfter: 30 * 24 * time.Hour,
	}
}

const (
	// longPause is more than an endpoint is left alone without having asked for it: then the mail
	// names the time of the next try.
	longPause = 2 * time.Minute
	// noteEvery is how often a repeated failure of the same kind is written down: a burst of them
	// costs one write.
	noteEvery = 10 * time.Second
	// rejectionStale is when a rejection of which nothing more was heard is forgotten. The retry
	// schedule waits 29 hours at most, so what still waited would have been rejected again.
	rejectionStale = 36 * time.Hour
	// maxRejected bounds the tenants of one state. One beyond it is taken up when another is
	// resolved, at its next rejection.
	maxRejected = 50
	// reportHold is how long engines must have been silent before another's success counts: theirs
	// are the calls that matter, and a probe may be answered while they are not.
	reportHold = 5 * time.Minute
	// reportLasting and reportBurst tell trouble from one failed call: reports alone open an incident
	// when they came over at least this long, or of so many calls.
	reportLasting = time.Minute
	reportBurst   = 10
	// reportQuiet without a report is taken for well, where nobody else sees the endpoint.
	reportQuiet = time.Hour
	// maxAffected bounds the tenants that reports are remembered to have named.
	maxAffected = 50
	// maxWarned bounds the certificates of one endpoint that were warned of: one that is served by
	// several machines may show several.
	maxWarned = 4
	// switchOffRespite is how long an endpoint that people switched on is left on.
	switchOffRespite = 24 * time.Hour
)

// SwitchOffAt is when the service switches off an endpoint that has failed without a break since
// a time, zero for never. switchedAt is when people last switched it on.
func (s Settings) SwitchOffAt(failingSince, switchedAt time.Time) time.Time {
	if s.SwitchOffAfter <= 0 || failingSince.IsZero() {
		return time.Time{}
	}
	at := failingSince.Add(s.SwitchOffAfter)
	if respite := switchedAt.Add(switchOffRespite); !switchedAt.IsZero() && respite.After(at) {
		at = respite
	}
	return at
}
