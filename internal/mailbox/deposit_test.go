package mailbox_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// What a waiting change becomes when newer snapshots come.
func TestDepositFolds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		tells             string // snapshots, one after the other
		want              string
		written, replaced int // of the last
	}{
		"FirstChangeWaits":                {"suspend5", "5 suspend5 due", 1, 0},
		"NewerStatusReplaces":             {"suspend5|resume7", "7 resume7+1 due", 1, 1},
		"EveryReplacementCounts":          {"suspend5|resume7|upgrade8|resume9", "9 resume9+3 due", 1, 1},
		"MoveIsKeptBeside":                {"suspend5|suspend5 move7", "7 suspend5 move7 due", 1, 0},
		"RestoreIsKeptBeside":             {"suspend5|suspend5 move7|suspend5 move7 backup_restored8", "8 suspend5 move7 backup_restored8 due", 1, 0},
		"EachSlotCountsItsOwn":            {"suspend5 move6|suspend5 move7|resume8 move7", "8 resume8+1 move7+1 due", 1, 1},
		"DeleteEmptiesTheOthers":          {"suspend5 move6 backup_restored7|suspend5 move6 backup_restored7 delete8", "8 delete8+1 due", 1, 1},
		"LifeAfterDelete":                 {"suspend5 move6|delete8|delete8 move9", "9 delete8+1 move9 due", 1, 0},
		"RepeatedSnapshotIsSkipped":       {"suspend5|suspend5", "5 suspend5 due", 0, 0},
		"LateSnapshotIsSkipped":           {"suspend5 move7|suspend5", "7 suspend5 move7 due", 0, 0},
		"OvertakenFanOutIsSkipped":        {"resume7|suspend5", "7 resume7 due", 0, 0},
		"LateDeleteEmptiesNothing":        {"delete5 move6 resume7|delete5", "7 resume7 move6 due", 0, 0},
		"SkippedChangesCountAsOneTelling": {"resume9|suspend12 move11", "12 suspend12+1 move11 due", 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				var d mailbox.DepositResult
				for tell := range strings.SplitSeq(row.tells, "|") {
					d = b.tell("t1", tell)
				}
				b.expect("t1", row.want)
				if d.Written != row.written || d.Replaced != row.replaced {
					b.Errorf("last deposit = %+v, want %d written, %d replaced", d, row.written, row.replaced)
				}
			})
		})
	}
}

func TestDepositKeepsFirstDepositedWhileTheSlotWaits(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		first := b.inspect("t1").Entries[tenant.SlotStatus].FirstDepositedMS
		b.pass(50 * time.Millisecond)
		b.tell("t1", "resume6 move7")
		es := b.inspect("t1").Entries
		if got := es[tenant.SlotStatus].FirstDepositedMS; got != first {
			b.Errorf("a replacement first deposited %d, want the replaced one's %d", got, first)
		}
		if got := es[tenant.SlotMove].FirstDepositedMS; got < first+50 {
			b.Errorf("a new slot first deposited %d, want its own time, after %d", got, first+50)
		}
		b.own("d1")
		b.exchange("d1", 0, ok(b.claim("d1")))
		b.tell("t1", "suspend8 move7")
		if e := b.inspect("t1").Entries[tenant.SlotStatus]; e.FirstDepositedMS < first+50 || e.Superseded != 0 {
			b.Errorf("after its slot was told: %+v, want a new time and nothing superseded", e)
		}
	})
}

func TestDepositLeavesOutWhoIsNotApproved(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		d := b.deposit("n", story("t2", "suspend5"), story("t1", "suspend5"))
		b.expect("t1", "5 suspend5 due")
		b.expect("t2", "none")
		if d.Written != 1 || d.Wake.IsNone() {
			b.Errorf("deposit = %+v", d)
		}
	})
}

func TestDepositIsIdempotent(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		recs := []tenant.Record{story("t1", "suspend5"), story("t2", "resume6 move7")}
		first := b.deposit("n", recs...)
		second := b.deposit("n", recs...)
		if first.Wake.IsNone() || second.Wake.Generation != first.Wake.Generation {
			b.Errorf("a repeat answers %+v after %+v, want the same generation", second, first)
		}
		if other := b.deposit("other", recs...); !other.Wake.IsNone() {
			b.Errorf("another's deposit answers %+v, want nothing to enqueue", other)
		}
		b.expect("t1", "5 suspend5 due")
		b.expect("t2", "7 resume6 move7 due")
	})
}

func TestDepositRefusesTooMany(t *testing.T) {
	t.Parallel()
	b := miniBox(t, mailbox.Settings{})
	recs := make([]tenant.Record, mailbox.MaxBatch+1)
	if _, err := b.s.Deposit(t.Context(), testLife, "n", recs); err == nil {
		t.Error("a deposit above MaxBatch was taken")
	}
	_, errs := b.s.DepositMany(t.Context(), "n", []mailbox.Batch{{Life: mailbox.Life{App: "app2"}, Records: toPointers(recs...)}, {Life: testLife, Records: toPointers(recs...)[:1]}})
	if errs[0] == nil || errs[1] != nil {
		t.Errorf("DepositMany errors = %v, want the first alone", errs)
	}
}

func TestDepositManyKeepsAppsApart(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		_, err := b.s.Approve(b.Context(), mailbox.Life{App: "app2"}, 0, []mailbox.Admission{{Tenant: "t1", Top: 5}})
		b.check(err)
		rec := []tenant.Record{story("t1", "suspend5")}
		ds, errs := b.s.DepositMany(b.Context(), "n", []mailbox.Batch{
			{Life: testLife, Records: toPointers(rec...)}, {Life: mailbox.Life{App: "app2"}, Records: toPointers(rec...)}, {Life: mailbox.Life{App: "app3"}, Records: toPointers(rec...)},
		})
		for i, want := range []int{1, 1, 0} {
			if errs[i] != nil || ds[i].Written != want || ds[i].Wake.IsNone() != (want == 0) {
				b.Errorf("deposit %d = %+v, %v, want %d written", i, ds[i], errs[i], want)
			}
		}
	})
}

// A newer change pulls its tenant out of back-off, but does not touch one in flight.
func TestDepositPullsForward(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.tell("t1", "suspend5 move6")
		b.expect("t1", "6 suspend5 move6 flight")
		b.exchange("d1", 0, failed(c, time.Hour))
		b.expect("t1", "6 suspend5!1 move6 later")
		b.tell("t1", "suspend5 move6")
		b.expect("t1", "6 suspend5!1 move6 later") // a repeat pulls nothing
		b.tell("t1", "suspend5 move7")
		b.expect("t1", "7 suspend5!1 move7+1 due")
	})
}

func TestDeleteOfAllThatWaitedLeavesNothingDue(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "move5")
		// A record whose status has no words, after a Delete nobody must hear about.
		b.deposit("n", tenant.Record{Tenant: "t1", Top: 8})
		b.expect("t1", "8")
	})
}

func TestApproveTellsTheStatusOnce(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		if n := b.approve("t1", 7); n != 1 {
			b.Errorf("approve = %d, want one to tell", n)
		}
		b.expect("t1", "7*")
		if n := b.approve("t1", 9); n != 1 {
			b.Errorf("repeated before the deposit = %d, want one to tell", n)
		}
		b.tell("t1", "suspend5 move7")
		// What came before the approval is history, except the status, which bears the top.
		b.expect("t1", "7 suspend7~ due")
		if n := b.approve("t1", 7); n != 0 {
			b.Errorf("repeated after the deposit = %d, want none to tell", n)
		}
		b.expect("t1", "7 suspend7~ due")
	})
}

func TestChangeBetweenReadingTheTopAndAdmittingIsTold(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.tell("t1", "suspend5 move7") // the fan-out finds nobody approved
		b.approve("t1", 5)
		b.tell("t1", "suspend5 move7")
		b.expect("t1", "7 suspend7~ move7 due")
	})
}

func TestAgainTellsTheStatusUnderTheTopWithAFreshID(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		if n := b.again("t1"); n != 0 {
			b.Errorf("resync of an absent tenant = %d", n)
		}
		b.expect("t1", "none")
		b.approved(1, "t1")
		b.tell("t1", "suspend5 move7")
		b.own("d1")
		for range 2 {
			b.exchange("d1", 0, ok(b.claim("d1")))
		}
		b.expect("t1", "7")
		if n := b.again("t1"); n != 1 {
			b.Errorf("resync = %d, want one", n)
		}
		b.again("t1") // a repeat asks once
		b.expect("t1", "7*")
		b.deposit("fresh", story("t1", "suspend5 move7"))
		b.expect("t1", "7 suspend7~ due")
		m, err := b.inspect("t1").Entries[tenant.SlotStatus].Message(testApp, "t1")
		b.check(err)
		if m.WebhookID != "chg_t1_5_fresh" || m.Sequence != 7 {
			b.Errorf("told again as %q with sequence %d", m.WebhookID, m.Sequence)
		}
		b.deposit("later", story("t1", "suspend5 move7"))
		if got := b.inspect("t1").Entries[tenant.SlotStatus].Retold; got != "fresh" {
			b.Errorf("a later repeat renamed the telling to %q", got)
		}
	})
}

func TestAgainWithANewerStatusTellsThatOne(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.again("t1")
		b.tell("t1", "suspend4") // read before: the wish stands
		b.expect("t1", "5* suspend5 due")
		b.tell("t1", "resume8")
		b.expect("t1", "8 resume8+1 due")
	})
}

func TestStatusThatNoChangeBroughtIsToldOnRequestOnly(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		st := tenant.Status{Tenant: "t1", State: tenant.Suspended}
		heads := story("t1", "move7").Heads
		b.approved(1, "t1")
		b.deposit("n1", tenant.NewRecord(st, 7, heads))
		b.expect("t1", "7 move7 due")
		b.again("t1")
		b.deposit("n2", tenant.NewRecord(st, 7, heads))
		b.expect("t1", "7 suspend7~ move7 due")
		b.deposit("n3", tenant.NewRecord(st, 8, story("t1", "move8").Heads))
		b.expect("t1", "8 suspend7~ move8+1 due")
		b.approve("t2", 0)
		b.deposit("n4", tenant.NewRecord(tenant.Status{Tenant: "t2", State: tenant.Running}, 0, [tenant.Slots]tenant.Head{}))
		b.expect("t2", "0 resume0~ due")
		b.approve("t3", 0)
		b.deposit("n5", tenant.NewRecord(tenant.Status{Tenant: "t3", State: tenant.Provisioning}, 0, [tenant.Slots]tenant.Head{}))
		b.expect("t3", "0") // no change type says it
	})
}

// A status that was set since its newest change is told on request in the place of that change, and of
// nobody else: a change that was not deposited yet is told in its turn.
func TestStatusSetSinceItsChange(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		record := func(t tenant.ID, state tenant.State, words string) tenant.Record {
			r := story(t, words)
			return tenant.NewRecord(tenant.Status{Tenant: t, State: state, VersionName: "10.3"}, r.Top, r.Heads)
		}
		b.approved(1, "told", "owed", "asked", "mute")
		b.tell("told", "suspend5")
		b.again("told")
		b.again("asked")
		b.again("mute")
		b.approve("new", 5)
		b.deposit("n1", record("told", tenant.Running, "suspend5"), record("owed", tenant.Running, "suspend5"), record("asked", tenant.Running, "suspend5"),
			record("new", tenant.Running, "suspend5"), record("mute", tenant.MigrationPending, "suspend5"))
		b.expect("told", "5 resume5+1~ due")
		b.expect("owed", "5 suspend5 due")
		b.expect("asked", "5 resume5~ due") // its sequence keeps the change from being told behind it
		b.expect("new", "5 resume5~ due")
		b.expect("mute", "5 suspend5 due") // it was accepted, and nothing else says it
		b.again("told")
		b.again("mute")
		b.approve("silent", 5)
		b.deposit("n2", record("told", tenant.MigrationPending, "suspend5"), record("mute", tenant.MigrationPending, "suspend5"),
			record("silent", tenant.MigrationPending, "suspend5"))
		b.expect("told", "5 resume5+1~ due") // what waits stays
		b.expect("mute", "5 suspend5 due")
		b.expect("silent", "5")
		b.deposit("n3", record("told", tenant.Suspended, "suspend5 move7"))
		b.expect("told", "7 resume5+1~ move7 due")
		m, err := b.inspect("new").Entries[tenant.SlotStatus].Message(testApp, "new")
		b.check(err)
		if m.WebhookID != "status_new_5_n1" || m.Change.Type != tenant.Resume || m.Sequence != 5 {
			b.Errorf("told %+v", m)
		}
	})
}

// The change that a post of the former approval brings is newer than the top that this approval
// read: admitting it would let a late fan-out tell an older status after it.
func TestApprovalThatADismissalOvertook(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		meanwhile func(b *box)
		refused   error
		want      string
	}{
		"Dismissed":        {func(b *box) { b.dismiss("t1") }, mailbox.ErrDismissed, "none flight"},
		"AnotherDismissed": {func(b *box) { b.dismiss("t2") }, nil, "6 resume6+1 flight"}, // t1 was approved all along
		"NobodyDismissed":  {func(b *box) { b.dismiss("nobody") }, nil, "6 resume6+1 flight"},
		"AppDeleted":       {func(b *box) { b.died(9) }, mailbox.ErrGone, "none flight"},
		"AppMadeAgain":     {func(b *box) { b.died(9); b.birth = 10 }, mailbox.ErrDismissed, "none flight"},
		"AppMadeUnknown":   {func(b *box) { b.birth = 10 }, mailbox.ErrDismissed, "none flight"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1", "t2")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.claim("d1")
				since := b.dismissals() // and top 5
				b.tell("t1", "resume6")
				row.meanwhile(b)
				_, err := b.s.Approve(b.Context(), b.life(), since, []mailbox.Admission{{Tenant: "t1", Top: 5}})
				if !errors.Is(err, row.refused) {
					b.Errorf("approve = %v, want %v", err, row.refused)
				}
				if st := b.stands("t1"); st != row.want {
					b.Errorf("t1 stands %q, want %q", st, row.want)
				}
				b.birth = b.view().Birth
				if n := b.approve("t1", 6); row.refused != nil && n != 1 {
					b.Errorf("the approval with what it reads anew = %d", n)
				}
			})
		})
	}
}

// Of several tenants none is admitted, so that the caller reads them all anew.
func TestStaleApprovalAdmitsNobody(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		since := b.dismissals()
		b.dismiss("t1")
		_, err := b.s.Approve(b.Context(), testLife, since, []mailbox.Admission{{Tenant: "t3", Top: 5}, {Tenant: "t2", Top: 5}, {Tenant: "t1", Top: 5}})
		if !errors.Is(err, mailbox.ErrDismissed) {
			b.Errorf("approve = %v", err)
		}
		b.expect("t1", "none")
		b.expect("t3", "none")
	})
}

// The first approval of a tenant is distinguished from a repeat, whatever its top and its count say.
func TestApproveNew(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		first := func(since int64, ts ...mailbox.Admission) (int, error) {
			return b.s.ApproveNew(b.Context(), testLife, since, ts)
		}
		if n, err := first(0, mailbox.Admission{Tenant: "t1", Top: 5}); n != 1 || err != nil {
			b.Errorf("the first = %d, %v", n, err)
		}
		b.expect("t1", "5*")
		for what, ts := range map[string][]mailbox.Admission{"Alone": {{Tenant: "t1", Top: 7}}, "AmongOthers": {{Tenant: "t2", Top: 7}, {Tenant: "t1", Top: 7}}} {
			if n, err := first(0, ts...); n != 0 || !errors.Is(err, mailbox.ErrApproved) {
				b.Errorf("%s: again = %d, %v", what, n, err)
			}
		}
		b.expect("t1", "5*")
		b.expect("t2", "none")
		b.dismiss("t1")
		if _, err := first(0, mailbox.Admission{Tenant: "t1", Top: 5}); !errors.Is(err, mailbox.ErrDismissed) {
			b.Errorf("with a count from before the dismissal: %v", err)
		}
		b.expect("t1", "none")
		if n, err := first(b.dismissals(), mailbox.Admission{Tenant: "t1", Top: 9}); n != 1 || err != nil {
			b.Errorf("after a dismissal = %d, %v", n, err)
		}
		b.expect("t1", "9*")
	})
}

func TestDismissRemovesWhatWaits(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5 move6")
		b.tell("t2", "suspend5")
		if n := b.dismiss("t1", "nobody"); n != 1 {
			b.Errorf("dismiss = %d, want 1", n)
		}
		b.expect("t1", "none")
		b.expect("t2", "5 suspend5 due")
		if n := b.dismiss("t1"); n != 0 {
			b.Errorf("repeated dismiss = %d", n)
		}
		b.tell("t1", "resume9")
		b.expect("t1", "none")
	})
}

// A claim outlives the approval, so that a new approval cannot post beside it.
func TestDismissLeavesTheFlight(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.dismiss("t1")
		b.expect("t1", "none flight")
		b.approve("t1", 5)
		b.tell("t1", "suspend5")
		b.expect("t1", "5 suspend5~ flight")
		b.exchange("d1", 0, ok(c))
		b.expect("t1", "5 suspend5~ due")
	})
}
