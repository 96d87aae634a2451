package drain

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
)

// awaitResult waits for the first result. It returns false when an exchange should come before any result.
func (r *run) awaitResult(ctx context.Context) bool {
	stop, ended := r.d.stop, ctx.Done()
	if r.currentStage() == circuit.Leaving || r.currentStage() == circuit.Lost { // already known, or of no effect
		stop, ended = nil, nil
	}
	stirred := r.depositSignal
	if r.wantedClaims() == 0 { // no room for claims: the signal stays pending until there is
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
			r.launchAttempts(ctx)
			if r.yieldIdlePlace(); time.Now().Before(look) {
				continue
			}
			r.look = min(2*r.look, lookMax) // the next exchange looks for deposits and renews the lease
			return false
		case <-stop:
		case <-ended:
		}
		return true
	}
}

// noteProgress records that an attempt began or ended, and takes a place again if the run has none.
func (r *run) noteProgress(now time.Time) {
	r.moved = now
	r.place.resumeWork()
}

// nextDeadline is when a run that waits for results must act by itself: look at the mailbox, start what it holds back,
// or give up its place.
func (r *run) nextDeadline(look time.Time) time.Time {
	if soon := time.Now().Add(circuit.WorthConnecting); r.heldBack && soon.Before(look) {
		return soon
	}
	if rest := r.moved.Add(waitsAfter); !r.place.waiting && rest.Before(look) {
		return rest
	}
	return look
}

// yieldIdlePlace gives up the place when no attempt has begun or ended for waitsAfter. When too many runs wait
// already, it tries again after another waitsAfter.
func (r *run) yieldIdlePlace() {
	if now := time.Now(); !r.place.waiting && now.Sub(r.moved) >= waitsAfter && !r.place.startWaiting(r.running) {
		r.moved = now
	}
}

// resultTimeout is how long to wait for the first result: until the lease needs renewal or, if there is room for
// claims, until the next look at the mailbox.
func (r *run) resultTimeout() time.Duration {
	renew := r.d.opts.OwnerLease / 3
	if r.wantedClaims() == 0 {
		return min(r.untilRenewal(), renew)
	}
	return min(max(r.look, r.d.places.minLookInterval()), renew)
}
