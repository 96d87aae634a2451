package mailbox_test

import (
	"errors"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// appLife is one life of the app: what its registry holds, or held last.
type appLife struct {
	birth, revision, erev int64
	on                    bool
	before                mailbox.Switch // the settings before the last change
}

func (l *appLife) is() mailbox.Life { return at(l.birth) }

func (l *appLife) set() mailbox.Switch {
	return mailbox.Switch{Life: l.is(), Revision: l.revision, On: l.on, EndpointRevision: l.erev}
}

func (w *world) current() *appLife { return w.lives[len(w.lives)-1] }

// change is a change of the settings of the app that is alive.
func (w *world) change(do func(l *appLife)) {
	l := w.current()
	w.revision++
	l.before = l.set()
	l.revision = w.revision
	do(l)
}

// sees is what somebody reads in a directory, which may be old; false where it finds no app.
func (w *world) sees() (*appLife, bool) {
	if n := len(w.lives); w.chance(6, "old directory") {
		return w.lives[max(0, n-1-w.pick(2, "how old"))], true
	}
	return w.current(), w.alive
}

// receiver is the app of a life.
func (w *world) receiver(birth int64, t tenant.ID) *receiver {
	if w.apps[birth] == nil {
		w.apps[birth] = map[tenant.ID]*receiver{}
	}
	if w.apps[birth][t] == nil {
		w.apps[birth][t] = &receiver{}
	}
	return w.apps[birth][t]
}

// hears is the app of the life that the mailbox is in.
func (w *world) hears(t tenant.ID) *receiver { return w.receiver(w.o.birth, t) }

// enter brings the oracle to the life of a call that was made; false where that is over, and must have been
// refused as such.
func (w *world) enter(what string, l *appLife, err error) bool {
	w.Helper()
	if !w.o.enter(l.birth) {
		if !errors.Is(err, mailbox.ErrGone) {
			w.fail("%s of life %d in a mailbox of life %d: %v, want ErrGone", what, l.birth, w.o.birth, err)
		}
		w.log("  %s is of life %d, which is over", what, l.birth)
		return false
	}
	if err != nil {
		w.fail("%s: %v", what, err)
	}
	return true
}

// goesOn is enter for a drainer, which ends with the life it began in. Its posts are still out.
func (w *world) goesOn(what string, d *drainer, err error) bool {
	w.Helper()
	if w.enter(what, d.life, err) {
		return true
	}
	w.leave(d)
	return false
}

func (w *world) drainer(l *appLife) *drainer {
	d := &drainer{life: l, erev: l.erev, token: w.name("d")}
	w.drainers = append(w.drainers, d)
	return d
}

// turn changes the settings, or has told them late. A change may be told lately, or never.
func (w *world) turn() {
	if !w.alive {
		return
	}
	l := w.current()
	sw := l.before
	if late := w.chance(3, "late switch"); !late || sw.Revision == 0 {
		switch w.pick(4, "settings") {
		case 0, 1:
			w.change(func(l *appLife) { l.on, l.erev = !l.on, w.revision })
		case 2:
			w.change(func(l *appLife) { l.erev = w.revision })
		default:
			w.change(func(*appLife) {})
		}
		sw = l.set()
	}
	if w.chance(4, "switch lost") {
		w.log("the switch to %+v is lost", sw)
		return
	}
	nonce, lost := w.name("w"), w.lost()
	w.log("switch to %+v, answer lost %v", sw, lost)
	got, err := w.s.ApplySwitch(w.ctx, nonce, sw)
	if !w.enter("switch", l, err) {
		return
	}
	w.same("switch", err, got, w.o.turn(nonce, sw, false))
	if !lost {
		w.enqueue(got)
	}
}

func (w *world) open() {
	l, is := w.sees()
	if !is {
		return
	}
	nonce := w.name("o")
	w.log("people open the gate of life %d", l.birth)
	got, err := w.s.EndCooldown(w.ctx, l.is(), nonce)
	if !w.enter("open", l, err) {
		return
	}
	w.opened++
	w.same("open", err, got, w.o.open(nonce))
	w.enqueue(got)
}

// changeLife deletes the app, makes it again, or tells the mailbox of that: late, again, or never.
func (w *world) changeLife() {
	switch n := w.pick(4, "life"); {
	case n == 0 && len(w.ends) > 0:
		i := w.pick(len(w.ends), "end")
		w.end(w.ends[i])
		if !w.chance(3, "end again") {
			w.ends = slices.Delete(w.ends, i, i+1)
		}
	case n == 1:
		w.born(w.lives[max(0, len(w.lives)-1-w.pick(2, "how old"))])
	case n == 2 && w.alive:
		w.revision++
		w.alive = false
		w.ends = append(w.ends, w.revision)
		w.log("the app of life %d is deleted at %d", w.current().birth, w.revision)
	case n == 2:
		w.make(w.chance(4, "by an older version"))
	}
}

// make makes the app again. One that an older version makes has the last deletion's revision as its birth.
func (w *world) make(older bool) {
	birth := w.revision // of the deletion: nothing was written since
	w.revision++
	if !older {
		birth = w.revision
	}
	w.lives = append(w.lives, &appLife{birth: birth, revision: w.revision, erev: w.revision, on: true})
	w.alive = true
	w.log("the app is made again at %d, life %d", w.revision, birth)
}

func (w *world) born(l *appLife) {
	w.log("life %d begins", l.birth)
	w.enter("born", l, w.s.BeginLife(w.ctx, l.is()))
}

func (w *world) end(revision int64) {
	w.log("the deletion at %d is told", revision)
	w.enter("died", &appLife{birth: revision}, w.s.EndLife(w.ctx, at(revision)))
}

// clear takes some approvals of a former life away.
func (w *world) clear() {
	if len(w.o.formerly) == 0 {
		return
	}
	birth := w.o.formerly[w.pick(len(w.o.formerly), "former life")]
	page := w.former(birth)
	page = page[:w.pick(len(page)+1, "cleared")]
	w.log("%v of life before %d are cleared", page, birth)
	left, err := cleared(w.ctx, w.s, birth, page)
	w.same("cleared", err, left, w.o.cleared(birth, page))
}

func (w *world) former(birth int64) []tenant.ID {
	page, err := w.s.ReadFormerApprovals(w.ctx, at(birth))
	slices.Sort(page)
	want := []tenant.ID{}
	for t := range w.o.former[birth] {
		want = append(want, t)
	}
	slices.Sort(want)
	w.same("former", err, page, want)
	return page
}

// calmLives lets the last life be the last, tells what was not told, and clears former ones away.
func (w *world) calmLives() {
	if !w.alive {
		w.make(false)
	}
	w.change(func(l *appLife) { l.on, l.erev = true, w.revision })
	for _, revision := range w.ends {
		w.end(revision)
	}
	w.sweepAs(w.current(), w.name("s"), false)
	v, err := w.s.View(w.ctx, testApp)
	w.same("former lives", err, v.Former, append([]int64(nil), w.o.formerly...))
	for _, birth := range v.Former {
		page := w.former(birth)
		left, err := cleared(w.ctx, w.s, birth, page)
		w.same("cleared", err, left, w.o.cleared(birth, page))
	}
	for _, k := range []keys.AppKey{keys.AppMailbox, keys.AppFlight} {
		if ttl := w.clock.TTL(keys.New("").App(testApp, k)); ttl != time.Duration(0) {
			w.fail("the %s of an app that is alive ends in %v", k, ttl)
		}
	}
}

// enter brings the mailbox to the life of a call; false when it belongs to a later one.
func (o *oracle) enter(birth int64) bool {
	if birth <= o.birth {
		return birth == o.birth
	}
	if len(o.tenants) > 0 {
		o.dismissals++
		o.former[birth], o.formerly = o.tenants, append(o.formerly, birth)
	}
	o.tenants, o.waiting, o.due = map[tenant.ID]mark{}, map[tenant.ID]*[tenant.Slots]*note{}, map[tenant.ID]int64{}
	o.owner, o.ownedUntil, o.oepoch, o.erev = "", 0, -1, -1
	o.gated, o.gate, o.openings, o.off, o.held, o.superseded = false, 0, 0, 0, 0, 0
	o.counted, o.probes, o.refusing, o.recalls = false, -1, 0, nil
	o.birth, o.dismissed = birth, nil
	return true
}

// cleared takes approvals of a former life away and tells how many are left.
func (o *oracle) cleared(birth int64, ts []tenant.ID) int {
	for _, t := range ts {
		delete(o.former[birth], t)
	}
	left := len(o.former[birth])
	if left == 0 {
		delete(o.former, birth)
		o.formerly = slices.DeleteFunc(o.formerly, func(b int64) bool { return b == birth })
	}
	return left
}
