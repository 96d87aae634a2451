package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A resync is made, worked on, shown and over; its app is told once of each tenant.
func TestResync(t *testing.T) {
	each(t, func(w *world) {
		life := w.app("app1", hook)
		w.approve("app1", w.reported(450)...)
		w.told(life)
		w.worker(nil, nil)
		id, n, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
		if n != 450 || err != nil {
			w.Fatal(n, err)
		}
		w.await(id, "done 450/450")
		if n := w.told(life); n != 450 {
			w.Errorf("%d told", n)
		}
		redistest.Eventually(w, 10*time.Second, "it is off the list", func() bool {
			return w.rdb.ZCard(w.Context(), keys.New("").Config(keys.ConfigJobsDue)).Val() == 0
		})
		if got := w.metric("lamplighter_jobs_ended_total", ""); got != 1 {
			w.Errorf("%v ended", got)
		}
	})
}

// A deletion takes constant time, its job ends, and nothing is left but what expires: the mailbox, and the record of the job.
func TestDeletionOfABigApp(t *testing.T) {
	t.Parallel()
	const crowd = 20_000
	w := newWorld(t, redistest.Real(t))
	life := w.app("big", hook)
	ids := w.reported(crowd)
	w.approve("big", ids...)
	w.approve("big", ids[0])
	w.worker(nil, nil)
	id, _, err := w.desk.StartDepositJob(t.Context(), life, mailbox.JobResync, actor()) // it runs while the app is deleted
	w.must(err)
	gone := w.delete("big")
	start := time.Now()
	job, err := w.desk.ClearApp(t.Context(), gone, actor())
	w.must(err)
	took := time.Since(start)
	w.await(job, fmt.Sprintf("done %d/%d", crowd, crowd))
	ended := time.Since(start)
	redistest.Eventually(t, 10*time.Second, "the resync to end", func() bool {
		got := w.job(id)
		return strings.HasPrefix(got, "cancelled") && strings.HasSuffix(got, "app_gone")
	})
	left := w.census("big", ids)
	t.Logf("deletion of %d approvals: %v, cleared away after %v; left: %v", crowd, took, ended, left)
	for _, key := range left {
		ttl := w.rdb.TTL(t.Context(), "lamplighter:{big}:"+key).Val()
		if key != "mailbox" && !strings.HasPrefix(key, "job:") || ttl <= 0 {
			t.Errorf("%s is left, for %v", key, ttl)
		}
	}
	if took > time.Second {
		t.Errorf("the deletion took %v", took)
	}
}

// A worker that dies in the middle loses its claim, and another goes on: all are told, and none twice but of a page at hand.
func TestWorkersThatDie(t *testing.T) {
	t.Parallel()
	const crowd, kills = 20_000, 3
	w := newWorld(t, redistest.Real(t))
	life := w.app("app1", hook)
	w.approve("app1", w.reported(crowd)...)
	w.told(life)
	// a worker that is killed makes no page any more, and gives nothing back: its claim is made to run out
	var made, killed atomic.Int64
	dying := func(ctx context.Context, c *mailbox.JobClaim) (bool, error) {
		ended, err := w.approvals.AdvanceJob(ctx, c)
		if n := made.Add(1); err == nil && !ended && n%20 == 0 && killed.Add(1) <= kills {
			w.must(w.rdb.HSet(ctx, "lamplighter:{app1}:job:"+string(c.ID.Kind)+":"+last(c.ID), "until", "1").Err())
			return false, mailbox.ErrJobLost
		}
		return ended, err
	}
	for range 2 {
		w.worker(dying, nil)
	}
	id, _, err := w.desk.StartDepositJob(t.Context(), life, mailbox.JobResync, actor())
	w.must(err)
	for killed := int64(1); killed <= kills; killed++ { // who was killed does not say when the job is due again: it is after the lease
		redistest.Eventually(t, time.Minute, "a kill", func() bool { return made.Load() >= killed*20 })
		w.must(w.rdb.ZAdd(t.Context(), keys.New("").Config(keys.ConfigJobsDue), redis.Z{Score: 1, Member: id.String()}).Err())
	}
	w.await(id, fmt.Sprintf("done %d/%d", crowd, crowd))
	v := ok[mailbox.View](t)(w.box.View(t.Context(), "app1"))
	t.Logf("%d of %d told in %d pages, %d kills; %d twice", v.Waiting, crowd, made.Load(), kills, v.Superseded)
	if v.Waiting != crowd || v.Superseded > kills*mailbox.MaxBatch {
		t.Errorf("%d told, %d twice", v.Waiting, v.Superseded)
	}
}

// last is what a job's number is called.
func last(id mailbox.JobID) string {
	s := id.String()
	return s[strings.LastIndexByte(s, '_')+1:]
}

// A job that fails, or is large, keeps no other waiting for longer than a slice.
func TestJobsShareAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.Real(t))
	const apps = 6
	lives := map[partner.ClientID]mailbox.Life{}
	ids := w.reported(3)
	for i := range apps {
		app := partner.ClientID(fmt.Sprintf("app%d", i))
		lives[app] = w.app(app, hook)
		w.approve(app, ids...)
	}
	var mu sync.Mutex
	count := map[partner.ClientID]int{}
	w.worker(func(ctx context.Context, c *mailbox.JobClaim) (bool, error) {
		mu.Lock()
		count[c.ID.App]++
		mu.Unlock()
		switch c.ID.App {
		case "app0": // fails for ever
			return false, errors.New("no luck")
		case "app1", "app2": // are endless
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
			return false, ctx.Err()
		default:
			return w.approvals.AdvanceJob(ctx, c)
		}
	}, func(o *jobs.Options) { o.AtOnce, o.Slice = 1, 50*time.Millisecond })
	made := map[partner.ClientID]mailbox.JobID{}
	for i := range apps { // those first that are in the way
		app := partner.ClientID(fmt.Sprintf("app%d", i))
		id, _, err := w.desk.StartDepositJob(t.Context(), lives[app], mailbox.JobResync, actor())
		w.must(err)
		made[app] = id
	}
	for _, app := range []partner.ClientID{"app3", "app4", "app5"} {
		w.await(made[app], "done 3/3")
	}
	w.await(made["app0"], "running 0/3 internal")
	w.must(w.desk.Cancel(t.Context(), made["app1"]))
	w.await(made["app1"], "cancelled 0/3 by_people")
	redistest.Eventually(t, 10*time.Second, "turns of both that are endless", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return count["app1"] > 0 && count["app2"] > 25
	})
}

// What a page failed for is shown, and forgotten when it goes well; the failing jobs are counted.
func TestAFailingPageIsShown(t *testing.T) {
	each(t, func(w *world) {
		life := w.app("app1", hook)
		w.approve("app1", w.reported(3)...)
		var well atomic.Bool
		page := func(ctx context.Context, c *mailbox.JobClaim) (bool, error) {
			if !well.Load() {
				return false, fmt.Errorf("page: %w", registry.ErrUnreadable)
			}
			return w.approvals.AdvanceJob(ctx, c)
		}
		stop := w.worker(page, nil)
		id, _, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
		w.must(err)
		w.await(id, "running 0/3 unreadable")
		stop()
		w.worker(page, nil) // it counts when it starts
		redistest.Eventually(w, 10*time.Second, "the failing job is counted", func() bool {
			return w.metric("lamplighter_jobs_open", "resync") == 1 && w.metric("lamplighter_jobs_failing", "resync") == 1
		})
		well.Store(true)
		w.await(id, "done 3/3")
	})
}

// Two resyncs of one app are one job; everybody is told after the second was asked for.
func TestTwoResyncsOfOneApp(t *testing.T) {
	each(t, func(w *world) {
		life := w.app("app1", hook)
		w.approve("app1", w.reported(5)...)
		w.told(life)
		hold, let := make(chan struct{}), make(chan struct{})
		once := sync.OnceFunc(func() { close(hold); <-let })
		w.worker(func(ctx context.Context, c *mailbox.JobClaim) (bool, error) {
			once()
			return w.approvals.AdvanceJob(ctx, c)
		}, nil)
		first, _, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
		w.must(err)
		<-hold
		for range 3 {
			second, n, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
			if second != first || n != 5 || err != nil {
				w.Errorf("the second is %s of %d, %v", second, n, err)
			}
		}
		close(let)
		w.await(first, "done 10/10")
		listed := ok[[]registry.ListedJob](w)(w.reg.ListedJobs(w.Context(), 0, 10))
		if len(listed) != 1 || listed[0].ID != first.String() {
			w.Errorf("listed %+v", listed)
		}
	})
}

// A deletion that was cut short anywhere is found, and its job made; an app that is back since keeps what it was given since.
func TestFinder(t *testing.T) {
	each(t, func(w *world) {
		ids := w.reported(2)
		for _, app := range []partner.ClientID{"app1", "app2", "app3", "app4", "app5"} {
			w.app(app, hook)
			w.approve(app, ids...)
		}
		w.delete("app1") // and a crash before its life ended
		two := w.delete("app2")
		w.must(w.box.EndLife(w.Context(), two)) // as an older version ends it, which makes no job
		three := w.delete("app3")
		w.must(w.box.EndLife(w.Context(), three))
		life := w.app("app3", hook)
		w.approve("app3", ids[1])
		four := mailbox.Life{App: "app4", Birth: w.app("app4", hook).Birth}
		resync, _, err := w.desk.StartDepositJob(w.Context(), four, mailbox.JobResync, actor())
		w.must(err)
		w.must(w.rdb.Del(w.Context(), keys.New("").Config(keys.ConfigJobs), keys.New("").Config(keys.ConfigJobsDue)).Err()) // a failover lost the list
		w.must(w.reg.RegisterJobs(w.Context(), "job_app5_clear_zz", "job_app5_resync_zz", "of a newer version"))            // listed, and never made

		f := w.finder()
		w.look(f)
		w.worker(nil, nil)
		w.await(mailbox.ClearJobID(two), "done 2/2")
		w.await(mailbox.ClearJobID(three), "done 2/2")
		w.await(resync, "done 2/2")
		w.look(f)
		redistest.Eventually(w, 10*time.Second, "what is left of app1 to be cleared away", func() bool { return len(w.census("app1", ids)) == 2 })
		for id, want := range map[tenant.ID]string{ids[0]: "[app4 app5]", ids[1]: "[app3 app4 app5]"} {
			got := ok[[]partner.ClientID](w)(w.reg.Approvers(w.Context(), id))
			if slices.Sort(got); fmt.Sprint(got) != want {
				w.Errorf("approvers of %s: %v, want %s", id, got, want)
			}
		}
		if v := ok[mailbox.View](w)(w.box.View(w.Context(), "app3")); v.Approvals != 1 || v.Birth != life.Birth {
			w.Errorf("view %+v", v)
		}
		due := keys.New("").Config(keys.ConfigJobsDue)
		redistest.Eventually(w, 10*time.Second, "the list to hold what was never made alone", func() bool { return w.rdb.ZCard(w.Context(), due).Val() == 3 })
		old := float64(time.Now().Add(-time.Hour).UnixMicro())
		for _, id := range []string{"job_app5_clear_zz", "job_app5_resync_zz"} {
			w.must(w.rdb.ZAdd(w.Context(), keys.New("").Config(keys.ConfigJobs), redis.Z{Score: old, Member: id}).Err())
		}
		redistest.Eventually(w, 10*time.Second, "what was never made to be struck off", func() bool { return w.rdb.ZCard(w.Context(), due).Val() == 1 })
	})
}

// One mailbox that cannot be read keeps no other deletion from being found, however many were before.
func TestOneBrokenMailboxStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.Real(t))
	ids := w.reported(1)
	var apps []partner.ClientID
	for i := range 202 {
		app := partner.ClientID(fmt.Sprintf("app%03d", i))
		apps = append(apps, app)
		w.app(app, hook)
		if i == 0 || i == 201 {
			w.approve(app, ids...)
		}
	}
	for _, app := range apps {
		w.delete(app)
	}
	broken := keys.New("").App("app000", keys.AppMailbox)
	w.must(w.rdb.HSet(t.Context(), broken, "format", "9").Err())
	w.worker(nil, nil)
	f := w.finder()
	if err := f.FindOnce(t.Context()); !errors.Is(err, mailbox.ErrFormat) {
		t.Errorf("error %v", err)
	}
	w.look(f)
	redistest.Eventually(t, 10*time.Second, "the other to be cleared away", func() bool {
		return fmt.Sprint(ok[[]partner.ClientID](t)(w.reg.Approvers(t.Context(), ids[0]))) == "[app000]"
	})
	w.must(w.rdb.HDel(t.Context(), broken, "format").Err())
	w.look(f)
	redistest.Eventually(t, 10*time.Second, "the mended one to be cleared away", func() bool {
		return len(ok[[]partner.ClientID](t)(w.reg.Approvers(t.Context(), ids[0]))) == 0
	})
}

func TestList(t *testing.T) {
	each(t, func(w *world) {
		lives := map[partner.ClientID]mailbox.Life{}
		var made []string
		for i := range 7 {
			app := partner.ClientID(fmt.Sprintf("app%d", i%4))
			if _, there := lives[app]; !there {
				lives[app] = w.app(app, hook)
			}
			kind := mailbox.JobResync
			if i >= 4 {
				kind = mailbox.JobCatchUp
			}
			id, _, err := w.desk.StartDepositJob(w.Context(), lives[app], kind, actor())
			w.must(err)
			made = append(made, strings.TrimPrefix(id.String(), "job_"))
		}
		slices.Reverse(made) // newest first
		cancelled := ok[mailbox.JobID](w)(mailbox.ParseJobID("job_" + made[5]))
		w.must(w.desk.Cancel(w.Context(), cancelled))
		w.must(w.reg.RegisterJobs(w.Context(), "job_app0_resync_zz", "of a newer version"))
		for _, limit := range []int{1, 2, 3, 7, 100} {
			for name, row := range map[string]struct {
				q    jobs.Query
				want []int
			}{
				"All":       {jobs.Query{}, []int{0, 1, 2, 3, 4, 5, 6}},
				"App":       {jobs.Query{App: "app1"}, []int{1, 5}},
				"Kind":      {jobs.Query{Kinds: []mailbox.JobKind{mailbox.JobCatchUp}}, []int{0, 1, 2}},
				"State":     {jobs.Query{State: mailbox.JobCancelled}, []int{5}},
				"AppAndOne": {jobs.Query{App: "app1", State: mailbox.JobRunning}, []int{1}},
				"None":      {jobs.Query{App: "app9"}, nil},
			} {
				var want, got []string
				for _, i := range row.want {
					want = append(want, made[i])
				}
				for q := row.q; ; {
					q.Limit = limit
					page, next, err := w.desk.List(w.Context(), q)
					w.must(err)
					if len(page) > limit {
						w.Errorf("%s: a page of %d", name, len(page))
					}
					for _, j := range page {
						got = append(got, strings.TrimPrefix(j.ID.String(), "job_"))
					}
					if q.After = next; next == "" {
						break
					}
				}
				if !slices.Equal(got, want) {
					w.Errorf("%s by %d: %v, want %v", name, limit, got, want)
				}
			}
		}
		if _, _, err := w.desk.List(w.Context(), jobs.Query{After: "x", Limit: 1}); !errors.Is(err, mailbox.ErrCursor) {
			w.Errorf("cursor: %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, func(w *world) {
		life := w.app("app1", hook)
		w.approve("app1", w.reported(2)...)
		catchUp, _, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobCatchUp, actor())
		w.must(err)
		resync, _, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
		w.must(err)
		for id, want := range map[mailbox.JobID]error{
			catchUp: jobs.ErrKept, {App: "app1", Kind: mailbox.JobClear, Number: 1}: registry.ErrNotFound, {App: "app1", Kind: mailbox.JobResync, Number: 1}: registry.ErrNotFound,
		} {
			if err := w.desk.Cancel(w.Context(), id); !errors.Is(err, want) {
				w.Errorf("%s: %v, want %v", id, err, want)
			}
		}
		w.must(w.desk.Cancel(w.Context(), resync))
		w.must(w.desk.Cancel(w.Context(), resync))
		w.worker(nil, nil)
		w.await(catchUp, "done 2/2")
		if got := w.job(resync); got != "cancelled 0/2 by_people" {
			w.Error(got)
		}
		again, _, err := w.desk.StartDepositJob(w.Context(), life, mailbox.JobResync, actor())
		w.must(err)
		w.await(again, "done 2/2")
		if err := w.desk.Cancel(w.Context(), again); !errors.Is(err, jobs.ErrOver) {
			w.Errorf("cancel of what is done: %v", err)
		}
	})
}
