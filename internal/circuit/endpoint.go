package circuit

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Settings are the parameters of the decisions.
type Settings struct {
	// Failures is how many failures in a row open the circuit of an endpoint that accepts other notifications.
	Failures int
	// Cooldown is how long a circuit stays open, and how long a tenant waits that failed alone. Schedule is for
	// refused notifications.
	Cooldown delivery.Cooldown
	Schedule delivery.Schedule
	// Timeout bounds one attempt.
	Timeout time.Duration
	// Most is the maximum of attempts in flight.
	Most int
}

// Floor is the number of attempts in flight to begin with, for an endpoint that has answered but has no known pace.
const Floor = 4

const (
	// recently is for how long after a delivery an endpoint counts as accepting others.
	recently = 10 * time.Second
	// alike is the share of equal refusals, in tenths of the answers since the last delivery, that blames the
	// endpoint.
	alike = 9
	// paceLife is how long a pace stays valid. roundLife is how long after the opening of the circuit the next round
	// of probes is a larger one.
	paceLife, roundLife = time.Minute, 2 * time.Minute
	// evidenceLife is for how long a failure is evidence when no other follows: other processes may have delivered
	// meanwhile. Notifications for a failing endpoint are tried more often than that.
	evidenceLife = 10 * time.Minute
)

// Endpoint is what one process knows of an endpoint. The zero value knows nothing.
type Endpoint struct {
	// delivered is the time of the last delivery, answered of the last HTTP answer, silent of the last attempt
	// without one.
	delivered, answered, silent time.Time
	streak                      streak
	// refusing is since when the endpoint has refused nearly everything; zero when it does not.
	refusing time.Time
	// round is the number of tenants of the last round of probes, closed the time at which the circuit last opened.
	round   int
	closed  time.Time
	pace    pace
	retries retries
	used    time.Time
}

// streak counts failures and refusals since the last delivery.
type streak struct {
	failures int
	// first is one tenant that failed; several says that another one did, too.
	first   tenant.ID
	several bool
	// refused counts the refusals with one status, refuser and refusers are whose they are.
	refused, status int
	since           time.Time
	refuser         tenant.ID
	refusers        bool
	// all counts refusals and failures, those of the first tenant once; last is the time of the newest.
	all  int
	last time.Time
}

func (s *streak) addFailure(t tenant.ID, at time.Time) {
	if s.failures == 0 {
		s.first = t
	}
	if s.failures == 0 || t != s.first { // one tenant that always fails does not outweigh the answers for others
		s.all++
	}
	s.failures++
	s.last = at
	s.several = s.several || t != s.first
}

func (s *streak) addRefusal(t tenant.ID, status int, at time.Time) {
	s.all++
	s.last = at
	if status != s.status {
		s.refused, s.status, s.since, s.refuser, s.refusers = 0, status, at, t, false
	}
	s.refused++
	s.refusers = s.refusers || t != s.refuser
}

// IsSilent reports whether the endpoint did not answer the last time.
func (e *Endpoint) IsSilent() bool { return e.silent.After(e.answered) }

// InitialLimit is the number of attempts in flight to begin with. alone says that the endpoint has not answered since
// the process started, or since it stopped answering: one attempt at a time is enough then.
func (e *Endpoint) InitialLimit(most int, now time.Time) (posts int, alone bool) {
	if e.answered.IsZero() || e.IsSilent() {
		return 1, true
	}
	if now.Sub(e.used) > paceLife {
		e.pace = pace{}
	}
	e.used = now
	return e.pace.initialLimit(most), false
}

// IdleTime is the time since the endpoint was last used.
func (e *Endpoint) IdleTime(now time.Time) time.Duration { return now.Sub(e.used) }

// deliveredRecently reports whether the endpoint accepted a notification recently.
func (e *Endpoint) deliveredRecently(at time.Time) bool {
	return !e.delivered.IsZero() && at.Sub(e.delivered) < recently
}

// isEvidence reports whether the failures since the last delivery are evidence against the endpoint. sole says that
// only one tenant has approved.
func (e *Endpoint) isEvidence(set *Settings, at time.Time, answered, sole bool) bool {
	s := &e.streak
	if e.deliveredRecently(at) {
		return s.failures >= set.Failures && (s.several || sole || !answered)
	}
	return !answered || s.several || sole
}

// refusesNearlyAll reports whether nearly all answers since the last delivery are equal refusals.
func (e *Endpoint) refusesNearlyAll(set *Settings, at time.Time) bool {
	s := &e.streak
	return !e.deliveredRecently(at) && s.refusers && s.refused >= set.Failures && 10*s.refused >= alike*s.all
}

// retries limits the retries of failed notifications while others are delivered.
type retries struct {
	// attempts counts the attempts of the last seconds, in the slot of second modulo window; second is the last one.
	attempts [window]int
	second   int64
	// next is when the budget has room for the next retry.
	next time.Time
}

const (
	// window is over how many seconds attempts are counted.
	window = 10
	// leastRetries is the least budget per second; retryShare is the share of all attempts if that is more.
	leastRetries = 5.0
	retryShare   = 0.2
)

// countAttempt counts an attempt.
func (r *retries) countAttempt(at time.Time) {
	second := at.Unix()
	switch {
	case second-r.second >= window || second < r.second-window:
		r.attempts = [window]int{}
		r.second = second
	default:
		for ; r.second < second; r.second++ {
			r.attempts[(r.second+1)%window] = 0
		}
	}
	r.attempts[second%window]++
}

// reserveRetry takes a retry from the budget, and returns how long to wait for it.
func (r *retries) reserveRetry(at time.Time) time.Duration {
	sum := 0
	for _, n := range r.attempts {
		sum += n
	}
	rate := max(leastRetries, retryShare*float64(sum)/window)
	if r.next.Before(at) {
		r.next = at
	}
	wait := r.next.Sub(at)
	r.next = r.next.Add(time.Duration(float64(time.Second) / rate))
	return wait
}
