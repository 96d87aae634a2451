package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// awaitResult waits for the first result; it returns false when an exchange is to come before any.
func (r *run) awaitResult(ctx context.Context) bool {
	stop, ended := r.d.stop, ctx.Done()
	if r.stage() == circuit.Leaving || r.stage() == circuit.Lost { // known already, or no news
		stop, ended = nil, nil
	}
	stirred := r.stirred
	if r.want() == 0 { // no room for what came: it stays told until there is
		stirred = nil
	}
	for look := time.Now().Add(r.resultWithin()); ; {
		r.timer.Reset(time.Until(r.nextTurn(look)))
		select {
		case f := <-r.done:
			r.settle(ctx, f)
		case <-stirred:
			r.timer.Stop()
			r.look = lookMin
			return false
		case <-r.timer.C:
			if r.offerPlace(); time.Now().Before(look) {
				continue
			}
			r.look = min(2*r.look, lookMax) // the next exchange looks, and renews
			return false
		case <-stop:
		case <-ended:
		}
		return true
	}
}

// noteMove notes that a post began or ended: the run works, if it only waited.
func (r *run) noteMove(now time.Time) {
	r.moved = now
	r.place.work()
}

// nextTurn is when a run that waits for results has something to do by itself: to look, or to give its place
// back.
func (r *run) nextTurn(look time.Time) time.Time {
	if rest := r.moved.Add(waitsAfter); !r.place.waiting && rest.Before(look) {
		return rest
	}
	return look
}

// offerPlace gives the place back where no post began or ended for long. Where too many wait already it is asked
// for again.
func (r *run) offerPlace() {
	if now := time.Now(); !r.place.waiting && now.Sub(r.moved) >= waitsAfter && !r.place.wait(r.running) {
		r.moved = now
	}
}

// resultWithin is how long to wait for the first result: until the lease needs renewing, or, where
// there is room for claims, until the mailbox is worth a look.
func (r *run) resultWithin() time.Duration {
	renew := r.d.opts.OwnerLease / 3
	if r.want() == 0 {
		return min(r.renewIn(), renew)
	}
	return min(max(r.look, r.d.places.lookEvery()), renew)
}
