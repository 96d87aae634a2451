package mailbox_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		if x := b.begin("d1", 0); x.State != mailbox.Owned || x.Probes > 0 || x.Openings != 0 || !x.HeldUntil.IsZero() || !x.Wake.IsNone() {
			b.Errorf("begin = %+v", x)
		}
		if x := b.begin("d1", 0); x.State != mailbox.Owned {
			b.Errorf("repeated begin = %+v, want to own it still", x)
		}
		if x := b.begin("d2", 0); x != (mailbox.BeginResult{State: mailbox.Busy}) {
			b.Errorf("another's begin = %+v, want busy", x)
		}
		b.pass(quick().OwnerLease)
		b.own("d2")
		b.exchange("d1", 1)
		if x := b.exchange("d1", 1); x.Owner || len(x.Claims) != 0 {
			b.Errorf("exchange of the replaced owner = %+v", x)
		}
		if x := b.finish("d1", mailbox.Closing{Force: true}); x.State != mailbox.Lost {
			b.Errorf("finish of the replaced owner = %+v", x)
		}
		if b.beats("d1") {
			b.Error("the replaced owner renewed the lease")
		}
	})
}

func (b *box) beats(token string) bool {
	b.Helper()
	is, err := b.s.RenewLease(b.Context(), b.life(), token)
	b.check(err)
	return is
}

// An owner whose lease ran out goes on as long as nobody took the mailbox.
func TestExpiredOwnerThatNobodyReplaced(t *testing.T) {
	t.Parallel()
	for name, renew := range map[string]func(b *box){
		"Exchange": func(b *box) {
			if x := b.exchange("d1", 1); !x.Owner || len(x.Claims) != 1 {
				b.Errorf("exchange = %+v", x)
			}
		},
		"Beat": func(b *box) {
			if !b.beats("d1") {
				b.Error("beat found another owner")
			}
		},
		"Begin": func(b *box) { b.own("d1") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, quick(), func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.pass(quick().OwnerLease)
				renew(b)
				if x := b.begin("d2", 0); x.State != mailbox.Busy {
					b.Errorf("begin of another = %+v, want busy: the lease was renewed", x)
				}
				if f := b.finish("d1", mailbox.Closing{Force: true}); f.State != mailbox.Done {
					b.Errorf("finish = %+v", f)
				}
			})
		})
	}
}

func TestClaimsLowestSequenceFirst(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "move5 backup_restored6 suspend7")
		b.own("d1")
		var told []string
		for range 3 {
			c := b.claim("d1")
			told = append(told, b.words("t1", c.Entry))
			if x := b.exchange("d1", 5); len(x.Claims) != 0 {
				b.Errorf("a second claim of the tenant: %+v", x)
			}
			b.exchange("d1", 0, ok(c))
		}
		if len(told) != 3 || told[0] != "move5" || told[1] != "backup_restored6" || told[2] != "suspend7" {
			b.Errorf("told %v", told)
		}
		b.expect("t1", "7")
	})
}

func TestExchangeTakesNoMoreThanItWants(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2", "t3")
		for _, tn := range []tenant.ID{"t1", "t2", "t3"} {
			b.tell(tn, "suspend5")
		}
		b.own("d1")
		if x := b.exchange("d1", 2); len(x.Claims) != 2 || x.Claims[0].Stamp != x.Claims[1].Stamp {
			b.Errorf("exchange for 2 = %+v", x)
		}
		for _, want := range []int{0, -1} {
			if x := b.exchange("d1", want); len(x.Claims) != 0 || !x.Owner {
				b.Errorf("exchange for %d = %+v", want, x)
			}
		}
		if x := b.exchange("d1", 9); len(x.Claims) != 1 {
			b.Errorf("exchange for 9 = %+v, want the last", x)
		}
	})
}

func TestStampIsTheEndOfTheClaimAndGrows(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.tell("t2", "suspend5")
		b.own("d1")
		from := b.now()
		first := b.claim("d1")
		b.within("stamp", time.UnixMilli(first.Stamp), from, b.now(), mailbox.DefaultEntryLease)
		if second := b.claim("d1"); second.Stamp <= first.Stamp {
			b.Errorf("stamp %d after %d within a millisecond", second.Stamp, first.Stamp)
		}
	})
}

func TestFailedClimbsAndRemembersWhy(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		from := b.now()
		b.exchange("d1", 0, mailbox.Settlement{Claim: b.claim("d1"), Result: mailbox.Failed, Reason: delivery.ReasonTimeout})
		e := b.inspect("t1").Entries[tenant.SlotStatus]
		if e.Attempts != 1 || e.Steps != 0 || e.LastReason != delivery.ReasonTimeout {
			b.Errorf("after the endpoint's fault: %+v", e)
		}
		b.within("last attempt", time.UnixMilli(e.LastAttemptMS), from, b.now(), 0)
		c := b.claim("d1") // due at once
		from = b.now()
		b.exchange("d1", 0, failed(c, time.Hour))
		st := b.inspect("t1")
		b.within("due", st.DueAt, from, b.now(), time.Hour)
		if e = st.Entries[tenant.SlotStatus]; e.Attempts != 2 || e.Steps != 1 || e.LastReason != delivery.ReasonRefused || e.Version != c.Entry.Version {
			b.Errorf("after its own fault: %+v", e)
		}
		b.exchange("d1", 0, failed(c, time.Hour)) // re-sent
		b.expect("t1", "5 suspend5!2 later")
		b.tell("t1", "suspend5 move9")
		b.expect("t1", "9 suspend5!2 move9 due")
		b.tell("t1", "resume10 move9")
		b.expect("t1", "10 resume10+1 move9 due") // a newer change starts its own schedule
	})
}

func TestReleaseCountsNoAttempt(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		b.exchange("d1", 0, release(b.claim("d1")))
		b.expect("t1", "5 suspend5 due")
	})
}

// A result for an entry that was replaced meanwhile makes the newer one due at once.
func TestResultsOfAReplacedEntry(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]mailbox.Settlement{
		"OK": {Result: mailbox.OK}, "Failed": {Result: mailbox.Failed, Delay: time.Hour, Step: true}, "Release": {Result: mailbox.Release},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				result := verdict
				result.Claim = b.claim("d1")
				b.tell("t1", "resume6")
				b.expect("t1", "6 resume6+1 flight")
				b.exchange("d1", 0, result)
				b.expect("t1", "6 resume6+1 due")
			})
		})
	}
}

func TestResultsMayBeRepeated(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.tell("t2", "suspend5 move6")
		b.own("d1")
		rs := []mailbox.Settlement{}
		for _, c := range b.exchange("d1", 2).Claims {
			rs = append(rs, ok(c))
		}
		for range 2 {
			b.exchange("d1", 0, rs...)
			b.expect("t1", "5")
			b.expect("t2", "6 move6 due")
		}
		c := b.claim("d1")
		b.exchange("d1", 0, rs...) // late, while the next claim stands
		b.expect("t2", "6 move6 flight")
		b.exchange("d1", 0, ok(c))
		b.expect("t2", "6")
	})
}

// What somebody who is not the owner may settle: a delivery, and nothing that makes a tenant due.
func TestResultsOfANonOwner(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		tell    string
		verdict func(mailbox.Claim) mailbox.Settlement
		want    string
	}{
		"DeliveryOfAll": {"suspend5", ok, "5"},
		"DeliveryOfOne": {"suspend5 move6", ok, "6 move6 flight"},
		"Failure":       {"suspend5", func(c mailbox.Claim) mailbox.Settlement { return failed(c, 0) }, "5 suspend5 flight"},
		"Release":       {"suspend5", release, "5 suspend5 flight"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", row.tell)
				b.own("d1")
				c := b.claim("d1")
				b.finish("d1", mailbox.Closing{Force: true})
				b.own("d2")
				if x := b.exchange("d1", 5, row.verdict(c)); x.Owner || len(x.Claims) != 0 {
					b.Errorf("exchange of a non-owner = %+v", x)
				}
				b.expect("t1", row.want)
			})
		})
	}
}

// A gate that ran out is forgotten once the owner reports that the endpoint is well: by a delivery,
// or by a refusal that is the notification's own fault.
func TestWhatClearsTheGate(t *testing.T) {
	t.Parallel()
	refused := func(c mailbox.Claim) mailbox.Settlement {
		return mailbox.Settlement{Claim: c, Result: mailbox.Failed, Delay: time.Hour, Step: true, Reason: delivery.ReasonClientError, Well: true}
	}
	for name, row := range map[string]struct {
		result func(mailbox.Claim) mailbox.Settlement
		before func(b *box)
		token  string
		clears bool
		want   string
	}{
		"Delivery":          {ok, nil, "d2", true, "5"},
		"Refusal":           {refused, nil, "d2", true, "5 suspend5!1 later"},
		"RefusalOfOlder":    {refused, func(b *box) { b.tell("t1", "resume6") }, "d2", true, "6 resume6+1 due"},
		"RefusalOfStranger": {refused, nil, "d3", false, "5 suspend5 flight"},
		"Failure":           {func(c mailbox.Claim) mailbox.Settlement { return failed(c, time.Hour) }, nil, "d2", false, "5 suspend5!1 later"},
		"Release":           {release, nil, "d2", false, "5 suspend5 due"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 20 * time.Millisecond})
				b.pass(20 * time.Millisecond)
				b.own("d2")
				c := b.claim("d2")
				if row.before != nil {
					row.before(b)
				}
				for range 2 { // the repeat of a lost answer changes nothing more
					b.exchange(row.token, 0, row.result(c))
				}
				b.expect("t1", row.want)
				if v := b.view(); v.CooldownUntil.IsZero() != row.clears || (v.Openings == 0) != row.clears {
					b.Errorf("gate %v, openings %d, want cleared %v", v.CooldownUntil, v.Openings, row.clears)
				}
			})
		})
	}
}

func TestExpiredClaimsComeBack(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.tell("t2", "suspend5")
		b.own("d1")
		if x := b.exchange("d1", 2); len(x.Claims) != 2 {
			b.Fatalf("exchange = %+v", x)
		}
		b.dismiss("t2")
		b.pass(quick().EntryLease)
		b.own("d2")
		if f := b.finish("d2", mailbox.Closing{}); f.State != mailbox.More {
			b.Errorf("finish = %+v, want more: a claim ran out", f)
		}
		if c := b.claim("d2"); c.Tenant != "t1" || c.Entry.Attempts != 0 {
			b.Errorf("claim = %+v", c)
		}
		b.expect("t1", "5 suspend5 flight")
		b.expect("t2", "none")
	})
}

// A delivery that is reported after its claim ran out leaves no empty tenant due.
func TestLateAckOfATenantThatIsDueAgain(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.pass(quick().EntryLease)
		b.own("d2")
		b.exchange("d2", 0)
		b.expect("t1", "5 suspend5 due")
		b.exchange("d1", 0, ok(c))
		b.expect("t1", "5")
		if f := b.finish("d2", mailbox.Closing{}); f.State != mailbox.Done || !f.Wake.IsNone() {
			b.Errorf("finish = %+v, want nothing left", f)
		}
		if v := b.view(); v.Diverged != 0 {
			b.Errorf("%d diverged tenants, want none", v.Diverged)
		}
	})
}

func (b *box) view() mailbox.View {
	b.Helper()
	v, err := b.s.View(b.Context(), testApp)
	b.check(err)
	return v
}

func TestFinish(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		closing mailbox.Closing
		due     bool
		want    mailbox.FinishState
		wakes   bool
	}{
		"NothingLeft":       {mailbox.Closing{}, false, mailbox.Done, false},
		"WorkLeft":          {mailbox.Closing{}, true, mailbox.More, false},
		"WorkLeftButForced": {mailbox.Closing{Force: true}, true, mailbox.Done, true},
		"EndpointFailed":    {mailbox.Closing{Probes: 1, Cooldown: 2 * time.Second}, true, mailbox.Done, true},
		"EndpointIsGone":    {mailbox.Closing{OffRevision: 7}, true, mailbox.Done, false},
		"GateBeyondHorizon": {mailbox.Closing{Probes: 1, Cooldown: time.Hour}, true, mailbox.Done, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				if row.due {
					b.tell("t1", "suspend5")
				}
				gen := b.deposit("n").Wake.Generation
				if x := b.begin("d1", gen); x.State != mailbox.Owned {
					b.Fatalf("begin = %+v", x)
				}
				b.clearAlarms()
				f := b.finish("d1", row.closing)
				if f.State != row.want || f.Wake.IsNone() == row.wakes {
					b.Errorf("finish = %+v, want %v, wake %v", f, row.want, row.wakes)
				}
				if owned := b.view().Owned; owned != (row.want == mailbox.More) {
					b.Errorf("owned %v after %+v", owned, f)
				}
			})
		})
	}
}

// clearAlarms forgets the wake-ups that are armed, as if their tasks had come.
func (b *box) clearAlarms() {
	b.Helper()
	b.check(b.rdb.HDel(b.Context(), b.key(keys.AppMailbox), "wgen", "wat", "wexp", "fgen", "fat", "fexp").Err())
}

func TestFinishMayBeRepeated(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.own("d1")
		b.tell("t1", "suspend5")
		c := mailbox.Closing{Probes: 1, Cooldown: 5 * time.Second}
		first, second := b.finish("d1", c), b.finish("d1", c)
		if first.Wake.IsNone() || second.State != mailbox.Done || second.Wake.Generation != first.Wake.Generation {
			b.Errorf("finish = %+v, then %+v, want the same wake-up", first, second)
		}
		if v := b.view(); v.Openings != 1 {
			b.Errorf("%d openings, want 1: a repeat closes no gate", v.Openings)
		}
	})
}

func TestFinishThatArmedNothingIsLostWhenRepeated(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.own("d1")
		if f := b.finish("d1", mailbox.Closing{}); f.State != mailbox.Done || !f.Wake.IsNone() {
			b.Errorf("finish = %+v", f)
		}
		if f := b.finish("d1", mailbox.Closing{}); f.State != mailbox.Lost {
			b.Errorf("repeated finish = %+v", f)
		}
	})
}
