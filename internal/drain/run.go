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
// ever less often up to lookMax, or limits.lookEvery where many wait: what another process deposits wakes nobody while a drainer owns
// the mailbox. What this process deposits says so (Drainer.Stir).
const (
	lookMin = 50 * time.Millisecond
	lookMax = time.Second
)

// claimed is a claim that may still start.
type claimed struct {
	claim mailbox.Claim
	// startBy is when the claim's lease leaves no room for a whole request.
	startBy time.Time
}

// job is a post to make.
type job struct {
	claimed

	post    Post
	message delivery.Message
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

// ask is an exchange to make, answer what came of it.
type (
	ask struct {
		want    int
		results []mailbox.Settlement
	}
	answer struct {
		exchanged mailbox.Exchanged
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
	health   *health
	// decide is what the run knows and does; health.mu guards it.
	decide *circuit.Run
	place  *place
	// moved is when a post began or ended last.
	moved time.Time

	queue   []claimed
	running int
	// jobs and done hold twice what the run begins with, so that hardly any send waits; and none does for long,
	// since there is a poster for each of the running posts. At full length both would take 30 kB.
	jobs    chan job
	done    chan finished
	posters int
	ended   sync.WaitGroup
	// stirred says that something was deposited; look is when to ask without being told.
	stirred chan struct{}
	look    time.Duration
	timer   *time.Timer
	// settlements wait for the next exchange; spare is the memory of those handed in before.
	settlements, spare []mailbox.Settlement
	// asks and answers lead to the goroutine that makes the exchanges, one at a time, so that posts
	// start and end meanwhile.
	asks    chan ask
	answers chan answer

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
	firm    int
	hadGate bool
	// closing is how the run left the mailbox; closed: it closed the gate.
	closing circuit.Closing
	closed  bool
}

func newRun(d *Drainer, e Endpoint, token string, b mailbox.Begun, p *place) *run {
	now, app := time.Now(), e.Life.App
	r := &run{
		d: d, app: app, token: token, endpoint: e, born: now, until: now.Add(d.opts.Budget), held: b.HeldUntil,
		health: d.memory.of(e), place: p, moved: now,
		asks: make(chan ask), answers: make(chan answer, 1), stirred: d.stirrable(app), look: lookMin, timer: stoppedTimer(),
		hadGate: b.Probes > 0, reserve: d.opts.InFlightPerApp,
	}
	r.health.with(func(e *circuit.Endpoint) {
		r.decide = e.BeginRun(&d.circuit, circuit.StartState{
			Probes: b.Probes, Openings: b.Openings, Sole: b.Sole, Refusing: b.Refusing, Recall: b.Recall,
		}, now, random())
	})
	if b.Probes > 0 {
		d.opts.Metrics.transition(halfOpen)
	}
	size := min(2*r.limit(), d.opts.InFlightPerApp)
	r.jobs, r.done = make(chan job, size), make(chan finished, size)
	return r
}

// drain runs until the mailbox is given back or lost, beginning with the claims that came when it was
// taken. Results are handed in even when ctx has ended: a delivery is a fact.
func (r *run) drain(ctx context.Context, t taking) error {
	r.ended.Go(func() { r.correspond(ctx, r.endpoint.Life) })
	defer func() {
		close(r.jobs)
		close(r.asks)
		r.ended.Wait()
		r.timer.Stop()
		r.d.unstirrable(r.app, r.stirred)
	}()
	claimed := t.exchanged.Owner
	if claimed {
		r.take(ctx, t.exchanged, t.want, t.sent, t.got)
	}
	for ; ; claimed = false {
		r.check(ctx)
		r.renew(ctx)
		if r.through() {
			more, err := r.leave(ctx)
			if err != nil || !more {
				r.observe(ctx)
				return err
			}
			continue
		}
		if err := r.recall(ctx); err != nil {
			r.abandon(ctx)
			return err
		}
		if !claimed {
			if err := r.exchange(ctx); err != nil {
				r.abandon(ctx)
				return err
			}
		}
		r.launch(ctx)
		if r.running > 0 {
			r.gather(ctx)
			continue
		}
		if len(r.settlements) > 0 || len(r.queue) > 0 {
			continue
		}
		if r.stage() == circuit.Lost {
			r.observe(ctx)
			return nil
		}
		if !r.idle && !r.stoppedClaiming() {
			continue
		}
		more, err := r.finish(ctx)
		if err != nil || !more {
			r.observe(ctx)
			return err
		}
	}
}

// stopped reports that nothing is claimed now.
func (r *run) stoppedClaiming() bool { return r.stage() != circuit.Claiming }

func (r *run) stage() circuit.Stage { return r.decide.Stage() }

// limit is how many posts may be out.
func (r *run) limit() int { return min(r.decide.AttemptLimit(), r.d.share()) }

// want is how many more claims there is room for.
func (r *run) want() int {
	return r.decide.WantedClaims(r.running+len(r.queue), r.d.share(), r.reserve)
}

// exchange settles and claims. Meanwhile posts end and others start from the reserve.
func (r *run) exchange(ctx context.Context) error {
	n := min(len(r.settlements), mailbox.MaxBatch)
	asked := ask{want: r.want(), results: r.settlements[:n]}
	r.settlements = append(r.spare[:0], r.settlements[n:]...)
	r.asks <- asked
	for {
		select {
		case a := <-r.answers:
			r.spare = asked.results
			r.replenish(a.got.Sub(a.sent))
			if a.err != nil {
				return fmt.Errorf("drain app %s: results of %d posts not recorded, their claims will run out: %w",
					r.app, len(asked.results)+len(r.settlements)+r.running, a.err)
			}
			r.take(ctx, a.exchanged, asked.want, a.sent, a.got)
			return nil
		case f := <-r.done:
			r.settle(ctx, f)
			r.launch(ctx)
		}
	}
}

// replenish widens the reserve that posters used up while a slow exchange was made although more was due.
func (r *run) replenish(took time.Duration) {
	if took > slowExchange && r.filled && len(r.queue) == 0 && r.running < r.limit() && !r.stoppedClaiming() {
		r.reserve = min(2*r.reserve, reserveMost*r.d.opts.InFlightPerApp)
	}
}

// correspond makes the exchanges that the run asks for.
func (r *run) correspond(ctx context.Context, life mailbox.Life) {
	for a := range r.asks {
		var to answer
		to.err = r.d.repeat(ctx, func(call context.Context) (err error) {
			to.sent = time.Now()
			to.exchanged, err = r.d.opts.Mailbox.Exchange(call, life, r.token, a.want, a.results)
			to.got = time.Now()
			return err
		})
		r.answers <- to
	}
}

func (r *run) take(ctx context.Context, x mailbox.Exchanged, want int, sent, got time.Time) {
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
		r.queue = append(r.queue, claimed{claim: c, startBy: startBy})
		// by got, not by sent: a success must not seem later than a failure that it came before
		r.skew = time.UnixMilli(c.Stamp).Add(-r.d.opts.EntryLease).Sub(got)
	}
	r.idle = want > 0 && len(x.Claims) == 0 && len(x.Unreadable) == 0
	r.filled = len(x.Claims) >= min(want, mailbox.MaxBatch)
	if len(x.Claims) > 0 {
		r.look = lookMin
	}
}

// check ends claiming when the budget is spent or the process stops.
func (r *run) check(ctx context.Context) {
	select {
	case <-r.d.stop:
		r.decide.Stop()
	case <-ctx.Done():
		r.decide.Stop()
	default:
	}
	if now := time.Now(); r.stage() == circuit.Claiming && now.After(r.until) {
		r.spent = now
		r.decide.SpendBudget()
	}
}

// launch starts posts while there is room, and releases what may not start any more.
func (r *run) launch(ctx context.Context) {
	r.check(ctx)
	limit := r.limit()
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
			r.settlements = append(r.settlements, mailbox.Settlement{Claim: c.claim, Verdict: mailbox.Release})
			continue
		}
		m, err := c.claim.Entry.Message(r.app, c.claim.Tenant)
		if err != nil {
			r.d.opts.Log.ErrorContext(ctx, "waiting entry is of an unknown format; left for another version", "app", r.app, "tenant", c.claim.Tenant, "err", err)
			continue
		}
		r.running++
		r.noteMove(now)
		if r.posters < r.running {
			r.posters++
			r.ended.Go(func() { r.work(ctx) })
		}
		r.jobs <- job{claimed: c, post: r.endpoint.Post, message: m}
	}
}

// work is a poster: it makes one post after the other until the run ends. A goroutine for each post
// would grow its stack anew each time.
func (r *run) work(ctx context.Context) {
	for j := range r.jobs {
		if !time.Now().Before(j.startBy) { // the process may have been frozen since it was launched
			r.done <- finished{claim: j.claim, late: true}
			continue
		}
		res := j.post(ctx, j.message)
		r.done <- finished{claim: j.claim, message: j.message, result: res, at: time.Now()}
	}
}

// gather waits for results, for the moment to look at the mailbox or to renew the lease, or for the
// order to stop, and then for what else ends soon.
func (r *run) gather(ctx context.Context) {
	if len(r.settlements) == 0 && !r.awaitResult(ctx) { // else some ended while the last exchange was made
		return
	}
	r.launch(ctx)
	r.timer.Reset(r.window())
	defer r.timer.Stop()
	for r.running > 0 && len(r.settlements) < gatherMax && !r.starving() {
		stirred := r.stirred
		if len(r.queue) > 0 || r.want() == 0 { // enough to do until the next exchange
			stirred = nil
		}
		select {
		case f := <-r.done:
			r.settle(ctx, f)
			r.launch(ctx)
		case <-stirred:
			return
		case <-r.timer.C:
			return
		}
	}
}

// window is how long to gather results.
func (r *run) window() time.Duration {
	return min(gatherFor*time.Duration(r.d.opts.InFlightPerApp)/time.Duration(r.d.share()), gatherLong)
}

// starving reports that posters will wait soon although more is due: they go on from what is left of
// the reserve while the exchange is made.
func (r *run) starving() bool {
	return r.filled && len(r.queue) <= r.reserve/2 && !r.stoppedClaiming() && r.decide.Proof() == circuit.Proven
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// abandon waits for the posts that are out; the mailbox hears nothing of them.
func (r *run) abandon(ctx context.Context) {
	for r.running > 0 {
		r.settle(ctx, <-r.done)
	}
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
