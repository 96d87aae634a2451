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

// Results are gathered, because an exchange costs as much as several attempts. One exchange settles what finished
// within gatherFor, at most gatherMax results. It comes sooner when the reserve of claims runs low, and at once when
// nothing is in flight. An app that has only a share of its attempts, because many drain at once, finishes fewer and
// gathers longer, at most gatherLong. After a crash, what was in flight, gathered or in an exchange is sent again.
const (
	gatherMax  = 32
	gatherFor  = 20 * time.Millisecond
	gatherLong = 250 * time.Millisecond
)

// reserveMost is the most claims held in reserve, as a multiple of InFlightPerApp. The reserve begins at one and
// doubles when it is used up during an exchange that took longer than slowExchange. The endpoint is then faster than
// Redis, as where every write waits for the disk.
const (
	reserveMost  = 4
	slowExchange = time.Millisecond
)

// While attempts are in flight and there is room for more, the mailbox is read again after lookMin, then less often
// up to lookMax, or to limits.minLookInterval when many runs wait. The reason: while a drainer owns the mailbox,
// deposits of other processes arm no wake-up. Deposits of this process are signalled (Drainer.SignalDeposit).
const (
	lookMin = 50 * time.Millisecond
	lookMax = time.Second
)

// heldClaim is a claim whose attempt has not started.
type heldClaim struct {
	claim mailbox.Claim
	// startBy is the latest start: after it, the claim's lease has no room for a whole request.
	startBy time.Time
}

// plannedAttempt is an attempt to make.
type plannedAttempt struct {
	heldClaim

	attempt AttemptFunc
	message delivery.Message
}

// finishedAttempt is an attempt that returned.
type finishedAttempt struct {
	claim   mailbox.Claim
	message delivery.Message
	result  delivery.Result
	at      time.Time
	// late says that no request was made, because the claim could have expired before its end.
	late bool
}

// exchangeRequest is an exchange to make, exchangeResult its result.
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

// run is one drain of one mailbox. Its goroutine owns every field.
type run struct {
	d        *Drainer
	app      partner.ClientID
	token    string
	endpoint Endpoint
	born     time.Time
	held     time.Time
	memory   *endpointMemory
	// decide is the run's state and its decisions; memory.mu guards it.
	decide *circuit.Run
	place  *place
	// moved is when an attempt last began or ended.
	moved time.Time

	queue   []heldClaim
	running int
	// jobs and done hold twice the initial limit, so that sends rarely block. None blocks for long, because there is
	// a worker for each running attempt. At full length both would take 30 kB.
	jobs    chan plannedAttempt
	done    chan finishedAttempt
	workers int
	ended   sync.WaitGroup
	// depositSignal signals a deposit; look is the interval at which the mailbox is read without a signal.
	depositSignal chan struct{}
	look          time.Duration
	timer         *time.Timer
	// settlements wait for the next exchange; spare is the memory of those handed in before.
	settlements, spare []mailbox.Settlement
	// asks and answers connect to the goroutine that makes the exchanges, one at a time. Attempts start and end
	// meanwhile.
	asks    chan exchangeRequest
	answers chan exchangeResult

	// reserve is how many claims are wanted beyond those that may run at once.
	reserve int
	// left is how many tenants wait in the mailbox beside the claimed ones; answered is when an attempt last ended.
	// heldBack says that no further connection is worth opening for the claims held.
	left     int
	answered time.Time
	heldBack bool
	// idle says that the last exchange found nothing due; filled, that it returned all that was wanted, so more may
	// be due.
	idle, filled bool
	// until is when the budget ends; spent is when that was noticed, zero before.
	until, spent time.Time
	// skew is how far Redis's clock is ahead of this process's.
	skew   time.Duration
	report Observation
	// firm is how many of the report's rejections came before a success, and so are certainly the tenants' own.
	firm      int
	hadProbes bool
	// closing is the result of the last finishRun; openedCircuit says that it opened the circuit.
	closing       circuit.Closing
	openedCircuit bool
}

func newRun(d *Drainer, e Endpoint, token string, b mailbox.BeginResult, p *place) *run {
	now, app := time.Now(), e.Life.App
	r := &run{
		d: d, app: app, token: token, endpoint: e, born: now, until: now.Add(d.opts.Budget), held: b.HeldUntil,
		memory: d.memories.memoryOf(e), place: p, moved: now, answered: now,
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

// drainUntilDone runs until the mailbox is given back or lost. It begins with the claims of the acquisition. Results
// are handed in even after ctx has ended, because a delivery is a fact.
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

// hasStoppedClaiming reports that no claims are taken now.
func (r *run) hasStoppedClaiming() bool { return r.currentStage() != circuit.Claiming }

func (r *run) currentStage() circuit.Stage { return r.decide.Stage() }

// attemptLimit is how many attempts may be in flight.
func (r *run) attemptLimit() int { return min(r.decide.AttemptLimit(), r.d.appShare()) }

// wantedClaims is how many more claims there is room for.
func (r *run) wantedClaims() int {
	return r.decide.WantedClaims(r.running+len(r.queue), r.d.appShare(), r.reserve)
}

// exchangeClaims hands in results and takes claims. Attempts end and start from the reserve meanwhile.
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

// growReserve doubles the reserve when it was used up during a slow exchange although more was due.
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
		// by got, not by sent: a success must not seem later than a failure that followed it
		r.skew = time.UnixMilli(c.Stamp).Add(-r.d.opts.EntryLease).Sub(got)
	}
	r.idle = want > 0 && len(x.Claims) == 0 && len(x.Unreadable) == 0
	r.filled, r.left = len(x.Claims) >= min(want, mailbox.MaxBatch), x.Left
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

// launchAttempts starts attempts while there is room, and releases claims that may not start any more.
func (r *run) launchAttempts(ctx context.Context) {
	r.checkBudget(ctx)
	limit := r.attemptLimit()
	r.heldBack = false
	for len(r.queue) > 0 {
		c := r.queue[0]
		now := time.Now()
		late := !now.Before(c.startBy)
		starts := r.decide.MayStart()
		if !late && starts && r.running >= limit {
			return
		}
		if !late && starts && r.running >= r.workers && !r.decide.NeedsConnection(r.workers, len(r.queue)+r.left, now.Sub(r.answered)) {
			r.heldBack = true
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

// makeAttempts is a worker: it makes one attempt after the other until the run ends. A goroutine per attempt would
// grow its stack each time.
func (r *run) makeAttempts(ctx context.Context) {
	for j := range r.jobs {
		if !time.Now().Before(j.startBy) { // the process may have been suspended since the launch
			r.done <- finishedAttempt{claim: j.claim, late: true}
			continue
		}
		res := j.attempt(ctx, j.message)
		r.done <- finishedAttempt{claim: j.claim, message: j.message, result: res, at: time.Now()}
	}
}

// gatherResults waits for results, for the next look at the mailbox, for the renewal of the lease or for the stop.
// Then it gathers what else ends soon.
func (r *run) gatherResults(ctx context.Context) {
	if len(r.settlements) == 0 && !r.awaitResult(ctx) { // otherwise some ended during the last exchange
		return
	}
	r.launchAttempts(ctx)
	r.timer.Reset(r.gatherWindow())
	defer r.timer.Stop()
	for r.running > 0 && len(r.settlements) < gatherMax && !r.isReserveLow() {
		stirred := r.depositSignal
		if len(r.queue) > 0 || r.wantedClaims() == 0 { // enough work until the next exchange
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

// isReserveLow reports that workers will soon be idle although more is due. They use the rest of the reserve while
// the exchange is made.
func (r *run) isReserveLow() bool {
	return r.filled && len(r.queue) <= r.reserve/2 && !r.hasStoppedClaiming() && r.decide.Proof() == circuit.Proven
}

func newStoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// awaitOutstanding waits for the attempts in flight. Their results are not handed in.
func (r *run) awaitOutstanding(ctx context.Context) {
	for r.running > 0 {
		r.settleAttempt(ctx, <-r.done)
	}
}

// settleWithin bounds each call that records results, however the run ends.
const settleWithin = 5 * time.Second

// detachContext returns a context for recording results after the run's own context was canceled.
func detachContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}

func sleepFor(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}
