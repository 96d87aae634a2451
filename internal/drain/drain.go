package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Mailbox is the record of work (package mailbox).
type Mailbox interface {
	// BeginAndClaim takes ownership and the first claims in one round trip; SettleAndFinish hands in the last results
	// and gives the mailbox back when nothing is due. Most runs need no other call.
	BeginAndClaim(ctx context.Context, life mailbox.Life, token string, generation int64, want int) (mailbox.BeginResult, mailbox.ExchangeResult, error)
	SettleAndFinish(ctx context.Context, life mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error)
	Exchange(ctx context.Context, life mailbox.Life, token string, want int, results []mailbox.Settlement) (mailbox.ExchangeResult, error)
	Finish(ctx context.Context, life mailbox.Life, token string, c mailbox.Closing) (mailbox.FinishResult, error)
	// RecallFailed makes one page of the failed notifications due again, after the endpoint has recovered.
	RecallFailed(ctx context.Context, life mailbox.Life, token string) (more bool, err error)
}

// AttemptFunc makes one attempt; it must return within the request timeout.
type AttemptFunc func(ctx context.Context, m delivery.Message) delivery.Result

// Endpoints finds an app's endpoint in the settings.
type Endpoints interface {
	// Life returns the app's life by the settings that were read last; ok is false when they do not have the app. It
	// reads the settings again first if anew is true, or if they do not have the app.
	Life(ctx context.Context, app partner.ClientID, anew bool) (life mailbox.Life, ok bool, err error)
	// Endpoint returns the app's endpoint, by settings that are read now or are at least of the given revision. ok is
	// false when the app is unknown or has no URL.
	Endpoint(ctx context.Context, app partner.ClientID, revision int64) (e Endpoint, ok bool, err error)
	// SwitchOff switches the endpoint off after an answer that says it is gone, unless its URL or switch changed
	// since. It returns the registry revision of the switch-off.
	SwitchOff(ctx context.Context, e Endpoint, answer delivery.Result) (int64, error)
}

// Endpoint is where an app's notifications are sent.
type Endpoint struct {
	Life mailbox.Life
	// Revision is the revision of the settings at which the URL or the switch last changed.
	Revision int64
	Attempt  AttemptFunc
}

// isSameEndpoint reports whether results of attempts at e also describe o. Their secrets may differ.
func (e Endpoint) isSameEndpoint(o Endpoint) bool {
	return e.Life == o.Life && e.Revision == o.Revision
}

// Waker starts a drain for a mailbox's wake-up, in this process or by a task of the queue.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
	// Enqueue always makes it a task, which any process with a free worker runs.
	Enqueue(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Observer receives the results of attempts, and a summary of each run.
type Observer interface {
	// RecordAttempt gets every attempt; it must not block.
	RecordAttempt(a delivery.Attempt)
	// Observe gets one observation per run or renewed budget, if there is news: a failure, a recovery, a rejection.
	Observe(ctx context.Context, o Observation) error
}

// Observation sums up a run, for incidents and their mails.
type Observation struct {
	App partner.ClientID
	At  time.Time
	// Failure is the endpoint's last fault. It is nil when a success followed, and when this run did not open the
	// circuit: a later owner of the mailbox then judges for itself.
	Failure *delivery.Result
	// Succeeded says that the endpoint accepted a notification after its last fault.
	Succeeded bool
	// Rejected are notifications that failed by their own fault: a healthy endpoint refused them, or they failed
	// while others were delivered. The Outcome of each is delivery.Rejected. Accepted are notifications that were
	// delivered after at least one failure.
	Rejected []Rejection
	Accepted []delivery.Message
}

// Rejection is one refused notification.
type Rejection struct {
	Message  delivery.Message
	Result   delivery.Result
	decision circuit.Decision
}

// Options of a Drainer.
type Options struct {
	Mailbox   Mailbox
	Endpoints Endpoints
	Waker     Waker
	Observer  Observer
	Metrics   *Metrics
	Log       *slog.Logger
	// Schedule is the retry schedule of notifications, Cooldown the cool-down of endpoints.
	Schedule delivery.Schedule
	Cooldown delivery.Cooldown
	// BreakerFailures is how many failures in a row open the circuit of an endpoint that accepts other notifications.
	BreakerFailures int
	// InFlightPerApp limits the attempts in flight of one app, InFlight those of the process. InFlight is a target
	// that the draining apps share; each of them gets at least circuit.Floor.
	InFlightPerApp, InFlight int
	// Waiting is how many runs may give up their places while they only wait for results.
	Waiting int
	// Budget is how long one run may take claims before it makes room for others.
	Budget time.Duration
	// Timeout bounds one attempt, EntryLease one claim, OwnerLease the ownership of a mailbox.
	Timeout, EntryLease, OwnerLease time.Duration
}

// startSlack is the least time between the end of an attempt and the end of its claim.
const startSlack = 2 * time.Second

// Drainer runs drains. It is safe for concurrent use. The order of calls is New, then any number of Drain,
// DispatchWake and SignalDeposit, then Stop.
type Drainer struct {
	opts     Options
	circuit  circuit.Settings
	memories *endpointMemories
	places   *places
	stop     chan struct{}

	mu       sync.Mutex
	stopped  bool
	runs     sync.WaitGroup
	timers   map[partner.ClientID]*time.Timer
	waitlist waitlist
	// depositSignals holds, for each app with a run in this process, the channel that signals a deposit.
	depositSignals map[partner.ClientID]chan struct{}
}

// New returns a Drainer.
func New(opts Options) *Drainer {
	d := &Drainer{
		opts: opts, memories: newEndpointMemories(), stop: make(chan struct{}),
		circuit: circuit.Settings{
			Failures: max(opts.BreakerFailures, 1), Cooldown: opts.Cooldown, Schedule: opts.Schedule, Timeout: opts.Timeout, Most: opts.InFlightPerApp,
		},
		timers: map[partner.ClientID]*time.Timer{}, depositSignals: map[partner.ClientID]chan struct{}{},
	}
	most := limits{inFlightPerApp: opts.InFlightPerApp, inFlight: opts.InFlight, pooled: maxPooledRuns, waiting: opts.Waiting}
	d.places = newPlaces(most, opts.Metrics, d.startWaiting)
	return d
}

// ErrStopped is returned by Drain after Stop.
var ErrStopped = errors.New("drainer is stopping")

// Drain runs one drain of an app's mailbox for a wake-up's generation. It returns nil when the mailbox is drained,
// has another owner, is off, or its circuit is open. It also returns nil as soon as the run only waits for results:
// the run then goes on without its caller, and Stop waits for it.
func (d *Drainer) Drain(ctx context.Context, app partner.ClientID, generation int64) error {
	if !d.registerRun() {
		return ErrStopped
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		cancel() // before it claims anything
	}
	unlink := context.AfterFunc(ctx, cancel)
	p := d.places.takeForWorker()
	ended := make(chan error, 1)
	go func() {
		defer d.runs.Done()
		defer cancel()
		err := d.drainApp(run, app, generation, p)
		if p.isUnattended() {
			d.logRunError(run, app, err)
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-p.left:
		unlink()
		return nil
	}
}

func (d *Drainer) registerRun() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	d.runs.Add(1)
	return true
}

// logRunError logs the error of a run whose caller has gone on.
func (d *Drainer) logRunError(ctx context.Context, app partner.ClientID, err error) {
	if err != nil {
		d.opts.Log.WarnContext(ctx, "drain failed; where no wake-up is armed, a loop arms one", "app", app, "err", err)
	}
}

func (d *Drainer) drainApp(ctx context.Context, app partner.ClientID, generation int64, p *place) error {
	defer p.freePlace()
	if d.memories.isFailing(app) && !d.places.limits.mayTryFailing(d.places.currentLoad()) {
		return nil // the wake-up stays armed, so that the sweep repeats it
	}
	life, ok, err := d.opts.Endpoints.Life(ctx, app, false)
	if err != nil || !ok { // the app is unknown
		return drainError(app, err)
	}
	token := uuid.NewString()
	t, err := d.beginAndClaim(ctx, life, token, generation)
	if errors.Is(err, mailbox.ErrGone) { // since the settings were read, the app was deleted, or deleted and made again
		now, ok, stale := d.opts.Endpoints.Life(ctx, app, true)
		if stale != nil || !ok {
			return drainError(app, stale)
		}
		if life != now {
			life = now
			t, err = d.beginAndClaim(ctx, life, token, generation)
		}
	}
	if err != nil {
		return drainError(app, err)
	}
	if t.begun.State != mailbox.Owned {
		d.forwardWake(ctx, app, t.begun.Wake)
		return nil
	}
	e, ok, err := d.opts.Endpoints.Endpoint(ctx, app, t.begun.SettingsRevision)
	if err != nil {
		e, ok, err = d.opts.Endpoints.Endpoint(ctx, app, 0)
	}
	if err != nil || !ok || e.Life != life {
		return errors.Join(err, d.releaseAndReturn(ctx, life, token, t.exchanged.Claims))
	}
	if n := t.begun.Probes; n > 0 {
		t.want = n
	}
	err = newRun(d, e, token, t.begun, p).drainUntilDone(ctx, t)
	if errors.Is(err, mailbox.ErrGone) {
		d.opts.Log.InfoContext(ctx, "drain ended: the app was deleted or made anew meanwhile", "app", app)
		return nil
	}
	return err
}

func drainError(app partner.ClientID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("drain app %s: %w", app, err)
}

// beginAndClaim takes ownership of the mailbox and the first claims.
func (d *Drainer) beginAndClaim(ctx context.Context, life mailbox.Life, token string, generation int64) (t acquisition, err error) {
	err = d.retryCall(ctx, func(call context.Context) (err error) {
		t.sent, t.want = time.Now(), d.initialClaims(ctx, life.App)
		t.begun, t.exchanged, err = d.opts.Mailbox.BeginAndClaim(call, life, token, generation, t.want)
		t.got = time.Now()
		return err
	})
	return t, err
}

// acquisition is the result of beginAndClaim: what was asked for, when, and what was returned.
type acquisition struct {
	sent, got time.Time
	want      int
	begun     mailbox.BeginResult
	exchanged mailbox.ExchangeResult
}

// initialClaims is how many claims a run has room for before it knows whether the circuit is open.
func (d *Drainer) initialClaims(ctx context.Context, app partner.ClientID) int {
	select {
	case <-d.stop:
		return 0
	case <-ctx.Done():
		return 0
	default:
	}
	pace, reserve := d.memories.initialPace(app, d.opts.InFlightPerApp, time.Now())
	return min(pace, d.appShare()) + reserve
}

// releaseAndReturn gives back the mailbox of an app that has no usable endpoint. Such a mailbox ought to be off;
// until the sweep switches it off, wake-ups repeat this call.
func (d *Drainer) releaseAndReturn(ctx context.Context, life mailbox.Life, token string, claims []mailbox.Claim) error {
	var released error
	if len(claims) > 0 {
		back := make([]mailbox.Settlement, len(claims))
		for i, c := range claims {
			back[i] = mailbox.Settlement{Claim: c, Result: mailbox.Release}
		}
		err := d.retryCall(ctx, func(call context.Context) error {
			_, err := d.opts.Mailbox.Exchange(call, life, token, 0, back)
			return err
		})
		if err != nil {
			released = fmt.Errorf("drain app %s: claims not released, they will run out: %w", life.App, err)
		}
	}
	f, err := d.returnMailbox(ctx, life, token, mailbox.Closing{Force: true})
	if err == nil {
		d.forwardWake(ctx, life.App, delayWake(f.Wake))
	}
	return errors.Join(released, err)
}

// A call that fails is repeated, because it may have been applied: a mailbox that is not given back stays unavailable
// until its owner's lease expires.
const (
	tries      = 4
	triesPause = 250 * time.Millisecond
)

// retryCall repeats a call until it succeeds, the mailbox belongs to a later life of its app, or the tries are used
// up. Each try has a deadline of its own. It goes on after ctx has ended, because results must be recorded.
func (d *Drainer) retryCall(ctx context.Context, f func(context.Context) error) (err error) {
	for try := range tries {
		if try > 0 {
			sleepFor(triesPause << try)
		}
		call, cancel := detachContext(ctx)
		err = f(call)
		cancel()
		if err == nil || errors.Is(err, mailbox.ErrGone) {
			return err
		}
	}
	return err
}

func (d *Drainer) returnMailbox(ctx context.Context, life mailbox.Life, token string, c mailbox.Closing) (f mailbox.FinishResult, err error) {
	err = d.retryCall(ctx, func(call context.Context) (err error) {
		f, err = d.opts.Mailbox.Finish(call, life, token, c)
		return err
	})
	if err != nil {
		return f, fmt.Errorf("drain app %s: mailbox not given back, its lease will run out: %w", life.App, err)
	}
	return f, nil
}

// delayWake delays a wake-up after a fault of this service. The wake-up stays armed in the mailbox meanwhile, so no
// other drainer starts earlier.
func delayWake(w mailbox.Wake) mailbox.Wake {
	w.Delay = max(w.Delay, circuit.OwnFaultDelay)
	return w
}

// forwardWake passes a wake-up on. The sweep arms one that is lost again.
func (d *Drainer) forwardWake(ctx context.Context, app partner.ClientID, w mailbox.Wake) {
	if !w.IsNone() {
		d.forwardWakeBy(ctx, app, w, d.opts.Waker.Wake)
	}
}

func (d *Drainer) forwardWakeBy(ctx context.Context, app partner.ClientID, w mailbox.Wake, by func(context.Context, partner.ClientID, mailbox.Wake) error) {
	ctx, cancel := detachContext(ctx)
	defer cancel()
	if err := by(ctx, app, w); err != nil {
		d.opts.Log.WarnContext(ctx, "wake-up not enqueued; a loop will", "app", app, "err", err)
	}
}

// DispatchWake starts a drain in this process when a wake-up is due, without the queue. It never blocks. It returns
// true when a drain has started, or is in the waitlist. It returns false when the wake-up needs a task of the queue;
// this includes a delayed wake-up, for which a timer is set here as well.
func (d *Drainer) DispatchWake(ctx context.Context, app partner.ClientID, w mailbox.Wake) bool {
	if w.IsNone() {
		return false
	}
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	if w.Delay <= 0 {
		return d.startOrEnlist(ctx, app, w.Generation)
	}
	if t := d.timers[app]; t != nil {
		t.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(w.Delay, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timers[app] == t {
			delete(d.timers, app)
		}
		if !d.stopped {
			_ = d.startOrEnlist(ctx, app, w.Generation) // if not started, the queue's task does it
		}
	})
	d.timers[app] = t
	return false
}

// SignalDeposit signals a deposit to the app's run in this process, if there is one: while a drainer owns a mailbox,
// a deposit arms no wake-up. It never blocks.
func (d *Drainer) SignalDeposit(app partner.ClientID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.depositSignals[app]; c != nil {
		select {
		case c <- struct{}{}:
		default: // already signalled
		}
	}
}

func (d *Drainer) subscribeDeposits(app partner.ClientID) chan struct{} {
	c := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.depositSignals[app] = c
	return c
}

// unsubscribeDeposits undoes subscribeDeposits, unless a later run has replaced the channel.
func (d *Drainer) unsubscribeDeposits(app partner.ClientID, c chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.depositSignals[app] == c {
		delete(d.depositSignals, app)
	}
}

// startOrEnlist runs a drain in a goroutine of its own, or puts it into the waitlist when too many runs work already.
// d.mu is held.
func (d *Drainer) startOrEnlist(ctx context.Context, app partner.ClientID, generation int64) bool {
	if d.waitlist.empty() {
		if p := d.places.tryTakeLocal(); p != nil {
			d.runInPlace(waitingRun{ctx: ctx, app: app, generation: generation}, p)
			return true
		}
	}
	return d.enlistRun(waitingRun{ctx: ctx, app: app, generation: generation, at: time.Now()})
}

// runInPlace runs a drain in a place that was taken for it. Stop waits for it.
func (d *Drainer) runInPlace(a waitingRun, p *place) {
	d.runs.Go(func() { d.logRunError(a.ctx, a.app, d.drainApp(a.ctx, a.app, a.generation, p)) })
}

// Stop ends all runs in order: they take no more claims, settle the attempts in flight and release the rest. It
// returns when all runs have ended, or ctx has.
func (d *Drainer) Stop(ctx context.Context) error {
	d.mu.Lock()
	if !d.stopped {
		d.stopped = true
		close(d.stop)
		for app, t := range d.timers {
			t.Stop()
			delete(d.timers, app)
		}
		d.passToQueue(d.waitlist.popAll())
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		d.runs.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for drains to end: %w", context.Cause(ctx))
	}
}

// appShare is how many attempts one app may have in flight now.
func (d *Drainer) appShare() int { return d.places.appShare() }

func randomFraction() float64 { return rand.Float64() } //nolint:gosec // jitter
