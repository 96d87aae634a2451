package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// world is everything around one mailbox: the platform and its registry, fan-outs that are late,
// doubled or lost, the queue's tasks, drainers that crash, and the app that receives. What
// happens next is picked by the test; after every step the store must stand as the oracle does
// and the promises must hold.
type world struct {
	failer
	ctx   context.Context
	pick  func(n int, what string) int
	clock *miniredis.Miniredis
	rdb   redis.UniversalClient
	s     *mailbox.Store
	o     *oracle
	set   mailbox.Settings

	now      int64
	registry map[tenant.ID]*owned
	revision int64
	lives    []*appLife // of the app; the last one is now, where it is alive
	alive    bool
	ends     []int64 // revisions of deletions that are still to be told, or told again
	opened   int     // how often somebody opened the gate
	// openedBefore is how often, per drainer, before it took the mailbox.
	openedBefore map[string]int
	fanouts      []fanout
	tasks        []wakeTask
	drainers     []*drainer
	posts        []*post
	ghosts       []func()
	approvals    []approval
	apps         map[int64]map[tenant.ID]*receiver // by birth
	highest      map[tenant.ID]int64               // what was told, in whatever life
	named        int
	steps        int
	passed       bool // this step let time pass
	trace        []string
}

// failer is what testing.T and rapid.T share.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// owned is what the registry holds of a tenant.
type owned struct {
	top   int64
	state tenant.State
	heads [tenant.Slots]tenant.Head
	owes  bool // a fan-out is owed
}

type fanout struct {
	life  *appLife
	nonce string
	recs  []tenant.Record
}

type wakeTask struct{ gen, at int64 }

// receiver is what the app of one life last heard of a tenant, and what it must hear yet.
type receiver struct {
	highest int64
	slots   [tenant.Slots]int64
	must    [tenant.Slots]int64
	again   int  // the step after which the status must be told, 0 when it was
	told    bool // it was approved once, and may be told
}

// post is one request on its way to the app.
type post struct {
	t       tenant.ID
	slot    tenant.Slot
	seq     int64
	life    int64
	started int
	until   int64
	taken   bool
}

const (
	claimed = iota
	posting
	settled
)

type job struct {
	claim   mailbox.Claim
	startBy int64
	phase   int
	post    *post
	result  mailbox.Settlement
}

type drainer struct {
	life  *appLife
	erev  int64 // of the settings it read
	token string
	jobs  []*job
	again func() // repeats the call whose answer was lost
	owner bool
}

const (
	postTimeout = 10_000
	postSlack   = 1_000
)

var worldTenants = []tenant.ID{"t1", "t2", "t3"}

func newWorld(ctx context.Context, f failer, mr *miniredis.Miniredis, rdb redis.UniversalClient, pick func(int, string) int) *world {
	mr.FlushAll()
	w := &world{
		failer: f, ctx: ctx, pick: pick, clock: mr, rdb: rdb, s: mailbox.New(rdb, keys.New(""), mailbox.Settings{}),
		now: start.UnixMilli(), registry: map[tenant.ID]*owned{}, apps: map[int64]map[tenant.ID]*receiver{}, highest: map[tenant.ID]int64{}, openedBefore: map[string]int{},
		lives: []*appLife{{on: true}}, alive: true,
	}
	mr.SetTime(start)
	w.set = w.s.Settings()
	w.o = newOracle(w.set, w.now)
	for _, t := range worldTenants {
		w.registry[t] = &owned{state: tenant.Running}
		if w.pick(3, "approved at first") == 0 {
			w.admit(approval{life: w.lives[0], t: t})
		}
	}
	return w
}

func (w *world) name(kind string) string {
	w.named++
	return kind + strconv.Itoa(w.named)
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%4d +%6dms ", w.steps, w.now-start.UnixMilli())+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.Helper()
	w.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

// same compares an answer of the store with the oracle's.
func (w *world) same(what string, err error, got, want any) {
	w.Helper()
	if err != nil {
		w.fail("%s: %v", what, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		w.fail("%s answers otherwise than the rules (-want +got):\n%s", what, d)
	}
}

// chance is true once in n.
func (w *world) chance(n int, what string) bool { return w.pick(n, what) == n-1 }

func (w *world) enqueue(k mailbox.Wake) {
	if !k.IsNone() {
		w.tasks = append(w.tasks, wakeTask{k.Generation, w.now + k.Delay.Milliseconds()})
	}
}

// lost decides whether the caller hears the answer.
func (w *world) lost() bool { return w.chance(6, "answer lost") }

// step lets one thing happen and checks the promises.
func (w *world) step() {
	w.steps++
	w.passed = false
	wakes := w.o.wakeHolds()
	actions := []struct {
		weight int
		do     func()
	}{
		{4, w.accept},
		{1, w.setSilently},
		{3, w.readSnapshot},
		{5, w.depositOne},
		{5, w.runTask},
		{24, w.drain},
		{2, w.sweep},
		{2, w.approve},
		{1, w.again},
		{1, w.dismiss},
		{1, w.turn},
		{2, w.open},
		{5, w.tick},
		{1, w.ghost},
		{1, w.dropTask},
		{1, w.changeLife},
		{1, w.clear},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.pick(total, "action")
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do()
			break
		}
	}
	w.verify()
	if wakes && !w.passed && !w.o.wakeHolds() { // time alone may break it
		w.fail("a script left work without a wake-up")
	}
}

func (w *world) tenant() tenant.ID { return worldTenants[w.pick(len(worldTenants), "tenant")] }

func (w *world) accept() {
	t := w.tenant()
	r := w.registry[t]
	ct := tenant.AllChangeTypes()[w.pick(6, "change")]
	r.top, r.owes = max(r.top+1, w.now), true
	c := change(t, r.top, ct)
	rec := &w.hears(t).must
	_, approved := w.o.tenants[t]
	if ct == tenant.Delete {
		r.heads, *rec = [tenant.Slots]tenant.Head{}, [tenant.Slots]int64{}
	}
	r.heads[ct.Slot()] = tenant.Head{Sequence: c.Sequence, Change: c}
	if st, changes := ct.ResultingState(); changes {
		r.state = st
	}
	if approved {
		rec[ct.Slot()] = c.Sequence
	}
	w.log("accept %s %s %d", t, ct, c.Sequence)
}

// setSilently sets a state as PUT status does. Fan-outs that read the record before are over: they could
// answer a telling asked for later with what they read.
func (w *world) setSilently() {
	t := w.tenant()
	if _, told := w.snapshot(t).ResyncChange(); !told {
		w.hears(t).again = 0 // it was asked for in vain
	}
	w.fanouts = nil
	w.registry[t].state = tenant.AllStates()[w.pick(len(tenant.AllStates()), "state")]
	w.log("set %s %s silently", t, w.registry[t].state)
}

func (w *world) snapshot(t tenant.ID) tenant.Record {
	r := w.registry[t]
	return tenant.NewRecord(tenant.Status{Tenant: t, State: r.state, VersionName: "10.3"}, r.top, r.heads)
}

func (w *world) readSnapshot() {
	l, is := w.sees()
	if !is {
		return
	}
	if len(w.fanouts) >= 5 {
		w.fanouts = w.fanouts[1:]
	}
	ts := []tenant.ID{w.tenant()}
	if w.chance(3, "two tenants") {
		if t := w.tenant(); t != ts[0] {
			ts = append(ts, t)
		}
	}
	f := fanout{life: l, nonce: w.name("f")}
	for _, t := range ts {
		f.recs = append(f.recs, w.snapshot(t))
	}
	w.fanouts = append(w.fanouts, f)
	w.log("fan-out %s reads %v for life %d", f.nonce, ts, l.birth)
}

// depositOne deposits a snapshot: the newest or an older one, half of it, again, or with the answer lost.
func (w *world) depositOne() {
	if len(w.fanouts) == 0 {
		w.readSnapshot()
	}
	if len(w.fanouts) == 0 {
		return
	}
	i := w.pick(len(w.fanouts), "fan-out")
	f := w.fanouts[i]
	recs, how := f.recs, w.pick(6, "deposit")
	if how == 5 {
		recs = recs[:1]
	}
	lost := w.lost()
	w.log("fan-out %s deposits %d, answer lost %v", f.nonce, len(recs), lost)
	w.deposit(f.life, f.nonce, recs, lost)
	switch how {
	case 3: // stays and is repeated later
	case 4: // a repeat under another name
		w.fanouts[i].nonce = w.name("f")
	default:
		if !lost {
			w.fanouts = slices.Delete(w.fanouts, i, i+1)
		}
	}
}

func (w *world) deposit(l *appLife, nonce string, recs []tenant.Record, lost bool) {
	got, err := w.s.Deposit(w.ctx, l.is(), nonce, recs)
	if !w.enter("deposit", l, err) {
		return
	}
	w.same("deposit", err, got, w.o.deposit(nonce, recs))
	if lost {
		return
	}
	w.enqueue(got.Wake)
	for _, r := range recs {
		if w.registry[r.Tenant].top == r.Top {
			w.registry[r.Tenant].owes = false
		}
	}
}

func (w *world) sweep() {
	l, is := w.sees()
	if !is {
		return
	}
	nonce, lost := w.name("s"), w.lost()
	for range 1 + w.pick(2, "sweep again") {
		w.log("sweep %s, answer lost %v", nonce, lost)
		w.sweepAs(l, nonce, lost)
	}
}

func (w *world) sweepAs(l *appLife, nonce string, lost bool) {
	sw := l.set()
	got, errs := w.s.RepairWakeUps(w.ctx, nonce, []mailbox.Switch{sw})
	if !w.enter("sweep", l, errs[0]) {
		return
	}
	w.same("sweep", errs[0], got[0], w.o.turn(nonce, sw, true))
	if !w.o.wakeHolds() {
		w.fail("a sweep left work without a wake-up")
	}
	if !lost {
		w.enqueue(got[0])
	}
}

// approval has read the dismissals and a top, and admits later.
type approval struct {
	life       *appLife
	t          tenant.ID
	since, top int64
}

// approve reads the dismissals and a top, or admits with what was read before. Between reading and
// admitting anything may happen.
func (w *world) approve() {
	if len(w.approvals) == 0 || len(w.approvals) < 3 && w.chance(2, "another approval") {
		l, is := w.sees()
		if !is {
			return
		}
		t := w.tenant()
		since, err := w.s.Dismissals(w.ctx, testApp)
		w.same("dismissals", err, since, w.o.dismissals)
		w.approvals = append(w.approvals, approval{l, t, since, w.registry[t].top})
		w.log("approve %s reads top %d after %d dismissals", t, w.registry[t].top, since)
		return
	}
	i := w.pick(len(w.approvals), "approval")
	a := w.approvals[i]
	w.approvals = slices.Delete(w.approvals, i, i+1)
	w.admit(a)
}

func (w *world) admit(a approval) {
	got, err := w.s.Approve(w.ctx, a.life.is(), a.since, []mailbox.Admission{{Tenant: a.t, Top: a.top}})
	stale := errors.Is(err, mailbox.ErrDismissed)
	if stale {
		err = nil
	}
	if !w.enter("approve", a.life, err) {
		return
	}
	_, was := w.o.tenants[a.t]
	want, refused := w.o.approve(a.t, a.top, a.since)
	w.log("approve %s at %d in life %d, stale %v", a.t, a.top, a.life.birth, stale)
	w.same("approve", nil, stale, refused)
	if stale {
		return
	}
	w.same("approve", nil, got, want)
	r := w.hears(a.t)
	r.told = true
	if !was {
		r.must, r.again = [tenant.Slots]int64{}, w.steps
	}
	w.registry[a.t].owes = true
}

func (w *world) again() {
	l, is := w.sees()
	if !is {
		return
	}
	t := w.tenant()
	w.log("tell %s again in life %d", t, l.birth)
	got, err := w.s.RequestResync(w.ctx, l.is(), []mailbox.Admission{{Tenant: t, Top: w.registry[t].top}})
	if !w.enter("again", l, err) {
		return
	}
	w.same("again", err, got, w.o.again(t))
	if got == 1 {
		w.hears(t).again, w.registry[t].owes = w.steps, true
	}
}

func (w *world) dismiss() {
	l, is := w.sees()
	if !is {
		return
	}
	t := w.tenant()
	w.log("dismiss %s in life %d", t, l.birth)
	got, err := w.s.Dismiss(w.ctx, l.is(), []tenant.ID{t})
	if !w.enter("dismiss", l, err) {
		return
	}
	w.same("dismiss", err, got, w.o.dismiss(t))
	r := w.hears(t)
	r.must, r.again = [tenant.Slots]int64{}, 0 // it keeps what it heard
}

func (w *world) dropTask() {
	if len(w.tasks) > 0 {
		i := w.pick(len(w.tasks), "task")
		w.log("the task of generation %d is lost", w.tasks[i].gen)
		w.tasks = slices.Delete(w.tasks, i, i+1)
	}
}

// ghost lets a late copy of an exchange arrive.
func (w *world) ghost() {
	if len(w.ghosts) > 0 {
		g := w.ghosts[0]
		w.ghosts = w.ghosts[1:]
		g()
	}
}

func (w *world) tick() {
	w.log("time passes")
	w.passed = true
	w.passTime([]int64{1, 40, 900, 2_000, 5_000, 9_000, 15_000, 30_000, 70_000}[w.pick(9, "time")])
}

// passTime moves the clock, but never past a post's deadline while the post is out.
func (w *world) passTime(ms int64) {
	for end := w.now + ms; w.now < end; {
		next := end
		for _, p := range w.posts {
			next = min(next, p.until)
		}
		w.now = max(next, w.now)
		w.o.now = w.now
		w.clock.SetTime(time.UnixMilli(w.now))
		for _, p := range slices.Clone(w.posts) {
			if p.until <= w.now {
				w.endPost(p, w.chance(2, "reaches the app"))
			}
		}
	}
}

// endPost ends a post at its deadline: nobody will know whether the app took it.
func (w *world) endPost(p *post, take bool) {
	if take {
		w.take(p)
	}
	w.posts = slices.DeleteFunc(w.posts, func(q *post) bool { return q == p })
	for _, d := range w.drainers {
		for _, j := range d.jobs {
			if j.post == p && j.phase == posting {
				j.phase, j.result = settled, failed(j.claim, 0)
			}
		}
	}
}

// take is the app taking a post. Its promise: a tenant's sequences never go backwards.
func (w *world) take(p *post) {
	if p.taken {
		return
	}
	p.taken = true
	a := w.receiver(p.life, p.t)
	w.log("  the app of life %d takes %s %s %d", p.life, p.t, p.slot, p.seq)
	if !a.told {
		w.fail("tenant %s: the app of life %d was told, which nobody approved for it", p.t, p.life)
	}
	if p.seq < a.highest {
		w.fail("tenant %s: the app took %d after %d", p.t, p.seq, a.highest)
	}
	if p.seq < w.highest[p.t] { // the next life may have the same address
		w.fail("tenant %s: the app of life %d took %d, a former one took %d", p.t, p.life, p.seq, w.highest[p.t])
	}
	a.highest, w.highest[p.t] = p.seq, p.seq
	a.slots[p.slot] = p.seq
	if p.slot == tenant.SlotStatus && p.started > a.again {
		a.again = 0
	}
}
