package mailbox_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// set tells the mailbox of settings, with the revision at which the endpoint last changed.
func (b *box) set(revision, changed int64, on bool) mailbox.Wake {
	b.Helper()
	w, err := b.s.ApplySwitch(b.Context(), b.nonce(), mailbox.Switch{Life: b.life(), Revision: revision, On: on, EndpointRevision: changed})
	b.check(err)
	return w
}

func (b *box) open() mailbox.Wake {
	b.Helper()
	w, err := b.s.EndCooldown(b.Context(), b.life(), b.nonce())
	b.check(err)
	return w
}

// openings are the ways in which an endpoint is opened while a run goes on, from settings of revision 5 whose
// endpoint changed last at 3.
func openings() map[string]func(b *box) {
	return map[string]func(b *box){
		"Opened":         func(b *box) { b.open() },
		"ChangedURL":     func(b *box) { b.set(6, 6, true) },
		"OffAndOn":       func(b *box) { b.set(6, 6, false); b.set(7, 7, true) },
		"SweptURL":       func(b *box) { b.sweepSet(6, 6, true) },
		"SweptOffAndOn":  func(b *box) { b.sweepSet(6, 6, false); b.sweepSet(7, 7, true) },
		"LostThenLatest": func(b *box) { b.set(9, 8, true); b.set(8, 8, true) },
	}
}

func (b *box) sweepSet(revision, changed int64, on bool) mailbox.Wake {
	b.Helper()
	ws, errs := b.s.RepairWakeUps(b.Context(), b.nonce(), []mailbox.Switch{{Life: b.life(), Revision: revision, On: on, EndpointRevision: changed}})
	b.check(errs[0])
	return ws[0]
}

// A run that goes on since before an opening closes no gate, switches nothing off, forgets no gate and claims
// nothing more; its deliveries count, and what failed is due at once and climbs no step.
func TestOutdatedRun(t *testing.T) {
	t.Parallel()
	for name, opens := range openings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.set(5, 3, true)
				b.approved(1, "t1", "t2", "t3", "t4", "t5")
				for _, id := range []tenant.ID{"t1", "t2", "t3", "t4"} {
					b.tell(id, "suspend5")
				}
				b.own("d1")
				cs := b.exchange("d1", 4).Claims
				b.tell("t5", "suspend5")
				b.clearAlarms()
				opens(b)
				well := failed(cs[2], time.Hour)
				well.Well, well.Reason = true, delivery.ReasonClientError
				for range 2 { // a repeat answers alike
					if x := b.exchange("d1", 5, ok(cs[0]), failed(cs[1], time.Hour), well, release(cs[3])); !x.Owner || !x.Outdated || x.Off || len(x.Claims) != 0 {
						b.Errorf("exchange = %+v, want outdated and no claims", x)
					}
				}
				b.expect("t1", "5")
				b.expect("t2", "5 suspend5!1 due")
				b.expect("t3", "5 suspend5!1 due")
				b.expect("t4", "5 suspend5 due")
				if e := b.inspect("t2").Entries[tenant.SlotStatus]; e.Steps != 0 || e.LastReason != delivery.ReasonRefused {
					b.Errorf("entry = %+v, want no step and the reason", e)
				}
				first := b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour, OffRevision: 99})
				if first.State != mailbox.Done || !first.Outdated || first.Wake.IsNone() || first.Wake.Delay != 0 {
					b.Errorf("finish = %+v, want outdated and a wake-up now", first)
				}
				if again := b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour, OffRevision: 99}); again != first {
					b.Errorf("repeated finish = %+v, want %+v", again, first)
				}
				if v := b.view(); v.Off || v.Openings != 0 || !v.CooldownUntil.IsZero() || v.Owned {
					b.Errorf("view = %+v, want on and no gate", v)
				}
				x := b.begin("d2", first.Wake.Generation)
				if x.State != mailbox.Owned {
					b.Fatalf("begin = %+v", x)
				}
				if x := b.exchange("d2", 9); len(x.Claims) != 4 || x.Outdated {
					b.Errorf("exchange = %+v, want all that is left", x)
				}
				if f := b.finish("d2", mailbox.Closing{Probes: 1, Cooldown: time.Hour}); f.Outdated {
					b.Errorf("finish = %+v", f)
				}
				if v := b.view(); v.Openings != 1 {
					b.Errorf("view = %+v, want a closed gate", v)
				}
			})
		})
	}
}

// What voids nothing of a run: settings that leave the endpoint alone, or are old, and a switch that is off.
func TestWhatOutdatesNoRun(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(b *box){
		"Nothing":        func(*box) {},
		"Renamed":        func(b *box) { b.set(6, 3, true); b.set(7, 3, true) },
		"OldSettings":    func(b *box) { b.set(4, 4, true) },
		"SweptTheSame":   func(b *box) { b.sweepSet(5, 3, true) },
		"ToldTheSame":    func(b *box) { b.set(5, 3, true) },
		"AnotherFailed":  func(b *box) { b.finish("d9", mailbox.Closing{Probes: 1, Cooldown: time.Hour}) },
		"BegunAgain":     func(b *box) { b.own("d1") },
		"LowerEndpoint":  func(b *box) { b.set(6, 2, true) },
		"ApprovedAnd":    func(b *box) { b.approve("t9", 5); b.dismiss("t9") },
		"DepositedMore":  func(b *box) { b.tell("t1", "resume6") },
		"StrangersBegin": func(b *box) { b.begin("d9", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.set(5, 3, true)
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				c := b.claim("d1")
				meanwhile(b)
				if x := b.exchange("d1", 0, failed(c, time.Hour)); !x.Owner || x.Outdated {
					b.Errorf("exchange = %+v", x)
				}
				if f := b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour}); f.State != mailbox.Done || f.Outdated {
					b.Errorf("finish = %+v", f)
				}
				if v := b.view(); v.Openings != 1 || v.CircuitState() != "open" {
					b.Errorf("view = %+v, want a closed gate", v)
				}
			})
		})
	}
}

// An outdated owner never stays, though work is due: it may claim none of it.
func TestOutdatedOwnerNeverStays(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.tell("t2", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.clearAlarms()
		b.open()
		first := b.leave("d1", failed(c, time.Hour))
		if first.State != mailbox.Done || !first.Outdated || first.Wake.IsNone() {
			b.Errorf("leave = %+v, want done, outdated and a wake-up", first)
		}
		if again := b.leave("d1", failed(c, time.Hour)); again != first {
			b.Errorf("repeated leave = %+v, want %+v", again, first)
		}
		if b.view().Owned {
			b.Error("the outdated owner stays")
		}
	})
}

// A begin that comes again, or late, makes no run younger than it is.
func TestRepeatedBeginKeepsItsEpoch(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.open()
		b.own("d1")
		if x := b.exchange("d1", 0, failed(c, time.Hour)); !x.Outdated {
			b.Errorf("exchange = %+v, want outdated", x)
		}
		if f := b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour}); !f.Outdated {
			b.Errorf("finish = %+v, want outdated", f)
		}
		b.own("d1") // another run's, were the token not unique
		if x := b.exchange("d1", 1); x.Outdated || len(x.Claims) != 1 {
			b.Errorf("exchange = %+v", x)
		}
	})
}

// A delivery of an outdated run leaves a gate that closed before as it is: the address it reached is
// perhaps not the one of now.
func TestOutdatedRunForgetsNoGate(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 20 * time.Millisecond})
		b.pass(20 * time.Millisecond)
		b.own("d2")
		c := b.claim("d2")
		b.open()
		b.exchange("d2", 0, ok(c))
		b.expect("t1", "5")
		if v := b.view(); v.CooldownUntil.IsZero() {
			b.Errorf("view = %+v, want the gate", v)
		}
		b.finish("d2", mailbox.Closing{})
		if x := b.own("d3"); x.Probes == 0 {
			b.Errorf("begin = %+v, want a probe", x)
		}
	})
}

// Settings of a new endpoint open the gate, whether or not anybody runs; a lost switch is repaired by the
// sweep's. Others leave it closed: a partner that renames itself all day keeps no circuit from opening.
func TestWhatSettingsOpenTheGate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		tell  func(b *box)
		opens bool
	}{
		"NewURL":          {func(b *box) { b.set(6, 6, true) }, true},
		"SweptNewURL":     {func(b *box) { b.sweepSet(9, 6, true) }, true},
		"NewURLWhileOff":  {func(b *box) { b.set(6, 6, false); b.set(7, 7, true) }, true},
		"OnAgainAtTheURL": {func(b *box) { b.set(6, 3, false); b.set(7, 3, true) }, true},
		"Renamed":         {func(b *box) { b.set(6, 3, true); b.sweepSet(7, 3, true) }, false},
		"OldNewURL":       {func(b *box) { b.set(4, 4, true) }, false},
		"ToldTwice":       {func(b *box) { b.set(5, 3, true); b.sweepSet(5, 3, true) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.set(5, 3, true)
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour})
				b.clearAlarms()
				row.tell(b)
				v := b.view()
				if open := v.CircuitState() == "half_open"; open != row.opens || (v.Openings == 0) != row.opens {
					b.Errorf("view = %+v, opened want %v", v, row.opens)
				}
				x := b.begin("d2", 0)
				if (x.State == mailbox.Owned && x.Probes > 0) != row.opens {
					b.Errorf("begin = %+v", x)
				}
			})
		})
	}
}

// A gate that ran out and whose endpoint is another now counts its openings anew.
func TestNewEndpointCountsItsOpeningsAnew(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.set(5, 3, true)
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 20 * time.Millisecond})
		b.pass(20 * time.Millisecond)
		b.set(6, 6, true)
		if x := b.own("d2"); x.Probes == 0 || x.Openings != 0 {
			b.Errorf("begin = %+v", x)
		}
	})
}

func TestViewTellsWhatTheMailboxWasTold(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		if v := b.view(); v.Birth != 0 || v.Revision != 0 || v.EndpointRevision != 0 || v.Former != nil {
			b.Errorf("view of nothing = %+v", v)
		}
		b.birth = 2
		b.set(5, 3, true)
		if v := b.view(); v.Birth != 2 || v.Revision != 5 || v.EndpointRevision != 3 {
			b.Errorf("view = %+v", v)
		}
		b.set(6, 2, true) // never back
		b.own("d1")
		if v := b.view(); v.Revision != 6 || v.EndpointRevision != 3 {
			b.Errorf("view = %+v", v)
		}
		b.finish("d1", mailbox.Closing{OffRevision: 8})
		if v := b.view(); v.Revision != 8 || v.EndpointRevision != 8 || !v.Off {
			b.Errorf("view = %+v", v)
		}
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "srev", "x", "erev", "y").Err())
		if v := b.view(); v.Revision != 0 || v.EndpointRevision != 0 {
			b.Errorf("view = %+v", v)
		}
	})
}
