package mailbox_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// Each test here is a fault that simpler rules have, found by searching all interleavings of
// small worlds. They are written as the shortest story that leads there.

// Nothing waits for a delivered change: only what the mailbox remembers tells a late fan-out
// from a new one.
func TestLateFanOutResurrectsNothing(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "resume9")
		b.own("d1")
		b.exchange("d1", 0, ok(b.claim("d1")))
		b.tell("t1", "suspend5")
		b.expect("t1", "9")
		b.tell("t1", "resume9")
		b.expect("t1", "9")
	})
}

// A claim outlived its lease and was taken by another drainer: the first one's result must not
// free the tenant while the second one's post is out.
func TestLateResultsTouchNoLaterClaim(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]func(mailbox.Claim) mailbox.Settlement{
		"Failed":  func(c mailbox.Claim) mailbox.Settlement { return failed(c, 0) },
		"Release": release,
		"OK":      ok,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, quick(), func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5 move6")
				b.own("d1")
				old := b.claim("d1")
				b.pass(quick().EntryLease)
				b.own("d2")
				c := b.claim("d2")
				b.exchange("d1", 1, verdict(old))
				if got := b.inspect("t1"); !got.InFlight {
					b.Errorf("the late result freed the tenant: %+v", got)
				}
				// The same from one that owns the mailbox once more.
				b.finish("d2", mailbox.Closing{Force: true})
				b.own("d1")
				if x := b.exchange("d1", 5, verdict(old)); len(x.Claims) != 0 {
					b.Errorf("claimed %+v beside the post that is out", x.Claims)
				}
				b.own("d1")
				b.exchange("d1", 0, ok(c))
				b.expect("t1", "6 move6 due")
			})
		})
	}
}

func TestLateDeleteEmptiesNoNewerEntries(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "delete5 resume6 move7 backup_restored8") // overtook the one below
		b.tell("t1", "suspend4 move4 delete5")
		b.expect("t1", "8 resume6 move7 backup_restored8 due")
	})
}

// A fan-out that deposited one change alone would let the newer one of another slot go first.
func TestOvertakingFanOutsKeepTheOrderAcrossSlots(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5 move6") // the fan-out of 6 came first
		b.own("d1")
		first := b.claim("d1")
		b.tell("t1", "suspend5")
		b.exchange("d1", 0, ok(first))
		second := b.claim("d1")
		b.exchange("d1", 0, ok(second))
		if first.Entry.Sequence != 5 || second.Entry.Sequence != 6 {
			b.Errorf("told %d, then %d", first.Entry.Sequence, second.Entry.Sequence)
		}
		b.expect("t1", "6")
	})
}

func TestResyncIsNotSwallowedAsARepeat(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.exchange("d1", 0, ok(b.claim("d1")))
		b.again("t1")
		b.tell("t1", "suspend5")
		b.expect("t1", "5 suspend5~ due")
	})
}

// The post of the first telling is out when the second is asked for: its ack is not the answer.
func TestAckOfAnEarlierPostRemovesNoLaterTelling(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]struct {
		again func(b *box)
		want  string
	}{
		"Resync": {func(b *box) { b.again("t1") }, "5 suspend5+1~ due"},
		"ReApproval": {func(b *box) {
			b.dismiss("t1")
			b.approve("t1", 5)
		}, "5 suspend5~ due"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				c := b.claim("d1")
				ask.again(b)
				b.tell("t1", "suspend5")
				b.exchange("d1", 0, ok(c))
				b.expect("t1", ask.want)
				b.exchange("d1", 0, ok(c)) // re-sent
				b.expect("t1", ask.want)
			})
		})
	}
}

// A day of back-off must not hide newer truth.
func TestBackOffHidesNoNewerTruth(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.clearAlarms()
		b.exchange("d1", 0, failed(b.claim("d1"), 24*time.Hour))
		b.finish("d1", mailbox.Closing{})
		b.expect("t1", "5 suspend5!1 later")
		if w := b.tell("t1", "resume6").Wake; w.IsNone() || w.Delay != 0 {
			b.Errorf("deposit = %+v, want a wake-up now", w)
		}
		b.expect("t1", "6 resume6+1 due")
	})
}

// Every drain that ends with a tenant in long back-off would leave a scheduled task behind.
func TestLongBackOffLeavesNoTasksBehind(t *testing.T) {
	t.Parallel()
	b := miniBox(t, mailbox.Settings{})
	b.approved(1, "t1")
	b.tell("t1", "suspend5")
	b.own("d1")
	b.clearAlarms()
	b.exchange("d1", 0, failed(b.claim("d1"), time.Hour))
	for range 20 {
		if f := b.finish("d1", mailbox.Closing{}); !f.Wake.IsNone() {
			t.Fatalf("finish = %+v, want nothing armed an hour ahead", f)
		}
		b.pass(time.Second)
		if w := b.sweep(0, true); !w.IsNone() {
			t.Fatalf("sweep = %+v, want nothing armed an hour ahead", w)
		}
		b.own("d1")
	}
	b.finish("d1", mailbox.Closing{})
	b.pass(time.Hour - 20*time.Second - mailbox.DefaultHorizon)
	if w := b.sweep(0, true); w.IsNone() || w.Delay != mailbox.DefaultHorizon {
		t.Errorf("sweep = %+v, want a wake-up at the horizon", w)
	}
	if w := b.sweep(0, true); !w.IsNone() {
		t.Errorf("second sweep = %+v, want one wake-up only", w)
	}
}

// The answer that carried the wake-up was lost: the repeat must bring it, or nobody enqueues it.
func TestRepeatsBringTheLostWakeUp(t *testing.T) {
	t.Parallel()
	gated := func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.clearAlarms()
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 5 * time.Second})
		b.clearAlarms()
	}
	for name, row := range map[string]struct {
		before func(b *box)
		call   func(b *box) mailbox.Wake
	}{
		"Begin": {gated, func(b *box) mailbox.Wake { return b.begin("d2", 0).Wake }},
		"Sweep": {gated, func(b *box) mailbox.Wake {
			ws, errs := b.s.RepairWakeUps(b.Context(), "nonce", []mailbox.Switch{{Life: testLife, On: true}})
			b.check(errs[0])
			return ws[0]
		}},
		"Finish": {func(b *box) {
			gated(b)
			b.turn(1, false)
			b.turn(2, true)
			b.own("d3")
			b.clearAlarms()
		}, func(b *box) mailbox.Wake { return b.finish("d3", mailbox.Closing{Force: true}).Wake }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				row.before(b)
				first, second := row.call(b), row.call(b)
				if first.IsNone() || second.Generation != first.Generation {
					b.Errorf("wake-ups %+v, then %+v, want the same", first, second)
				}
			})
		})
	}
}

// A repeat that finds its wake-up consumed, and new work, must arm another.
func TestRepeatAfterItsWakeUpWasConsumed(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		first := b.deposit("n", story("t1", "suspend5"), story("t2", "suspend5")).Wake
		x := b.begin("d1", first.Generation)
		if x.State != mailbox.Owned {
			b.Fatalf("begin = %+v", x)
		}
		b.exchange("d1", 0, ok(b.claim("d1")))
		b.finish("d1", mailbox.Closing{})
		b.approve("t2", 4)
		second := b.deposit("n", story("t1", "suspend5"), story("t2", "suspend5")).Wake
		b.expect("t2", "5 suspend5 due")
		if second.Generation != first.Generation+1 {
			b.Errorf("the repeat made t2 due and answers %+v after %+v, want a wake-up of its own", second, first)
		}
	})
}

// A probe's drainer crashed: the endpoint is still unproved, and the count goes on.
func TestCrashedProbeForgetsNoGate(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 100 * time.Millisecond})
		b.pass(100 * time.Millisecond)
		for _, token := range []string{"d2", "d3"} {
			if x := b.own(token); x.Probes == 0 || x.Openings != 1 {
				b.Errorf("begin(%s) = %+v, want a probe after one opening", token, x)
			}
			b.claim(token) // and never comes back
			b.pass(max(quick().OwnerLease, quick().EntryLease))
		}
	})
}

// An app that is off must not be woken again and again by what waits for it.
func TestAppThatIsOffDoesNotLoop(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		if f := b.finish("d1", mailbox.Closing{OffRevision: 3}); f.State != mailbox.Done || !f.Wake.IsNone() {
			b.Errorf("finish = %+v, want no wake-up", f)
		}
		if x := b.begin("d2", 0); x.State != mailbox.Off || !x.Wake.IsNone() {
			b.Errorf("begin = %+v, want off and no wake-up", x)
		}
		if w := b.sweep(3, false); !w.IsNone() {
			b.Errorf("sweep = %+v, want no wake-up", w)
		}
		b.expect("t1", "5 suspend5 due") // and the truth is kept
	})
}
