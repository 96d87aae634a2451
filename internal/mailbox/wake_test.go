package mailbox_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

func TestWakeUpNow(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1", "t2")
		from := b.now()
		first := b.tell("t1", "suspend5").Wake
		if first.Delay != 0 || first.Generation < from.UnixMilli() || first.Generation > b.now().UnixMilli() {
			b.Errorf("wake = %+v, want a generation that starts at the clock, now", first)
		}
		if w := b.tell("t2", "suspend5").Wake; !w.IsNone() {
			b.Errorf("a second deposit armed %+v beside one that is armed", w)
		}
		if w := b.sweep(0, true); !w.IsNone() {
			b.Errorf("sweep armed %+v beside one that is armed", w)
		}
		b.pass(quick().Grace)
		second := b.sweep(0, true)
		if second.Generation != first.Generation+1 || second.Delay != 0 {
			b.Errorf("sweep after the grace = %+v, want the next generation after %d", second, first.Generation)
		}
	})
}

func TestBeginConsumesItsGenerationAlone(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		gen := b.tell("t1", "suspend5").Wake.Generation
		b.begin("d1", gen+7)
		if got := b.field("wgen"); got != strconv.FormatInt(gen, 10) {
			b.Errorf("a stranger's begin left generation %q", got)
		}
		if x := b.begin("d2", gen); x.State != mailbox.Busy {
			b.Errorf("begin = %+v", x)
		}
		if got := b.field("wgen"); got != "" {
			b.Errorf("generation %q is still armed after its task came", got)
		}
		if f := b.finish("d1", mailbox.Closing{Force: true}); f.Wake.Generation != gen+1 {
			b.Errorf("finish = %+v, want the next generation: the owner answers for what the task found busy", f)
		}
	})
}

// A wake-up that is armed for now is enough for what is due now, whatever is armed for later besides.
func TestWakeUpNowBesideOneForLater(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2", "t3")
		b.begin("d1", b.tell("t1", "suspend5").Wake.Generation)
		b.exchange("d1", 0, failed(b.claim("d1"), 5*time.Second))
		if later := b.finish("d1", mailbox.Closing{}).Wake; later.Delay < time.Second {
			b.Fatalf("finish armed %+v, want one for the back-off's end", later)
		}
		if now := b.tell("t2", "suspend5").Wake; now.IsNone() || now.Delay > 0 {
			b.Errorf("what is due now armed %+v", now)
		}
		if again := b.tell("t3", "suspend5").Wake; !again.IsNone() {
			b.Errorf("what is due now too armed %+v, want none", again)
		}
	})
}

func TestWakeUpSoon(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.exchange("d1", 0, failed(b.claim("d1"), 10*time.Second))
		b.clearAlarms()
		f := b.finish("d1", mailbox.Closing{})
		if f.Wake.IsNone() || f.Wake.Delay > 10*time.Second || f.Wake.Delay < 5*time.Second {
			b.Fatalf("finish = %+v, want a wake-up when the entry is due", f)
		}
		if b.field("fgen") != strconv.FormatInt(f.Wake.Generation, 10) || b.field("wgen") != "" {
			b.Error("the wake-up is not in the slot of those that come soon")
		}
		// Something due now needs an earlier one; the later stays armed.
		w := b.tell("t2", "suspend5").Wake
		if w.IsNone() || w.Delay != 0 {
			b.Errorf("deposit = %+v, want a wake-up now", w)
		}
		if b.field("fgen") != strconv.FormatInt(f.Wake.Generation, 10) {
			b.Error("the later wake-up was forgotten")
		}
	})
}

func TestGateDelaysTheWakeUp(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 8 * time.Second})
		w := b.tell("t1", "suspend5").Wake
		if w.IsNone() || w.Delay > 8*time.Second || w.Delay < 4*time.Second {
			b.Errorf("deposit behind a gate = %+v, want a wake-up when it opens", w)
		}
		x := b.begin("d2", w.Generation) // it came too early
		if x.State != mailbox.CircuitOpen || x.Wake.Generation != w.Generation+1 {
			b.Errorf("begin = %+v, want gated and the next wake-up", x)
		}
		if again := b.begin("d2", w.Generation); again.Wake.Generation != x.Wake.Generation {
			b.Errorf("repeated begin = %+v, want the same wake-up as %+v", again, x)
		}
		if other := b.begin("d3", 0); other.State != mailbox.CircuitOpen || !other.Wake.IsNone() {
			b.Errorf("another's begin = %+v, want gated and nothing to enqueue", other)
		}
	})
}

func TestGateAndProbe(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.exchange("d1", 0, failed(c, 0))
		gate := 200 * time.Millisecond
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: gate})
		if v := b.view(); v.CircuitState() != "open" || v.Openings != 1 {
			b.Errorf("view = %+v, want open", v)
		}
		b.pass(gate)
		if v := b.view(); v.CircuitState() != "half_open" {
			b.Errorf("breaker %s, want half_open", v.CircuitState())
		}
		from := b.now()
		x := b.own("d2")
		if x.Probes == 0 || x.Openings != 1 {
			b.Errorf("begin = %+v, want a probe after one opening", x)
		}
		b.within("held", x.HeldUntil, from, b.now(), 0)
		b.exchange("d2", 0, failed(b.claim("d2"), 0))
		b.finish("d2", mailbox.Closing{Probes: 1, Cooldown: gate})
		b.pass(gate)
		if x := b.own("d3"); x.Probes == 0 || x.Openings != 2 {
			b.Errorf("begin = %+v, want a probe after two openings", x)
		}
		c = b.claim("d3")
		b.exchange("d3", 0, release(c))
		if v := b.view(); v.CircuitState() != "half_open" {
			b.Errorf("breaker %s after a release, want half_open", v.CircuitState())
		}
		b.exchange("d3", 0, ok(b.claim("d3")))
		if v := b.view(); v.CircuitState() != "closed" || v.Openings != 0 {
			b.Errorf("view = %+v after a success, want closed", v)
		}
		b.finish("d3", mailbox.Closing{})
		if x := b.own("d4"); x.Probes > 0 || x.Openings != 0 || x.HeldUntil.IsZero() {
			b.Errorf("begin = %+v, want no probe and the end of the hold", x)
		}
	})
}

func TestSuccessOfANonOwnerOpensNothing(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute})
		b.exchange("d1", 0, ok(c))
		b.expect("t1", "5")
		if v := b.view(); v.CircuitState() != "open" {
			b.Errorf("breaker %s, want open", v.CircuitState())
		}
	})
}

func TestOpenByPeople(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.clearAlarms()
		b.finish("d1", mailbox.Closing{Force: true, Probes: 1, Cooldown: time.Minute})
		open := func(nonce string) mailbox.Wake {
			w, err := b.s.EndCooldown(b.Context(), testLife, nonce)
			b.check(err)
			return w
		}
		w := open("n1")
		if w.IsNone() || w.Delay != 0 {
			b.Errorf("open = %+v, want a wake-up now", w)
		}
		if again := open("n1"); again != w {
			b.Errorf("repeated open = %+v, want %+v", again, w)
		}
		if other := open("n2"); !other.IsNone() {
			b.Errorf("another's open = %+v, want nothing to enqueue", other)
		}
		if x := b.begin("d2", w.Generation); x.State != mailbox.Owned || x.Probes == 0 || x.Openings != 0 {
			b.Errorf("begin = %+v, want a probe that starts counting anew", x)
		}
	})
}

func TestOpenWithoutAGateSetsNone(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		w, err := b.s.EndCooldown(b.Context(), testLife, "n")
		if err != nil || !w.IsNone() {
			b.Errorf("open = %+v, %v", w, err)
		}
		if x := b.own("d1"); x.Probes > 0 {
			b.Errorf("begin = %+v, want no probe", x)
		}
	})
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.turn(5, false)
		if x := b.begin("d1", 0); x.State != mailbox.Off {
			b.Errorf("begin = %+v, want off", x)
		}
		if w := b.tell("t1", "resume6").Wake; !w.IsNone() {
			b.Errorf("deposit while off = %+v, want no wake-up", w)
		}
		b.turn(4, true)
		if !b.view().Off {
			b.Error("an older revision switched it on")
		}
		b.clearAlarms()
		if w := b.turn(6, true); w.IsNone() || b.view().Off {
			b.Errorf("switch on = %+v, want a wake-up", w)
		}
		if x := b.own("d1"); x.HeldUntil.IsZero() || x.Probes > 0 {
			b.Errorf("begin = %+v, want the end of the hold and no probe", x)
		}
		b.sweep(6, false)
		if b.view().Off {
			b.Error("a sweep switched it off with a revision that is known")
		}
		b.sweep(7, false)
		if !b.view().Off {
			b.Error("a sweep with a newer revision did not switch it off")
		}
		b.turn(7, true)
		if b.view().Off {
			b.Error("a switch of the same revision was ignored")
		}
	})
}

func TestSwitchingOnOpensTheGate(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.own("d1")
		b.tell("t1", "suspend5")
		if f := b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute, OffRevision: 3}); f.State != mailbox.Done || !f.Wake.IsNone() {
			b.Errorf("finish = %+v", f)
		}
		if w := b.turn(4, true); w.IsNone() || w.Delay != 0 {
			b.Errorf("switch on = %+v, want a wake-up now", w)
		}
		if x := b.own("d2"); x.Probes == 0 || x.Openings != 0 {
			b.Errorf("begin = %+v, want a probe", x)
		}
	})
}

func TestFinishWithAnOldRevisionLeavesItOn(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.turn(9, true)
		b.own("d1")
		b.finish("d1", mailbox.Closing{OffRevision: 8})
		if b.view().Off {
			b.Error("people switched it on later than the drainer off")
		}
	})
}

func TestExchangeWhileOffSettlesAndClaimsNothing(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.tell("t2", "suspend5")
		b.turn(3, false)
		if x := b.exchange("d1", 5, ok(c)); !x.Owner || !x.Off || len(x.Claims) != 0 {
			b.Errorf("exchange = %+v, want off and no claims", x)
		}
		b.expect("t1", "5")
		if f := b.finish("d1", mailbox.Closing{}); f.State != mailbox.Done || !f.Wake.IsNone() {
			b.Errorf("finish = %+v, want done although work is due", f)
		}
	})
}

func TestSweepOfManyApps(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.pass(quick().Grace)
		ws, errs := b.s.RepairWakeUps(b.Context(), "n", []mailbox.Switch{{Life: mailbox.Life{App: "app0"}, On: true}, {Life: testLife, On: true}, {Life: mailbox.Life{App: "app2"}, Revision: 4}})
		for i, wakes := range []bool{false, true, false} {
			if errs[i] != nil || ws[i].IsNone() == wakes {
				b.Errorf("app %d: %+v, %v", i, ws[i], errs[i])
			}
		}
	})
}
