package mailbox_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// runTask runs a queue task: on time, late, or a second time.
func (w *world) runTask() {
	gen := int64(0)
	due := slices.IndexFunc(w.tasks, func(k wakeTask) bool { return k.at <= w.now })
	switch {
	case due >= 0:
		gen = w.tasks[due].gen
		if !w.chance(5, "task runs twice") {
			w.tasks = slices.Delete(w.tasks, due, due+1)
		}
	case !w.chance(4, "stray task"):
		return
	}
	if len(w.drainers) < 3 {
		l, is := w.sees()
		if !is {
			return
		}
		d := w.drainer(l)
		if w.chance(2, "takes") {
			w.takes(d, gen, w.pick(4, "want"), w.lost())
			return
		}
		w.begin(d, gen, w.lost())
	}
}

// takes begins and claims in one call.
func (w *world) takes(d *drainer, gen int64, want int, lost bool) {
	got, x, err := w.s.BeginAndClaim(w.ctx, d.life.is(), d.token, gen, want)
	w.log("%s takes for %d: %d, %d of %d, answer lost %v", d.token, gen, got.State, len(x.Claims), want, lost)
	if !w.goesOn("take", d, err) {
		return
	}
	w.same("take", err, got, w.begun(d.token, gen))
	wanted := w.o.exchange(d.token, want, nil) // runs however the first call ended
	if got.State == mailbox.Owned {
		w.same("take", nil, x, wanted)
	}
	if lost {
		d.again = func() { w.takes(d, gen, want, false) }
		return
	}
	w.enqueue(got.Wake)
	if d.again, d.owner = nil, got.State == mailbox.Owned; !d.owner {
		w.leave(d)
	}
	w.claims(d, x.Claims)
}

// claims notes what a drainer may post.
func (w *world) claims(d *drainer, cs []mailbox.Claim) {
	for _, c := range cs {
		d.jobs = append(d.jobs, &job{claim: c, startBy: w.now + w.set.EntryLease.Milliseconds() - postTimeout - postSlack})
	}
}

// leaves hands in all results and gives the mailbox back in one call.
func (w *world) leaves(d *drainer, lost bool) {
	rs := make([]mailbox.Settlement, len(d.jobs))
	for i, j := range d.jobs {
		rs[i] = j.result
	}
	got, err := w.s.SettleAndFinish(w.ctx, d.life.is(), d.token, rs)
	w.log("%s leaves with %s: %d, answer lost %v", d.token, words(rs), got.State, lost)
	if !w.goesOn("leave", d, err) {
		return
	}
	w.o.exchange(d.token, 0, rs)
	w.same("leave", err, got, w.o.finish(d.token, mailbox.Closing{}))
	if lost {
		d.again = func() { w.leaves(d, false) }
		return
	}
	d.jobs = nil
	w.enqueue(got.Wake)
	if got.State != mailbox.More {
		w.leave(d)
	}
}

// begun tells the oracle of a begin. It notes how often the gate had been opened when the drainer took the mailbox: a
// begin may be refused, and its repeat not.
func (w *world) begun(token string, gen int64) mailbox.BeginResult {
	owner := w.o.owner
	got := w.o.begin(token, gen)
	if got.State == mailbox.Owned && owner != token {
		w.openedBefore[token] = w.opened
	}
	return got
}

func (w *world) begin(d *drainer, gen int64, lost bool) {
	got, err := w.s.Begin(w.ctx, d.life.is(), d.token, gen)
	w.log("%s begins for %d: %d, answer lost %v", d.token, gen, got.State, lost)
	if !w.goesOn("begin", d, err) {
		return
	}
	w.same("begin", err, got, w.begun(d.token, gen))
	if len(w.ghosts) < 2 && w.chance(6, "a copy stays on the wire") {
		w.ghosts = append(w.ghosts, func() {
			got, err := w.s.Begin(w.ctx, d.life.is(), d.token, gen)
			w.log("LATE COPY of %s's begin", d.token)
			if w.enter("begin", d.life, err) {
				w.same("begin", err, got, w.begun(d.token, gen)) // nobody hears of its wake-up
			}
		})
	}
	if lost {
		d.again = func() { w.begin(d, gen, false) }
		return
	}
	w.enqueue(got.Wake)
	if d.again, d.owner = nil, got.State == mailbox.Owned; !d.owner {
		w.leave(d)
	}
}

func (w *world) leave(d *drainer) {
	w.drainers = slices.DeleteFunc(w.drainers, func(e *drainer) bool { return e == d })
}

// drain lets a drainer do one thing.
func (w *world) drain() {
	if len(w.drainers) == 0 {
		w.runTask()
		return
	}
	d := w.drainers[w.pick(len(w.drainers), "drainer")]
	if w.chance(25, "crash") {
		w.log("%s crashes", d.token)
		w.leave(d)
		return
	}
	if d.again != nil {
		again := d.again
		d.again = nil
		again()
		return
	}
	busy := slices.IndexFunc(d.jobs, func(j *job) bool { return j.phase != settled })
	switch n := w.pick(10, "drainer does"); {
	case n < 5 && busy >= 0:
		w.advance(d, d.jobs[busy])
	case n < 8:
		w.exchange(d, w.pick(4, "want"), d.jobs, w.lost())
	case n == 8 && w.chance(2, "recalls"):
		got, err := w.s.RecallFailed(w.ctx, d.life.is(), d.token)
		w.log("%s recalls: %v", d.token, got)
		if w.goesOn("recall", d, err) {
			w.same("recall", err, got, w.o.owner == d.token && w.o.recall())
		}
	case n == 8:
		got, err := w.s.RenewLease(w.ctx, d.life.is(), d.token)
		w.log("%s beats: %v", d.token, got)
		if w.goesOn("beat", d, err) {
			w.same("beat", err, got, w.o.beat(d.token))
		}
	case busy < 0 && w.chance(2, "leaves"):
		w.leaves(d, w.lost())
	case busy < 0 && len(d.jobs) == 0:
		w.finish(d, w.closing(d), w.lost())
	}
}

// advance starts or ends a drainer's post.
func (w *world) advance(d *drainer, j *job) {
	c := j.claim
	if j.phase == claimed {
		if w.now >= j.startBy {
			j.phase, j.result = settled, release(c)
			return
		}
		j.phase = posting
		j.post = &post{t: c.Tenant, slot: c.Slot, seq: c.Entry.Sequence, life: d.life.birth, started: w.steps, until: w.now + postTimeout}
		w.log("%s posts %s %s %d v%d", d.token, c.Tenant, c.Slot, c.Entry.Sequence, c.Entry.Version)
		for _, p := range w.posts {
			if p.t == c.Tenant {
				w.fail("two posts of tenant %s at once", c.Tenant)
			}
		}
		w.posts = append(w.posts, j.post)
		return
	}
	switch w.pick(6, "post") {
	case 0, 1:
		w.log("%s: the post of %s fails, taken %v", d.token, c.Tenant, j.post.taken)
		j.result = failed(c, []time.Duration{0, 5 * time.Second, 20 * time.Second, time.Hour}[w.pick(4, "back-off")])
		j.result.Step, j.result.Well = w.chance(2, "climbs"), w.chance(3, "well")
	case 2: // the app takes it, the answer is still on its way
		w.take(j.post)
		return
	default:
		w.take(j.post)
		j.result = ok(c)
	}
	j.phase = settled
	w.posts = slices.DeleteFunc(w.posts, func(p *post) bool { return p == j.post })
}

func (w *world) exchange(d *drainer, want int, jobs []*job, lost bool) {
	var rs []mailbox.Settlement
	var done []*job
	for _, j := range jobs {
		if j.phase == settled {
			rs, done = append(rs, j.result), append(done, j)
		}
	}
	call := func() (mailbox.ExchangeResult, bool) {
		got, err := w.s.Exchange(w.ctx, d.life.is(), d.token, want, rs)
		if !w.enter("exchange", d.life, err) {
			return got, false
		}
		w.same("exchange", err, got, w.o.exchange(d.token, want, rs))
		return got, true
	}
	got, goesOn := call()
	if !goesOn {
		w.log("%s exchanges %s: gone", d.token, words(rs))
		w.leave(d)
		return
	}
	w.log("%s exchanges %s for %d of %d, owner %v, off %v, outdated %v, answer lost %v", d.token, words(rs), len(got.Claims), want, got.Owner, got.Off, got.Outdated, lost)
	if len(w.ghosts) < 2 && w.chance(6, "a copy stays on the wire") {
		w.ghosts = append(w.ghosts, func() {
			w.log("LATE COPY of %s's exchange of %s", d.token, words(rs))
			call()
		})
	}
	if lost {
		d.again = func() { w.exchange(d, want, done, false) }
		return
	}
	d.jobs = slices.DeleteFunc(d.jobs, func(j *job) bool { return slices.Contains(done, j) })
	w.claims(d, got.Claims)
	if !got.Owner && len(d.jobs) == 0 {
		w.leave(d)
	}
}

func words(rs []mailbox.Settlement) string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = fmt.Sprintf("%s/%s v%d %c", r.Claim.Tenant, r.Claim.Slot, r.Claim.Entry.Version, "ofr"[r.Result])
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (w *world) closing(d *drainer) mailbox.Closing {
	c := mailbox.Closing{Force: w.chance(4, "force")}
	switch w.pick(8, "closing") {
	case 4, 5, 6:
		c.Cooldown = []time.Duration{5 * time.Second, 12 * time.Second, time.Minute}[w.pick(3, "gate")]
		c.Probes = w.pick(4, "probes")
		if c.Probes > 0 && w.chance(3, "refusing") {
			c.Refusing = moment(w.now - int64(w.pick(20_000, "since")))
		}
	case 7:
		// the registry refuses where the app or its endpoint is another than the run knew
		if w.alive && d.life == w.current() && d.life.on && d.life.erev == d.erev {
			w.change(func(l *appLife) { l.on, l.erev = false, w.revision })
			c.OffRevision = w.revision
		}
	}
	return c
}

func (w *world) finish(d *drainer, c mailbox.Closing, lost bool) {
	got, err := w.s.Finish(w.ctx, d.life.is(), d.token, c)
	w.log("%s finishes %+v: %d, outdated %v, answer lost %v", d.token, c, got.State, got.Outdated, lost)
	if !w.goesOn("finish", d, err) {
		return
	}
	w.same("finish", err, got, w.o.finish(d.token, c))
	if got.State == mailbox.Done && w.openedBefore[d.token] != w.opened && c.Cooldown > 0 && !got.Outdated {
		w.fail("%s closed the gate of an endpoint that was opened after it took the mailbox", d.token)
	}
	if lost {
		d.again = func() { w.finish(d, c, false) }
		return
	}
	w.enqueue(got.Wake)
	if got.State != mailbox.More {
		w.leave(d)
	}
}

// verify compares the keys with the oracle's and checks what must always hold.
func (w *world) verify() {
	got, err := w.content()
	w.same("the keys", err, got, w.o.content())
	for t := range w.registry {
		_, due := w.o.due[t]
		_, flying := w.o.flight[t]
		waits := !w.o.vacant(t)
		switch {
		case due && flying:
			w.fail("tenant %s is due and in flight", t)
		case waits && !due && !flying:
			w.fail("tenant %s has entries and nobody will look for them", t)
		case due && !waits:
			w.fail("tenant %s is due and has no entries", t)
		}
	}
}

// content reads the six keys.
func (w *world) content() (map[string]string, error) {
	k, out := keys.New(""), map[string]string{}
	var hashes [3]*redis.MapStringStringCmd
	var sets [3]*redis.ZSliceCmd
	hashNames := [...]keys.AppKey{keys.AppTenants, keys.AppWaiting, keys.AppMailbox}
	setNames := [...]keys.AppKey{keys.AppDue, keys.AppFlight, keys.AppDismissed}
	_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
		for i, n := range hashNames {
			hashes[i] = p.HGetAll(w.ctx, k.App(testApp, n))
		}
		for i, n := range setNames {
			sets[i] = p.ZRangeWithScores(w.ctx, k.App(testApp, n), 0, -1)
		}
		return nil
	})
	for i, h := range hashes {
		for f, v := range h.Val() {
			switch f {
			case "format", "lby", "lgen", "lat", "held", "lout", "ended": // seen in answers
			default:
				out[string(hashNames[i])+" "+f] = v
			}
		}
	}
	for _, key := range w.clock.Keys() {
		birth, is := strings.CutPrefix(key, k.App(testApp, keys.AppFormer)+":")
		if !is {
			continue
		}
		m, err := w.rdb.HGetAll(w.ctx, key).Result()
		if err != nil {
			return nil, err
		}
		for t, v := range m {
			out["former "+birth+" "+t] = v
		}
	}
	for i, s := range sets {
		for _, z := range s.Val() {
			out[fmt.Sprintf("%s %s", setNames[i], z.Member)] = strconv.FormatFloat(z.Score, 'f', 0, 64)
		}
	}
	return out, err
}

// rest is how many rounds a mailbox may need to tell everything once nothing fails any more.
const rest = 60

// settleDown ends the faults, lets sweeps and tasks run, and checks that everything approved was
// told its newest truth.
func (w *world) settleDown() {
	w.log("faults end")
	w.drainers, w.ghosts, w.fanouts = nil, nil, nil
	w.pick = func(int, string) int { return 0 }
	w.calmLives()
	for round := 0; ; round++ {
		if round == rest {
			w.fail("not at rest after %d rounds: due %v, flight %v", rest, w.o.due, w.o.flight)
		}
		w.steps++
		for _, t := range worldTenants {
			if w.registry[t].owes {
				w.deposit(w.current(), w.name("f"), []tenant.Record{w.snapshot(t)}, false)
			}
		}
		w.sweepAs(w.current(), w.name("s"), false)
		w.verify()
		if len(w.o.due) == 0 && len(w.o.flight) == 0 {
			break
		}
		w.calmDrain()
		ms := int64(5_000)
		if at, _ := w.o.nearest(); at > w.now+ms {
			ms = at - w.now
		}
		w.passTime(ms)
	}
	for _, t := range worldTenants {
		w.checkTold(t)
	}
}

// calmDrain runs the tasks that are due, each to its end.
func (w *world) calmDrain() {
	for len(w.tasks) > 0 {
		k := w.tasks[0]
		w.tasks = w.tasks[1:]
		if k.at > w.now {
			continue // the sweep arms another when it comes near
		}
		d := w.drainer(w.current())
		w.begin(d, k.gen, false)
		for d.owner && slices.Contains(w.drainers, d) {
			w.exchange(d, 2, d.jobs, false)
			for _, j := range d.jobs {
				w.advance(d, j)
				j.phase, j.result = settled, ok(j.claim)
				w.take(j.post)
				w.posts = slices.DeleteFunc(w.posts, func(p *post) bool { return p == j.post })
			}
			if len(d.jobs) == 0 {
				w.finish(d, mailbox.Closing{}, false)
			}
		}
		w.verify()
	}
}

func (w *world) checkTold(t tenant.ID) {
	if _, approved := w.o.tenants[t]; !approved {
		return
	}
	a := w.hears(t)
	for s, must := range a.must {
		if a.slots[s] < must {
			w.fail("tenant %s: %s %d was never told, the last was %d", t, tenant.Slot(s), must, a.slots[s])
		}
	}
	if _, tellable := w.snapshot(t).ResyncChange(); tellable && a.again != 0 {
		w.fail("tenant %s: the status asked for in step %d was never told", t, a.again)
	}
	if d := cmp.Diff(w.registry[t].top, w.o.tenants[t].known); d != "" {
		w.fail("tenant %s: known is not the top: %s", t, d)
	}
}
