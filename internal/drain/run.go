package drain

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Batching of results: one exchange settles what finished within gatherFor, at most gatherMax.
const (
	gatherMax = 16
	gatherFor = 2 * time.Millisecond
)

// claimed is a claim that may still start.
type claimed struct {
	claim mailbox.Claim
	// startBy is when the claim's lease leaves no room for a whole request.
	startBy time.Time
}

// finished is a post that returned.
type finished struct {
	claim   mailbox.Claim
	message delivery.Message
	result  delivery.Result
	at      time.Time
	// late: nothing was posted, because the claim could have ended before the post.
	late bool
}

// run is one drain of one mailbox; its goroutine owns every field.
type run struct {
	d        *Drainer
	app      partner.ClientID
	token    string
	post     Post
	revision int64
	began    time.Time
	held     time.Time
	openings int
	health   *health

	queue   []claimed
	running int
	done    chan finished
	// settlements wait for the next exchange.
	settlements []mailbox.Settlement

	// limit ramps up after an outage; probing lets one post out alone.
	limit   int
	probing bool
	lost    bool
	force   bool
	idle    bool
	// closing: claim no more. suspectAt: the endpoint failed then and has not answered since.
	closing   bool
	suspectAt time.Time
	tripped   bool
	gone      bool
	gate      time.Duration
	// ownFault: the service itself failed and nothing was delivered since.
	ownFault bool
	// skew is how far Redis's clock is ahead of this process's.
	skew    time.Duration
	report  Observation
	hadGate bool
	// closed: the run ended by closing the gate.
	closed bool
}

func newRun(d *Drainer, app partner.ClientID, token string, post Post, revision int64, b mailbox.Begun) *run {
	now := time.Now()
	r := &run{
		d: d, app: app, token: token, post: post, revision: revision, began: now, held: b.HeldUntil, openings: b.Openings,
		health: d.memory.of(app, now), done: make(chan finished, d.opts.InFlightPerApp),
		limit: d.opts.InFlightPerApp, probing: b.Probe, hadGate: b.Probe,
	}
	if b.Probe {
		d.opts.Metrics.transition(halfOpen)
		r.limit = 1
	}
	return r
}

// drain runs until the mailbox is given back or lost. Results are handed in even when ctx has
// ended: a delivery is a fact.
func (r *run) drain(ctx context.Context) error {
	for {
		r.check(ctx)
		if err := r.exchange(ctx); err != nil {
			r.abandon(ctx)
			return err
		}
		r.launch(ctx)
		if r.running > 0 {
			r.gather(ctx)
			continue
		}
		if len(r.settlements) > 0 || len(r.queue) > 0 {
			continue
		}
		if r.lost {
			r.observe(ctx)
			return nil
		}
		if !r.suspectAt.IsZero() && !r.convicted() {
			r.suspectAt = time.Time{} // others were answered: go on
			continue
		}
		if !r.idle && !r.stopped() {
			continue
		}
		more, err := r.finish(ctx)
		if err != nil || !more {
			r.observe(ctx)
			return err
		}
	}
}

// stopped reports that nothing more will be claimed in this run.
func (r *run) stopped() bool { return r.closing || r.lost || !r.suspectAt.IsZero() }

// convicted reports that the endpoint is held to be failing: its breaker tripped, or it failed
// and answered nobody since.
func (r *run) convicted() bool {
	well, _ := r.health.times()
	return r.tripped || r.gone || r.gate > 0 || !r.suspectAt.IsZero() && !well.After(r.suspectAt)
}

// want is how many more claims there is room for: what may run, and as much again in reserve.
func (r *run) want() int {
	if r.stopped() {
		return 0
	}
	limit := min(r.limit, r.d.share())
	if r.probing {
		limit = 1
	} else {
		limit *= 2
	}
	return max(limit-r.running-len(r.queue), 0)
}

// exchange settles and claims.
func (r *run) exchange(ctx context.Context) error {
	want := r.want()
	var x mailbox.Exchanged
	var sent time.Time
	err := r.d.repeat(ctx, func(call context.Context) (err error) {
		sent = time.Now()
		x, err = r.d.opts.Mailbox.Exchange(call, r.app, r.token, want, r.settlements)
		return err
	})
	if err != nil {
		return fmt.Errorf("drain app %s: results of %d posts not recorded, their claims will run out: %w", r.app, len(r.settlements), err)
	}
	r.take(ctx, x, want, sent)
	return nil
}

func (r *run) take(ctx context.Context, x mailbox.Exchanged, want int, sent time.Time) {
	r.settlements = r.settlements[:0]
	if !x.Owner {
		r.lost = true
		r.queue = nil
		return
	}
	if x.Off {
		r.closing = true
	}
	for _, t := range x.Unreadable {
		r.d.opts.Log.ErrorContext(ctx, "waiting entry is of an unknown format; left for another version", "app", r.app, "tenant", t)
	}
	startBy := sent.Add(r.d.opts.EntryLease - r.d.opts.Timeout - startSlack)
	for _, c := range x.Claims {
		r.queue = append(r.queue, claimed{claim: c, startBy: startBy})
		// by now, not by sent: a success must not seem later than a failure that it came before
		r.skew = time.Until(time.UnixMilli(c.Stamp).Add(-r.d.opts.EntryLease))
	}
	r.idle = want > 0 && len(x.Claims) == 0 && len(x.Unreadable) == 0
}

// check ends claiming when the budget is spent or the process stops.
func (r *run) check(ctx context.Context) {
	select {
	case <-r.d.stop:
		r.closing, r.force = true, true
	case <-ctx.Done():
		r.closing, r.force = true, true
	default:
	}
	if time.Since(r.began) > r.d.opts.Budget {
		r.closing, r.force = true, true
	}
}

// launch starts posts while there is room, and releases what may not start any more.
func (r *run) launch(ctx context.Context) {
	r.check(ctx)
	limit := min(r.limit, r.d.share())
	for len(r.queue) > 0 {
		c := r.queue[0]
		late := !time.Now().Before(c.startBy)
		if !late && !r.stopped() && r.running >= limit {
			return
		}
		r.queue = r.queue[1:]
		if late || r.stopped() {
			r.settlements = append(r.settlements, mailbox.Settlement{Claim: c.claim, Verdict: mailbox.Release})
			continue
		}
		m, err := c.claim.Entry.Message(r.app, c.claim.Tenant)
		if err != nil {
			r.d.opts.Log.ErrorContext(ctx, "waiting entry is of an unknown format; left for another version", "app", r.app, "tenant", c.claim.Tenant, "err", err)
			continue
		}
		r.running++
		go func() {
			if !time.Now().Before(c.startBy) { // the process may have been frozen since it was launched
				r.done <- finished{claim: c.claim, late: true}
				return
			}
			res := r.post(ctx, m)
			r.done <- finished{claim: c.claim, message: m, result: res, at: time.Now()}
		}()
	}
}

// gather waits for results, for the moment the lease needs renewing, or for the order to stop.
func (r *run) gather(ctx context.Context) {
	beat := time.NewTimer(r.d.opts.OwnerLease / 3)
	defer beat.Stop()
	stop, ended := r.d.stop, ctx.Done()
	if r.closing { // known already, or no news
		stop, ended = nil, nil
	}
	select {
	case f := <-r.done:
		r.settle(ctx, f)
	case <-beat.C:
		return // the next exchange renews
	case <-stop:
	case <-ended:
	}
	r.launch(ctx)
	enough := time.NewTimer(gatherFor)
	defer enough.Stop()
	for r.running > 0 && len(r.settlements) < gatherMax {
		select {
		case f := <-r.done:
			r.settle(ctx, f)
			r.launch(ctx)
		case <-enough.C:
			return
		}
	}
}

// abandon waits for the posts that are out; the mailbox hears nothing of them.
func (r *run) abandon(ctx context.Context) {
	for r.running > 0 {
		r.settle(ctx, <-r.done)
	}
}

// finish gives the mailbox back; more means that work is due and the run goes on.
func (r *run) finish(ctx context.Context) (more bool, err error) {
	c := mailbox.Closing{Force: r.force}
	if r.gone {
		c.OffRevision = r.switchOff(ctx)
	}
	if r.convicted() {
		c.Gate = max(r.gate, r.d.opts.Gate.After(r.openings+1, random()))
	}
	f, err := r.d.giveBack(ctx, r.app, r.token, c)
	if err != nil {
		return false, err
	}
	if f.State == mailbox.More {
		r.closing, r.idle = false, false
		return true, nil
	}
	if r.closed = c.Gate > 0 && f.State == mailbox.Done; r.closed {
		r.d.opts.Metrics.transition(open)
	}
	if r.ownFault {
		f.Wake = paced(f.Wake)
	}
	r.d.wake(ctx, r.app, f.Wake)
	return false, nil
}

// switchOff returns the revision of the switch-off, 0 when the endpoint stays on: then its gate
// closes instead.
func (r *run) switchOff(ctx context.Context) int64 {
	call, cancel := detached(ctx)
	defer cancel()
	revision, err := r.d.opts.Endpoints.SwitchOff(call, r.app, r.revision, partner.OffGone)
	if err != nil {
		r.d.opts.Log.WarnContext(ctx, "gone endpoint was not switched off as it should", "app", r.app, "err", err)
	}
	return revision
}

// settleWithin bounds the calls that record what happened, however the run ends.
const settleWithin = 5 * time.Second

// detached is a context for recording facts although the run's own was canceled.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}

func pause(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}
