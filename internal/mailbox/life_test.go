package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func at(birth int64) mailbox.Life { return mailbox.Life{App: testApp, Birth: birth} }

// died ends the app's life by a deletion of a revision.
func (b *box) died(revision int64) {
	b.Helper()
	b.check(b.s.EndLife(b.Context(), at(revision)))
}

// lives fails unless claims and mailbox were set to expire, or not, as told.
func (b *box) lives(flight, box bool) {
	b.Helper()
	for _, row := range []struct {
		key   keys.AppKey
		least time.Duration
		good  bool
	}{{keys.AppFlight, 23 * time.Hour, flight}, {keys.AppMailbox, 90 * 24 * time.Hour, box}} {
		ttl := b.rdb.TTL(b.Context(), b.key(row.key)).Val()
		if row.good && ttl > 0 || !row.good && ttl < row.least {
			b.Errorf("%s lives %v, for good %v", row.key, ttl, row.good)
		}
	}
}

// cleared takes a page of a former life away, as one page of a job of its own slice.
func cleared(ctx context.Context, s *mailbox.Store, birth int64, ts []tenant.ID) (left int, err error) {
	if _, err := s.MakeClearJob(ctx, at(birth), "", "", true); err != nil {
		return 0, err
	}
	c, is, _, err := s.ClaimJob(ctx, mailbox.ClearJobID(at(birth)), "w1")
	if err != nil || is == mailbox.JobEnded {
		return 0, err
	}
	if left, err = s.RemoveFormerApprovals(ctx, c, ts); left == 0 || err != nil {
		return left, err
	}
	return left, s.ReleaseJob(ctx, c)
}

// formerly lists who was approved in the life before a birth.
func (b *box) formerly(birth int64) []tenant.ID {
	b.Helper()
	ts, err := b.s.ReadFormerApprovals(b.Context(), at(birth))
	b.check(err)
	slices.Sort(ts)
	return ts
}

// A deleted app's approvals are put aside and what waits is removed. Claims and counters outlive it: a
// tenant stays in flight while a post may be out, and no version, stamp or generation comes twice.
func TestDeletionAndRecreation(t *testing.T) {
	t.Parallel()
	each(t, quick(), func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		gen := b.tell("t2", "suspend5").Wake.Generation
		b.turn(3, false)
		b.turn(4, true)
		b.own("d1")
		c := b.claim("d1")
		for range 2 {
			b.died(6)
		}
		b.expect("t2", "none")
		b.expect(c.Tenant, "none flight")
		b.lives(false, true) // while there is something to clear away
		if got := b.formerly(6); !slices.Equal(got, []tenant.ID{"t1", "t2"}) {
			b.Errorf("approved formerly: %v", got)
		}

		b.birth = 7 // made again: nothing of the former life is told
		b.turn(7, true)
		b.lives(true, true)
		b.approve(c.Tenant, 5)
		b.tell(c.Tenant, "suspend5")
		b.expect(c.Tenant, "5 suspend5~ flight")
		if _, err := b.s.Exchange(b.Context(), testLife, "d1", 5, []mailbox.Settlement{ok(c)}); !errors.Is(err, mailbox.ErrGone) {
			b.Errorf("the result of a former life's post: %v", err)
		}
		b.expect(c.Tenant, "5 suspend5~ flight")
		b.pass(quick().EntryLease)
		b.own("d2")
		v := b.claim("d2")
		if v.Entry.Version <= c.Entry.Version || v.Stamp <= c.Stamp {
			b.Errorf("claim %+v repeats the version or the stamp of %+v", v, c)
		}
		b.exchange("d2", 0, ok(v))
		b.clearAlarms()
		b.tell(c.Tenant, "resume6")
		if f := b.finish("d2", mailbox.Closing{Force: true}); f.Wake.Generation <= gen {
			b.Errorf("finish = %+v, want a generation above %d", f, gen)
		}
		b.expect(c.Tenant, "6 resume6 due")
		if got := b.formerly(7); len(got) != 0 {
			b.Errorf("approved between: %v", got)
		}
	})
}

// What a life leaves behind of owner, gate and switch is nothing to the next one.
func TestLifeBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(b *box){
		"Owned":     func(b *box) { b.own("d1") },
		"Gated":     func(b *box) { b.own("d1"); b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour}) },
		"Off":       func(b *box) { b.turn(3, false) },
		"OffAndOn":  func(b *box) { b.turn(3, false); b.turn(4, true) },
		"Replacing": func(b *box) { b.approved(1, "t1"); b.tell("t1", "suspend5"); b.tell("t1", "resume6") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				before(b)
				beside := []string{}
				for _, k := range b.keys.AppLife(testApp) {
					b.check(b.rdb.Set(b.Context(), k, "of the former life", 0).Err())
					beside = append(beside, k)
				}
				b.birth = 9
				b.check(b.s.BeginLife(b.Context(), b.life()))
				for _, k := range beside {
					if b.rdb.Exists(b.Context(), k).Val() != 0 {
						b.Errorf("%s outlives the life", k)
					}
				}
				if v := b.view(); v.Owned || v.Off || v.Openings != 0 || !v.CooldownUntil.IsZero() || v.Superseded != 0 || v.EndpointRevision != 0 || v.Birth != 9 {
					b.Errorf("view = %+v", v)
				}
				if x := b.own("d2"); x.Probes > 0 || x.Openings != 0 || !x.HeldUntil.IsZero() {
					b.Errorf("begin = %+v", x)
				}
			})
		})
	}
}

// writes are all calls that write in a life, each with what it answers in one that is as new as the mailbox
// of an earlier one lets it be.
func writes() map[string]func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
	recs := []tenant.Record{story("t1", "resume9")}
	return map[string]func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error){
		"Deposit": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Deposit(ctx, l, "n", recs)
		},
		"DepositMany": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			ds, errs := s.DepositMany(ctx, "n", []mailbox.Batch{{Life: mailbox.Life{App: "app2"}}, {Life: l, Records: toPointers(recs...)}})
			return ds[1], errors.Join(errs[0], errs[1])
		},
		"Approve": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Approve(ctx, l, 1, []mailbox.Admission{{Tenant: "t9"}})
		},
		"ApproveNew": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.ApproveNew(ctx, l, 1, []mailbox.Admission{{Tenant: "t1"}})
		},
		"Again": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.RequestResync(ctx, l, []mailbox.Admission{{Tenant: "t1"}})
		},
		"Dismiss": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Dismiss(ctx, l, []tenant.ID{"t1"})
		},
		"Begin": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Begin(ctx, l, "d2", 0)
		},
		"Take": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			b, x, err := s.BeginAndClaim(ctx, l, "d2", 0, 5)
			return fmt.Sprint(b, x), err
		},
		"Exchange": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Exchange(ctx, l, "d1", 5, nil)
		},
		"Leave": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.SettleAndFinish(ctx, l, "d1", nil)
		},
		"Finish": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.Finish(ctx, l, "d1", mailbox.Closing{Force: true})
		},
		"Beat": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.RenewLease(ctx, l, "d1")
		},
		"Switch": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.ApplySwitch(ctx, "n", mailbox.Switch{Life: l, Revision: 99, EndpointRevision: 99})
		},
		"Sweep": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			ws, errs := s.RepairWakeUps(ctx, "n", []mailbox.Switch{{Life: mailbox.Life{App: "app2"}}, {Life: l, Revision: 99, EndpointRevision: 99}})
			return ws[1], errors.Join(errs[0], errs[1])
		},
		"Open": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return s.EndCooldown(ctx, l, "n")
		},
		"Born": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return nil, s.BeginLife(ctx, l)
		},
		"Died": func(ctx context.Context, s *mailbox.Store, l mailbox.Life) (any, error) {
			return nil, s.EndLife(ctx, l)
		},
	}
}

// Every call of a life that is over is refused and changes nothing, however often it comes.
func TestCallsOfAFormerLife(t *testing.T) {
	t.Parallel()
	for name, call := range writes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.birth = 7
				b.approved(1, "t1", "t2")
				b.tell("t1", "suspend5")
				b.tell("t2", "suspend5")
				b.own("d1")
				b.claim("d1")
				before := fmt.Sprint(b.dump())
				for _, birth := range []int64{0, 6, -1} {
					if _, err := call(b.Context(), b.s, at(birth)); !errors.Is(err, mailbox.ErrGone) || !strings.Contains(err.Error(), string(testApp)) {
						b.Errorf("of birth %d: %v, want ErrGone and the app", birth, err)
					}
				}
				if after := fmt.Sprint(b.dump()); after != before {
					b.Errorf("the mailbox was rewritten:\n%s\n%s", before, after)
				}
			})
		})
	}
}

// Every call of a life that the mailbox does not know yet puts the former one aside first, and finds an
// empty mailbox. Finish alone finds that it owns nothing; it need not write for that.
func TestCallsOfALifeThatTheMailboxDoesNotKnow(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"Deposit": mailbox.DepositResult{}, "DepositMany": mailbox.DepositResult{}, "Approve": 1, "ApproveNew": 1, "Again": 0, "Dismiss": 0,
		"Begin": mailbox.BeginResult{}, "Take": fmt.Sprint(mailbox.BeginResult{}, mailbox.ExchangeResult{Owner: true}), "Beat": false,
		"Leave": mailbox.FinishResult{State: mailbox.Lost}, "Finish": mailbox.FinishResult{State: mailbox.Lost},
		"Switch": mailbox.Wake{}, "Sweep": mailbox.Wake{}, "Open": mailbox.Wake{}, "Born": nil, "Died": nil,
	}
	for name, call := range writes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1", "t2")
				b.tell("t2", "suspend5")
				b.own("d1")
				if b.clock != nil { // a restart besides; other tests have the real servers' scripts too
					b.check(b.rdb.ScriptFlush(b.Context()).Err())
				}
				got, err := call(b.Context(), b.s, at(7))
				b.check(err)
				if name == "Exchange" {
					if x := got.(mailbox.ExchangeResult); x.Owner {
						b.Errorf("exchange = %+v", x)
					}
				} else if got != want[name] {
					b.Errorf("answer = %+v, want %+v", got, want[name])
				}
				v := b.view()
				if name == "Finish" {
					if v.Birth != 0 || v.Approvals != 2 || v.Waiting != 1 {
						b.Errorf("view = %+v, want what was", v)
					}
					return
				}
				if v.Birth != 7 || v.Waiting != 0 || v.Approvals > 1 || !slices.Equal(v.Former, []int64{7}) {
					b.Errorf("view = %+v", v)
				}
				if got := b.formerly(7); !slices.Equal(got, []tenant.ID{"t1", "t2"}) {
					b.Errorf("approved formerly: %v", got)
				}
			})
		})
	}
}

// Of many mailboxes in one call each has its own life.
func TestManyCallsOfManyLives(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		lives := []mailbox.Life{{App: "app2", Birth: 5}, {App: "app3", Birth: 5}, {App: "app4", Birth: 5}}
		for _, l := range lives {
			_, err := b.s.Approve(b.Context(), l, 0, []mailbox.Admission{{Tenant: "t1", Top: 1}})
			if errors.Is(err, mailbox.ErrDismissed) { // the count that the birth raised
				_, err = b.s.Approve(b.Context(), l, 1, []mailbox.Admission{{Tenant: "t1", Top: 1}})
			}
			b.check(err)
		}
		lives[0].Birth, lives[2].Birth = 4, 6
		batches, sws := []mailbox.Batch{}, []mailbox.Switch{}
		for _, l := range lives {
			batches = append(batches, mailbox.Batch{Life: l, Records: toPointers(story("t1", "suspend5"))})
			sws = append(sws, mailbox.Switch{Life: l, Revision: 9, On: true})
		}
		ds, errs := b.s.DepositMany(b.Context(), "n", batches)
		if !errors.Is(errs[0], mailbox.ErrGone) || errs[1] != nil || ds[1].Written != 1 || errs[2] != nil || ds[2].Written != 0 {
			b.Errorf("deposits = %+v, %v", ds, errs)
		}
		if _, errs := b.s.RepairWakeUps(b.Context(), "n", sws); !errors.Is(errs[0], mailbox.ErrGone) || errs[1] != nil || errs[2] != nil {
			b.Errorf("sweep: %v", errs)
		}
		vs, errs := b.s.Views(b.Context(), []partner.ClientID{"app2", "app3", "app4"})
		b.check(errors.Join(errs...))
		for i, want := range []mailbox.View{{Birth: 5, Approvals: 1}, {Birth: 5, Approvals: 1, Waiting: 1, Revision: 9}, {Birth: 6, Revision: 9}} {
			if v := vs[i]; v.Birth != want.Birth || v.Approvals != want.Approvals || v.Waiting != want.Waiting || v.Revision != want.Revision {
				b.Errorf("view %d = %+v, want %+v", i, v, want)
			}
		}
	})
}

// Beginnings and ends that come twice, late or in another order.
func TestBeginningsAndEnds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		turns string // b: BeginLife, d: EndLife, w: a write; each with its birth, and ! where it is refused
		birth int64
		stays bool
	}{
		"Born":                 {"b5", 5, true},
		"BornTwice":            {"b5 b5", 5, true},
		"BornLate":             {"b7 b5!", 7, true},
		"Died":                 {"b5 d6", 6, false},
		"DiedTwice":            {"b5 d6 d6", 6, false},
		"DiedLate":             {"b5 b7 d6! b7", 7, true},
		"DiedAndBornLate":      {"b5 d6 b5!", 6, false},
		"DiedUnknown":          {"d6", 6, false},
		"MadeAgain":            {"b5 d6 b7", 7, true},
		"MadeAgainByAWrite":    {"b5 d6 w7", 7, true},
		"AnOlderVersionMadeIt": {"b5 d6 b6", 6, true},
		"AndTheEndComesAgain":  {"b5 d6 b6 d6", 6, true},
		"AndTheEndComesLate":   {"b5 w6 d6", 6, true},
		"WriteOfOneThatIsOver": {"b5 d6 w5!", 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				for turn := range strings.FieldsSeq(row.turns) {
					birth, err := strconv.ParseInt(strings.TrimSuffix(turn[1:], "!"), 10, 64)
					b.check(err)
					switch turn[0] {
					case 'b':
						err = b.s.BeginLife(b.Context(), at(birth))
					case 'd':
						err = b.s.EndLife(b.Context(), at(birth))
					default:
						_, err = b.s.RenewLease(b.Context(), at(birth), "d1")
					}
					if errors.Is(err, mailbox.ErrGone) != strings.HasSuffix(turn, "!") {
						b.Errorf("%s: %v", turn, err)
					}
				}
				if v := b.view(); v.Birth != row.birth {
					b.Errorf("birth %d, want %d", v.Birth, row.birth)
				}
				if ttl := b.rdb.TTL(b.Context(), b.key(keys.AppMailbox)).Val(); ttl > 0 == row.stays {
					b.Errorf("the mailbox lives %v, for good %v", ttl, row.stays)
				}
			})
		})
	}
}

// A deletion that arrives late, or again, must not let the claims of the app's next life run out.
func TestWhatKeepsAMailboxThatWasSetToExpire(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		call  func(b *box)
		birth int64
	}{
		"Switch":       {func(b *box) { b.turn(9, true) }, 9},
		"Approval":     {func(b *box) { b.approve("t1", 5) }, 9},
		"Deposit":      {func(b *box) { b.tell("t1", "resume6") }, 9},
		"SameSwitch":   {func(b *box) { b.turn(9, true) }, 6}, // made again by an older version
		"SameApproval": {func(b *box) { b.approve("t1", 5) }, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.turn(3, true)
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.claim("d1")
				b.died(6)
				b.birth = row.birth
				row.call(b)
				b.lives(true, true)
				if err := b.s.EndLife(b.Context(), at(6)); (err != nil) != (row.birth > 6) {
					b.Errorf("the end again: %v", err)
				}
				b.lives(true, true)
			})
		})
	}
}

// A former life's approvals are taken away page by page; several former lives at once stand side by side.
func TestFormerLivesAreClearedPageByPage(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		const crowd = mailbox.MaxBatch + 30
		ts := make([]tenant.ID, crowd)
		for i := range ts {
			ts[i] = tenant.ID(fmt.Sprintf("t%03d", i))
		}
		b.approved(1, ts...)
		b.birth = 5
		b.approved(1, "a1", "a2", "a3")
		b.died(6)
		b.birth = 8 // nobody approved it between
		b.approved(1, "t000")
		if v := b.view(); !slices.Equal(v.Former, []int64{5, 6}) || v.Approvals != 1 || v.Birth != 8 {
			b.Fatalf("view = %+v", v)
		}

		clear := func(birth int64, ts ...tenant.ID) int {
			left, err := cleared(b.Context(), b.s, birth, ts)
			b.check(err)
			return left
		}
		var seen []tenant.ID
		for left := crowd; left > 0; {
			page, err := b.s.ReadFormerApprovals(b.Context(), at(5))
			b.check(err)
			if len(page) == 0 || len(page) > mailbox.MaxBatch {
				b.Fatalf("a page of %d of %d", len(page), left)
			}
			left -= len(page)
			for range 2 { // a repeat finds nothing to do
				if got := clear(5, page...); got != left {
					b.Errorf("%d are left, want %d", got, left)
				}
			}
			if v := b.view(); slices.Contains(v.Former, 5) != (left > 0) || !slices.Contains(v.Former, 6) {
				b.Errorf("%d left, former lives %v", left, v.Former)
			}
			seen = append(seen, page...)
		}
		slices.Sort(seen)
		if !slices.Equal(seen, ts) {
			b.Errorf("%d were listed, want each of %d once", len(seen), crowd)
		}
		if got := b.formerly(6); !slices.Equal(got, []tenant.ID{"a1", "a2", "a3"}) {
			b.Errorf("of the other life are left: %v", got)
		}
		if left := clear(6, "a1", "nobody"); left != 2 {
			b.Errorf("%d are left, want 2", left)
		}
		if left := clear(6, "a2", "a3"); left != 0 {
			b.Errorf("%d are left", left)
		}
		if v := b.view(); len(v.Former) != 0 || v.Approvals != 1 {
			b.Errorf("view = %+v, want the living approval alone", v)
		}
		if left := clear(6); left != 0 { // long gone
			b.Errorf("%d are left", left)
		}
	})
}

// The mailbox of a deleted app expires once nothing of its former lives is left, and not before: what is to be
// cleared away would be forgotten. Where the app was made again meanwhile, it stays.
func TestMailboxOfADeletedAppExpires(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		again func(b *box)
		stays bool
	}{
		"Deleted":    {func(*box) {}, false},
		"MadeAgain":  {func(b *box) { b.birth = 9; b.turn(9, true) }, true},
		"Born":       {func(b *box) { b.check(b.s.BeginLife(b.Context(), at(6))) }, true}, // by an older version
		"Switched":   {func(b *box) { b.birth = 6; b.turn(7, true) }, true},
		"Approved":   {func(b *box) { b.birth = 6; b.approve("t1", 5) }, true},
		"ToldBefore": {func(b *box) { b.died(6) }, false},
		"ByOlder": { // which knows nothing of what ended
			func(b *box) {
				b.check(b.rdb.HSet(b.Context(), b.key(keys.AppTenants), "t1", "5*").Err())
				b.check(b.rdb.Persist(b.Context(), b.key(keys.AppFlight)).Err())
			}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1", "t2")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.claim("d1")
				b.birth = 5
				b.approved(1, "t1")
				b.died(6)
				b.lives(false, true)
				row.again(b)
				for birth, page := range map[int64][]tenant.ID{5: {"t1", "t2"}, 6: {"t1"}} {
					b.lives(row.stays, true)
					left, err := cleared(b.Context(), b.s, birth, page)
					if left != 0 || err != nil {
						b.Errorf("%d left, %v", left, err)
					}
				}
				b.lives(row.stays, row.stays)
			})
		})
	}
}
