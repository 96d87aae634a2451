package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// awaitResult waits for the first result; it returns false when an exchange is to come before any.
func (r *run) awaitResult(ctx context.Context) bool {
	stop, ended := r.d.stop, ctx.Done()
	if r.currentStage() == circuit.Leaving || r.currentStage() == circuit.Lost { // known already, or no news
		stop, ended = nil, nil
	}
	stirred := r.depositSignal
	if r.wantedClaims() == 0 { // no room for what came: it stays told until there is
		stirred = nil
	}
	for look := time.Now().Add(r.resultTimeout()); ; {
		r.timer.Reset(time.Until(r.nextDeadline(look)))
		select {
		case f := <-r.done:
			r.settleAttempt(ctx, f)
		case <-stirred:
			r.timer.Stop()
			r.look = lookMin
			return false
		case <-r.timer.C:
			if r.yieldIdlePlace(); time.Now().Before(look) {
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

// noteProgress notes that a post began or ended: the run works, if it only waited.
func (r *run) noteProgress(now time.Time) {
	r.moved = now
	r.place.resumeWork()
}

// nextDeadline is when a run that waits for results has something to do by itself: to look, or to give its place
// back.
func (r *run) nextDeadline(look time.Time) time.Time {
	if rest := r.moved.Add(waitsAfter); !r.place.waiting && rest.Before(look) {
		return rest
	}
	return look
}

// yieldIdlePlace gives the place back where no post began or ended for long. Where too many wait already it is asked
// for again.
func (r *run) yieldIdlePlace() {
	if now := time.Now(); !r.place.waiting && now.Sub(r.moved) >= waitsAfter && !r.place.startWaiting(r.running) {
		r.moved = now
	}
}

// resultTimeout is how long to wait for the first result: until the lease needs renewing, or, where
// there is room for claims, until the mailbox is worth a look.
func (r *run) resultTimeout() time.Duration {
	renew := r.d.opts.OwnerLease / 3
	if r.wantedClaims() == 0 {
		return min(r.untilRenewal(), renew)
	}
	return min(max(r.look, r.d.places.minLookInterval()), renew)
}
