package drain

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Batching of results: an exchange costs as much as several posts, so one settles what finished
// within gatherFor, at most gatherMax. It comes sooner where the reserve of claims runs low, and at
// once when nothing is out any more. An app that has only a part of its posts in flight, since many
// drain at once, finishes fewer in a time and gathers longer, at most gatherLong. A crash repeats at
// most what is out, what is gathered and what an exchange that is under way hands in.
const (
	gatherMax  = 32
	gatherFor  = 20 * time.Millisecond
	gatherLong = 250 * time.Millisecond
)

// reserveMost bounds the reserve, in caps of posts at once. It begins as large as one cap and doubles
// when the posters used it up during an exchange that took longer than slowExchange: the endpoint is
// faster than Redis answers then, as it is where every write waits for the disk.
const (
	reserveMost  = 4
	slowExchange = time.Millisecond
)

// While posts are out and there is room for more, the mailbox is asked again after lookMin, then
// ever less often up to lookMax, or limits.minLookInterval where many wait: what another process deposits wakes nobody while a drainer owns
// the mailbox. What this process deposits says so (Drainer.Stir).
const (
	lookMin = 50 * time.Millisecond
	lookMax = time.Second
)

// heldClaim is a claim that may still start.
type heldClaim struct {
	claim mailbox.Claim
	// startBy is when the claim's lease leaves no room for a whole request.
	startBy time.Time
}

// plannedAttempt is a post to make.
type plannedAttempt struct {
	heldClaim

	attempt AttemptFunc
	message delivery.Message
}

// finishedAttempt is a post that returned.
type finishedAttempt struct {
	claim   mailbox.Claim
	message delivery.Message
	result  delivery.Result
	at      time.Time
	// late: nothing was posted, because the claim could have ended before the post.
	late bool
}

// ask is an exchange to make, answer what came of it.
type (
	exchangeRequest struct {
		want    int
		results []mailbox.Settlement
	}
	exchangeResult struct {
		exchanged mailbox.ExchangeResult
		sent, got time.Time
		err       error
	}
)

// run is one drain of one mailbox; its goroutine owns every field.
type run struct {
	d        *Drainer
	app      partner.ClientID
	token    string
	endpoint Endpoint
	born     time.Time
	held     time.Time
	memory   *endpointMemory
	// decide is what the run knows and does; health.mu guards it.
	decide *circuit.Run
	place  *place
	// moved is when a post began or ended last.
	moved time.Time

	queue   []heldClaim
	running int
	// jobs and done hold twice what the run begins with, so that hardly any send waits; and none does for long,
	// since there is a poster for each of the running posts. At full length both would take 30 kB.
	jobs    chan plannedAttempt
	done    chan finishedAttempt
	workers int
	ended   sync.WaitGroup
	// depositSignal says that something was deposited; look is when to ask without being told.
	depositSignal chan struct{}
	look          time.Duration
	timer         *time.Timer
	// settlements wait for the next exchange; spare is the memory of those handed in before.
	settlements, spare []mailbox.Settlement
	// asks and answers lead to the goroutine that makes the exchanges, one at a time, so that posts
	// start and end meanwhile.
	asks    chan exchangeRequest
	answers chan exchangeResult

	// reserve is how many claims more than may run at once are wanted.
	reserve int
	// idle: the last exchange found nothing due. filled: it gave all that was wanted, so more may be due.
	idle, filled bool
	// until is when the budget is spent, spent when it was found so, zero before.
	until, spent time.Time
	// skew is how far Redis's clock is ahead of this process's.
	skew   time.Duration
	report Observation
	// firm is how many of the report's rejections came before something was taken, and so are the tenants' own.
	firm      int
	hadProbes bool
	// closing is how the run left the mailbox; closed: it closed the gate.
	closing       circuit.Closing
	openedCircuit bool
}

func newRun(d *Drainer, e Endpoint, token string, b mailbox.BeginResult, p *place) *run {
	now, app := time.Now(), e.Life.App
	r := &run{
		d: d, app: app, token: token, endpoint: e, born: now, until: now.Add(d.opts.Budget), held: b.HeldUntil,
		memory: d.memories.memoryOf(e), place: p, moved: now,
		asks: make(chan exchangeRequest), answers: make(chan exchangeResult, 1), depositSignal: d.subscribeDeposits(app), look: lookMin, timer: newStoppedTimer(),
		hadProbes: b.Probes > 0, reserve: d.opts.InFlightPerApp,
	}
	r.memory.withEndpoint(func(e *circuit.Endpoint) {
		r.decide = e.BeginRun(&d.circuit, circuit.StartState{
			Probes: b.Probes, Openings: b.Openings, Sole: b.Sole, Refusing: b.Refusing, Recall: b.Recall,
		}, now, randomFraction())
	})
	if b.Probes > 0 {
		d.opts.Metrics.countTransition(halfOpen)
	}
	size := min(2*r.attemptLimit(), d.opts.InFlightPerApp)
	r.jobs, r.done = make(chan plannedAttempt, size), make(chan finishedAttempt, size)
	return r
}

// drainUntilDone runs until the mailbox is given back or lost, beginning with the claims that came when it was
// taken. Results are handed in even when ctx has ended: a delivery is a fact.
func (r *run) drainUntilDone(ctx context.Context, t acquisition) error {
	r.ended.Go(func() { r.serveExchanges(ctx, r.endpoint.Life) })
	defer func() {
		close(r.jobs)
		close(r.asks)
		r.ended.Wait()
		r.timer.Stop()
		r.d.unsubscribeDeposits(r.app, r.depositSignal)
	}()
	claimed := t.exchanged.Owner
	if claimed {
		r.applyExchange(ctx, t.exchanged, t.want, t.sent, t.got)
	}
	for ; ; claimed = false {
		r.checkBudget(ctx)
		r.renewBudget(ctx)
		if r.isWorkDone() {
			more, err := r.settleAndFinish(ctx)
			if err != nil || !more {
				r.reportRun(ctx)
				return err
			}
			continue
		}
		if err := r.recallFailed(ctx); err != nil {
			r.awaitOutstanding(ctx)
			return err
		}
		if !claimed {
			if err := r.exchangeClaims(ctx); err != nil {
				r.awaitOutstanding(ctx)
				return err
			}
		}
		r.launchAttempts(ctx)
		if r.running > 0 {
			r.gatherResults(ctx)
			continue
		}
		if len(r.settlements) > 0 || len(r.queue) > 0 {
			continue
		}
		if r.currentStage() == circuit.Lost {
			r.reportRun(ctx)
			return nil
		}
		if !r.idle && !r.hasStoppedClaiming() {
			continue
		}
		more, err := r.finishRun(ctx)
		if err != nil || !more {
			r.reportRun(ctx)
			return err
		}
	}
}

// stopped reports that nothing is claimed now.
func (r *run) hasStoppedClaiming() bool { return r.currentStage() != circuit.Claiming }

func (r *run) currentStage() circuit.Stage { return r.decide.Stage() }

// attemptLimit is how many posts may be out.
func (r *run) attemptLimit() int { return min(r.decide.AttemptLimit(), r.d.appShare()) }

// wantedClaims is how many more claims there is room for.
func (r *run) wantedClaims() int {
	return r.decide.WantedClaims(r.running+len(r.queue), r.d.appShare(), r.reserve)
}

// exchangeClaims settles and claims. Meanwhile posts end and others start from the reserve.
func (r *run) exchangeClaims(ctx context.Context) error {
	n := min(len(r.settlements), mailbox.MaxBatch)
	asked := exchangeRequest{want: r.wantedClaims(), results: r.settlements[:n]}
	r.settlements = append(r.spare[:0], r.settlements[n:]...)
	r.asks <- asked
	for {
		select {
		case a := <-r.answers:
			r.spare = asked.results
			r.growReserve(a.got.Sub(a.sent))
			if a.err != nil {
				return fmt.Errorf("drain app %s: results of %d posts not recorded, their claims will run out: %w",
					r.app, len(asked.results)+len(r.settlements)+r.running, a.err)
			}
			r.applyExchange(ctx, a.exchanged, asked.want, a.sent, a.got)
			return nil
		case f := <-r.done:
			r.settleAttempt(ctx, f)
			r.launchAttempts(ctx)
		}
	}
}

// growReserve widens the reserve that posters used up while a slow exchange was made although more was due.
func (r *run) growReserve(took time.Duration) {
	if took > slowExchange && r.filled && len(r.queue) == 0 && r.running < r.attemptLimit() && !r.hasStoppedClaiming() {
		r.reserve = min(2*r.reserve, reserveMost*r.d.opts.InFlightPerApp)
	}
}

// serveExchanges makes the exchanges that the run asks for.
func (r *run) serveExchanges(ctx context.Context, life mailbox.Life) {
	for a := range r.asks {
		var to exchangeResult
		to.err = r.d.retryCall(ctx, func(call context.Context) (err error) {
			to.sent = time.Now()
			to.exchanged, err = r.d.opts.Mailbox.Exchange(call, life, r.token, a.want, a.results)
			to.got = time.Now()
			return err
		})
		r.answers <- to
	}
}

func (r *run) applyExchange(ctx context.Context, x mailbox.ExchangeResult, want int, sent, got time.Time) {
	if !x.Owner {
		r.decide.MarkMailboxLost()
		r.queue = nil
		return
	}
	if x.Off {
		r.decide.MarkSwitchedOff()
	}
	if x.Outdated {
		r.decide.MarkOutdated()
	}
	for _, t := range x.Unreadable {
		r.d.opts.Log.ErrorContext(ctx, "waiting entry is of an unknown format; left for another version", "app", r.app, "tenant", t)
	}
	startBy := sent.Add(r.d.opts.EntryLease - r.d.opts.Timeout - startSlack)
	for _, c := range x.Claims {
		r.queue = append(r.queue, heldClaim{claim: c, startBy: startBy})
		// by got, not by sent: a success must not seem later than a failure that it came before
		r.skew = time.UnixMilli(c.Stamp).Add(-r.d.opts.EntryLease).Sub(got)
	}
	r.idle = want > 0 && len(x.Claims) == 0 && len(x.Unreadable) == 0
	r.filled = len(x.Claims) >= min(want, mailbox.MaxBatch)
	if len(x.Claims) > 0 {
		r.look = lookMin
	}
}

// checkBudget ends claiming when the budget is spent or the process stops.
func (r *run) checkBudget(ctx context.Context) {
	select {
	case <-r.d.stop:
		r.decide.Stop()
	case <-ctx.Done():
		r.decide.Stop()
	default:
	}
	if now := time.Now(); r.currentStage() == circuit.Claiming && now.After(r.until) {
		r.spent = now
		r.decide.SpendBudget()
	}
}

// launchAttempts starts posts while there is room, and releases what may not start any more.
func (r *run) launchAttempts(ctx context.Context) {
	r.checkBudget(ctx)
	limit := r.attemptLimit()
	for len(r.queue) > 0 {
		c := r.queue[0]
		now := time.Now()
		late := !now.Before(c.startBy)
		starts := r.decide.MayStart()
		if !late && starts && r.running >= limit {
			return
		}
		r.queue = r.queue[1:]
		if late || !starts {
			r.settlements = append(r.settlements, mailbox.Settlement{Claim: c.claim, Result: mailbox.Release})
			continue
		}
		m, err := c.claim.Entry.Message(r.app, c.claim.Tenant)
		if err != nil {
			r.d.opts.Log.ErrorContext(ctx, "waiting entry is of an unknown format; left for another version", "app", r.app, "tenant", c.claim.Tenant, "err", err)
			continue
		}
		r.running++
		r.noteProgress(now)
		if r.workers < r.running {
			r.workers++
			r.ended.Go(func() { r.makeAttempts(ctx) })
		}
		r.jobs <- plannedAttempt{heldClaim: c, attempt: r.endpoint.Attempt, message: m}
	}
}

// makeAttempts is a poster: it makes one post after the other until the run ends. A goroutine for each post
// would grow its stack anew each time.
func (r *run) makeAttempts(ctx context.Context) {
	for j := range r.jobs {
		if !time.Now().Before(j.startBy) { // the process may have been frozen since it was launched
			r.done <- finishedAttempt{claim: j.claim, late: true}
			continue
		}
		res := j.attempt(ctx, j.message)
		r.done <- finishedAttempt{claim: j.claim, message: j.message, result: res, at: time.Now()}
	}
}

// gatherResults waits for results, for the moment to look at the mailbox or to renew the lease, or for the
// order to stop, and then for what else ends soon.
func (r *run) gatherResults(ctx context.Context) {
	if len(r.settlements) == 0 && !r.awaitResult(ctx) { // else some ended while the last exchange was made
		return
	}
	r.launchAttempts(ctx)
	r.timer.Reset(r.gatherWindow())
	defer r.timer.Stop()
	for r.running > 0 && len(r.settlements) < gatherMax && !r.isReserveLow() {
		stirred := r.depositSignal
		if len(r.queue) > 0 || r.wantedClaims() == 0 { // enough to do until the next exchange
			stirred = nil
		}
		select {
		case f := <-r.done:
			r.settleAttempt(ctx, f)
			r.launchAttempts(ctx)
		case <-stirred:
			return
		case <-r.timer.C:
			return
		}
	}
}

// gatherWindow is how long to gather results.
func (r *run) gatherWindow() time.Duration {
	return min(gatherFor*time.Duration(r.d.opts.InFlightPerApp)/time.Duration(r.d.appShare()), gatherLong)
}

// isReserveLow reports that posters will wait soon although more is due: they go on from what is left of
// the reserve while the exchange is made.
func (r *run) isReserveLow() bool {
	return r.filled && len(r.queue) <= r.reserve/2 && !r.hasStoppedClaiming() && r.decide.Proof() == circuit.Proven
}

func newStoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// awaitOutstanding waits for the posts that are out; the mailbox hears nothing of them.
func (r *run) awaitOutstanding(ctx context.Context) {
	for r.running > 0 {
		r.settleAttempt(ctx, <-r.done)
	}
}

// settleWithin bounds the calls that record what happened, however the run ends.
const settleWithin = 5 * time.Second

// detachContext is a context for recording facts although the run's own was canceled.
func detachContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}

func sleepFor(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}
