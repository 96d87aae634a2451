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

// Mailbox is the record of work.
type Mailbox interface {
	// BeginAndClaim begins and claims, Leave hands in results and gives back what nothing is due in: most runs
	// need no other call.
	BeginAndClaim(ctx context.Context, life mailbox.Life, token string, generation int64, want int) (mailbox.BeginResult, mailbox.ExchangeResult, error)
	SettleAndFinish(ctx context.Context, life mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error)
	Exchange(ctx context.Context, life mailbox.Life, token string, want int, results []mailbox.Settlement) (mailbox.ExchangeResult, error)
	Finish(ctx context.Context, life mailbox.Life, token string, c mailbox.Closing) (mailbox.FinishResult, error)
	// RecallFailed makes a page due of what failed while the endpoint was not well.
	RecallFailed(ctx context.Context, life mailbox.Life, token string) (more bool, err error)
}

// AttemptFunc makes one attempt; it must return within the request timeout.
type AttemptFunc func(ctx context.Context, m delivery.Message) delivery.Result

// Endpoints finds how an app is reached.
type Endpoints interface {
	// Life names the life of an app that the settings, as they were read last, are of; ok is false where
	// they know no such app. It reads them anew first where anew says so, or they do not know the app.
	Life(ctx context.Context, app partner.ClientID, anew bool) (life mailbox.Life, ok bool, err error)
	// Endpoint returns how to post to an app, by settings that are read now, or are of the given
	// revision; ok is false when the app is unknown or has no URL.
	Endpoint(ctx context.Context, app partner.ClientID, revision int64) (e Endpoint, ok bool, err error)
	// SwitchOff switches the endpoint off because of an answer that says it is gone, unless its URL or
	// switch changed since. It returns the registry revision of the switch-off.
	SwitchOff(ctx context.Context, e Endpoint, answer delivery.Result) (int64, error)
}

// Endpoint is where an app's state changes are posted to.
type Endpoint struct {
	Life mailbox.Life
	// Revision is that of the settings at which the URL or the switch last changed.
	Revision int64
	Attempt  AttemptFunc
}

// isSameEndpoint reports whether posts to both say something of one endpoint. A secret may differ.
func (e Endpoint) isSameEndpoint(o Endpoint) bool {
	return e.Life == o.Life && e.Revision == o.Revision
}

// Waker turns a mailbox's wake-up into a drain, here or by a task.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
	// Enqueue makes it a task, for whatever process has a worker free.
	Enqueue(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Observer learns what attempts say about an endpoint and its notifications.
type Observer interface {
	// RecordAttempt is told every attempt; it must not block.
	RecordAttempt(a delivery.Attempt)
	// Observe is told once per run what a failing or recovering endpoint did.
	Observe(ctx context.Context, o Observation) error
}

// Observation sums up a run for those who tell people.
type Observation struct {
	App partner.ClientID
	At  time.Time
	// Failure is the last fault of the endpoint in the run, nil when there was none after the
	// last success, and when the run did not close the gate: whoever owns the mailbox sees for
	// itself.
	Failure *delivery.Result
	// Succeeded: the endpoint took a notification after its last fault.
	Succeeded bool
	// Rejected are notifications that failed by their own fault: refused by an endpoint that is
	// well, or failing while others get through; the Outcome of each is delivery.Rejected.
	// Accepted are those that it took after they had failed so.
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
	// Schedule is the retry schedule of notifications, Gate the cool-down of endpoints.
	Schedule delivery.Schedule
	Cooldown delivery.Cooldown
	// BreakerFailures in a row open the circuit of an endpoint that takes others.
	BreakerFailures int
	// InFlightPerApp caps the posts of one app, InFlight those of the process; the latter is a
	// target shared among the apps that drain, each of which gets at least circuit.Floor.
	InFlightPerApp, InFlight int
	// Waiting is how many runs may give their places to others while they only wait for posts that are out.
	Waiting int
	// Budget is how long one run may claim before it makes room.
	Budget time.Duration
	// Timeout bounds one post, EntryLease one claim, OwnerLease the ownership.
	Timeout, EntryLease, OwnerLease time.Duration
}

// startSlack keeps a post from ending close to its claim's end.
const startSlack = 2 * time.Second

// Drainer runs drains. It is safe for concurrent use; New, then any number of Drain and Nudge,
// then Stop.
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
	// depositSignals tells a run in this process that its mailbox got something.
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

// ErrStopped reports a drain asked for after Stop.
var ErrStopped = errors.New("drainer is stopping")

// Drain runs one drain of an app's mailbox for a wake-up's generation. It returns nil when the
// mailbox was drained, belongs to another, is off or gated; and as soon as the run only waits for posts
// that are out: then it goes on without its caller, and Stop waits for it.
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

// logRunError logs the error of a run that nobody waits for.
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
	if err != nil || !ok { // nobody is to be told
		return drainError(app, err)
	}
	token := uuid.NewString()
	t, err := d.beginAndClaim(ctx, life, token, generation)
	if errors.Is(err, mailbox.ErrGone) { // the app was made anew since its settings were read, or deleted
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

// beginAndClaim begins and claims.
func (d *Drainer) beginAndClaim(ctx context.Context, life mailbox.Life, token string, generation int64) (t acquisition, err error) {
	err = d.retryCall(ctx, func(call context.Context) (err error) {
		t.sent, t.want = time.Now(), d.initialClaims(ctx, life.App)
		t.begun, t.exchanged, err = d.opts.Mailbox.BeginAndClaim(call, life, token, generation, t.want)
		t.got = time.Now()
		return err
	})
	return t, err
}

// acquisition is how a mailbox was taken: what was asked for, when, and what came.
type acquisition struct {
	sent, got time.Time
	want      int
	begun     mailbox.BeginResult
	exchanged mailbox.ExchangeResult
}

// initialClaims is how many claims a run has room for before it knows the endpoint's gate.
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

// releaseAndReturn gives back the mailbox of an app that cannot be posted to. Without an endpoint it ought to be
// off; until the sweep says so, it is looked at again and again.
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

// Calls that fail are repeated, since each may have been applied: a mailbox that is left alone
// stays so until its owner's lease runs out.
const (
	tries      = 4
	triesPause = 250 * time.Millisecond
)

// retryCall makes a call until it succeeds, or the mailbox belongs to a later life of its app. Each try has its own deadline and goes on although ctx
// has ended: what it records is a fact.
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

// delayWake puts a wake-up off after an own fault. It stays armed in the mailbox meanwhile, so that
// nobody else wakes a drainer either.
func delayWake(w mailbox.Wake) mailbox.Wake {
	w.Delay = max(w.Delay, circuit.OwnFaultDelay)
	return w
}

// forwardWake hands a wake-up on; one that is lost is armed again by the sweep.
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

// DispatchWake starts a drain in this process when a wake-up is due, without waiting for the queue. It
// never blocks. It reports whether it started one, or will soon, or pass the wake-up on: else,
// also when a drain here will follow later, the wake-up needs a task in the queue.
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
			_ = d.startOrEnlist(ctx, app, w.Generation) // else the queue's task comes
		}
	})
	d.timers[app] = t
	return false
}

// SignalDeposit tells the drain of an app that goes on in this process, if any, that something was deposited:
// while a drainer owns a mailbox, a deposit arms no wake-up. It never blocks.
func (d *Drainer) SignalDeposit(app partner.ClientID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.depositSignals[app]; c != nil {
		select {
		case c <- struct{}{}:
		default: // told already
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

// unsubscribeDeposits ends what stirrable began, unless a later run took its place.
func (d *Drainer) unsubscribeDeposits(app partner.ClientID, c chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.depositSignals[app] == c {
		delete(d.depositSignals, app)
	}
}

// startOrEnlist runs a drain in a goroutine of its own, or puts it in line where too many work already; d.mu is
// held.
func (d *Drainer) startOrEnlist(ctx context.Context, app partner.ClientID, generation int64) bool {
	if d.waitlist.empty() {
		if p := d.places.tryTakeLocal(); p != nil {
			d.runInPlace(waitingRun{ctx: ctx, app: app, generation: generation}, p)
			return true
		}
	}
	return d.enlistRun(waitingRun{ctx: ctx, app: app, generation: generation, at: time.Now()})
}

// runInPlace runs a drain in a place that was taken for it; Stop waits for it.
func (d *Drainer) runInPlace(a waitingRun, p *place) {
	d.runs.Go(func() { d.logRunError(a.ctx, a.app, d.drainApp(a.ctx, a.app, a.generation, p)) })
}

// Stop ends runs softly: they claim nothing more, settle what is out and hand the rest over. It
// returns when all have ended or ctx has.
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

// appShare is how many posts one app may have in flight now.
func (d *Drainer) appShare() int { return d.places.appShare() }

func randomFraction() float64 { return rand.Float64() } //nolint:gosec // jitter
