package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The repair's side of the shim. For it, a minute has always passed.

func (s *shim) ReadUnfinishedApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]registry.UnfinishedApproval, error) {
	if waited != time.Minute {
		return nil, fmt.Errorf("asked for those of %v", waited)
	}
	var list []registry.UnfinishedApproval
	err := s.do("unsettled", func() (err error) {
		list, err = s.reg.ReadUnfinishedApprovals(ctx, 0, skip, limit)
		return err
	})
	return list, err
}

func (s *shim) repairer() *fanout.Repairer {
	return fanout.NewRepairer(fanout.RepairOptions{Approvals: s.approvals(), Index: s})
}

func (s *shim) repair() {
	s.Helper()
	if err := errors.Join(s.dir.Refresh(s.Context()), s.repairer().Repair(s.Context())); err != nil {
		s.Fatal(err)
	}
}

// outOfStep tells where index and mailbox disagree on who approved whom, or what is approved does
// not know the newest.
func (s *shim) outOfStep(apps []partner.ClientID, ids ...tenant.ID) (out []string) {
	s.Helper()
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, id := range ids {
		listed := approvers(s, s, id)
		v := ok[registry.TenantView](s)(s.reg.Tenant(s.Context(), id))
		for _, app := range apps {
			st := s.standing(app, id)
			if is := slices.Contains(listed, app); st.Approved != is {
				bad("%s of %s: approved %v, in the index %v", id, app, st.Approved, is)
			}
			if !st.Approved {
				continue
			}
			if st.Known != v.Record.Top || st.Again {
				bad("%s of %s: stands at %d (again %v), the tenant at %d", id, app, st.Known, st.Again, v.Record.Top)
			}
			for slot, e := range st.Entries {
				if h := v.Record.Heads[slot]; e != nil && e.Retold == "" && e.Sequence != h.Sequence {
					bad("%s of %s: %v waits at %d, the newest is %d", id, app, tenant.Slot(slot), e.Sequence, h.Sequence)
				}
			}
		}
	}
	return out
}

// inStep fails unless all are in step.
func (s *shim) inStep(apps []partner.ClientID, ids ...tenant.ID) {
	s.Helper()
	for _, bad := range s.outOfStep(apps, ids...) {
		s.Error(bad)
	}
}

// Wherever an approval, a dismissal or a resync breaks off and is never repeated, the repair makes the index
// match, and what was accepted meanwhile is told.
func TestRepairFinishesWhatBrokeOff(t *testing.T) {
	for _, row := range []struct{ what, calls string }{
		{"approve", "note index dismissals records admit inspect deposit settle"},
		{"dismiss", "note dismiss unindex inspect settle"},
		{"resync", "note records again deposit settle"},
	} {
		for name := range strings.FieldsSeq(row.calls) {
			for _, how := range []string{"before", "after"} {
				t.Run(row.what+" "+name+" "+how, func(t *testing.T) {
					each(t, func(t *testing.T, s *shim) {
						s.app("app1", hook)
						a := s.approvals()
						change := a.Approve
						switch row.what {
						case "dismiss":
							s.approve("app1", "a")
							change = a.Dismiss
						case "resync":
							s.accept("a", tenant.Upgrade)
							s.approve("app1", "a")
							change = func(ctx context.Context, app partner.ClientID, ts []tenant.ID, _ registry.Actor) error {
								_, err := a.Resync(ctx, app, ts)
								return err
							}
						}
						s.fails[name] = how
						if err := change(t.Context(), "app1", []tenant.ID{"a"}, admin()); !errors.Is(err, errFake) {
							t.Fatalf("error %v", err)
						}
						if row.what != "resync" { // whose telling a later change would do on the way
							s.accept("a", tenant.Suspend)
							if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
								t.Fatal(err)
							}
						}
						s.repair()
						s.inStep([]partner.ClientID{"app1"}, "a")
						if left := ok[[]registry.UnfinishedApproval](t)(s.reg.ReadUnfinishedApprovals(t.Context(), 0, 0, 10)); len(left) != 0 {
							t.Errorf("still unsettled: %v", left)
						}
					})
				})
			}
		}
	}
}

func TestUnreadableNoteFailsTheRepair(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newShim(t, rdb)
	rdb.ZAdd(t.Context(), keys.New("").Pending(keys.PendingApprovals), redis.Z{Member: "nobody", Score: 1})
	if err := s.repairer().Repair(t.Context()); !errors.Is(err, registry.ErrUnreadable) {
		t.Errorf("error %v", err)
	}
}

// One mailbox that cannot be served keeps no other from being repaired, however much is listed before.
func TestOneBrokenMailboxStopsNoOther(t *testing.T) {
	t.Run("Unsettled", func(t *testing.T) {
		t.Parallel()
		rdb := redistest.Real(t)
		s := newShim(t, rdb)
		ids := make([]tenant.ID, 500)
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprintf("t%03d", i))
		}
		s.app("app1", hook)
		s.app("app2", hook)
		s.approve("app2", "a")
		if err := s.reg.RemoveApprover(t.Context(), []tenant.ID{"a"}, "app2"); err != nil {
			t.Fatal(err)
		}
		rdb.ZAdd(t.Context(), keys.New("").Pending(keys.PendingApprovals), redis.Z{Member: "nobody", Score: 1})
		ok[[]registry.UnfinishedApproval](t)(s.reg.RecordUnfinishedApprovals(t.Context(), "app1", ids))
		ok[[]registry.UnfinishedApproval](t)(s.reg.RecordUnfinishedApprovals(t.Context(), "app2", []tenant.ID{"a"}))
		rdb.HSet(t.Context(), keys.New("").App("app1", keys.AppMailbox), "format", "9")
		r := s.repairer()
		for range 2 {
			if err := r.Repair(t.Context()); !errors.Is(err, mailbox.ErrFormat) && !errors.Is(err, registry.ErrUnreadable) {
				t.Errorf("error %v", err)
			}
		}
		s.inStep([]partner.ClientID{"app2"}, "a")
		rdb.HDel(t.Context(), keys.New("").App("app1", keys.AppMailbox), "format")
		for range 2 {
			_ = r.Repair(t.Context())
		}
		left := ok[int64](t)(rdb.ZCard(t.Context(), keys.New("").Pending(keys.PendingApprovals)).Result())
		if left != 1 {
			t.Errorf("%d notes left, want the unreadable one", left)
		}
	})
}

// However changes, fan-outs, approvals, dismissals and resyncs interleave and break off, no change
// is told to nobody once the repair ran: what is approved is in the index and knows each slot's
// newest change, or it waits; what is not is in no index.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	rdb := redistest.Real(t)
	rapid.Check(t, func(rt *rapid.T) {
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			rt.Fatal(err)
		}
		w := &interleaved{T: rt, s: newShim(t, rdb), faults: rapid.Bool().Draw(rt, "faults")}
		for _, id := range w.apps() {
			w.s.app(id, hook)
		}
		w.s.hook = w.meanwhile
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			w.act(t.Context())
		}
		w.s.hook, w.s.fails = nil, map[string]string{}
		if err := w.s.fanout().Run(t.Context(), w.ids()); err != nil {
			rt.Fatal(err)
		}
		if w.faults { // without them there is nothing to repair
			w.s.repair()
		}
		for _, app := range w.apps() {
			if err := w.s.finishJobs(t.Context(), app); err != nil {
				rt.Error(err)
			}
		}
		for _, bad := range w.s.outOfStep(w.apps(), w.ids()...) {
			rt.Error(bad)
		}
	})
}

// interleaved lets things happen in the middle of others, and break off.
type interleaved struct {
	*rapid.T

	s      *shim
	faults bool
	depth  int
}

func (w *interleaved) ids() []tenant.ID         { return []tenant.ID{"a", "b"} }
func (w *interleaved) apps() []partner.ClientID { return []partner.ClientID{"app1", "app2"} }

func (w *interleaved) meanwhile(name string) {
	if w.depth < 3 && rapid.IntRange(0, 3).Draw(w.T, "meanwhile") == 0 {
		w.act(w.s.Context())
	}
	if w.faults && rapid.IntRange(0, 9).Draw(w.T, "fails") == 0 {
		w.s.fails[name] = rapid.SampledFrom([]string{"before", "after"}).Draw(w.T, "how")
	}
}

func (w *interleaved) act(ctx context.Context) {
	w.depth++
	defer func() { w.depth-- }()
	id, app := rapid.SampledFrom(w.ids()).Draw(w.T, "tenant"), rapid.SampledFrom(w.apps()).Draw(w.T, "app")
	var err error
	switch rapid.SampledFrom([]string{"accept", "accept", "accept", "fanout", "approve", "approve", "dismiss", "dismiss", "resync", "tell"}).Draw(w.T, "action") {
	case "accept":
		w.s.accept(id, rapid.SampledFrom(tenant.AllChangeTypes()).Draw(w.T, "type"))
	case "fanout":
		err = w.s.fanout().Run(ctx, []tenant.ID{id})
	case "approve":
		err = w.s.approvals().Approve(ctx, app, []tenant.ID{id}, admin())
	case "dismiss":
		err = w.s.approvals().Dismiss(ctx, app, []tenant.ID{id}, admin())
	case "resync":
		err = w.s.tellAll(ctx, app, mailbox.JobResync)
	case "tell":
		w.s.tell(app)
	}
	if err != nil && !w.faults {
		w.Fatal(err)
	}
}
