package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// A line is passed on to the queue when nobody left it for stallFor: then all runs are busy, and other
// processes may be idle. Else only what stands in it for maxWaitlistTime is, before the mailbox's grace is over and the
// sweep takes it for lost. Places of runs that only wait are free within waitsAfter, and the queue hands out its
// tasks one after the other, so it is no help against a crowd that hangs.
const (
	stallFor           = 3 * time.Second
	maxWaitlistTime    = 8 * time.Second
	waitlistCheckEvery = time.Second
)

// maxWaitlist bounds the line. What is beyond goes to the queue at once.
const maxWaitlist = 10_000

// queueWriters is how many tasks are enqueued at once when a line is passed on.
const queueWriters = 8

// waitingRun is a local wake-up that stands in line for a place.
type waitingRun struct {
	ctx        context.Context // of the run to come
	app        partner.ClientID
	generation int64
	at         time.Time
}

// waitlist is first in, first out.
type waitlist struct {
	list []waitingRun
	// moved is when somebody left the line, or came to an empty one.
	moved   time.Time
	watched bool
}

func (l *waitlist) empty() bool { return len(l.list) == 0 }

// push lets somebody stand in line; it reports false where it is full.
func (l *waitlist) push(a waitingRun) bool {
	if len(l.list) >= maxWaitlist {
		return false
	}
	if l.empty() {
		l.moved = a.at
	}
	l.list = append(l.list, a)
	return true
}

func (l *waitlist) pop(now time.Time) waitingRun {
	a := l.list[0]
	l.list[0], l.moved = waitingRun{}, now
	if l.list = l.list[1:]; len(l.list) == 0 {
		l.list = nil
	}
	return a
}

// popLate takes out what is to be passed on.
func (l *waitlist) popLate(now time.Time) (out []waitingRun) {
	most := maxWaitlistTime
	if now.Sub(l.moved) >= stallFor {
		most = stallFor
	}
	for !l.empty() && now.Sub(l.list[0].at) >= most {
		out = append(out, l.pop(now))
	}
	return out
}

// popAll empties the line.
func (l *waitlist) popAll() []waitingRun {
	all := l.list
	l.list = nil
	return all
}

// enlistRun puts a wake-up in line, unless that is full; d.mu is held.
func (d *Drainer) enlistRun(a waitingRun) bool {
	if !d.waitlist.push(a) {
		return false
	}
	if !d.waitlist.watched {
		d.watchWaitlist()
	}
	return true
}

// watchWaitlist passes on what is late for as long as anybody stands in line; d.mu is held.
func (d *Drainer) watchWaitlist() {
	d.waitlist.watched = true
	time.AfterFunc(waitlistCheckEvery, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stopped { // Stop passed all on
			return
		}
		d.passToQueue(d.waitlist.popLate(time.Now()))
		if d.waitlist.watched = !d.waitlist.empty(); d.waitlist.watched {
			d.watchWaitlist()
		}
	})
}

// startWaiting starts those who are first in line, as there are places.
func (d *Drainer) startWaiting() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.waitlist.empty() {
		p := d.places.tryTakeLocal()
		if p == nil {
			return
		}
		d.runInPlace(d.waitlist.pop(time.Now()), p)
	}
}

// passToQueue has the queue start what stood in line; d.mu is held, and Stop waits for it. What is lost stays armed
// in its mailbox.
func (d *Drainer) passToQueue(list []waitingRun) {
	if len(list) == 0 {
		return
	}
	todo := make(chan waitingRun, len(list))
	for _, a := range list {
		todo <- a
	}
	close(todo)
	for range min(queueWriters, len(list)) {
		d.runs.Go(func() {
			for a := range todo {
				d.forwardWakeBy(a.ctx, a.app, mailbox.Wake{Generation: a.generation}, d.opts.Waker.Enqueue)
			}
		})
	}
}
