package circuit

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Settings are what the decisions go by.
type Settings struct {
	// Failures in a row open the circuit of an endpoint that takes others.
	Failures int
	// Cooldown is how long a circuit stays open, and how long a tenant that failed alone waits; Schedule is for what is refused.
	Cooldown delivery.Cooldown
	Schedule delivery.Schedule
	// Timeout bounds one post.
	Timeout time.Duration
	// Most caps the posts at once.
	Most int
}

// Floor is with how many posts at once an endpoint begins that has answered and of which no pace is known.
const Floor = 4

const (
	// recently is for how long an endpoint counts as taking others.
	recently = 10 * time.Second
	// alike is the share, in tenths, of the answers since something was taken which refuse alike where the endpoint is to blame.
	alike = 9
	// paceLife is how long a pace is believed, and roundLife how long after the gate closed the next round is a larger one.
	paceLife, roundLife = time.Minute, 2 * time.Minute
	// evidenceLife is for how long a failure is evidence after which no other came: other processes may have delivered meanwhile.
	// What waits for an endpoint that fails is tried more often.
	evidenceLife = 10 * time.Minute
)

// Endpoint is what one process knows of an endpoint. The zero value knows nothing.
type Endpoint struct {
	// delivered is when it took a notification last; answered is when it gave any HTTP answer, silent when it gave none.
	delivered, answered, silent time.Time
	streak                      streak
	// refusing is since when it has refused nearly all, zero where it does not.
	refusing time.Time
	// round is how many tenants were to prove it last, closed when its gate closed last.
	round   int
	closed  time.Time
	pace    pace
	retries retries
	used    time.Time
}

// streak is what came since something was taken.
type streak struct {
	failures int
	// first is a tenant that failed, several that another did.
	first   tenant.ID
	several bool
	// refused counts the refusals with one status since the first of them; refuser and refusers are of whom.
	refused, status int
	since           time.Time
	refuser         tenant.ID
	refusers        bool
	// all counts refusals and failures, those of the first tenant once; last is when the newest came.
	all  int
	last time.Time
}

func (s *streak) addFailure(t tenant.ID, at time.Time) {
	if s.failures == 0 {
		s.first = t
	}
	if s.failures == 0 || t != s.first { // one tenant that fails all the time does not outweigh what others are answered
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

// InitialLimit is how many posts at once to begin with. alone: the endpoint has not answered since the process started, or since it fell
// silent, so one post at a time is enough.
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

// IdleTime is for how long nobody has asked.
func (e *Endpoint) IdleTime(now time.Time) time.Duration { return now.Sub(e.used) }

// deliveredRecently reports whether the endpoint took something recently.
func (e *Endpoint) deliveredRecently(at time.Time) bool {
	return !e.delivered.IsZero() && at.Sub(e.delivered) < recently
}

// isEvidence reports whether what failed since something was taken is evidence against the endpoint. sole: one tenant is all that approved.
func (e *Endpoint) isEvidence(set *Settings, at time.Time, answered, sole bool) bool {
	s := &e.streak
	if e.deliveredRecently(at) {
		return s.failures >= set.Failures && (s.several || sole || !answered)
	}
	return !answered || s.several || sole
}

// refusesNearlyAll reports whether nearly all was refused alike since something was taken.
func (e *Endpoint) refusesNearlyAll(set *Settings, at time.Time) bool {
	s := &e.streak
	return !e.deliveredRecently(at) && s.refusers && s.refused >= set.Failures && 10*s.refused >= alike*s.all
}

// retries paces what failed beside others that were taken.
type retries struct {
	// attempts counts the posts of the last seconds, each at its second modulo their number; second is the last one.
	attempts [window]int
	second   int64
	// next is when the budget has room for another one.
	next time.Time
}

const (
	// window is over how many seconds the posts are counted.
	window = 10
	// leastRetries is the budget a second, and retryShare the share of all posts that it is otherwise.
	leastRetries = 5.0
	retryShare   = 0.2
)

// countAttempt counts a post.
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

// reserveRetry takes a place in the budget, and is how long to wait for it.
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
