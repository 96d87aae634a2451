package incident

import "time"

// Settings are the durations that the machine decides by.
type Settings struct {
	// OpenAfter is how long an endpoint must fail before an incident opens.
	OpenAfter time.Duration
	// RecoverAfter is how long it must be healthy without a break before it counts as recovered.
	RecoverAfter time.Duration
	// RemindAfter lists the times since the opening after which a reminder is sent, in growing order.
	RemindAfter []time.Duration
	// SwitchOffAfter is delivery.switch_off_after; the mails name the date. 0 is never.
	SwitchOffAfter time.Duration
	// ReopenWithin is how soon after an incident's end a new one counts as reopened.
	ReopenWithin time.Duration
	// AbandonAfter ends an incident after so long without an observation.
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
	// longPause is longer than any cool-down that the endpoint did not ask for. A mail names the time of
	// the next attempt if it is further away.
	longPause = 2 * time.Minute
	// noteEvery is the shortest time between two records of equal failures: a burst costs one write.
	noteEvery = 10 * time.Second
	// rejectionStale is when a rejection that did not repeat is forgotten. The retry schedule waits 29
	// hours at most, so a notification that is still pending would have been rejected again.
	rejectionStale = 36 * time.Hour
	// maxRejected bounds the tenants in Rejected. A further one is added at its next rejection after
	// another has left.
	maxRejected = 50
	// reportHold is how long no report must have come before the success of a push or probe ends the
	// failure. An endpoint may answer a probe and still fail the engines' calls.
	reportHold = 5 * time.Minute
	// reportLasting and reportBurst distinguish a lasting failure from single failed calls: reports
	// alone open an incident when they span at least this time, or this number of calls.
	reportLasting = time.Minute
	reportBurst   = 10
	// reportQuiet without a report ends a failure of which the newest record is a report.
	reportQuiet = time.Hour
	// maxAffected bounds the tenants of reports that the state remembers.
	maxAffected = 50
	// maxWarned bounds the certificates of one endpoint that are remembered: an endpoint that is served
	// by several machines may show several.
	maxWarned = 4
	// switchOffRespite is how long an endpoint stays on at least after a caller switched it on.
	switchOffRespite = 24 * time.Hour
)

// SwitchOffAt is when the service switches off an endpoint that has failed without a break since a time,
// zero for never. switchedAt is when a caller last switched it on.
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
