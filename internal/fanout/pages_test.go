package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The jobs' side of the shim.

func (s *shim) ReadJobPage(ctx context.Context, c mailbox.JobClaim) (mailbox.JobPage, error) {
	return call(s, "list", func() (mailbox.JobPage, error) { return s.box.ReadJobPage(ctx, c) })
}

func (s *shim) DepositJobPage(ctx context.Context, c *mailbox.JobClaim, nonce string, recs []tenant.Record, t mailbox.PageDeposit) (mailbox.PageResult, error) {
	told, err := call(s, "tell", func() (mailbox.PageResult, error) { return s.box.DepositJobPage(ctx, c, nonce, recs, t) })
	return told, s.short(c.ID.App, err)
}

func (s *shim) EndJob(ctx context.Context, c mailbox.JobClaim, as mailbox.JobState, why mailbox.JobReason) error {
	return s.do("end", func() error { return s.box.EndJob(ctx, c, as, why) })
}

// calls makes tokens of claims and numbers of jobs.
var calls atomic.Int64 //nolint:gochecknoglobals // a count

// runJob makes a job's pages until it ends or fails, and gives it back then. A job that another works on it leaves alone.
func (s *shim) runJob(ctx context.Context, id mailbox.JobID) error {
	s.Helper()
	c, is, _, err := s.box.ClaimJob(ctx, id, strconv.FormatInt(calls.Add(1), 10))
	if err != nil || is != mailbox.JobTaken {
		return err
	}
	for ended := false; !ended; {
		if ended, err = s.approvals().AdvanceJob(ctx, &c); errors.Is(err, mailbox.ErrJobLost) {
			return nil
		}
		if err != nil {
			return errors.Join(err, s.box.ReleaseJob(ctx, c))
		}
	}
	return nil
}

// tellAll makes a telling job and runs it.
func (s *shim) tellAll(ctx context.Context, app partner.ClientID, kind mailbox.JobKind) error {
	s.Helper()
	id, _, err := s.box.MakeDepositJob(ctx, s.life(app), mailbox.JobID{App: app, Kind: kind, Number: calls.Add(1)}, "", "")
	if err != nil {
		return err
	}
	return s.runJob(ctx, id)
}

// finishJobs runs the telling jobs of an app that broke off.
func (s *shim) finishJobs(ctx context.Context, app partner.ClientID) error {
	s.Helper()
	open, err := s.box.OpenJobs(ctx, []partner.ClientID{app})
	if err != nil {
		return err
	}
	for _, id := range open[0] {
		err = errors.Join(err, s.runJob(ctx, id))
	}
	return err
}

// clearFormer runs the jobs that clear away after an app's former lives.
func (s *shim) clearFormer(ctx context.Context, app partner.ClientID) error {
	s.Helper()
	v, err := s.box.View(ctx, app)
	for _, birth := range v.Former {
		life := mailbox.Life{App: app, Birth: birth}
		if _, merr := s.box.MakeClearJob(ctx, life, "", "", true); merr != nil {
			return merr
		}
		err = errors.Join(err, s.runJob(ctx, mailbox.ClearJobID(life)))
	}
	return err
}

// Wherever a job of a resync breaks off, it goes on and tells all.
func TestResyncJobFaults(t *testing.T) {
	for _, name := range []string{"", "list", "records", "tell"} {
		for _, how := range []string{"before", "after"} {
			t.Run(name+" "+how, func(t *testing.T) {
				each(t, func(t *testing.T, s *shim) {
					s.app("app1", hook)
					seq := map[tenant.ID]int64{"a": s.accept("a", tenant.Suspend).Sequence, "b": s.accept("b", tenant.Upgrade).Sequence}
					s.approve("app1", "a", "b")
					if err := s.dir.Refresh(t.Context()); err != nil {
						t.Fatal(err)
					}
					s.fails[name] = how
					if err := s.tellAll(t.Context(), "app1", mailbox.JobResync); (err == nil) != (name == "") {
						t.Errorf("error %v", err)
					}
					if err := s.finishJobs(t.Context(), "app1"); err != nil {
						t.Fatal(err)
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

// A change that is fanned out while a page is made does not keep the tenant from being told.
func TestChangeInTheMiddleOfAPage(t *testing.T) {
	for _, at := range []string{"list", "records", "tell"} {
		t.Run(at, func(t *testing.T) {
			each(t, func(t *testing.T, s *shim) {
				s.app("app1", hook)
				s.accept("a", tenant.Suspend)
				s.approve("app1", "a", "b")
				s.tell("app1")
				s.hook = func(name string) {
					if name == at {
						s.hook = nil
						s.accept("a", tenant.Move)
						if err := s.fanout().Run(t.Context(), []tenant.ID{"a"}); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := s.tellAll(t.Context(), "app1", mailbox.JobResync); err != nil {
					t.Fatal(err)
				}
				st := s.standing("app1", "a")
				if e := st.Entries[tenant.SlotStatus]; e == nil || e.Retold == "" || st.Again || st.Entries[tenant.SlotMove] == nil {
					t.Errorf("stands %+v", st)
				}
			})
		})
	}
}

// A record that this version cannot read keeps nobody else from being told, and is counted.
func TestUnreadableRecordInAPage(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		ids := []tenant.ID{"a", "b", "c", "d", "e"}
		for _, id := range ids {
			s.accept(id, tenant.Suspend)
		}
		s.approve("app1", ids...)
		s.tell("app1")
		if err := s.rdb.HSet(t.Context(), keys.New("").Tenant("c", keys.TenantRecord), "v", "9").Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.tellAll(t.Context(), "app1", mailbox.JobResync); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if waits := s.standing("app1", id).HasPending(); waits == (id == "c") {
				t.Errorf("%s waits %v", id, waits)
			}
		}
	})
}

// A job of an app that was deleted, or made again, ends; one of an app without a URL is done.
func TestJobsOfAppsThatHearNothing(t *testing.T) {
	for name, row := range map[string]struct {
		do   func(s *shim)
		want string
	}{
		"Deleted":   {func(s *shim) { s.remove("app1") }, "gone"},
		"MadeAgain": {func(s *shim) { s.remove("app1"); s.app("app1", hook) }, "gone"},
		"NoURL":     {func(*shim) {}, "done no_url"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *shim) {
				url := hook
				if name == "NoURL" {
					url = ""
				}
				s.app("app1", url)
				s.approve("app1", "a")
				id, _, err := s.box.MakeDepositJob(t.Context(), s.life("app1"), mailbox.JobID{App: "app1", Kind: mailbox.JobResync, Number: 5}, "", "")
				if err != nil {
					t.Fatal(err)
				}
				c, _, _, err := s.box.ClaimJob(t.Context(), id, "w")
				if err != nil {
					t.Fatal(err)
				}
				row.do(s)
				ended, err := s.approvals().AdvanceJob(t.Context(), &c)
				got := "gone"
				if !errors.Is(err, mailbox.ErrGone) {
					j := ok[[]mailbox.Job](t)(s.box.Jobs(t.Context(), []mailbox.JobID{id}))[0]
					got = fmt.Sprint(j.State, " ", j.Reason)
				}
				if got != row.want || ended != (name == "NoURL") {
					t.Errorf("%s (%v, ended %v), want %s", got, err, ended, row.want)
				}
			})
		})
	}
}

// TestResyncOfManyKilledThreeTimes: duplicates of a resync are at most one page a kill: here, what a page wrote whose answer was lost.
func TestResyncOfManyKilledThreeTimes(t *testing.T) {
	t.Parallel()
	const tenants, kills = 20_000, 3
	s := newShim(t, redistest.Real(t))
	s.app("app1", hook)
	ids := make([]tenant.ID, tenants)
	for i := range ids {
		ids[i] = tenant.ID(fmt.Sprintf("t%05d", i))
	}
	for some := range slices.Chunk(ids, 2000) {
		rs := make([]registry.ChangeRequest, len(some))
		for i, id := range some {
			rs[i] = registry.ChangeRequest{Tenant: id, Type: tenant.Suspend}
		}
		ok[[]registry.AcceptResult](t)(s.reg.Accept(t.Context(), rs))
	}
	if err := s.approvals().Approve(t.Context(), "app1", ids, admin()); err != nil {
		t.Fatal(err)
	}
	s.tell("app1")
	if v := ok[mailbox.View](t)(s.box.View(t.Context(), "app1")); v.Waiting != 0 {
		t.Fatalf("%d wait before", v.Waiting)
	}
	pages, killed := 0, 0
	s.hook = func(name string) {
		if name == "tell" {
			if pages++; killed < kills && pages%25 == 0 {
				killed++
				s.fails["tell"] = []string{"before", "after"}[killed%2]
			}
		}
	}
	err := s.tellAll(t.Context(), "app1", mailbox.JobResync)
	for err != nil {
		if !errors.Is(err, errFake) {
			t.Fatal(err)
		}
		err = s.finishJobs(t.Context(), "app1")
	}
	v := ok[mailbox.View](t)(s.box.View(t.Context(), "app1"))
	t.Logf("%d tenants told in %d pages, killed %d times; %d told twice", v.Waiting, pages, killed, v.Superseded)
	if v.Waiting != tenants || killed != kills || v.Superseded > kills*mailbox.MaxBatch {
		t.Errorf("%d of %d told, %d twice, killed %d times", v.Waiting, tenants, v.Superseded, killed)
	}
}
