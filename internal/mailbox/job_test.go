package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestJobIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []mailbox.JobID{
		{App: "app1", Kind: mailbox.JobClear, Number: 1},
		{App: "a_b.c-d", Kind: mailbox.JobResync, Number: 1795991731240},
		{App: "x_catch", Kind: mailbox.JobCatchUp, Number: 1 << 62},
		{App: "job_a_clear_1", Kind: mailbox.JobClear, Number: 7},
	} {
		if got, err := mailbox.ParseJobID(id.String()); err != nil || got != id {
			t.Errorf("%s is read as %+v, %v", id, got, err)
		}
	}
	for _, s := range []string{
		"", "job_", "job_app1", "job_app1_clear", "job_app1_clear_", "job_app1_clear_0", "job_app1_clear_-1", "job_app1_clear_+1", "job_app1_clear_01",
		"job_app1_clear_A", "job_app1_clear_zzzzzzzzzzzzzz", "job_app1_melt_1", "job__clear_1", "job_a b_clear_1", "job_app1:x_clear_1", "app1_clear_1", "JOB_app1_clear_1",
		"job_" + strings.Repeat("a", 65) + "_clear_1",
	} {
		if id, err := mailbox.ParseJobID(s); !errors.Is(err, mailbox.ErrJobID) {
			t.Errorf("%q is read as %+v, %v", s, id, err)
		}
	}
	for _, r := range mailbox.JobReasons() {
		if r.Describe() == "" {
			t.Errorf("no words for %s", r)
		}
	}
}

func (b *box) jobID(kind mailbox.JobKind, n int64) mailbox.JobID {
	return mailbox.JobID{App: testApp, Kind: kind, Number: n}
}

// resync makes a resync's job, and fails unless it is the wanted one.
func (b *box) resync(number, want, approvals int64) mailbox.JobID {
	b.Helper()
	made, n, err := b.s.MakeDepositJob(b.Context(), b.life(), b.jobID(mailbox.JobResync, number), "Kim", "operator")
	b.check(err)
	if made.Number != want || n != approvals {
		b.Fatalf("made %s for %d approvals, want number %d and %d", made, n, want, approvals)
	}
	return made
}

func (b *box) claimJob(id mailbox.JobID, token string) mailbox.JobClaim {
	b.Helper()
	c, is, _, err := b.s.ClaimJob(b.Context(), id, token)
	b.check(err)
	if is != mailbox.JobTaken {
		b.Fatalf("claim of %s: %d", id, is)
	}
	return c
}

func (b *box) job(id mailbox.JobID) mailbox.Job {
	b.Helper()
	js, err := b.s.Jobs(b.Context(), []mailbox.JobID{id})
	b.check(err)
	return js[0]
}

// is fails unless the job stands as told: "running 3/5 reason".
func (b *box) is(id mailbox.JobID, want string) {
	b.Helper()
	j := b.job(id)
	if got := strings.TrimSpace(fmt.Sprintf("%s %d/%d %s", j.State, j.Done, j.Of, j.Reason)); got != want {
		b.Errorf("job %s is %q, want %q", id, got, want)
	}
}

// page makes the next page of a job, with records of one story each; it returns how many tenants it had.
func (b *box) page(c *mailbox.JobClaim, words string) (n int, done bool) {
	b.Helper()
	p, err := b.s.ReadJobPage(b.Context(), *c)
	b.check(err)
	rest := p.Tenants
	for {
		k := min(len(rest), mailbox.MaxBatch)
		told, err := b.s.DepositJobPage(b.Context(), c, b.nonce(), stories(rest[:k], words), mailbox.PageDeposit{All: c.ID.Kind == mailbox.JobResync, Last: k == len(rest), Page: p, Counted: len(p.Tenants)})
		b.check(err)
		if rest = rest[k:]; len(rest) == 0 {
			return len(p.Tenants), told.Done
		}
	}
}

func stories(ts []tenant.ID, words string) []tenant.Record {
	recs := make([]tenant.Record, len(ts))
	for i, t := range ts {
		recs[i] = story(t, words)
	}
	return recs
}

func names(n int) []tenant.ID {
	ts := make([]tenant.ID, n)
	for i := range ts {
		ts[i] = tenant.ID(fmt.Sprintf("t%05d", i))
	}
	return ts
}

// A resync goes page by page, its place is kept with what it wrote, and it ends; who is approved is told once.
func TestResyncJob(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ts := names(900)
		b.approved(5, ts...)
		id := b.resync(7, 7, 900)
		b.is(id, "running 0/900")
		if j := b.job(id); j.By != "Kim" || j.Role != "operator" || j.Created.IsZero() || !j.Ended.IsZero() {
			b.Errorf("job %+v", j)
		}
		var seen int
		for i := 0; ; i++ {
			c := b.claimJob(id, fmt.Sprint("w", i))
			n, done := b.page(&c, "suspend5")
			seen += n
			if done {
				break
			}
			b.is(id, fmt.Sprintf("running %d/900", min(seen, 900)))
			b.check(b.s.ReleaseJob(b.Context(), c))
		}
		b.is(id, "done 900/900")
		if v := b.view(); v.Waiting != 900 {
			b.Errorf("%d wait, %d tenants were seen", v.Waiting, seen)
		}
		b.expect("t00007", "5 suspend5~ due")
		if ttl := b.rdb.TTL(b.Context(), b.key(keys.AppJob)+":resync:7").Val(); ttl < 6*24*time.Hour {
			b.Errorf("an ended job lives %v", ttl)
		}
		if b.rdb.Exists(b.Context(), b.key(keys.AppOpenJobs)).Val() != 0 {
			b.Error("a job is open")
		}
		if _, is, _, err := b.s.ClaimJob(b.Context(), id, "w"); is != mailbox.JobEnded || err != nil {
			b.Errorf("claim of an ended job: %d, %v", is, err)
		}
		if _, is, _, err := b.s.ClaimJob(b.Context(), b.jobID(mailbox.JobResync, 8), "w"); is != mailbox.JobAbsent || err != nil {
			b.Errorf("claim of no job: %d, %v", is, err)
		}
	})
}

// A catching up tells what was not told, and nothing twice.
func TestCatchUpJob(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, "told")
		b.approve("owed", 5)
		made, _, err := b.s.MakeDepositJob(b.Context(), b.life(), b.jobID(mailbox.JobCatchUp, 3), "", "")
		b.check(err)
		c := b.claimJob(made, "w")
		if _, done := b.page(&c, "suspend5"); !done {
			b.Error("not done")
		}
		b.expect("told", "5")
		b.expect("owed", "5 suspend5~ due")
	})
}

// Where a fan-out brought newer truth than the page's record, the job stays at the page, and the tenant is told
// by whoever deposits next; the second call tells the rest and goes on.
func TestPageWithStaleRecords(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, "t1", "t2", "t3")
		b.tell("t1", "suspend5 move6") // the newest status is told again all the same
		b.tell("t3", "suspend5 move6")
		id := b.resync(7, 7, 3)
		c := b.claimJob(id, "w")
		p, err := b.s.ReadJobPage(b.Context(), c)
		b.check(err)
		told, err := b.s.DepositJobPage(b.Context(), &c, b.nonce(), stories([]tenant.ID{"t1", "t2", "t3"}, "suspend5"), mailbox.PageDeposit{All: true, Last: true, Page: p, Counted: 3})
		b.check(err)
		if slices.Sort(told.Stale); !slices.Equal(told.Stale, []tenant.ID{"t1", "t3"}) || told.Done || told.Written != 1 {
			b.Fatalf("told %+v", told)
		}
		b.is(id, "running 0/3")
		b.expect("t1", "6* move6 due")
		b.expect("t2", "5 suspend5~ due")
		b.tell("t3", "suspend5 move6 resume7") // a fan-out comes first
		told, err = b.s.DepositJobPage(b.Context(), &c, b.nonce(), stories([]tenant.ID{"t1", "t3"}, "suspend5 move6"), mailbox.PageDeposit{Last: true, Page: p, Counted: 3})
		b.check(err)
		if len(told.Stale) != 0 || !told.Done || told.Written != 1 {
			b.Fatalf("told %+v", told)
		}
		b.is(id, "done 3/3")
		b.expect("t1", "6 suspend6~ move6 due")
		b.expect("t3", "7 resume7 move6 due")
	})
}

// A worker that was frozen for a minute writes neither cursor nor counts, nor does it tell anybody: whether another went on or not.
func TestFrozenHolderOfAJob(t *testing.T) {
	t.Parallel()
	for _, other := range []bool{false, true} {
		t.Run(fmt.Sprint("other ", other), func(t *testing.T) {
			t.Parallel()
			b := miniBox(t, mailbox.Settings{})
			b.approved(5, "t1")
			b.resync(7, 7, 1)
			b.died(9)
			b.check(b.s.BeginLife(t.Context(), at(10)))
			b.birth = 10
			if _, err := b.s.Approve(t.Context(), at(10), b.dismissals(), []mailbox.Admission{{Tenant: "t2", Top: 5}}); err != nil {
				t.Fatal(err)
			}
			resync := b.resync(11, 11, 1)
			if _, err := b.s.MakeClearJob(t.Context(), at(9), "", "", true); err != nil {
				t.Fatal(err)
			}
			clear := mailbox.ClearJobID(at(9))
			old, oldClear := b.claimJob(resync, "frozen"), b.claimJob(clear, "frozen")
			p, err := b.s.ReadJobPage(t.Context(), old)
			b.check(err)
			b.pass(time.Minute)
			if other {
				b.claimJob(resync, "other")
				b.claimJob(clear, "other")
			}
			before := fmt.Sprint(b.dump())
			if _, err := b.s.DepositJobPage(t.Context(), &old, b.nonce(), stories(p.Tenants, "suspend5"), mailbox.PageDeposit{All: true, Last: true, Page: p, Counted: 1}); !errors.Is(err, mailbox.ErrJobLost) {
				t.Errorf("tell: %v", err)
			}
			if _, err := b.s.RemoveFormerApprovals(t.Context(), oldClear, []tenant.ID{"t1"}); !errors.Is(err, mailbox.ErrJobLost) {
				t.Errorf("clear: %v", err)
			}
			if _, _, err := b.s.FailJob(t.Context(), old, mailbox.StoreAway); !errors.Is(err, mailbox.ErrJobLost) {
				t.Errorf("fail: %v", err)
			}
			if err := b.s.ReleaseJob(t.Context(), oldClear); !errors.Is(err, mailbox.ErrJobLost) {
				t.Errorf("release: %v", err)
			}
			if after := fmt.Sprint(b.dump()); after != before {
				t.Errorf("it wrote:\n%s\n%s", before, after)
			}
			b.is(resync, "running 0/1")
			b.is(clear, "running 0/1")
		})
	}
}

// Who asks for a resync while one runs has every tenant told from then on: the job goes round once more, however many ask.
func TestResyncsOfOneApp(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, names(3)...)
		id := b.resync(7, 7, 3)
		b.resync(7, 7, 3) // a repeat
		b.resync(8, 7, 3) // nothing is told yet: it joins
		b.is(id, "running 0/3")
		c := b.claimJob(id, "w1")
		b.resync(9, 7, 3)
		b.resync(10, 7, 3)
		b.is(id, "running 0/6")
		if _, done := b.page(&c, "suspend5"); done {
			b.Fatal("done after one round")
		}
		b.is(id, "running 3/6")
		b.resync(11, 7, 3)
		if _, done := b.page(&c, "suspend5"); done {
			b.Fatal("done although one asked in the second round")
		}
		if _, done := b.page(&c, "suspend5"); !done {
			b.Fatal("not done after three rounds")
		}
		b.is(id, "done 9/9")
		if v := b.view(); v.Superseded != 6 {
			b.Errorf("%d were told anew", v.Superseded)
		}
		b.resync(12, 12, 3)
	})
}

// A job of a life that is over tells nobody of the next one, and does not stand in its way.
func TestJobOfAFormerLife(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, "t1", "t2")
		id := b.resync(7, 7, 2)
		c := b.claimJob(id, "w")
		b.died(8)
		for range 2 {
			if _, err := b.s.ReadJobPage(b.Context(), c); !errors.Is(err, mailbox.ErrGone) {
				b.Errorf("page: %v", err)
			}
			if _, err := b.s.DepositJobPage(b.Context(), &c, b.nonce(), nil, mailbox.PageDeposit{Last: true}); !errors.Is(err, mailbox.ErrGone) {
				b.Errorf("tell: %v", err)
			}
			b.birth = 9
			b.check(b.s.BeginLife(b.Context(), at(9)))
		}
		b.approve("t1", 5)
		b.resync(20, 20, 1)
		b.is(id, "cancelled 0/2 app_gone")
		open, err := b.s.OpenJobs(b.Context(), []partner.ClientID{testApp, "app2"})
		b.check(err)
		if len(open[0]) != 1 || open[0][0] != b.jobID(mailbox.JobResync, 20) || len(open[1]) != 0 {
			b.Errorf("open: %v", open)
		}
	})
}

// A page that fails is tried again after pauses that grow, says why, and is forgotten with the next one that goes well. A resync
// that fails for a day ends, a clearing never does.
func TestPagesThatFail(t *testing.T) {
	t.Parallel()
	for kind, ends := range map[mailbox.JobKind]bool{mailbox.JobResync: true, mailbox.JobCatchUp: false} {
		b := miniBox(t, mailbox.Settings{})
		b.approved(5, "t1")
		id, _, err := b.s.MakeDepositJob(t.Context(), b.life(), b.jobID(kind, 7), "", "")
		b.check(err)
		fail := func(want string, pause time.Duration) {
			t.Helper()
			c := b.claimJob(id, b.nonce())
			state, in, err := b.s.FailJob(t.Context(), c, mailbox.StoreFull)
			b.check(err)
			if got := fmt.Sprint(state, " ", in); got != want+" "+pause.String() {
				t.Errorf("%s: %s, want %s %v", kind, got, want, pause)
			}
			if _, is, wait, err := b.s.ClaimJob(t.Context(), id, "early"); pause > 0 && (is != mailbox.JobBusy || wait != pause || err != nil) {
				t.Errorf("%s: claimed during the pause: %d, %v, %v", kind, is, wait, err)
			}
			b.pass(in)
		}
		for i := range 6 {
			fail("running", time.Second<<i)
		}
		fail("running", time.Minute)
		if j := b.job(id); j.Tries != 7 || j.RetryAt.IsZero() || j.Reason != mailbox.StoreFull {
			t.Errorf("job %+v", j)
		}
		c := b.claimJob(id, "w")
		b.check(b.s.ReleaseJob(t.Context(), c))
		b.pass(24 * time.Hour)
		if ends {
			fail("failed", 0)
			b.is(id, "failed 0/1 store_full")
			continue
		}
		fail("running", time.Minute)
		c = b.claimJob(id, "w")
		b.page(&c, "suspend5")
		b.is(id, "done 1/1")
	}
}

func TestCancelInTheMiddle(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, names(700)...)
		id := b.resync(7, 7, 700)
		c := b.claimJob(id, "w")
		p, err := b.s.ReadJobPage(b.Context(), c)
		b.check(err)
		const n = 150
		_, err = b.s.DepositJobPage(b.Context(), &c, b.nonce(), stories(p.Tenants[:n], "suspend5"), mailbox.PageDeposit{All: true, Page: p})
		b.check(err)
		for range 2 {
			if state, err := b.s.CancelJob(b.Context(), id); state != mailbox.JobCancelled || err != nil {
				b.Errorf("cancel: %s, %v", state, err)
			}
		}
		if _, err := b.s.DepositJobPage(b.Context(), &c, b.nonce(), stories(p.Tenants[n:n+1], "suspend5"), mailbox.PageDeposit{All: true, Last: true, Page: p, Counted: 1}); !errors.Is(err, mailbox.ErrJobLost) {
			b.Errorf("tell: %v", err)
		}
		b.is(id, "cancelled 0/700 by_people")
		if v := b.view(); v.Waiting != n {
			b.Errorf("%d wait, %d were told of", v.Waiting, n)
		}
		if state, err := b.s.CancelJob(b.Context(), b.jobID(mailbox.JobResync, 99)); state != "" || err != nil {
			b.Errorf("cancel of no job: %s, %v", state, err)
		}
		b.resync(8, 8, 700)
	})
}

// Of a job of another version nothing is rewritten.
func TestJobOfAnotherFormat(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, "t1")
		id := b.resync(7, 7, 1)
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppJob)+":resync:7", "v", "2").Err())
		before := fmt.Sprint(b.dump())
		for name, call := range map[string]func() error{
			"Claim":  func() error { _, _, _, err := b.s.ClaimJob(b.Context(), id, "w"); return err },
			"Cancel": func() error { _, err := b.s.CancelJob(b.Context(), id); return err },
			"Jobs":   func() error { _, err := b.s.Jobs(b.Context(), []mailbox.JobID{id}); return err },
			"Make": func() error {
				_, _, err := b.s.MakeDepositJob(b.Context(), b.life(), b.jobID(mailbox.JobResync, 8), "", "")
				return err
			},
		} {
			if err := call(); !errors.Is(err, mailbox.ErrFormat) {
				b.Errorf("%s: %v", name, err)
			}
		}
		if after := fmt.Sprint(b.dump()); after != before {
			b.Errorf("rewritten:\n%s\n%s", before, after)
		}
	})
}

// An approval whose mark this version cannot read is counted and left out.
func TestUnreadableMarkIsSkipped(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(5, "t1", "t2")
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppTenants), "t2", "v2;5").Err())
		id := b.resync(7, 7, 2)
		c := b.claimJob(id, "w")
		p, err := b.s.ReadJobPage(b.Context(), c)
		b.check(err)
		if !slices.Equal(p.Tenants, []tenant.ID{"t1"}) || p.Skipped != 1 {
			b.Fatalf("page %+v", p)
		}
		_, err = b.s.DepositJobPage(b.Context(), &c, b.nonce(), stories(p.Tenants, "suspend5"), mailbox.PageDeposit{All: true, Last: true, Page: p, Counted: 2, Skipped: 1})
		b.check(err)
		if j := b.job(id); j.State != mailbox.JobDone || j.Skipped != 1 || j.Done != 2 {
			b.Errorf("job %+v", j)
		}
		if got := b.rdb.HGet(b.Context(), b.key(keys.AppTenants), "t2").Val(); got != "v2;5" {
			b.Errorf("rewritten: %s", got)
		}
	})
}

// ownServer is a box on a server of the test's own.
func ownServer(t *testing.T, args ...string) (*box, *redistest.Process) {
	t.Helper()
	p := redistest.Start(t, args...)
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, ReadTimeout: 30 * time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	return &box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), mailbox.Settings{})}, p
}

// A cursor is good for one process of Redis: the next one walks its keys in another order. After a restart in the middle the walk begins
// anew, and nobody is left out.
func TestRestartOfRedisInTheMiddleOfAResync(t *testing.T) {
	t.Parallel()
	b, p := ownServer(t, "--appendonly", "yes", "--appendfsync", "always")
	b.approved(5, names(5000)...)
	id := b.resync(7, 7, 5000)
	for i := 0; ; i++ {
		if i == 10 {
			p.Kill()
			b.check(p.Restart())
		}
		c := b.claimJob(id, "w")
		if _, done := b.page(&c, "suspend5"); done {
			break
		}
	}
	b.is(id, "done 5000/5000")
	if v := b.view(); v.Waiting != 5000 {
		t.Errorf("%d of 5000 tenants are told", v.Waiting)
	}
}

// Without memory to spare a page is refused whole, and said to be; what clears away goes on.
func TestJobsWithoutMemory(t *testing.T) {
	t.Parallel()
	b, _ := ownServer(t)
	b.approved(5, names(400)...)
	b.died(8)
	b.birth = 9
	b.check(b.s.BeginLife(t.Context(), at(9)))
	b.approved(5, names(900)...)
	id := b.resync(10, 10, 900)
	c := b.claimJob(id, "w")
	b.page(&c, "suspend5")
	b.check(b.s.ReleaseJob(t.Context(), c))
	b.check(b.rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())

	c = b.claimJob(id, "w")
	p, err := b.s.ReadJobPage(t.Context(), c)
	b.check(err)
	waiting, marks := b.view().Waiting, fmt.Sprint(b.rdb.HGetAll(t.Context(), b.key(keys.AppTenants)).Val())
	_, err = b.s.DepositJobPage(t.Context(), &c, b.nonce(), stories(p.Tenants[:1], "suspend5"), mailbox.PageDeposit{All: true, Last: true, Page: p, Counted: 1})
	if err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("tell: %v", err)
	}
	if got := fmt.Sprint(b.rdb.HGetAll(t.Context(), b.key(keys.AppTenants)).Val()); b.view().Waiting != waiting || got != marks {
		t.Error("half a page was written")
	}
	state, pause, err := b.s.FailJob(t.Context(), c, mailbox.StoreFull)
	if state != mailbox.JobRunning || pause != time.Second || err != nil {
		t.Errorf("fail: %s, %v, %v", state, pause, err)
	}
	if j := b.job(id); j.Reason != mailbox.StoreFull || j.Tries != 1 {
		t.Errorf("job %+v", j)
	}
	for left := 1; left > 0; {
		ts := b.formerly(8)
		if left, err = cleared(t.Context(), b.s, 8, ts); err != nil {
			t.Fatal(err)
		}
	}
	b.is(mailbox.ClearJobID(at(8)), "done 400/400")

	b.check(b.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	redistest.Eventually(t, 10*time.Second, "the pause to end", func() bool {
		_, is, _, err := b.s.ClaimJob(t.Context(), id, "w2")
		return is == mailbox.JobTaken && err == nil
	})
	c = b.claimJob(id, "w2")
	for done := false; !done; {
		_, done = b.page(&c, "suspend5")
	}
	b.is(id, "done 900/900")
	if v := b.view(); v.Waiting != 900 {
		t.Errorf("%d wait", v.Waiting)
	}
}

// The jobs of a clearing are made where there is something to be cleared away, once.
func TestClearingJobs(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		make := func(birth int64, always, want bool) {
			b.Helper()
			got, err := b.s.MakeClearJob(b.Context(), at(birth), "Kim", "admin", always)
			b.check(err)
			if got != want {
				b.Errorf("made for %d: %v", birth, got)
			}
		}
		b.died(5) // of an app without approvals
		make(5, false, false)
		make(5, true, true)
		b.is(mailbox.ClearJobID(at(5)), "done 0/0")
		b.birth = 6
		b.check(b.s.BeginLife(b.Context(), at(6)))
		b.approve("t1", 5)
		b.approve("t2", 5)
		b.died(7)
		make(7, false, true)
		make(7, true, true)
		id := mailbox.ClearJobID(at(7))
		b.is(id, "running 0/2")
		c := b.claimJob(id, "w")
		if left, err := b.s.RemoveFormerApprovals(b.Context(), c, []tenant.ID{"t1"}); left != 1 || err != nil {
			b.Errorf("left %d, %v", left, err)
		}
		b.is(id, "running 1/2")
		b.check(b.rdb.HDel(b.Context(), b.former(7), "t2").Err()) // an older process, which knows no jobs
		if left, err := b.s.RemoveFormerApprovals(b.Context(), c, nil); left != 0 || err != nil {
			b.Errorf("left %d, %v", left, err)
		}
		b.is(id, "done 2/2")
		make(7, false, true)
	})
}

// A page is at most a batch, whatever calls.
func TestJobsRefuseTooMany(t *testing.T) {
	t.Parallel()
	b := miniBox(t, mailbox.Settings{})
	c := mailbox.JobClaim{Job: mailbox.Job{ID: b.jobID(mailbox.JobResync, 1)}}
	if _, err := b.s.DepositJobPage(context.Background(), &c, "n", make([]tenant.Record, mailbox.MaxBatch+1), mailbox.PageDeposit{}); err == nil {
		t.Error("more than a batch was told")
	}
	if _, err := b.s.RemoveFormerApprovals(context.Background(), c, make([]tenant.ID, mailbox.MaxBatch+1)); err == nil {
		t.Error("more than a page was taken")
	}
}
