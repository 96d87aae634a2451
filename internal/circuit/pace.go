package circuit

import (
	"slices"
	"time"
)

const (
	// atOnceShare is the part of an attempt's time within which an answer counts as given at once.
	atOnceShare = 50
	// slowShare is the part of an attempt's time that the median answer may take.
	slowShare = 3
	// leastSamples is how many answers a look at the pace takes at least, holdFor how many looks pass until another pace is tried.
	leastSamples = 4
	holdFor      = 8
	// gain is by how much more must be told in a time for more posts at once to be worth it, loss down to which part of it
	// fewer posts at once may go.
	gain, loss = 1.05, 0.95
)

// move is what the last look changed.
type move uint8

const (
	still move = iota
	up
	down
)

// pace is how many posts an endpoint gets at once. The zero value knows nothing.
type pace struct {
	limit int
	// took are how long the answers of the look under way took, of posts since the limit was changed; began is when the one
	// before the first of them came. What comes while fewer are out than might be says nothing of what is told in a time.
	took           []time.Duration
	changed, began time.Time
	// slow counts answers in a row that took too long.
	slow int
	// move is what the look before changed, from the limit before, with which rate was told a second; last is the last change.
	move, last move
	before     int
	rate       float64
	// settled: the limit was found, hold counts the looks until another is tried.
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

// noteAnswer takes an answer into account. full: as many posts were out as there may be.
func (p *pace) noteAnswer(took time.Duration, at time.Time, full bool, set *Settings) {
	if took < set.Timeout/atOnceShare && p.move != down && (!p.settled || p.hold == 0) {
		p.limit = min(p.limit+1, set.Most) // one more for each answer doubles it each round
		p.discardMeasurement()
		return
	}
	if at.Add(-took).Before(p.changed) { // of another limit
		return
	}
	if took <= set.Timeout/slowShare {
		p.slow = 0
	} else if p.slow++; p.slow >= max(leastSamples, p.limit) {
		p.fixLimit(min(p.limit-1, p.bearableLimit(took, set)))
		p.hold, p.last = 0, up // fewer may tell as many
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

// bearableLimit is the limit with which answers that take so long would stay bearable, were the endpoint to serve one at a time.
func (p *pace) bearableLimit(took time.Duration, set *Settings) int {
	return max(1, min(set.Most, int(float64(p.limit)*float64(set.Timeout/slowShare)/float64(took))))
}

// restartMeasuring begins a look with another limit.
func (p *pace) restartMeasuring(at time.Time) {
	p.limit, p.slow = max(1, p.limit), 0
	p.took, p.changed, p.began = p.took[:0], at, time.Time{}
}

// samplesNeeded is how many answers a look takes: a multiple of the limit, since answers often come in as many at once.
func (p *pace) samplesNeeded() int {
	rounds := (leastSamples + p.limit - 1) / p.limit
	if p.settled {
		rounds *= 2
	}
	return rounds * p.limit
}

// discardMeasurement begins another look, with nothing to compare it with.
func (p *pace) discardMeasurement() {
	p.took, p.began, p.slow, p.move = p.took[:0], time.Time{}, 0, still
}

// halveLimit answers a time-out or 429, once for all posts that were out together.
func (p *pace) halveLimit(posted, at time.Time) {
	if posted.Before(p.changed) {
		return
	}
	p.limit = max(p.limit/2, 1)
	p.discardMeasurement()
	p.changed, p.settled, p.hold, p.last = at, true, holdFor, down
}

// finishMeasurement ends a look and sets the limit of the next one.
func (p *pace) finishMeasurement(at time.Time, set *Settings) {
	slices.Sort(p.took)
	median, was := p.took[len(p.took)/2], p.limit
	p.searchLimit(float64(len(p.took))/max(at.Sub(p.began).Seconds(), 1e-3), p.bearableLimit(median, set))
	if p.limit != was {
		p.restartMeasuring(at)
		return
	}
	p.took, p.began = p.took[:0], at
}

// fixLimit ends a search at a limit.
func (p *pace) fixLimit(limit int) { p.limit, p.move, p.settled, p.hold = limit, still, true, holdFor }

// searchLimit looks for the fewest posts at once that tell as many tenants in a time as any.
func (p *pace) searchLimit(rate float64, most int) {
	switch {
	case p.move == up && rate < gain*p.rate:
		p.fixLimit(p.before)
		p.hold = 0 // fewer may do as well
	case p.move == up:
		p.tryLimit(up, rate, min(2*p.limit, most))
	case p.move == down && rate < loss*p.rate:
		p.fixLimit(p.before)
	case p.move == down:
		p.tryLimit(down, max(rate, p.rate), p.limit*3/4)
	case p.hold > 0:
		p.hold--
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
