package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// listed is a tenant that owes nothing, on the list of those that may.
type listed struct {
	ticket  int64
	cleared []registry.CompletedFanout
}

func (*listed) NextApprovers(context.Context, []*registry.FanoutInput, int) []error {
	panic("there are no more")
}

func (l *listed) ReadFanoutInputs(context.Context, []tenant.ID, int) ([]registry.FanoutInput, error) {
	return []registry.FanoutInput{{Ticket: l.ticket, View: registry.TenantView{Known: true, Record: tenant.Record{Tenant: "a", Top: 5}}}}, nil
}

func (l *listed) CompleteFanouts(_ context.Context, done []registry.CompletedFanout) error {
	l.cleared = done
	return nil
}

func approvers(t testing.TB, s *shim, id tenant.ID) []partner.ClientID {
	t.Helper()
	return ok[[]partner.ClientID](t)(s.reg.Approvers(t.Context(), id))
}

func TestApproveOrder(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		c := s.accept("a", tenant.Suspend)
		if err := s.approvals().Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"refresh", "note", "index", "dismissals", "records", "admit", "index", "inspect", "records", "deposit", "wake", "settle", "audit"}, s.calls); d != "" {
			t.Error(d)
		}
		if got := s.waits("app1", "a", c.Sequence); got != "status +0 x0" {
			t.Error(got)
		}
		entries, _, err := s.reg.AuditEntries(t.Context(), registry.AuditQuery{Limit: 10})
		if err != nil || len(entries) == 0 {
			t.Fatal(entries, err)
		}
		e := entries[0]
		e.ID, e.At = "", e.At.Truncate(0)
		if e.Actor != "tess" || e.Role != "operator" || e.RequestID != "r1" || e.Action != "approval.put" || e.Subject != "app1" || e.After != `{"tenant":"a"}` {
			t.Errorf("audit %+v", e)
		}
		// again: nothing is told twice
		s.tell("app1")
		if err := s.approvals().Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil || s.standing("app1", "a").HasPending() {
			t.Errorf("told twice: %q, %v", s.waits("app1", "a", 0), err)
		}
	})
}

// Wherever approving breaks off, a repeat makes it whole, and tells the status once.
func TestApproveFaults(t *testing.T) {
	for _, name := range []string{"refresh", "note", "index", "dismissals", "records", "admit", "deposit", "settle", "audit"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					c := s.accept("a", tenant.Suspend)
					s.fails[name] = how
					a := s.approvals()
					if err := a.Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); !errors.Is(err, errFake) {
						t.Errorf("error %v", err)
					}
					if err := a.Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
						t.Fatal(err)
					}
					if got := s.waits("app1", "a", c.Sequence); got != "status +0 x0" {
						t.Error(got)
					}
					if d := cmp.Diff([]partner.ClientID{"app1"}, approvers(t, s, "a")); d != "" {
						t.Error(d)
					}
				})
			})
		}
	}
}

// deaf wakes nobody.
type deaf struct{}

func (deaf) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

// TestApprovalsOnACondition: of many who approve first or take a standing approval back at once, one
// succeeds; the others changed nothing, and the app and the index are as the one left them.
func TestApprovalsOnACondition(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		const callers = 20
		s.app("app1", hook)
		c := s.accept("a", tenant.Suspend)
		race := func(call func(*fanout.Approvals) error) (succeeded int) {
			a := fanout.NewApprovals(fanout.ApprovalsOptions{Index: s.reg, Admissions: s.box, Apps: s.dir, Waker: deaf{}, Log: slog.New(slog.DiscardHandler)})
			results := make(chan error, callers)
			for range callers {
				go func() { results <- call(a) }()
			}
			for range callers {
				switch err := <-results; {
				case err == nil:
					succeeded++
				case !errors.Is(err, registry.ErrConflict):
					t.Error(err)
				}
			}
			return succeeded
		}
		for round := range 3 {
			first := race(func(a *fanout.Approvals) error { return a.ApproveNew(t.Context(), "app1", "a", admin()) })
			if st := s.standing("app1", "a"); first != 1 || !st.Approved || s.waits("app1", "a", c.Sequence) != "status +0 x0" || len(approvers(t, s, "a")) != 1 {
				t.Errorf("round %d: %d of %d approved first: %+v, index %v", round, first, callers, st, approvers(t, s, "a"))
			}
			back := race(func(a *fanout.Approvals) error { return dismissStanding(t, a, "a") })
			if st := s.standing("app1", "a"); back != 1 || st.Approved || st.HasPending() || len(approvers(t, s, "a")) != 0 {
				t.Errorf("round %d: %d of %d took it back: %+v, index %v", round, back, callers, st, approvers(t, s, "a"))
			}
		}
		entries, _, err := s.reg.AuditEntries(t.Context(), registry.AuditQuery{Limit: 100})
		if err != nil || len(entries) != 1+6 {
			t.Errorf("%d entries in the audit, want the app's and those of the 6 calls that succeeded: %v", len(entries), err)
		}
		if err := dismissStanding(t, s.approvals(), "b"); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("none stood: %v", err)
		}
	})
}

// dismissStanding fails where what it says of itself contradicts its error.
func dismissStanding(t *testing.T, a *fanout.Approvals, id tenant.ID) error {
	t.Helper()
	took, err := a.DismissExisting(t.Context(), "app1", id, admin())
	if took != (err == nil) {
		t.Errorf("took it back: %v, %v", took, err)
	}
	return err
}

// TestUnconfirmedApprovalsOnACondition: what was written and then failed is in the audit once, because a
// repeat is refused.
func TestUnconfirmedApprovalsOnACondition(t *testing.T) {
	for name, fails := range map[string]func(s *shim){
		"TooFewReplicas": func(s *shim) { s.few["app1"] = true },
		"LaterStep":      func(s *shim) { s.fails["inspect"] = "before" },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *shim) {
				s.app("app1", hook)
				fails(s)
				first := func() error { return s.approvals().ApproveNew(t.Context(), "app1", "a", admin()) }
				if err := first(); !errors.Is(err, errFake) || errors.Is(err, registry.ErrConflict) {
					t.Errorf("approve: %v", err)
				}
				delete(s.few, "app1")
				if err := first(); !errors.Is(err, registry.ErrConflict) {
					t.Errorf("approve again: %v", err)
				}
				fails(s)
				if took, err := s.approvals().DismissExisting(t.Context(), "app1", "a", admin()); !took || !errors.Is(err, errFake) {
					t.Errorf("took it back: %v, %v", took, err)
				}
				delete(s.few, "app1")
				if took, err := s.approvals().DismissExisting(t.Context(), "app1", "a", admin()); took || !errors.Is(err, registry.ErrConflict) {
					t.Errorf("took it back again: %v, %v", took, err)
				}
				entries, _, err := s.reg.AuditEntries(t.Context(), registry.AuditQuery{Limit: 100})
				if err != nil || len(entries) != 3 || entries[0].Action != "approval.delete" || entries[1].Action != "approval.put" {
					t.Errorf("audit %+v, %v", entries, err)
				}
			})
		})
	}
}

func TestApproveUnknownApp(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		if err := s.approvals().Approve(t.Context(), "nobody", []tenant.ID{"a"}, admin()); !errors.Is(err, fanout.ErrUnknownApp) {
			t.Errorf("error %v", err)
		}
		if _, err := s.approvals().Resync(t.Context(), "nobody", []tenant.ID{"a"}); !errors.Is(err, fanout.ErrUnknownApp) {
			t.Errorf("error %v", err)
		}
		if got := approvers(t, s, "a"); len(got) != 0 {
			t.Errorf("approvers %v", got)
		}
	})
}

// An app without a URL is approved and told nothing; once it has one, a job tells it all.
func TestApproveBeforeTheURL(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", "")
		a := s.approvals()
		c := s.accept("a", tenant.Suspend)
		if err := a.Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
			t.Fatal(err)
		}
		st := s.standing("app1", "a")
		if !st.Approved || st.HasPending() || slices.Contains(s.calls, "deposit") {
			t.Errorf("%+v", st)
		}
		s.app("app1", hook)
		if err := s.tellAll(t.Context(), "app1", mailbox.JobCatchUp); err != nil {
			t.Error(err)
		}
		if got := s.waits("app1", "a", c.Sequence); got != "status +0 x0" {
			t.Error(got)
		}
	})
}

func TestDismiss(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.approve("app1", "a", "b")
		s.accept("a", tenant.Suspend)
		if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
		s.calls = nil
		if err := s.approvals().Dismiss(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"refresh", "note", "dismiss", "unindex", "inspect", "settle", "audit"}, s.calls); d != "" {
			t.Error(d)
		}
		if st := s.standing("app1", "a"); st.Approved || st.HasPending() || len(approvers(t, s, "a")) != 0 || !s.standing("app1", "b").Approved {
			t.Errorf("%+v, approvers %v", st, approvers(t, s, "a"))
		}
	})
}

func TestDismissFaults(t *testing.T) {
	for _, name := range []string{"refresh", "note", "dismiss", "unindex", "inspect", "settle", "audit"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					s.approve("app1", "a")
					s.fails[name] = how
					a := s.approvals()
					if err := a.Dismiss(t.Context(), "app1", []tenant.ID{"a"}, admin()); !errors.Is(err, errFake) {
						t.Errorf("error %v", err)
					}
					// half done, the mailbox alone decides who hears
					if st := s.standing("app1", "a"); st.Approved && len(approvers(t, s, "a")) == 0 {
						t.Error("approved, but no fan-out would find it")
					}
					if err := a.Dismiss(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
						t.Fatal(err)
					}
					if s.standing("app1", "a").Approved || len(approvers(t, s, "a")) != 0 {
						t.Error("still approved")
					}
				})
			})
		}
	}
}

func TestClear(t *testing.T) {
	for _, name := range []string{"", "former", "unindex", "cleared"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					ids := make([]tenant.ID, mailbox.MaxBatch+20)
					for i := range ids {
						ids[i] = tenant.ID(fmt.Sprintf("t%04d", i))
					}
					s.approve("app1", ids...)
					s.remove("app1")
					s.app("app1", hook)
					s.approve("app1", ids[:3]...)
					s.fails[name] = how
					if err := s.clearFormer(t.Context(), "app1"); (err == nil) != (name == "") {
						t.Errorf("error %v", err)
					}
					if err := s.clearFormer(t.Context(), "app1"); err != nil {
						t.Fatal(err)
					}
					for i, l := range ok[[][]partner.ClientID](t)(s.reg.ApproversOf(t.Context(), ids)) {
						if (len(l) == 1) != (i < 3) {
							t.Fatalf("approvers of %s: %v", ids[i], l)
						}
					}
					if v := ok[mailbox.View](t)(s.box.View(t.Context(), "app1")); v.Former != nil || v.Approvals != 3 {
						t.Errorf("former lives %v, %d approvals", v.Former, v.Approvals)
					}
				})
			})
		}
	}
}

// An approval that its app's deletion overtakes is none: neither the mailbox nor the index keeps it.
func TestApprovalThatADeletionOvertook(t *testing.T) {
	for _, at := range []string{"index", "dismissals", "admit", "inspect", "deposit"} {
		for _, anew := range []bool{false, true} {
			t.Run(fmt.Sprint(at, " made again ", anew), func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					s.accept("a", tenant.Suspend)
					s.hook = func(name string) {
						if name != at {
							return
						}
						s.hook = nil
						s.remove("app1")
						if anew {
							s.app("app1", hook)
							ok[mailbox.Wake](t)(s.box.ApplySwitch(t.Context(), "n", mailbox.Switch{Life: s.life("app1"), Revision: s.life("app1").Birth, On: true}))
						}
					}
					if err := s.approvals().Approve(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil && !errors.Is(err, fanout.ErrUnknownApp) && !errors.Is(err, mailbox.ErrGone) {
						t.Errorf("error %v", err)
					}
					s.hook = nil
					s.repair()
					if st := s.standing("app1", "a"); st.Approved || st.HasPending() || len(approvers(t, s, "a")) != 0 {
						t.Errorf("the approval outlived its app: %+v, index %v", st, approvers(t, s, "a"))
					}
				})
			})
		}
	}
}

// A cleaning after a deletion that is late strikes nobody off who approved the app made since.
func TestLateCleaningAfterADeletion(t *testing.T) {
	for _, at := range []string{"former", "inspect", "unindex", "cleared"} {
		t.Run(at, func(t *testing.T) {
			each(t, func(t *testing.T, s *shim) {
				s.app("app1", hook)
				s.approve("app1", "a", "b")
				s.remove("app1")
				s.hook = func(name string) {
					if name != at {
						return
					}
					s.hook = nil
					s.app("app1", hook)
					s.approve("app1", "a")
				}
				if err := s.clearFormer(t.Context(), "app1"); err != nil {
					t.Fatal(err)
				}
				s.accept("a", tenant.Suspend)
				if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
					t.Fatal(err)
				}
				if !s.standing("app1", "a").HasPending() || len(approvers(t, s, "b")) != 0 {
					t.Errorf("a stands %+v, b's index %v", s.standing("app1", "a"), approvers(t, s, "b"))
				}
			})
		})
	}
}

// An approval that dismissals keep overtaking ends, and says what happened.
func TestApprovalGivesUpWhenOvertaken(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.hook = func(name string) {
			if name == "admit" { // others approve and dismiss the same tenant
				since := ok[int64](t)(s.box.Dismissals(t.Context(), "app1"))
				ok[int](t)(s.box.Approve(t.Context(), s.life("app1"), since, []mailbox.Admission{{Tenant: "a"}}))
				ok[int](t)(s.box.Dismiss(t.Context(), s.life("app1"), []tenant.ID{"a"}))
			}
		}
		err := s.approvals().Approve(t.Context(), "app1", []tenant.ID{"a"}, admin())
		if !errors.Is(err, mailbox.ErrDismissed) {
			t.Errorf("error %v", err)
		}
		s.hook = nil
		s.repair()
		s.inStep([]partner.ClientID{"app1"}, "a")
	})
}

func TestResync(t *testing.T) {
	for _, name := range []string{"", "refresh", "records", "again", "deposit"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					seq := map[tenant.ID]int64{"a": s.accept("a", tenant.Suspend).Sequence, "b": s.accept("b", tenant.Upgrade).Sequence}
					s.approve("app1", "a", "b")
					s.fails[name] = how
					a := s.approvals()
					if _, err := a.Resync(t.Context(), "app1", []tenant.ID{"a", "b"}); (err == nil) != (name == "") {
						t.Errorf("error %v", err)
					}
					if n, err := a.Resync(t.Context(), "app1", []tenant.ID{"a", "b"}); n != 2 || err != nil {
						t.Fatal(n, err)
					}
					for id, top := range seq {
						e := s.standing("app1", id).Entries[tenant.SlotStatus]
						if e == nil || e.Retold == "" || e.Sequence != top {
							t.Errorf("%s: %+v", id, e)
						}
					}
				})
			})
		}
	}
}

// Only the tenants named, and of those only the approved ones, are told again.
func TestResyncOfSome(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		s.accept("a", tenant.Suspend)
		s.accept("b", tenant.Suspend)
		s.approve("app1", "a", "b")
		n, err := s.approvals().Resync(t.Context(), "app1", []tenant.ID{"a", "stranger"})
		if n != 1 || err != nil || !s.standing("app1", "a").HasPending() || s.standing("app1", "b").HasPending() || s.standing("app1", "stranger").HasPending() {
			t.Errorf("%d told, %v", n, err)
		}
		if n, err := s.approvals().Resync(t.Context(), "app1", []tenant.ID{}); n != 0 || err != nil {
			t.Errorf("none named: %d told, %v", n, err)
		}
	})
}
