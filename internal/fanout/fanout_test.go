package fanout_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const hook = "https://partner.example/hook"

// each runs f on both servers.
func each(t *testing.T, f func(t *testing.T, s *shim)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { f(t, newShim(t, rdb)) })
}

func admin() registry.Actor { return registry.Actor{Name: "tess", Role: "operator", RequestID: "r1"} }

// approve approves and lets the app be told, so that its mailbox is empty again.
func (s *shim) approve(app partner.ClientID, ids ...tenant.ID) {
	s.Helper()
	if err := s.approvals().Approve(s.Context(), app, ids, admin()); err != nil {
		s.Fatal(err)
	}
	s.tell(app)
	s.calls, s.wakes = nil, nil
}

// tell empties an app's mailbox as a drainer does.
func (s *shim) tell(app partner.ClientID) {
	s.Helper()
	const token = "drainer"
	if b := ok[mailbox.BeginResult](s)(s.box.Begin(s.Context(), s.life(app), token, 0)); b.State != mailbox.Owned {
		s.Fatalf("mailbox of %s: %+v", app, b)
	}
	var settled []mailbox.Settlement
	for {
		x := ok[mailbox.ExchangeResult](s)(s.box.Exchange(s.Context(), s.life(app), token, 100, settled))
		if len(x.Claims) == 0 {
			break
		}
		settled = nil
		for _, c := range x.Claims {
			settled = append(settled, mailbox.Settlement{Claim: c, Result: mailbox.OK})
		}
	}
	ok[mailbox.FinishResult](s)(s.box.Finish(s.Context(), s.life(app), token, mailbox.Closing{Force: true}))
}

func (s *shim) owed(id tenant.ID) (mark, listed bool) {
	s.Helper()
	v := ok[registry.TenantView](s)(s.reg.Tenant(s.Context(), id))
	return v.FanoutPending, ok[[]int64](s)(s.reg.ReadTickets(s.Context(), []tenant.ID{id}))[0] != 0
}

func TestRunOrder(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a")
		c := s.accept("a", tenant.Suspend)
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"tickets", "records", "approvers", "deposit", "wake", "clear"}, s.calls); d != "" {
			t.Error(d)
		}
		if got := s.waits("app1", "a", c.Sequence); got != "status +0 x0" {
			t.Error(got)
		}
		if mark, listed := s.owed("a"); mark || listed {
			t.Errorf("owed %v, listed %v", mark, listed)
		}
	})
}

// An app that was created since the apps were last read hears: before any is left out, they are read anew.
func TestRunReadsTheAppsAnewForOneThatIsNotKnown(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a")
		c := s.accept("a", tenant.Suspend)
		s.hook = func(name string) {
			if name != "approvers" {
				return
			}
			s.hook = nil
			s.app("app2", hook)
			if err := s.reg.AddApprover(t.Context(), []tenant.ID{"a"}, "app2"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.box.Approve(t.Context(), s.life("app2"), 0, []mailbox.Admission{{Tenant: "a"}}); err != nil {
				t.Fatal(err)
			}
			s.calls = nil
		}
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"approvers", "refresh", "deposit", "wake", "wake", "clear"}, s.calls); d != "" {
			t.Error(d)
		}
		if got := s.waits("app2", "a", c.Sequence); got != "status +0 x0" {
			t.Errorf("the new app's mailbox holds %q", got)
		}
	})
}

// Wherever a fan-out breaks off, the tenant stays pending, and a repeat ends as if nothing had happened.
func TestRunFaults(t *testing.T) {
	for _, name := range []string{"tickets", "records", "approvers", "deposit", "clear"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					s.approve("app1", "a")
					c := s.accept("a", tenant.Suspend)
					s.fails[name] = how
					if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err == nil {
						t.Error("no error")
					}
					if mark, listed := s.owed("a"); name+how != "clearafter" && (!mark || !listed) {
						t.Errorf("owed %v, listed %v", mark, listed)
					}
					if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
						t.Fatal(err)
					}
					if got := s.waits("app1", "a", c.Sequence); got != "status +0 x0" {
						t.Error(got)
					}
					if mark, _ := s.owed("a"); mark {
						t.Error("still owed")
					}
				})
			})
		}
	}
}

// The apps cannot be read anew, as when one was written by a newer version: known ones are told,
// and only tenants of unknown ones stay pending.
func TestRunWithStaleApps(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.app("mute", "")
		s.approve("app1", "a", "b")
		s.approve("mute", "c")
		if err := s.reg.AddApprover(t.Context(), []tenant.ID{"b"}, "newer"); err != nil {
			t.Fatal(err)
		}
		ids := []tenant.ID{"a", "b", "c"}
		seq := map[tenant.ID]int64{}
		for _, id := range ids {
			seq[id] = s.accept(id, tenant.Suspend).Sequence
		}
		s.fails["refresh"] = "before"
		if err := s.fanout().Run(t.Context(), ids); err == nil {
			t.Error("no error")
		}
		for id, want := range map[tenant.ID]bool{"a": false, "b": true, "c": true} {
			if mark, _ := s.owed(id); mark != want {
				t.Errorf("%s owed: %v", id, mark)
			}
		}
		if s.waits("app1", "a", seq["a"]) != "status +0 x0" || s.waits("app1", "b", seq["b"]) != "status +0 x0" {
			t.Error("the known app was not told")
		}
	})
}

// An app that cannot be read, and of which nothing is known, may get deposits: tenants that approved it stay pending, and
// they alone. It does not count for one that is gone.
func TestRunWithAnAppThatCannotBeRead(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.app("newer", hook)
		s.approve("app1", "a", "b", "c")
		s.app("newer", "")
		ids := []tenant.ID{"a", "b", "c"}
		for id, app := range map[tenant.ID]partner.ClientID{"b": "newer", "c": "gone"} {
			if err := s.reg.AddApprover(t.Context(), []tenant.ID{id}, app); err != nil {
				t.Fatal(err)
			}
		}
		apps := keys.New("").Config(keys.ConfigApps)
		doc := ok[string](t)(s.rdb.HGet(t.Context(), apps, "newer").Result())
		s.rdb.HSet(t.Context(), apps, "newer", strings.Replace(doc, `"v":1`, `"v":9`, 1))
		s.dir = registry.NewDirectory(s.reg)
		seq := map[tenant.ID]int64{}
		for _, id := range ids {
			seq[id] = s.accept(id, tenant.Suspend).Sequence
		}
		if err := s.fanout().Run(t.Context(), ids); err == nil {
			t.Error("no error")
		}
		for id, want := range map[tenant.ID]bool{"a": false, "b": true, "c": false} {
			if mark, _ := s.owed(id); mark != want {
				t.Errorf("%s owed: %v", id, mark)
			}
			if got := s.waits("app1", id, seq[id]); got != "status +0 x0" {
				t.Errorf("%s: %q waits for the app that can be read", id, got)
			}
		}
		if err := s.approvals().Approve(t.Context(), "newer", []tenant.ID{"a"}, admin()); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("approval of an app that cannot be read: %v", err)
		}
		if err := s.approvals().Approve(t.Context(), "app1", []tenant.ID{"d"}, admin()); err != nil {
			t.Errorf("approval of another one: %v", err)
		}
	})
}

// A tenant that cannot be read, as one that a newer version wrote, is the only one that stays pending.
func TestRunWithATenantThatCannotBeRead(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a", "b", "c")
		seq := map[tenant.ID]int64{}
		for _, id := range []tenant.ID{"a", "b", "c"} {
			seq[id] = s.accept(id, tenant.Suspend).Sequence
		}
		if err := s.reg.AddApprover(t.Context(), []tenant.ID{"b"}, "no client id"); err != nil {
			t.Fatal(err)
		}
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a", "b", "c"}); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("error %v, want that one cannot be read", err)
		}
		if s.waits("app1", "a", seq["a"]) != "status +0 x0" || s.waits("app1", "c", seq["c"]) != "status +0 x0" {
			t.Error("the others were not told")
		}
		if mark, listed := s.owed("b"); !mark || !listed {
			t.Errorf("owed %v, listed %v", mark, listed)
		}
	})
}

// A wake-up that is not enqueued is the sweep's business.
func TestRunWithoutAWaker(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a")
		s.accept("a", tenant.Suspend)
		s.fails["wake"] = "before"
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
		if mark, _ := s.owed("a"); mark {
			t.Error("still owed")
		}
	})
}

// One mailbox that fails keeps the mark of its tenants alone; the others' apps are told.
func TestRunWithOneMailboxFailing(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.app("app2", hook)
		s.approve("app1", "a", "b")
		s.approve("app2", "b", "c")
		seq := map[tenant.ID]int64{}
		ids := []tenant.ID{"a", "b", "c"}
		for _, id := range ids {
			seq[id] = s.accept(id, tenant.Suspend).Sequence
		}
		s.refuses["app2"] = true
		s.calls = nil
		if err := s.fanout().Run(t.Context(), ids); err == nil {
			t.Error("no error")
		}
		for id, want := range map[tenant.ID]bool{"a": false, "b": true, "c": true} {
			if mark, _ := s.owed(id); mark != want {
				t.Errorf("%s owed: %v", id, mark)
			}
		}
		if s.waits("app1", "b", seq["b"]) != "status +0 x0" || !slices.Equal(s.wakes, []partner.ClientID{"app1"}) {
			t.Errorf("the other app's mailbox holds %q, woken %v", s.waits("app1", "b", seq["b"]), s.wakes)
		}
		s.refuses = nil
		if err := s.fanout().Run(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		if mark, _ := s.owed("b"); mark || s.waits("app1", "b", seq["b"]) != "status +0 x0" {
			t.Error("a repeat told the first app again, or left the mark")
		}
	})
}

// An app that never had a URL, and one that is gone, hold nobody's mark up.
func TestRunPassesOver(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("mute", "")
		s.approve("mute", "a")
		if err := s.reg.AddApprover(t.Context(), []tenant.ID{"a"}, "gone"); err != nil {
			t.Fatal(err)
		}
		s.accept("a", tenant.Suspend)
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(s.calls, "deposit") || s.standing("mute", "a").HasPending() {
			t.Errorf("deposited: %v", s.calls)
		}
		if mark, _ := s.owed("a"); mark {
			t.Error("still owed")
		}
	})
}

// A change accepted while the fan-out is under way keeps its own mark.
func TestRunOvertaken(t *testing.T) {
	for _, at := range []string{"tickets", "records", "approvers", "refresh", "deposit", "wake", "clear"} {
		t.Run(at, func(t *testing.T) {
			each(t, func(t *testing.T, s *shim) {
				s.app("app1", hook)
				s.approve("app1", "a")
				if at == "refresh" { // for an app that is not known
					if err := s.reg.AddApprover(t.Context(), []tenant.ID{"a"}, "gone"); err != nil {
						t.Fatal(err)
					}
				}
				first := s.accept("a", tenant.Suspend)
				var second registry.Accepted
				s.hook = func(name string) {
					if name == at && second.ID == "" {
						second = s.accept("a", tenant.Resume)
					}
				}
				if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
					t.Fatal(err)
				}
				told := s.standing("app1", "a").Known
				mark, listed := s.owed("a")
				if told != second.Sequence && (!mark || !listed) {
					t.Errorf("told up to %d of %d and %d, owed %v, listed %v", told, first.Sequence, second.Sequence, mark, listed)
				}
				if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
					t.Fatal(err)
				}
				if got := s.standing("app1", "a").Known; got != second.Sequence {
					t.Errorf("told up to %d of %d", got, second.Sequence)
				}
			})
		})
	}
}

// A tenant that is listed but owes nothing is struck off, once no accept can be under way.
func TestRunStrikesOffWhatOwesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age     time.Duration
		cleared int
	}{"MayBeUnderWay": {5 * time.Minute, 0}, "Stale": {11 * time.Minute, 1}, "NotListed": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &listed{}
			if c.age > 0 {
				f.ticket = time.Now().Add(-c.age).UnixMicro()
			}
			s := newShim(t, redistest.Mini(t))
			o := fanout.Options{Tenants: f, Mailboxes: s, Apps: s, Waker: s}
			if err := fanout.New(o).Run(t.Context(), []tenant.ID{"a"}); err != nil {
				t.Fatal(err)
			}
			if len(f.cleared) != c.cleared || len(s.calls) != 0 {
				t.Errorf("cleared %v, calls %v", f.cleared, s.calls)
			}
		})
	}
}

// More tenants than one call takes, to more apps than one, with the numbers that people watch.
func TestRunMany(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.app("app2", hook)
		ids := make([]tenant.ID, 2*mailbox.MaxBatch+7)
		reqs := make([]registry.ChangeRequest, len(ids))
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprintf("t%04d", i))
			reqs[i] = registry.ChangeRequest{Tenant: ids[i], Type: tenant.Suspend}
		}
		s.approve("app1", ids...)
		s.approve("app2", ids[:3]...)
		ok[[]registry.AcceptResult](t)(s.reg.Accept(t.Context(), reqs))
		reg := prometheus.NewPedanticRegistry()
		o := fanout.Options{Tenants: s, Mailboxes: s, Apps: s, Waker: s, Metrics: fanout.NewMetrics(reg)}
		if err := fanout.New(o).Run(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		v1, v2 := ok[mailbox.View](t)(s.box.View(t.Context(), "app1")), ok[mailbox.View](t)(s.box.View(t.Context(), "app2"))
		if v1.Waiting != int64(len(ids)) || v2.Waiting != 3 || ok[int64](t)(s.reg.CountPendingFanouts(t.Context(), 0)) != 0 {
			t.Errorf("waiting: %d and %d", v1.Waiting, v2.Waiting)
		}
		ok[[]registry.AcceptResult](t)(s.reg.Accept(t.Context(), reqs))
		if err := fanout.New(o).Run(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("# HELP lamplighter_superseded_total Pending notifications replaced by a newer change before they were delivered.\n"+
			"# TYPE lamplighter_superseded_total counter\nlamplighter_superseded_total %d\n", len(ids)+3)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "lamplighter_superseded_total"); err != nil {
			t.Error(err)
		}
		if n := testutil.CollectAndCount(reg, "lamplighter_fanout_duration_seconds"); n != 1 {
			t.Errorf("%d histograms", n)
		}
	})
}

func TestRunErrorKeepsItsCause(t *testing.T) {
	t.Parallel()
	s := newShim(t, redistest.Mini(t))
	s.fails["records"] = "before"
	if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); !errors.Is(err, errFake) {
		t.Errorf("error %v", err)
	}
	if err := s.fanout().Run(t.Context(), nil); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

// What was deposited but not confirmed by replicas stays pending, and yet its drain starts at once.
func TestUnconfirmedDepositsWake(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a")
		s.accept("a", tenant.Suspend)
		s.few["app1"], s.wakes = true, nil
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err == nil {
			t.Error("the fan-out says that it is done")
		}
		if v := ok[registry.TenantView](t)(s.reg.Tenant(t.Context(), "a")); !v.FanoutPending || len(s.wakes) != 1 {
			t.Errorf("owed %v, woken %v", v.FanoutPending, s.wakes)
		}
		s.wakes = nil
		if _, err := s.approvals().Resync(t.Context(), "app1", []tenant.ID{"a"}); !errors.Is(err, errFake) || len(s.wakes) != 1 {
			t.Errorf("resync: %v, woken %v", err, s.wakes)
		}
		s.wakes = nil
		if err := s.tellAll(t.Context(), "app1", mailbox.JobResync); !errors.Is(err, errFake) || len(s.wakes) != 1 {
			t.Errorf("job: %v, woken %v", err, s.wakes)
		}
	})
}
