package drain_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const app partner.ClientID = "app1"

// post is one request as the receiver saw it.
type post struct {
	at     time.Time
	tenant tenant.ID
	seq    int64
}

// rig is a drainer in a synctest bubble with a scripted receiver.
type rig struct {
	*testing.T
	box  *box
	opts drain.Options
	d    *drain.Drainer
	reg  *prometheus.Registry

	mu sync.Mutex
	// answer decides about the nth post (from 1); latency is how long it takes.
	answer  func(n int, m delivery.Message) delivery.Result
	latency func(m delivery.Message) time.Duration
	posts   []post
	flying  map[tenant.ID]bool
	most    int
	overlap bool

	wakes []mailbox.Wake
	// tasks are the apps whose wake-ups the drainer passed on to the queue.
	tasks    []partner.ClientID
	wakeErr  error
	attempts []delivery.Attempt
	seen     []drain.Observation
	missing  bool
	lookup   error
	// lookups are what the first lookups fail with.
	lookups   []error
	switchErr error
	offs      []int64
	revision  int64
	// births is the app's birth in the settings, birth that of the settings that were read last.
	births, birth int64
	deleted       bool
}

// registryRevision is what the app's settings bear in these tests.
const registryRevision int64 = 7

// bubble runs f with a drainer; every goroutine must have ended when it returns.
func bubble(t *testing.T, f func(r *rig), change ...func(o *drain.Options)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			T: t, box: newBox(), flying: map[tenant.ID]bool{}, revision: registryRevision, reg: prometheus.NewPedanticRegistry(),
			answer:  func(int, delivery.Message) delivery.Result { return delivery.ClassifyStatus(200) },
			latency: func(delivery.Message) time.Duration { return 10 * time.Millisecond },
		}
		o := drain.Options{
			Mailbox: r.box, Endpoints: r, Waker: r, Observer: r, Metrics: drain.NewMetrics(r.reg), Log: slog.New(slog.DiscardHandler),
			Schedule: delivery.DefaultSchedule(), Cooldown: delivery.Cooldown{Base: 5 * time.Second, Max: time.Minute}, BreakerFailures: 5,
			InFlightPerApp: 32, InFlight: 512, Waiting: 5000, Budget: 5 * time.Second, Timeout: 10 * time.Second,
			EntryLease: entryLease, OwnerLease: ownerLease,
		}
		for _, c := range change {
			c(&o)
		}
		r.opts, r.d = o, drain.New(o)
		r.d.Answered(drain.Endpoint{Life: mailbox.Life{App: app}, Revision: registryRevision}) // as after a minute's work
		f(r)
		if r.overlap {
			t.Error("two posts of one tenant overlapped")
		}
	})
}

func (r *rig) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// posted is how many posts there were.
func (r *rig) posted() (n int) {
	r.locked(func() { n = len(r.posts) })
	return n
}

// pass lets time pass in the bubble.
func pass(d time.Duration) { <-time.After(d) }

// post is the receiver.
func (r *rig) post(ctx context.Context, m delivery.Message) delivery.Result {
	var n int
	r.locked(func() {
		r.posts = append(r.posts, post{time.Now(), m.Change.Tenant, m.Sequence})
		n = len(r.posts)
		r.overlap = r.overlap || r.flying[m.Change.Tenant]
		r.flying[m.Change.Tenant] = true
		r.most = max(r.most, len(r.flying))
	})
	defer r.locked(func() { delete(r.flying, m.Change.Tenant) })
	start := time.Now()
	select {
	case <-time.After(r.latency(m)):
	case <-ctx.Done():
		return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn}
	}
	res := r.answer(n, m)
	res.Duration = time.Since(start)
	return res
}

// Life implements drain.Endpoints.
func (r *rig) Life(_ context.Context, id partner.ClientID, anew bool) (mailbox.Life, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if anew {
		r.birth = r.births
	}
	return mailbox.Life{App: id, Birth: r.birth}, !r.deleted, nil
}

// Endpoint implements drain.Endpoints.
func (r *rig) Endpoint(_ context.Context, id partner.ClientID, _ int64) (drain.Endpoint, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.lookup
	if len(r.lookups) > 0 {
		err, r.lookups = r.lookups[0], r.lookups[1:]
	}
	return drain.Endpoint{Life: mailbox.Life{App: id, Birth: r.births}, Revision: r.revision, Attempt: r.post}, !r.missing && err == nil, err
}

// SwitchOff implements drain.Endpoints.
func (r *rig) SwitchOff(_ context.Context, e drain.Endpoint, answer delivery.Result) (int64, error) {
	r.offs = append(r.offs, e.Revision)
	if answer.Outcome != delivery.Gone {
		r.Errorf("switched off because of %+v", answer)
	}
	if r.switchErr != nil {
		return 0, r.switchErr
	}
	return e.Revision + 1, nil
}

// Wake implements drain.Waker.
func (r *rig) Wake(_ context.Context, _ partner.ClientID, w mailbox.Wake) error {
	r.locked(func() { r.wakes = append(r.wakes, w) })
	return r.wakeErr
}

// Enqueue implements drain.Waker.
func (r *rig) Enqueue(_ context.Context, id partner.ClientID, w mailbox.Wake) error {
	r.locked(func() { r.tasks = append(r.tasks, id) })
	return r.wakeErr
}

// RecordAttempt implements drain.Observer.
func (r *rig) RecordAttempt(a delivery.Attempt) {
	r.locked(func() { r.attempts = append(r.attempts, a) })
}

// Observe implements drain.Observer.
func (r *rig) Observe(_ context.Context, o drain.Observation) error {
	r.locked(func() { r.seen = append(r.seen, o) })
	return nil
}

// wake takes the last wake-up, which must be the only one since the last.
func (r *rig) wake() mailbox.Wake {
	r.Helper()
	if len(r.wakes) != 1 {
		r.Fatalf("%d wake-ups, want one: %v", len(r.wakes), r.wakes)
	}
	w := r.wakes[0]
	r.wakes = nil
	return w
}

// drain drains until the run ends, also when it only waits.
func (r *rig) drain(ctx context.Context, id partner.ClientID, generation int64) error {
	err := r.d.Drain(ctx, id, generation)
	r.d.Wait()
	return err
}

// run drains once, as the first wake-up or a sweep's would.
func (r *rig) run() {
	r.Helper()
	if err := r.drain(r.Context(), app, r.box.sweep().Generation); err != nil {
		r.Fatal(err)
	}
}

// next waits for the wake-up that the last run asked for and follows it.
func (r *rig) next() mailbox.Wake {
	r.Helper()
	w := r.wake()
	pass(w.Delay)
	if err := r.drain(r.Context(), app, w.Generation); err != nil {
		r.Fatal(err)
	}
	return w
}

// follow follows wake-ups until there is none, and sweeps when there is none although something waits.
func (r *rig) follow() {
	r.Helper()
	for range 10_000 {
		if len(r.wakes) > 0 {
			r.next()
			continue
		}
		if r.box.waiting() == 0 {
			return
		}
		pass(5 * time.Second)
		if w := r.box.sweep(); !w.IsNone() {
			r.wakes = append(r.wakes, w)
		}
	}
	r.Fatalf("still waiting: %d entries", r.box.waiting())
}

// expect fails the test unless the numbers of posts and of waiting entries are these.
func (r *rig) expect(posts, waiting int) {
	r.Helper()
	synctest.Wait()
	var n int
	r.locked(func() { n = len(r.posts) })
	if k := r.box.waiting(); n != posts || k != waiting {
		r.Errorf("%d posts and %d waiting, want %d and %d", n, k, posts, waiting)
	}
}

// free fails the test unless the mailbox has no owner.
func (r *rig) free() {
	r.Helper()
	if r.box.owner != "" {
		r.Error("the mailbox was not given back")
	}
}

// value reads a counter, or the count of a histogram; labels are values in the order of their names.
func (r *rig) value(name, labels string) float64 {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if f.GetName() == name && strings.Join(have, ",") == labels {
				return m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	r.Errorf("no series %s with %q", name, labels)
	return 0
}

func only(codes ...int) func(int, delivery.Message) delivery.Result {
	return func(n int, _ delivery.Message) delivery.Result {
		return delivery.ClassifyStatus(codes[min(n, len(codes))-1])
	}
}
