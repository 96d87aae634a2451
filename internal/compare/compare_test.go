package compare_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var (
	apps = []partner.ClientID{"app1", "app2"}
	ids  = []tenant.ID{"a", "b", "c"}
)

// healthy are two apps that all tenants approved, in step.
func healthy(w *world) {
	w.Helper()
	for _, app := range apps {
		w.app(app, hook)
		w.approve(app, ids...)
	}
	for _, id := range ids {
		w.change(id, tenant.Resume)
	}
	for _, app := range apps {
		w.tell(app)
	}
	w.want(map[string]int{})
	w.now = w.now.Add(3 * time.Hour) // the index is due again
}

// Each kind of gap is found, closed and counted within a round, and no other; the next round is fast and finds nothing.
func TestEachKindOfGapIsClosedAndCounted(t *testing.T) {
	for name, row := range map[string]struct {
		damage func(w *world)
		want   map[string]int
		// told is what app1 is told by the repair.
		told []string
	}{
		"ApprovalWithoutEntry": {func(w *world) {
			w.must(w.reg.RemoveApprover(w.Context(), []tenant.ID{"b"}, "app1"))
			w.change("b", tenant.Suspend) // is told to nobody who is not in the index
		}, map[string]int{"index": 1, "behind": 1}, []string{"b suspend"}},
		"EntryWithoutApproval": {func(w *world) {
			w.must(w.reg.AddApprover(w.Context(), []tenant.ID{"x", "b"}, "app3"))
		}, map[string]int{"index": 2}, nil},
		"EntryOfATenantThatNoMailboxHas": {func(w *world) {
			w.must(w.reg.AddApprover(w.Context(), []tenant.ID{"x"}, "app1"))
		}, map[string]int{"index": 1}, nil},
		"LostDeposit": {func(w *world) {
			was := w.snapshot("app1")
			w.change("b", tenant.Suspend)
			w.lose("app1", was)
		}, map[string]int{"behind": 1}, []string{"b suspend"}},
		"LostRecord": {func(w *world) {
			was := w.snapshot("b")
			w.change("b", tenant.Suspend)
			w.tell("app1")
			w.lose("b", was)
		}, map[string]int{"ahead": 1}, []string{"b resume"}},
		"LostResync": {func(w *world) {
			w.app("app3", "")
			w.approve("app3", ids...)
			w.app("app3", hook) // and the resync is never enqueued
		}, map[string]int{"retell": 3}, nil},
		"LostListing": {func(w *world) {
			w.accept("b", tenant.Suspend)
			w.must(w.rdb.ZRem(w.Context(), w.keys.Pending(keys.PendingTenants), "b").Err())
		}, map[string]int{"listing": 1}, []string{"b suspend"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				healthy(w)
				row.damage(w)
				w.want(row.want)
				w.whole(append(slices.Clone(apps), "app3"), append(slices.Clone(ids), "x")...)
				if got := w.tell("app1"); !slices.Equal(got, row.told) {
					t.Errorf("told %q, want %q", got, row.told)
				}
				w.want(map[string]int{})
				if c := ok[registry.Comparison](t)(w.reg.Comparison(t.Context())); c.WantsFastRound() {
					t.Error("another fast round is owed although the last one found nothing")
				}
			})
		})
	}
}

// A registry that lost a told change tells what it still knows under a sequence above it: to all, also of moves and
// of a status that no change brought, and the pull's answer stays.
func TestARecordThatLostItsLastSecondIsToldAnew(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		healthy(w)
		w.change("a", tenant.Move)
		w.tell("app1")
		w.tell("app2")
		before, was := w.view("a"), w.snapshot("a")
		lost := w.change("a", tenant.Suspend)
		w.tell("app1") // app2 has it waiting
		w.lose("a", was)
		w.want(map[string]int{"ahead": 1})
		after := w.view("a")
		if after.Record.Top <= lost || after.Status != before.Status {
			t.Errorf("top %d after %d was told, status %+v, was %+v", after.Record.Top, lost, after.Status, before.Status)
		}
		w.whole(apps, ids...)
		for _, app := range apps {
			if got := w.tell(app); !slices.Equal(got, []string{"a resume", "a move"}) {
				t.Errorf("%s was told %q", app, got)
			}
		}
		for _, h := range after.Record.Heads {
			if h.Sequence > 0 {
				if c := ok[tenant.Change](t)(w.reg.Change(t.Context(), h.Change.ID)); c.Sequence != h.Sequence {
					t.Errorf("change %s has sequence %d, want %d", h.Change.ID, c.Sequence, h.Sequence)
				}
			}
		}
		if next := w.accept("a", tenant.Suspend); next <= after.Record.Top {
			t.Errorf("the next change has sequence %d after %d", next, after.Record.Top)
		}
	})
}

// What is under way is no gap, however long it takes.
func TestWhatIsUnderWayIsNoGap(t *testing.T) {
	for name, begin := range map[string]func(w *world){
		"FanOut": func(w *world) { w.accept("a", tenant.Suspend) },
		"Approval": func(w *world) {
			ok[[]registry.UnfinishedApproval](w)(w.reg.RecordUnfinishedApprovals(w.Context(), "app1", []tenant.ID{"x"}))
			w.must(w.reg.AddApprover(w.Context(), []tenant.ID{"x"}, "app1"))
		},
		"Dismissal": func(w *world) {
			ok[[]registry.UnfinishedApproval](w)(w.reg.RecordUnfinishedApprovals(w.Context(), "app1", []tenant.ID{"a"}))
			ok[int](w)(w.box.Dismiss(w.Context(), w.life("app1"), []tenant.ID{"a"}))
		},
		"FormerLifeIsClearedAway": func(w *world) {
			revision := ok[int64](w)(w.reg.DeleteApp(w.Context(), "app1", registry.AnyRevision, registry.Actor{Name: "test"}))
			w.must(w.box.EndLife(w.Context(), mailbox.Life{App: "app1", Birth: revision}))
		},
		"FirstURL": func(w *world) {
			w.ahead = 0
			w.app("app3", "")
			w.approve("app3", ids...)
			w.app("app3", hook)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				healthy(w)
				begin(w)
				for range 3 {
					w.want(map[string]int{})
				}
			})
		})
	}
}

// Nor is what a call is about that begins while a suspect is looked at again: here an approval, that was seen in its midst once before
// and dismissed meanwhile, is given anew, and dismissed before it is looked at last.
func TestACallThatBeginsMeanwhileIsNoGap(t *testing.T) {
	for name, end := range map[string]func(w *world, calls []registry.UnfinishedApproval){
		"GoesOn": func(*world, []registry.UnfinishedApproval) {},
		"EndsAndIsDismissed": func(w *world, calls []registry.UnfinishedApproval) {
			ok[int](w)(w.box.Approve(w.Context(), w.life("app1"), 0, []mailbox.Admission{{Tenant: "x"}}))
			ok[int](w)(w.box.Dismiss(w.Context(), w.life("app1"), []tenant.ID{"x"}))
			w.must(w.reg.FinishApprovals(w.Context(), calls))
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				healthy(w)
				x := []tenant.ID{"x"}
				w.must(w.reg.AddApprover(w.Context(), x, "app1"))
				w.around = [2]func(){
					func() { w.must(w.reg.RemoveApprover(w.Context(), x, "app1")) },
					func() {
						calls := ok[[]registry.UnfinishedApproval](w)(w.reg.RecordUnfinishedApprovals(w.Context(), "app1", x))
						w.must(w.reg.AddApprover(w.Context(), x, "app1"))
						w.around = [2]func(){func() { end(w, calls) }, func() {
							w.around = [2]func(){func() { w.must(w.reg.RemoveApprover(w.Context(), x, "app1")) }, func() {}}
						}}
					},
				}
				w.want(map[string]int{})
			})
		})
	}
}

// Changes, fan-outs, approvals, dismissals and resyncs that run all the time leave no gap, and none is seen.
func TestAHealthyWorldUnderLoadHasNoGap(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		healthy(w)
		w.compareAlways()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var work sync.WaitGroup
		work.Go(func() { w.comparer.Run(ctx) })
		loop := func(f func(ctx context.Context, n int) error) {
			work.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					// what began ends, as calls do
					if err := f(t.Context(), n); err != nil && !errors.Is(err, mailbox.ErrDismissed) {
						t.Error(err)
						return
					}
				}
			})
		}
		actor := registry.Actor{Name: "test"}
		types := []tenant.ChangeType{tenant.Suspend, tenant.Resume, tenant.Upgrade, tenant.Delete}
		for _, id := range ids {
			loop(func(ctx context.Context, n int) error {
				_, err := w.reg.Accept(ctx, []registry.ChangeRequest{{Tenant: id, Type: types[n%len(types)]}})
				return errors.Join(err, w.fan.Run(ctx, []tenant.ID{id}))
			})
		}
		loop(func(ctx context.Context, _ int) error {
			return errors.Join(w.approvals.Dismiss(ctx, "app1", ids, actor), w.approvals.Approve(ctx, "app1", ids, actor))
		})
		loop(func(ctx context.Context, _ int) error {
			_, err := w.approvals.Resync(ctx, "app2", ids)
			return err
		})
		work.Wait()
		if got := w.closed(); len(got) > 0 {
			t.Errorf("closed %v in a healthy world", got)
		}
		if c := ok[registry.Comparison](t)(w.reg.Comparison(t.Context())); c.Completed.Before(w.now) {
			t.Errorf("no round was complete: %+v", c)
		}
		w.whole(apps, ids...)
	})
}

// A failover that lost the last second of one slot is healed by one fast round, and nobody resyncs.
func TestAFailoverHealsItself(t *testing.T) {
	owed := func(w *world) {
		w.accept("a", tenant.Suspend)
		w.accept("b", tenant.Suspend)
	}
	for name, row := range map[string]struct {
		tag  string
		do   func(w *world)
		want map[string]int
	}{
		"App": {"app1", func(w *world) {
			w.change("a", tenant.Suspend)
			w.must(w.approvals.Dismiss(w.Context(), "app1", []tenant.ID{"b"}, registry.Actor{Name: "test"}))
			w.approve("app1", "d")
			w.tell("app1")
		}, map[string]int{"behind": 1, "index": 2}},
		"Tenant": {"a", func(w *world) {
			w.change("a", tenant.Suspend)
			w.app("app3", hook)
			w.approve("app3", "a")
			w.tell("app1")
		}, map[string]int{"ahead": 1, "index": 1}},
		"Owed": {"owed", owed, map[string]int{"listing": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				healthy(w)
				was := w.snapshot(row.tag)
				row.do(w)
				w.lose(row.tag, was)
				w.primaries = "two"
				w.want(row.want)
				w.whole([]partner.ClientID{"app1", "app2", "app3"}, "a", "b", "c", "d")
				if c := ok[registry.Comparison](t)(w.reg.Comparison(t.Context())); c.Gaps == 0 {
					t.Error("the round says that it closed nothing")
				}
			})
		})
	}
}

// A world at rest is compared slowly. It is compared fast, from the start, for one round after another server answers, the
// settings went back, or anybody asks.
func TestFastRounds(t *testing.T) {
	for name, reason := range map[string]func(w *world){
		"OtherPrimary": func(w *world) { w.primaries = "two" },
		"Asked":        func(w *world) { ok[int64](w)(w.reg.RequestFastRound(w.Context())) },
		"AskedWithAnotherType": func(w *world) {
			w.must(w.rdb.LPush(w.Context(), w.keys.Config(keys.ConfigFastRound), "odd").Err())
			ok[int64](w)(w.reg.RequestFastRound(w.Context()))
		},
		"SettingsWentBack": func(w *world) {
			was := w.snapshot("config")
			w.app("app1", hook+"/other")
			w.lose("config", was)
		},
		"OtherPrimaryWhileNobodyCompared": func(w *world) {
			w.restart()
			w.primaries = "two"
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				w.slow = 1
				w.restart()
				healthy(w)
				slow, _ := w.round()
				reason(w)
				fast, _ := w.round()
				again, _ := w.round()
				if slow < 40*time.Second || fast > slow/2 || again < 40*time.Second {
					t.Errorf("rounds took %v, %v when asked, and %v then", slow, fast, again)
				}
			})
		})
	}
}

// Whoever takes the lease goes on where the last holder stopped.
func TestANewHolderGoesOn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		healthy(w)
		w.now = w.now.Add(time.Hour)
		ok[time.Duration](t)(w.comparer.Step(t.Context())) // begins a round and compares app1
		before := ok[registry.Comparison](t)(w.reg.Comparison(t.Context()))
		if before.Compared == 0 || before.Cursor == "" {
			t.Fatalf("nothing compared: %+v", before)
		}
		w.restart()
		ok[time.Duration](t)(w.comparer.Step(t.Context()))
		after := ok[registry.Comparison](t)(w.reg.Comparison(t.Context()))
		if !after.Started.Equal(before.Started) || after.Compared <= before.Compared {
			t.Errorf("went on as %+v after %+v", after, before)
		}
	})
}

// One mailbox, one record and one index that cannot be read keep nothing else from being compared.
func TestWhatIsBrokenStopsNothingElse(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		healthy(w)
		w.must(w.reg.RemoveApprover(t.Context(), []tenant.ID{"b"}, "app2"))
		w.must(w.reg.AddApprover(t.Context(), []tenant.ID{"y"}, "app2"))
		w.must(w.rdb.HSet(t.Context(), w.keys.Tenant("a", keys.TenantRecord), "v", "9").Err())
		w.must(w.rdb.SAdd(t.Context(), w.keys.Tenant("z", keys.TenantApprovals), "no client id!").Err())
		w.must(w.rdb.Del(t.Context(), w.keys.App("app1", keys.AppTenants)).Err())
		w.must(w.rdb.Set(t.Context(), w.keys.App("app1", keys.AppTenants), "foreign", redis.KeepTTL).Err())
		for range 40 {
			wait, _ := w.comparer.Step(t.Context())
			w.now = w.now.Add(wait)
		}
		if got := w.index("b"); !slices.Contains(got, "app2") {
			t.Errorf("index of b: %v", got)
		}
		if got := w.index("y"); len(got) != 0 {
			t.Errorf("index of y: %v", got)
		}
	})
}
