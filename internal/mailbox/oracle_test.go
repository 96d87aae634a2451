package mailbox_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// oracle is the mailbox's rules in plain Go: what one app's six keys must hold, and what each
// call must answer. It knows nothing of Redis. Times are milliseconds.
type oracle struct {
	set        mailbox.Settings
	now        int64
	tenants    map[tenant.ID]mark
	waiting    map[tenant.ID]*[tenant.Slots]*note
	due        map[tenant.ID]int64
	flight     map[tenant.ID]int64
	version    int64
	superseded int64
	stamp      int64
	gen        int64
	w, f, last alarm
	lastBy     string
	owner      string
	ownedUntil int64
	gated      bool
	gate       int64
	openings   int
	counted    bool  // openings stand in the mailbox
	probes     int64 // -1 unknown
	refusing   int64 // 0 not
	recalls    *span
	off        int64 // revision, 0 on
	revision   int64
	held       int64
	dismissals int64
	dismissed  map[tenant.ID]int64 // the count that each one's last dismissal brought about
	birth      int64
	former     map[int64]map[tenant.ID]mark
	formerly   []int64 // its keys in their order
	epoch      int64
	oepoch     int64 // -1 when nobody began in this life
	erev       int64 // -1 unknown
	outdated   string
}

// span is what is to be recalled: what failed last from then until then; behind score nothing was looked at.
type span struct{ from, till, score int64 }

type mark struct {
	known int64
	again bool
}

func (m mark) text() string {
	again := ""
	if m.again {
		again = "*"
	}
	return strconv.FormatInt(m.known, 10) + again
}

// alarm is a wake-up slot.
type alarm struct{ gen, at, exp int64 }

// note is a waiting entry.
type note struct {
	seq, version, superseded, since int64
	attempts, steps                 int
	reason                          delivery.Reason
	failedAt                        int64
	change                          string
}

func newOracle(set mailbox.Settings, now int64) *oracle {
	return &oracle{
		set: set, now: now, tenants: map[tenant.ID]mark{}, waiting: map[tenant.ID]*[tenant.Slots]*note{},
		due: map[tenant.ID]int64{}, flight: map[tenant.ID]int64{}, former: map[int64]map[tenant.ID]mark{}, oepoch: -1, erev: -1, probes: -1,
	}
}

func (o *oracle) entries(t tenant.ID) *[tenant.Slots]*note {
	if o.waiting[t] == nil {
		o.waiting[t] = &[tenant.Slots]*note{}
	}
	return o.waiting[t]
}

func (o *oracle) vacant(t tenant.ID) bool { return *o.entries(t) == [tenant.Slots]*note{} }

// nearest is when something in the mailbox needs a drainer, false when nothing does.
func (o *oracle) nearest() (int64, bool) {
	at, some := int64(0), false
	for _, set := range []map[tenant.ID]int64{o.due, o.flight} {
		for _, s := range set {
			if !some || s < at {
				at, some = s, true
			}
		}
	}
	return max(at, o.now, o.gate), some
}

func (a alarm) covers(now, at int64) bool { return a.exp > now && a.at <= at }

func (o *oracle) wake(by string) mailbox.Wake {
	none := mailbox.Wake{}
	if o.lastBy == by && by != "" {
		for _, a := range []alarm{o.w, o.f} {
			if a.exp > o.now && a.gen == o.last.gen {
				none = mailbox.Wake{Generation: a.gen, Delay: millis(max(0, o.last.at-o.now))}
			}
		}
	}
	at, some := o.nearest()
	switch {
	case o.off != 0, o.ownedUntil > o.now, !some, at > o.now+o.set.Horizon.Milliseconds():
		return none
	case o.w.covers(o.now, at), o.f.covers(o.now, at):
		return none
	}
	if o.gen == 0 {
		o.gen = o.now
	} else {
		o.gen++
	}
	a := alarm{o.gen, at, at + o.set.Grace.Milliseconds()}
	if at <= o.now {
		o.w = a
	} else {
		o.f = a
	}
	o.lastBy, o.last = by, a
	return mailbox.Wake{Generation: a.gen, Delay: millis(at - o.now)}
}

// wakeHolds is the wake-up invariant: something waits, so the endpoint is off, or somebody owns
// the mailbox, or a wake-up is armed in time, or it is too far ahead to be armed.
func (o *oracle) wakeHolds() bool {
	at, _ := o.nearest()
	return o.empty() || o.off != 0 || o.ownedUntil > o.now || at > o.now+o.set.Horizon.Milliseconds() ||
		o.w.covers(o.now, at) || o.f.covers(o.now, at)
}

func (o *oracle) deposit(nonce string, recs []tenant.Record) mailbox.DepositResult {
	var d mailbox.DepositResult
	for _, r := range recs {
		m, approved := o.tenants[r.Tenant]
		if !approved || r.Top < m.known || r.Top == m.known && !m.again {
			continue
		}
		wrote := o.fold(nonce, r, m, &d)
		o.tenants[r.Tenant] = mark{known: r.Top}
		_, flying := o.flight[r.Tenant]
		if o.vacant(r.Tenant) {
			delete(o.due, r.Tenant)
		} else if at, is := o.due[r.Tenant]; wrote && !flying && (!is || at > o.now) {
			o.due[r.Tenant] = o.now
		}
	}
	d.Wake = o.wake(nonce)
	return d
}

func (o *oracle) fold(nonce string, r tenant.Record, m mark, d *mailbox.DepositResult) (wrote bool) {
	have := o.entries(r.Tenant)
	for s, h := range r.Heads {
		if h.Sequence == 0 {
			have[s] = nil
			continue
		}
		told, asked := h.Sequence <= m.known, m.again && tenant.Slot(s) == tenant.SlotStatus
		if asked {
			c, says := r.ResyncChange()
			if says && r.Unreported != nil {
				told, h.Change = true, c
			}
			asked = says
		}
		if told && !asked {
			continue
		}
		o.version = max(o.version, o.now*1000) + 1
		n := &note{seq: h.Sequence, version: o.version, since: o.now, change: delivery.EncodeChange(h.Change)}
		if told {
			n.seq, n.change = r.Top, "r"+nonce+";"+n.change
		}
		if old := have[s]; old != nil {
			n.superseded, n.since = old.superseded+1, old.since
			d.Replaced++
			o.superseded++
		}
		have[s], wrote = n, true
		d.Written++
	}
	return wrote
}

// approve tells how many await a telling, or that an approval was taken back since.
func (o *oracle) approve(t tenant.ID, top, since int64) (n int, stale bool) {
	m, is := o.tenants[t]
	if !is {
		if o.overtaken(t, since) {
			return 0, true
		}
		m = mark{top, true}
		o.tenants[t] = m
	}
	return btoi(m.again), false
}

func (o *oracle) again(t tenant.ID) int {
	m, is := o.tenants[t]
	if is {
		o.tenants[t] = mark{m.known, true}
	}
	return btoi(is)
}

func (o *oracle) dismiss(t tenant.ID) int {
	_, is := o.tenants[t]
	if is {
		o.noteDismissal(t)
	}
	delete(o.tenants, t)
	delete(o.waiting, t)
	delete(o.due, t)
	return btoi(is)
}

func (o *oracle) begin(token string, gen int64) mailbox.BeginResult {
	if gen != 0 && o.w.gen == gen {
		o.w = alarm{}
	}
	if gen != 0 && o.f.gen == gen {
		o.f = alarm{}
	}
	switch {
	case o.off != 0:
		return mailbox.BeginResult{State: mailbox.Off}
	case o.ownedUntil > o.now && o.owner != token:
		return mailbox.BeginResult{State: mailbox.Busy}
	case o.gate > o.now:
		return mailbox.BeginResult{State: mailbox.CircuitOpen, Wake: o.wake(token)}
	}
	if o.gated {
		o.held = o.now
	}
	if o.owner != token || o.oepoch < 0 {
		o.oepoch = o.epoch
	}
	o.owner, o.ownedUntil = token, o.now+o.set.OwnerLease.Milliseconds()
	b := mailbox.BeginResult{
		State: mailbox.Owned, Openings: o.openings, Sole: len(o.tenants) == 1, Refusing: o.refusing != 0, Recall: o.recalls != nil,
	}
	if o.gated {
		if b.Probes = o.mayProve(); o.probes == 0 { // it only asked for a pause
			o.gated, o.gate, o.probes, b.Probes = false, 0, -1, 0
		}
	}
	if o.held > 0 {
		b.HeldUntil = moment(o.held)
	}
	return b
}

// mayProve is how many tenants may prove the endpoint.
func (o *oracle) mayProve() int { return int(max(o.probes, 1) * int64(btoi(o.gated))) }

func (o *oracle) exchange(token string, want int, rs []mailbox.Settlement) mailbox.ExchangeResult {
	mine, well := o.owner == token, false
	outdated := mine && o.isOutdated()
	for _, r := range rs {
		well = well || !outdated && (r.Result == mailbox.OK || r.Well)
		o.settle(r, mine, outdated)
	}
	if !mine {
		return mailbox.ExchangeResult{}
	}
	o.ownedUntil = o.now + o.set.OwnerLease.Milliseconds()
	if well {
		if o.gated || o.counted {
			o.gated, o.gate, o.openings, o.counted, o.probes = false, 0, 0, false, -1
		}
		if o.refusing != 0 {
			o.recalls, o.refusing = &span{from: o.refusing, till: o.now}, 0
		}
		if o.empty() {
			o.superseded = 0
		}
	}
	if outdated {
		return mailbox.ExchangeResult{Owner: true, Outdated: true, Claims: []mailbox.Claim{}}
	}
	if o.off != 0 {
		return mailbox.ExchangeResult{Owner: true, Off: true, Claims: []mailbox.Claim{}}
	}
	for t, s := range o.flight {
		if s <= o.now {
			delete(o.flight, t)
			if !o.vacant(t) {
				o.due[t] = o.now
			}
		}
	}
	x := mailbox.ExchangeResult{Owner: true, Claims: []mailbox.Claim{}}
	stamp := max(o.now+o.set.EntryLease.Milliseconds(), o.stamp+1)
	for _, t := range o.claimed(want) {
		o.stamp = stamp
		delete(o.due, t)
		o.flight[t] = stamp
		best := -1
		for s, n := range o.entries(t) {
			if n != nil && (best < 0 || n.seq < o.entries(t)[best].seq) {
				best = s
			}
		}
		e, err := delivery.ParseEntry(o.entries(t)[best].text())
		if err != nil {
			panic(err)
		}
		x.Claims = append(x.Claims, mailbox.Claim{Tenant: t, Slot: tenant.Slot(best), Stamp: stamp, Entry: e})
		x.Left = len(o.due)
	}
	return x
}

// claimed are the tenants that a call claims: the first that are due or, where they have to prove the endpoint, half of them of those
// at the end that nothing was tried of.
func (o *oracle) claimed(want int) []tenant.ID {
	ready := o.ready()
	if !o.gated || want == 0 {
		return ready[:min(want, len(ready))]
	}
	want = o.mayProve()
	var end []tenant.ID
	for i, t := range slices.Backward(ready) {
		if len(end) < want/2 && i >= len(ready)-200 && !o.tried(t) {
			end = append(end, t)
		}
	}
	front := slices.Clone(ready[:min(want-len(end), len(ready))])
	return append(front, slices.DeleteFunc(end, func(t tenant.ID) bool { return slices.Contains(front, t) })...)
}

func (o *oracle) tried(t tenant.ID) bool {
	return slices.ContainsFunc(o.entries(t)[:], func(n *note) bool { return n != nil && n.attempts > 0 })
}

// recall makes a page due, and says whether there is more.
func (o *oracle) recall() bool {
	if o.recalls == nil {
		return false
	}
	var page []tenant.ID
	for t, at := range o.due {
		if at >= max(o.recalls.score, o.now+1) {
			page = append(page, t)
		}
	}
	for _, t := range page { // few enough for one page
		for _, n := range o.entries(t) {
			if n != nil && n.attempts > 0 && n.failedAt >= o.recalls.from && n.failedAt <= o.recalls.till {
				o.due[t] = o.now
			}
		}
	}
	o.recalls = nil
	return false
}

// opened is what an opening does to a gate and what failed behind it.
func (o *oracle) opened() {
	o.probes, o.refusing = -1, 0
	o.recalls = &span{till: o.now}
	o.recall()
}

func (o *oracle) isOutdated() bool { return max(o.oepoch, 0) != o.epoch }

func (o *oracle) settle(r mailbox.Settlement, mine, outdated bool) {
	t, have := r.Claim.Tenant, o.entries(r.Claim.Tenant)
	n := have[r.Claim.Slot]
	same := n != nil && n.version == r.Claim.Entry.Version
	if r.Result == mailbox.OK && same {
		have[r.Claim.Slot] = nil
		if o.vacant(t) {
			delete(o.due, t)
		}
	}
	switch {
	case o.flight[t] != r.Claim.Stamp:
	case o.vacant(t):
		delete(o.flight, t)
	case mine:
		delete(o.flight, t)
		o.due[t] = o.now
		if r.Result == mailbox.Release && same && n.attempts == 0 {
			o.due[t] = n.since
		}
		if r.Result == mailbox.Failed && same {
			n.attempts++
			n.reason, n.failedAt = r.Reason, o.now
			if !outdated {
				n.steps += btoi(r.Step)
				o.due[t] = o.now + r.Delay.Milliseconds()
			}
		}
	}
}

// ready lists the claimable tenants in Redis's order.
func (o *oracle) ready() []tenant.ID {
	var ts []tenant.ID
	for t, at := range o.due {
		if at <= o.now {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b tenant.ID) int {
		if o.due[a] != o.due[b] {
			return int(o.due[a] - o.due[b])
		}
		return strings.Compare(string(a), string(b))
	})
	return ts
}

func (o *oracle) finish(token string, c mailbox.Closing) mailbox.FinishResult {
	if o.owner != token {
		if o.lastBy == token {
			return mailbox.FinishResult{State: mailbox.Done, Wake: o.wake(token), Outdated: o.outdated == token}
		}
		return mailbox.FinishResult{State: mailbox.Lost}
	}
	outdated := o.isOutdated()
	if outdated {
		o.outdated, c = token, mailbox.Closing{Force: true}
	}
	if !c.Force && c.Cooldown == 0 && c.OffRevision == 0 && o.off == 0 {
		expired := slices.ContainsFunc(slices.Collect(maps.Values(o.flight)), func(s int64) bool { return s <= o.now })
		if expired || len(o.ready()) > 0 {
			return mailbox.FinishResult{State: mailbox.More}
		}
	}
	o.owner, o.ownedUntil = "", 0
	if c.Cooldown > 0 {
		o.gated, o.gate, o.probes = true, o.now+c.Cooldown.Milliseconds(), int64(c.Probes)
		if c.Probes > 0 {
			o.openings++
			o.counted = true
		}
		if !c.Refusing.IsZero() {
			o.refusing = c.Refusing.UnixMilli()
		}
	}
	if c.OffRevision > 0 && c.OffRevision >= o.revision {
		o.off, o.revision, o.erev = c.OffRevision, c.OffRevision, c.OffRevision
	}
	return mailbox.FinishResult{State: mailbox.Done, Wake: o.wake(token), Outdated: outdated}
}

func (o *oracle) beat(token string) bool {
	if o.owner != token {
		return false
	}
	o.ownedUntil = o.now + o.set.OwnerLease.Milliseconds()
	return true
}

func (o *oracle) turn(nonce string, sw mailbox.Switch, sweep bool) mailbox.Wake {
	if sw.Revision > o.revision || sw.Revision == o.revision && !sweep {
		if sw.On {
			if o.off != 0 {
				o.held = o.now
			}
			if o.off != 0 || o.erev >= 0 && sw.EndpointRevision > o.erev {
				o.epoch++
				if o.gated {
					o.gate, o.openings, o.counted = min(o.gate, o.now), 0, true
				}
				o.opened()
			}
			o.off = 0
		} else {
			o.off = sw.Revision
		}
		o.revision, o.erev = sw.Revision, max(o.erev, sw.EndpointRevision)
	}
	return o.wake(nonce)
}

func (o *oracle) open(nonce string) mailbox.Wake {
	o.epoch++
	if o.gate > o.now {
		o.gate, o.openings, o.counted = o.now, 0, true
	}
	o.opened()
	return o.wake(nonce)
}

// empty reports that nothing waits for anybody.
func (o *oracle) empty() bool {
	for t := range o.waiting {
		if !o.vacant(t) {
			return false
		}
	}
	return true
}

func (n *note) text() string {
	attempts := strconv.Itoa(n.attempts)
	if n.attempts > 0 {
		attempts = fmt.Sprintf("%d/%d/%d/%d", n.attempts, n.steps, n.reason, n.failedAt)
	}
	return fmt.Sprintf("%d;%d;%s;%d;%d;%s", n.seq, n.version, attempts, n.superseded, n.since, n.change)
}

// content is what the keys of tenants, waiting, due and flight must hold, as text.
func (o *oracle) content() map[string]string {
	out := map[string]string{}
	for t, m := range o.tenants {
		out["tenants "+string(t)] = m.text()
	}
	births := []string{}
	for _, birth := range o.formerly {
		births = append(births, strconv.FormatInt(birth, 10))
		for t, m := range o.former[birth] {
			out[fmt.Sprintf("former %d %s", birth, t)] = m.text()
		}
	}
	if len(births) > 0 {
		out["mailbox former"] = strings.Join(births, ",")
	}
	for t, es := range o.waiting {
		for s, n := range es {
			if n != nil {
				out[fmt.Sprintf("waiting %s|%s", t, tenant.Slot(s))] = n.text()
			}
		}
	}
	for t, at := range o.due {
		out["due "+string(t)] = strconv.FormatInt(at, 10)
	}
	for t, s := range o.flight {
		out["flight "+string(t)] = strconv.FormatInt(s, 10)
	}
	for t, n := range o.dismissed {
		out["dismissed "+string(t)] = strconv.FormatInt(n, 10)
	}
	o.contentOfBox(func(field string, v int64, present bool) {
		if present {
			out["mailbox "+field] = strconv.FormatInt(v, 10)
		}
	})
	if o.owner != "" {
		out["mailbox owner"] = o.owner
	}
	if r := o.recalls; r != nil {
		out["mailbox recall"] = fmt.Sprintf("%d:%d:%d", r.from, r.till, r.score)
	}
	return out
}

func (o *oracle) contentOfBox(put func(field string, v int64, present bool)) {
	put("wgen", o.w.gen, o.w.gen != 0)
	put("wat", o.w.at, o.w.gen != 0)
	put("wexp", o.w.exp, o.w.gen != 0)
	put("fgen", o.f.gen, o.f.gen != 0)
	put("fat", o.f.at, o.f.gen != 0)
	put("fexp", o.f.exp, o.f.gen != 0)
	put("gen", o.gen, o.gen != 0)
	put("version", o.version, o.version != 0)
	put("superseded", o.superseded, o.superseded != 0)
	put("stamp", o.stamp, o.stamp != 0)
	put("oexp", o.ownedUntil, o.owner != "")
	put("gate", o.gate, o.gated)
	put("gopen", int64(o.openings), o.counted)
	put("probes", o.probes, o.probes >= 0)
	put("refusing", o.refusing, o.refusing != 0)
	put("dismissals", o.dismissals, o.dismissals != 0)
	put("off", o.off, o.off != 0)
	put("srev", o.revision, o.revision != 0 || o.erev >= 0)
	put("erev", o.erev, o.erev >= 0)
	put("birth", o.birth, o.birth != 0)
	put("epoch", o.epoch, o.epoch != 0)
	put("oepoch", o.oepoch, o.oepoch >= 0)
}
