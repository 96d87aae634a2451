package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Runs that wait longer than stallFor are passed on to the queue if no run has left the waitlist for that long: all
// places are busy then, and other processes may be idle. Otherwise only runs that have waited for maxWaitlistTime are
// passed on, before the mailbox's grace ends and the sweep takes the wake-up for lost. Places of runs that only wait
// for results become free after waitsAfter. The queue starts tasks one after the other, so it does not help against
// many slow endpoints.
const (
	stallFor           = 3 * time.Second
	maxWaitlistTime    = 8 * time.Second
	waitlistCheckEvery = time.Second
)

// maxWaitlist limits the waitlist. Wake-ups beyond it go to the queue at once.
const maxWaitlist = 10_000

// queueWriters is how many tasks are enqueued in parallel.
const queueWriters = 8

// waitingRun is a local wake-up that waits for a place.
type waitingRun struct {
	ctx        context.Context // of the run to come
	app        partner.ClientID
	generation int64
	at         time.Time
}

// waitlist is first in, first out.
type waitlist struct {
	list []waitingRun
	// moved is when a run last left the list, or entered an empty one.
	moved   time.Time
	watched bool
}

func (l *waitlist) empty() bool { return len(l.list) == 0 }

// push adds a run; it returns false when the list is full.
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

// popLate removes the runs that must be passed on to the queue.
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

// popAll empties the list.
func (l *waitlist) popAll() []waitingRun {
	all := l.list
	l.list = nil
	return all
}

// enlistRun puts a wake-up into the waitlist; it returns false when the list is full. d.mu is held.
func (d *Drainer) enlistRun(a waitingRun) bool {
	if !d.waitlist.push(a) {
		return false
	}
	if !d.waitlist.watched {
		d.watchWaitlist()
	}
	return true
}

// watchWaitlist passes late runs on for as long as the list has any. d.mu is held.
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

// startWaiting starts the first runs of the waitlist while there are places.
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

// passToQueue makes tasks of the queue of the given runs. d.mu is held, and Stop waits for it. A wake-up whose task
// is lost stays armed in its mailbox.
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
