package circuit

import (
	"slices"
	"time"
)

const (
	// atOnceShare: an answer within this fraction of an attempt's time counts as immediate.
	atOnceShare = 50
	// slowShare is the fraction of an attempt's time that the median answer may take.
	slowShare = 3
	// leastSamples is the least number of answers in a measurement. holdFor is the number of measurements until
	// another limit is tried.
	leastSamples = 4
	holdFor      = 8
	// gain is by how much the throughput must rise for a higher limit to be worth it. loss is how far it may drop
	// with a lower limit.
	gain, loss = 1.05, 0.95
	// recentShare is the weight of the newest answer time in the average.
	recentShare = 0.25
)

// WorthConnecting is how much longer a run must take for more attempts in flight than it had so far. Each needs a
// connection, and that costs both sides as much as several notifications.
const WorthConnecting = 100 * time.Millisecond

// move is the change that the last measurement made.
type move uint8

const (
	still move = iota
	up
	down
)

// pace finds the number of attempts in flight. The zero value knows nothing.
type pace struct {
	limit int
	// took holds the answer times of the present measurement, of attempts made since the limit was changed. began is
	// when the answer before the first of them came. Answers while fewer attempts than the limit are in flight say
	// nothing of the throughput.
	took           []time.Duration
	changed, began time.Time
	// slow counts answers in a row that took too long. least is the shortest answer time so far.
	slow  int
	least time.Duration
	// recent is the average answer time, zero if unknown.
	recent time.Duration
	// move is the change of the previous measurement, from the limit before and its rate per second; last is the last
	// change.
	move, last move
	before     int
	rate       float64
	// settled says that the limit is found; hold counts the measurements until another is tried.
	settled bool
	hold    int
}

// initialLimit is the limit to begin with.
func (p *pace) initialLimit(most int) int {
	if p.limit == 0 {
		p.limit = Floor
	}
	p.limit = min(p.limit, most)
	return p.limit
}

// noteAnswer adds an answer. full says that as many attempts were in flight as the limit allows.
func (p *pace) noteAnswer(took time.Duration, at time.Time, full bool, set *Settings) {
	if p.least == 0 || took < p.least {
		p.least = took
	}
	if p.recent == 0 {
		p.recent = took
	}
	p.recent += time.Duration(recentShare * float64(took-p.recent))
	if took < set.Timeout/atOnceShare && p.move != down && !p.settled {
		p.limit = min(p.limit+1, set.Most) // one more for each answer doubles the limit per round
		p.discardMeasurement()
		return
	}
	if at.Add(-took).Before(p.changed) { // belongs to another limit
		return
	}
	if took <= set.Timeout/slowShare {
		p.slow = 0
	} else if p.slow++; p.slow >= max(leastSamples, p.limit) {
		p.fixLimit(min(p.limit-1, p.bearableLimit(took, set)))
		p.hold, p.last = 0, up // a lower limit may have the same throughput
		p.restartMeasuring(at)
		return
	}
	switch {
	case !full:
		p.took, p.began = p.took[:0], time.Time{}
		return
	case p.began.IsZero():
		p.began = at
		return
	}
	if p.took = append(p.took, took); len(p.took) >= p.samplesNeeded() {
		p.finishMeasurement(at, set)
	}
}

// bearableLimit is the limit at which answers would stay fast enough if the endpoint served one request at a time.
func (p *pace) bearableLimit(took time.Duration, set *Settings) int {
	return max(1, min(set.Most, int(float64(p.limit)*float64(set.Timeout/slowShare)/float64(took))))
}

// restartMeasuring begins a measurement with another limit.
func (p *pace) restartMeasuring(at time.Time) {
	p.limit, p.slow = max(1, p.limit), 0
	p.took, p.changed, p.began = p.took[:0], at, time.Time{}
}

// samplesNeeded is the number of answers in a measurement: a multiple of the limit, since answers often come in
// bursts of that size.
func (p *pace) samplesNeeded() int {
	rounds := (leastSamples + p.limit - 1) / p.limit
	if p.settled {
		rounds *= 2
	}
	return rounds * p.limit
}

// discardMeasurement begins another measurement without one to compare it with.
func (p *pace) discardMeasurement() {
	p.took, p.began, p.slow, p.move = p.took[:0], time.Time{}, 0, still
}

// halveLimit reacts to a time-out or 429, once for all attempts that were in flight together.
func (p *pace) halveLimit(posted, at time.Time) {
	if posted.Before(p.changed) {
		return
	}
	p.limit = max(p.limit/2, 1)
	p.discardMeasurement()
	p.changed, p.settled, p.hold, p.last = at, true, holdFor, down
}

// finishMeasurement ends a measurement and sets the limit of the next one.
func (p *pace) finishMeasurement(at time.Time, set *Settings) {
	slices.Sort(p.took)
	median, was := p.took[len(p.took)/2], p.limit
	p.searchLimit(float64(len(p.took))/max(at.Sub(p.began).Seconds(), 1e-3), p.bearableLimit(median, set), p.isCrowded(median))
	if p.limit != was {
		p.restartMeasuring(at)
		return
	}
	p.took, p.began = p.took[:0], at
}

// isCrowded reports whether one attempt at a time might have a higher throughput than the present limit: with fewer attempts in
// flight, as at the beginning of a run, an answer took so much less time.
func (p *pace) isCrowded(median time.Duration) bool {
	return p.least*time.Duration(p.limit) < median
}

// fixLimit ends the search at a limit.
func (p *pace) fixLimit(limit int) { p.limit, p.move, p.settled, p.hold = limit, still, true, holdFor }

// searchLimit looks for the lowest limit with the highest throughput. It goes up first, or tries 1 where attempts seem to be in each
// other's way.
func (p *pace) searchLimit(rate float64, most int, crowded bool) {
	switch {
	case p.move == up && rate < gain*p.rate:
		p.fixLimit(p.before)
		p.hold = 0 // a lower limit may do as well
	case p.move == up:
		p.tryLimit(up, rate, min(2*p.limit, most))
	case p.move == down && rate < loss*p.rate && !p.settled: // one at a time was worse
		p.limit, p.move = p.before, still
	case p.move == down && rate < loss*p.rate:
		p.fixLimit(p.before)
	case p.move == down:
		p.tryLimit(down, max(rate, p.rate), p.limit*3/4)
	case p.hold > 0:
		p.hold--
	case p.last == still && crowded:
		p.tryLimit(down, rate, 1)
	case p.settled && p.last == up:
		p.tryLimit(down, rate, p.limit*3/4)
	default:
		p.tryLimit(up, rate, min(2*p.limit, most))
	}
}

// tryLimit tries another limit, unless it is the same.
func (p *pace) tryLimit(m move, rate float64, limit int) {
	p.last = m
	if limit = max(limit, 1); limit == p.limit || (limit > p.limit) != (m == up) {
		p.fixLimit(p.limit)
		return
	}
	p.move, p.rate, p.before, p.limit = m, rate, p.limit, limit
}
