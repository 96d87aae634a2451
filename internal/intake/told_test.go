package intake_test

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// told is what app1 must be told of tenant a, and what it was told, by what reached it alone.
type told struct {
	*ledger

	rng      *rand.Rand
	accepted []tenant.Change
	// since is the top at which the approval began: older changes are told by the status alone.
	approved bool
	since    int64
	// newest is the highest sequence that reached the app in each slot.
	newest [tenant.Slots]int64
	// asked: the status must be told once more.
	asked bool
	// snapshots were read by fan-outs that are late.
	snapshots []tenant.Record
	claims    []mailbox.Claim
	runs      int
	// answers counts what in_step said.
	answers map[bool]int
}

// told says whether the app was told a change, or newer truth in its place. A Delete leaves nothing to tell
// of older moves and restores, also one that a newer status replaced before it was told.
func (w *told) told(c tenant.Change) bool {
	if c.Sequence <= w.since { // the approval tells the status in the place of all that was
		return true
	}
	for _, d := range w.accepted {
		if d.Type == tenant.Delete && d.Sequence > c.Sequence && w.newest[tenant.SlotStatus] >= d.Sequence {
			return true
		}
	}
	return w.newest[c.Type.Slot()] >= c.Sequence
}

// verify compares what is said of each change with what reached the app.
func (w *told) verify() {
	w.Helper()
	for range min(3, len(w.accepted)) {
		c := w.accepted[max(len(w.accepted)-1-w.rng.IntN(4), 0)]
		k := w.knowledge(c.ID)
		w.answers[k.InStep]++
		if !w.approved {
			continue
		}
		if !k.InStep {
			if o := k.Apps[0]; o.State == intake.Settled || o.ReplacedBy == c.ID {
				w.Fatalf("%s is not in step, yet %+v", c.ID, o)
			}
			continue
		}
		if len(k.Apps) != 1 || k.Apps[0].State != intake.Settled || k.Apps[0].ReplacedBy != "" {
			w.Fatalf("in step, yet %+v", k.Apps)
		}
		for _, other := range w.accepted {
			if !w.told(other) { // also a newer one: it waits
				w.Fatalf("%s is said to be in step, yet %s of %d never reached the app: %v", c.ID, other.Type, other.Sequence, w.newest)
			}
		}
		if w.asked && w.tellable() {
			w.Fatalf("%s is said to be in step, yet the status that was asked for was not told", c.ID)
		}
	}
	why, err := intake.NewStatusExplainer(w.reg, w.box, w.reg, partner.Online, never).Explain(w.Context(), app, "a")
	w.check(err)
	if len(w.accepted) > 0 && w.approved {
		last := w.accepted[len(w.accepted)-1]
		if in := why.Cause == intake.InStep; in != w.knowledge(last.ID).InStep {
			w.Fatalf("why says %s, the newest change's answer in_step %v", why.Cause, !in)
		}
		view, err := w.box.View(w.Context(), app)
		w.check(err)
		if why.Cause == intake.InStep && view.Diverged != 0 {
			w.Fatalf("in step, and %d diverged", view.Diverged)
		}
	}
}

func (w *told) tellable() bool {
	_, ok := w.record().ResyncChange()
	return ok
}

func (w *told) report() {
	c := registry.ChangeRequest{Tenant: "a", Type: tenant.AllChangeTypes()[w.rng.IntN(6)]}
	if c.Type == tenant.Move {
		c.PublicEndpoint = "x.example"
	}
	res, err := w.reg.Accept(w.Context(), []registry.ChangeRequest{c})
	w.check(err)
	w.check(res[0].Err)
	w.accepted = append(w.accepted, tenant.Change{ID: res[0].Accepted.ID, Type: c.Type, Sequence: res[0].Accepted.Sequence})
}

func (w *told) put(r tenant.Record) {
	if st, err := w.box.ReadPairs(w.Context(), app, []tenant.ID{"a"}); err == nil && r.Top >= st[0].Known {
		_, tellable := r.ResyncChange()
		w.asked = w.asked && tellable // else it was asked for in vain
	}
	w.runs++
	_, err := w.box.Deposit(w.Context(), w.life(app), "run"+strconv.Itoa(w.runs), []tenant.Record{r})
	w.check(err)
}

const drainer = "drainer"

// exchange hands in results and takes what is due.
func (w *told) exchange(want int, results ...mailbox.Settlement) {
	_, err := w.box.Begin(w.Context(), w.life(app), drainer, 0)
	w.check(err)
	x, err := w.box.Exchange(w.Context(), w.life(app), drainer, want, results)
	w.check(err)
	if !x.Owner {
		w.Fatal("the mailbox belongs to another")
	}
	w.claims = append(w.claims, x.Claims...)
}

// post ends a claim's post: it reached the app and was taken, or it failed, or it was never made.
func (w *told) post(verdict mailbox.SettleResult) {
	if len(w.claims) == 0 {
		return
	}
	c := w.claims[0]
	w.claims = w.claims[1:]
	m, err := c.Entry.Message(app, c.Tenant)
	w.check(err)
	if verdict == mailbox.OK && w.approved {
		w.newest[c.Slot] = max(w.newest[c.Slot], m.Sequence)
		if c.Slot == tenant.SlotStatus {
			w.asked = false
		}
	}
	w.exchange(0, mailbox.Settlement{Claim: c, Result: verdict, Well: true})
}

// drain tells all that there is.
func (w *told) drain() {
	w.put(w.record())
	for range 8 {
		w.exchange(1)
		w.post(mailbox.OK)
	}
}

func (w *told) again() {
	w.post(mailbox.Release) // a post that began before the asking does not answer it
	n, err := w.box.RequestResync(w.Context(), w.life(app), []mailbox.Admission{{Tenant: "a", Top: w.record().Top}})
	w.check(err)
	w.asked = w.asked || n > 0
}

func (w *told) admit() {
	since, err := w.box.Dismissals(w.Context(), app)
	w.check(err)
	top := w.record().Top
	_, err = w.box.Approve(w.Context(), w.life(app), since, []mailbox.Admission{{Tenant: "a", Top: top}})
	w.check(err)
	if !w.approved {
		w.approved, w.since, w.asked = true, top, true
		w.newest = [tenant.Slots]int64{}
	}
}

func (w *told) dismissed() {
	w.post(mailbox.Release)
	_, err := w.box.Dismiss(w.Context(), w.life(app), []tenant.ID{"a"})
	w.check(err)
	w.approved = false
}

func (w *told) step() {
	switch n := w.rng.IntN(20); {
	case n < 4:
		w.report()
	case n < 6: // a fan-out reads
		w.snapshots = append(w.snapshots, w.record())
	case n < 9: // one that read before deposits, late or twice
		if len(w.snapshots) > 0 {
			w.put(w.snapshots[w.rng.IntN(len(w.snapshots))])
		}
	case n < 11:
		w.put(w.record())
	case n < 12:
		w.exchange(1)
	case n < 15:
		w.post(mailbox.SettleResult(w.rng.IntN(3)))
	case n < 18:
		w.drain()
	case n < 19:
		w.again()
	case w.approved && w.rng.IntN(3) == 0:
		w.dismissed()
	default:
		w.admit()
	}
}

// in_step is true only if it is: whatever is accepted, deposited late or twice, claimed, told, failed, asked
// for again, approved and taken back, a pair is said to be in step only when all that was accepted reached
// the app, or newer truth did.
func TestInStepOnlyIfEverythingWasTold(t *testing.T) {
	ledgers(t, func(l *ledger) {
		seed := rand.Uint64()
		l.Logf("seed %d", seed)
		w := &told{ledger: l, rng: rand.New(rand.NewPCG(seed, 0)), approved: true, answers: map[bool]int{}}
		for range 250 {
			w.step()
			w.verify()
		}
		l.Logf("%d changes, in step %d times, not %d times", len(w.accepted), w.answers[true], w.answers[false])
		if w.answers[true] == 0 || w.answers[false] == 0 {
			l.Error("one of the answers was never given")
		}
	})
}
