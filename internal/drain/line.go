package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// A line is passed on to the queue when nobody left it for stallFor: then all runs are busy, and other
// processes may be idle. Else only what stands in it for lineFor is, before the mailbox's grace is over and the
// sweep takes it for lost. Places of runs that only wait are free within waitsAfter, and the queue hands out its
// tasks one after the other, so it is no help against a crowd that hangs.
const (
	stallFor  = 3 * time.Second
	lineFor   = 8 * time.Second
	lineWatch = time.Second
)

// maxLine bounds the line. What is beyond goes to the queue at once.
const maxLine = 10_000

// passers is how many tasks are enqueued at once when a line is passed on.
const passers = 8

// arrival is a local wake-up that stands in line for a place.
type arrival struct {
	ctx        context.Context // of the run to come
	app        partner.ClientID
	generation int64
	at         time.Time
}

// line is first in, first out.
type line struct {
	list []arrival
	// moved is when somebody left the line, or came to an empty one.
	moved   time.Time
	watched bool
}

func (l *line) empty() bool { return len(l.list) == 0 }

// join lets somebody stand in line; it reports false where it is full.
func (l *line) join(a arrival) bool {
	if len(l.list) >= maxLine {
		return false
	}
	if l.empty() {
		l.moved = a.at
	}
	l.list = append(l.list, a)
	return true
}

func (l *line) next(now time.Time) arrival {
	a := l.list[0]
	l.list[0], l.moved = arrival{}, now
	if l.list = l.list[1:]; len(l.list) == 0 {
		l.list = nil
	}
	return a
}

// late takes out what is to be passed on.
func (l *line) late(now time.Time) (out []arrival) {
	most := lineFor
	if now.Sub(l.moved) >= stallFor {
		most = stallFor
	}
	for !l.empty() && now.Sub(l.list[0].at) >= most {
		out = append(out, l.next(now))
	}
	return out
}

// takeAll empties the line.
func (l *line) takeAll() []arrival {
	all := l.list
	l.list = nil
	return all
}

// lineUp puts a wake-up in line, unless that is full; d.mu is held.
func (d *Drainer) lineUp(a arrival) bool {
	if !d.line.join(a) {
		return false
	}
	if !d.line.watched {
		d.watchLine()
	}
	return true
}

// watchLine passes on what is late for as long as anybody stands in line; d.mu is held.
func (d *Drainer) watchLine() {
	d.line.watched = true
	time.AfterFunc(lineWatch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stopped { // Stop passed all on
			return
		}
		d.passOn(d.line.late(time.Now()))
		if d.line.watched = !d.line.empty(); d.line.watched {
			d.watchLine()
		}
	})
}

// advance starts those who are first in line, as there are places.
func (d *Drainer) advance() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.line.empty() {
		p := d.places.tryTake()
		if p == nil {
			return
		}
		d.begin(d.line.next(time.Now()), p)
	}
}

// passOn has the queue start what stood in line; d.mu is held, and Stop waits for it. What is lost stays armed
// in its mailbox.
func (d *Drainer) passOn(list []arrival) {
	if len(list) == 0 {
		return
	}
	todo := make(chan arrival, len(list))
	for _, a := range list {
		todo <- a
	}
	close(todo)
	for range min(passers, len(list)) {
		d.runs.Go(func() {
			for a := range todo {
				d.handOn(a.ctx, a.app, mailbox.Wake{Generation: a.generation}, d.opts.Waker.Enqueue)
			}
		})
	}
}
