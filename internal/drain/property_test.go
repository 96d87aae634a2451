package drain_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// world is the real mailbox on a clock of its own, tenants that change at random, and a receiver
// that answers at random for a while.
type world struct {
	*rapid.T
	clock  *miniredis.Miniredis
	now    time.Time
	store  *mailbox.Store
	nonce  int
	recs   map[tenant.ID]*tenant.Record
	answer []int

	mu    sync.Mutex
	n     int
	last  map[tenant.ID]int64
	out   map[tenant.ID]bool
	told  map[tenant.ID][tenant.Slots]int64
	wrong string
	wake  mailbox.Wake
	off   bool
	rev   int64
}

// post is the receiver: it takes no time, and remembers what each tenant heard.
func (w *world) post(_ context.Context, m delivery.Message) delivery.Result {
	t := m.Change.Tenant
	w.mu.Lock()
	if w.out[t] {
		w.wrong = fmt.Sprintf("two posts of %s at once", t)
	}
	w.out[t] = true
	w.mu.Unlock()
	runtime.Gosched()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.out, t)
	if m.Sequence < w.last[t] {
		w.wrong = fmt.Sprintf("%s heard %d after %d", t, m.Sequence, w.last[t])
	}
	w.last[t] = m.Sequence
	w.n++
	code := 200
	if w.n <= len(w.answer) {
		code = w.answer[w.n-1]
	}
	if code == 0 {
		return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn}
	}
	r := delivery.ClassifyStatus(code)
	if r.Outcome == delivery.Delivered {
		told := w.told[t]
		told[m.Change.Type.Slot()] = m.Sequence
		w.told[t] = told
	}
	return r
}

func (w *world) Life(_ context.Context, id partner.ClientID, _ bool) (mailbox.Life, bool, error) {
	return mailbox.Life{App: id}, true, nil
}

func (w *world) Endpoint(_ context.Context, id partner.ClientID, _ int64) (drain.Endpoint, bool, error) {
	return drain.Endpoint{Life: mailbox.Life{App: id}, Revision: w.rev, Attempt: w.post}, true, nil
}

func (w *world) SwitchOff(context.Context, drain.Endpoint, delivery.Result) (int64, error) {
	w.off = true
	w.rev++
	return w.rev, nil
}

func (w *world) Wake(_ context.Context, _ partner.ClientID, wk mailbox.Wake) error {
	w.wake = wk
	return nil
}

func (w *world) Enqueue(ctx context.Context, id partner.ClientID, wk mailbox.Wake) error {
	return w.Wake(ctx, id, wk)
}

func (w *world) RecordAttempt(delivery.Attempt)                   {}
func (w *world) Observe(context.Context, drain.Observation) error { return nil }

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.clock.SetTime(w.now)
}

func (w *world) change(ctx context.Context, t tenant.ID, c tenant.ChangeType) {
	rec := w.recs[t]
	rec.Top++
	if c == tenant.Delete {
		rec.Heads = [tenant.Slots]tenant.Head{}
	}
	rec.Heads[c.Slot()] = tenant.Head{Sequence: rec.Top, Change: tenant.Change{
		ID: tenant.FormatChangeID(t, rec.Top), Tenant: t, Type: c, Sequence: rec.Top, AcceptedAt: w.now,
	}}
	w.nonce++
	d, err := w.store.Deposit(ctx, mailbox.Life{App: app}, fmt.Sprintf("n%d", w.nonce), []tenant.Record{*rec})
	if err != nil {
		w.Fatal(err)
	}
	if !d.Wake.IsNone() {
		w.wake = d.Wake
	}
}

// round follows a wake-up or, where none is armed, sweeps.
func (w *world) round(ctx context.Context, d *drain.Drainer) {
	if w.wake.IsNone() {
		w.pass(5 * time.Second)
		w.rev++
		wakes, errs := w.store.RepairWakeUps(ctx, fmt.Sprintf("s%d", w.rev), []mailbox.Switch{{Life: mailbox.Life{App: app}, Revision: w.rev, On: true}})
		if errs[0] != nil {
			w.Fatal(errs[0])
		}
		w.off = false
		if w.wake = wakes[0]; w.wake.IsNone() {
			return
		}
	}
	wk := w.wake
	w.wake = mailbox.Wake{}
	w.pass(wk.Delay)
	if err := d.Drain(ctx, app, wk.Generation); err != nil {
		w.Fatal(err)
	}
}

// Whatever the receiver answers, no tenant ever hears an older change after a newer one, and
// everybody hears the truth in the end.
func TestOrderAndTruth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		mr := miniredis.NewMiniRedis()
		if err := mr.Start(); err != nil {
			rt.Fatal(err)
		}
		defer mr.Close()
		rdb := redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1})
		defer func() { _ = rdb.Close() }()
		w := &world{
			T: rt, clock: mr, now: time.Date(2026, 11, 3, 20, 0, 0, 0, time.UTC), store: mailbox.New(rdb, keys.New(""), mailbox.Settings{}),
			recs: map[tenant.ID]*tenant.Record{}, last: map[tenant.ID]int64{}, out: map[tenant.ID]bool{}, told: map[tenant.ID][tenant.Slots]int64{},
			answer: rapid.SliceOfN(rapid.SampledFrom([]int{200, 200, 200, 400, 404, 410, 429, 500, 503, 0}), 0, 40).Draw(rt, "answers"),
		}
		w.pass(0)
		ctx := t.Context()
		ids := []tenant.ID{"a", "b", "c", "d"}
		var admit []mailbox.Admission
		for _, id := range ids {
			w.recs[id] = &tenant.Record{Tenant: id}
			admit = append(admit, mailbox.Admission{Tenant: id})
		}
		if _, err := w.store.Approve(ctx, mailbox.Life{App: app}, 0, admit); err != nil {
			rt.Fatal(err)
		}
		d := drain.New(drain.Options{
			Mailbox: w.store, Endpoints: w, Waker: w, Observer: w, Log: slog.New(slog.DiscardHandler),
			Schedule: delivery.DefaultSchedule(), Cooldown: delivery.Cooldown{Base: 5 * time.Second, Max: time.Minute}, BreakerFailures: 3,
			InFlightPerApp: rapid.IntRange(1, 8).Draw(rt, "cap"), InFlight: 512, Budget: 5 * time.Second, Timeout: 10 * time.Second,
			EntryLease: mailbox.DefaultEntryLease, OwnerLease: mailbox.DefaultOwnerLease,
		})
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			for range rapid.IntRange(0, 3).Draw(rt, "changes") {
				w.change(ctx, rapid.SampledFrom(ids).Draw(rt, "tenant"), rapid.SampledFrom(tenant.AllChangeTypes()).Draw(rt, "type"))
			}
			w.round(ctx, d)
		}
		w.settle(ctx, d)
		for id, rec := range w.recs {
			for s, h := range rec.Heads {
				if h.Sequence != 0 && w.told[id][s] != h.Sequence {
					rt.Errorf("%s: %v stands at %d, told %d", id, tenant.Slot(s), h.Sequence, w.told[id][s])
				}
			}
		}
		if w.wrong != "" {
			rt.Error(w.wrong)
		}
	})
}

// settle runs on until nothing waits.
func (w *world) settle(ctx context.Context, d *drain.Drainer) {
	for range 3000 {
		v, err := w.store.View(ctx, app)
		if err != nil {
			w.Fatal(err)
		}
		if v.Waiting == 0 {
			return
		}
		if w.wake.IsNone() {
			w.pass(time.Minute)
		}
		w.round(ctx, d)
	}
	w.Error("something waits for ever")
}
