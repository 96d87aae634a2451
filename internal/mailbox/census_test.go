package mailbox_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// censusBox is a mailbox with 60,000 waiting entries besides what the calls of a census mean.
type censusBox struct {
	*box
	ids  []tenant.ID
	recs []tenant.Record
	held []mailbox.Settlement
}

// fresh makes the records of the tenants newer in all three slots.
func (b *censusBox) fresh() []tenant.Record {
	for i := range b.recs {
		r := &b.recs[i]
		for s := range r.Heads {
			r.Heads[s].Sequence = r.Top + int64(s) + 1
		}
		r.Top += 3
	}
	return b.recs
}

// claims makes all tenants due and claims them; they come back as settlements.
func (b *censusBox) claims(settle func(mailbox.Claim) mailbox.Settlement) {
	b.deposit(b.nonce(), b.fresh()...)
	b.own("d1")
	b.held = b.held[:0]
	for len(b.held) < mailbox.MaxBatch {
		for _, c := range b.exchange("d1", mailbox.MaxBatch-len(b.held)).Claims {
			b.held = append(b.held, settle(c))
		}
	}
}

// alone removes what waits, so that claims are of the tenants themselves.
func (b *censusBox) alone() {
	b.check(b.rdb.Unlink(b.Context(), b.key(keys.AppWaiting), b.key(keys.AppDue), b.key(keys.AppFlight)).Err())
}

func (b *censusBox) admissions(top int64) []mailbox.Admission {
	out := make([]mailbox.Admission, len(b.ids))
	for i, t := range b.ids {
		out[i] = mailbox.Admission{Tenant: t, Top: top}
	}
	return out
}

// works are the scripts of the mailbox at their largest legal calls.
func works(b *censusBox) []redistest.Work {
	ctx := b.Context()
	entries, wakes, both := []string{"prelude", "entries"}, []string{"prelude", "wake"}, []string{"prelude", "entries", "wake"}
	do := func(f func() error) func() { return func() { b.check(f()) } }
	exchange := func(rs func() []mailbox.Settlement) func() {
		return func() { b.exchange("d1", mailbox.MaxBatch, rs()...) }
	}
	full := func() { // as many dismissed as are kept
		b.check(b.rdb.Del(ctx, b.key(keys.AppDismissed)).Err())
		n := b.dismissals()
		zs := []redis.Z{{Score: float64(n - 2000), Member: ""}}
		for i := range 2000 {
			zs = append(zs, redis.Z{Score: float64(n - 1999 + int64(i)), Member: fmt.Sprint("gone", i)})
		}
		b.check(b.rdb.ZAdd(ctx, b.key(keys.AppDismissed), zs...).Err())
	}
	opens := []string{"prelude", "entries", "recalls", "wake"}
	waits := func() { // for an hour, what failed
		b.alone()
		b.claims(func(c mailbox.Claim) mailbox.Settlement { return failed(c, time.Hour) })
		b.exchange("d1", 0, b.held...)
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Hour})
	}
	life := int64(1)
	work := redistest.NewWork
	return []redistest.Work{
		work("deposit", both, "200 tenants, one slot", func() { b.alone(); next(b.fresh()) }, func() {
			one := make([]tenant.Record, len(b.recs))
			for i, r := range b.recs {
				one[i] = tenant.Record{Tenant: r.Tenant, Top: r.Top}
				one[i].Heads[tenant.SlotStatus] = r.Heads[tenant.SlotStatus]
				one[i].Heads[tenant.SlotStatus].Sequence = r.Top
			}
			b.deposit("n", one...)
		}),
		work("deposit", both, "200 tenants, three slots", b.alone, func() { b.deposit("n", b.fresh()...) }),
		work("deposit", both, "200 tenants, three slots replaced", func() { b.alone(); b.deposit("n", b.fresh()...) }, func() { b.deposit("n", b.fresh()...) }),
		work("admit", []string{"prelude"}, "200 new, others dismissed", func() {
			b.check(b.rdb.Del(ctx, b.key(keys.AppTenants)).Err())
			full()
		}, func() {
			_, err := b.s.Approve(ctx, b.life(), b.dismissals()-1000, b.admissions(5))
			b.check(err)
		}),
		work("admit", []string{"prelude"}, "resync of 200", func() { b.approved(1, b.ids...) }, do(func() error {
			_, err := b.s.RequestResync(ctx, b.life(), b.admissions(0))
			return err
		})),
		work("dismiss", []string{"prelude"}, "200 with three slots", func() {
			b.approved(1, b.ids...)
			b.deposit("n", b.fresh()...)
			full()
		}, func() { b.dismiss(b.ids...) }),
		work("begin", wakes, "of many waiting", b.crowd, func() { b.own("d1") }),
		work("exchange", entries, "200 failed, 200 claims", func() { b.alone(); b.claims(func(c mailbox.Claim) mailbox.Settlement { return failed(c, 0) }) }, exchange(func() []mailbox.Settlement { return b.held })),
		work("exchange", entries, "200 told, 200 claims", func() { b.alone(); b.claims(ok) }, exchange(func() []mailbox.Settlement { return b.held })),
		work("exchange", entries, "200 expired, 200 claims", func() {
			b.alone()
			b.claims(ok)
			zs := make([]redis.Z, len(b.ids))
			for i, t := range b.ids {
				zs[i] = redis.Z{Score: 1, Member: string(t)}
			}
			b.check(b.rdb.ZAdd(ctx, b.key(keys.AppFlight), zs...).Err())
		}, exchange(func() []mailbox.Settlement { return nil })),
		work("finish", wakes, "with a gate", func() {
			b.check(b.rdb.HDel(ctx, b.key(keys.AppMailbox), "gate", "gopen").Err())
			b.own("d1")
		}, func() { b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute}) }),
		work("exchange", entries, "64 probes among 200 that were tried", func() {
			b.alone()
			b.claims(func(c mailbox.Claim) mailbox.Settlement { return failed(c, 0) })
			b.exchange("d1", 0, b.held...)
			b.finish("d1", mailbox.Closing{Probes: 64, Cooldown: time.Millisecond})
			b.pass(time.Millisecond)
			b.own("d1")
		}, func() { b.exchange("d1", 1) }),
		work("switch", opens, "on and changed, 200 recalled", waits, func() {
			b.calls++
			_, err := b.s.ApplySwitch(ctx, "n", mailbox.Switch{Life: b.life(), Revision: int64(b.calls), EndpointRevision: int64(b.calls), On: true})
			b.check(err)
		}),
		work("open", opens, "a closed gate, 200 recalled", waits, do(func() error { _, err := b.s.EndCooldown(ctx, b.life(), "n"); return err })),
		work("recall", []string{"prelude", "entries", "recalls"}, "200 tenants", func() {
			waits()
			b.own("d1")
			b.check(b.rdb.HSet(ctx, b.key(keys.AppMailbox), "recall", "0:9000000000000:0").Err())
		}, do(func() error { _, err := b.s.RecallFailed(ctx, b.life(), "d1"); return err })),
		work("beat", []string{"prelude"}, "the owner", func() { b.own("d1") }, func() { b.beats("d1") }),
		work("view", entries, "of many waiting", b.crowd, func() { b.view() }),
		work("inspect", entries, "200 with three slots", func() { b.alone(); b.deposit("n", b.fresh()...) }, do(func() error {
			_, err := b.s.ReadPairs(ctx, testApp, b.ids)
			return err
		})),
		work("life", []string{"prelude"}, "200 with three slots", func() {
			b.birth = life
			life++
			b.approved(1, b.ids...)
			b.deposit("n", b.fresh()...)
		}, do(func() error { return b.s.BeginLife(ctx, at(life)) })),
	}
}

// jobWorks are the scripts of jobs at their largest legal calls.
func jobWorks(b *censusBox) []redistest.Work {
	ctx, job := b.Context(), []string{"prelude", "job"}
	number, life := int64(0), int64(1_000)
	var id mailbox.JobID
	var claim mailbox.JobClaim
	var page mailbox.JobPage
	make := func() {
		b.check(b.rdb.Del(ctx, b.keys.App(testApp, keys.AppOpenJobs)).Err())
		b.approved(1, b.ids...)
		number++
		var err error
		id, _, err = b.s.MakeDepositJob(ctx, b.life(), b.jobID(mailbox.JobResync, number), "Kim", "operator")
		b.check(err)
	}
	made := func() { make(); claim = b.claimJob(id, "w") }
	former := func() {
		b.check(b.rdb.Del(ctx, b.key(keys.AppMailbox)).Err())
		b.birth = 0
		b.approved(1, b.ids...)
		life++
		b.check(b.s.BeginLife(ctx, at(life)))
		b.birth = life
	}
	clearing := func() {
		_, err := b.s.MakeClearJob(ctx, at(life), "Kim", "admin", false)
		b.check(err)
	}
	work := redistest.NewWork
	retell := work("retell", append(job, "entries", "wake", "deposit"), "200 tenants, each status again", func() {
		made()
		var err error
		page, err = b.s.ReadJobPage(ctx, claim)
		b.check(err)
		b.alone()
	}, func() {
		_, err := b.s.DepositJobPage(ctx, &claim, b.nonce(), b.recs, mailbox.PageDeposit{All: true, Last: true, Page: page, Counted: len(b.ids)})
		b.check(err)
	})
	retell.Text = mailbox.RetellSource()
	return []redistest.Work{
		work("job_make", job, "one", nil, make),
		work("job_claim", job, "one", make, func() { claim = b.claimJob(id, "w") }),
		work("job_settle", job, "a page that failed", made, func() { _, _, err := b.s.FailJob(ctx, claim, mailbox.JobReasons()[0]); b.check(err) }),
		work("job_cancel", job, "one", made, func() { _, err := b.s.CancelJob(ctx, id); b.check(err) }),
		work("job_clear", job, "one", former, clearing),
		work("clear", job, "200 of a former life", func() { former(); clearing(); claim = b.claimJob(mailbox.ClearJobID(at(life)), "w") },
			func() { _, err := b.s.RemoveFormerApprovals(ctx, claim, b.ids); b.check(err) }),
		work("walk", []string{"prelude"}, "200", made, func() { _, err := b.s.ReadJobPage(ctx, claim); b.check(err) }),
		retell,
	}
}

// crowd makes 60,000 others wait, where they do not.
func (b *censusBox) crowd() {
	if b.rdb.HLen(b.Context(), b.key(keys.AppWaiting)).Val() >= 60_000 {
		return
	}
	redistest.Fill(b, b.rdb.(*redis.Client), 60_000, func(p redis.Pipeliner, i int) {
		t := "other" + strconv.Itoa(i)
		p.HSet(b.Context(), b.key(keys.AppWaiting), t+"|status", `5;8;0;0;1;{"v":1}`)
		p.ZAdd(b.Context(), b.key(keys.AppDue), redis.Z{Score: 1, Member: t})
	})
}

func newCensusBox(t testing.TB, rdb redis.UniversalClient) *censusBox {
	t.Helper()
	b := &censusBox{box: &box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), mailbox.Settings{})}}
	for i := range mailbox.MaxBatch {
		id := tenant.ID(fmt.Sprintf("Cust%05d-of-a-long-name", i))
		b.ids = append(b.ids, id)
		b.recs = append(b.recs, story(id, "suspend5 move6 backup_restored7"))
	}
	return b
}

func BenchmarkScripts(b *testing.B) {
	rdb := redistest.NewCensusServer(b)
	all := func(x *censusBox) []redistest.Work { return append(works(x), jobWorks(x)...) }
	for i, w := range all(newCensusBox(b, rdb.Client)) {
		b.Run(w.Script+"/"+w.What, func(b *testing.B) {
			if err := rdb.FlushDB(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			x := newCensusBox(b, rdb.Client)
			x.approved(1, x.ids...)
			redistest.Census(b, rdb, all(x)[i])
		})
	}
}

func TestEveryScriptIsInTheCensus(t *testing.T) {
	t.Parallel()
	x := newCensusBox(t, redistest.Mini(t))
	redistest.Covered(t, append(works(x), jobWorks(x)...))
}

// The end of an app's life with a million approvals that wait keeps nobody from Redis.
func BenchmarkPingWhileAMillionTenantsAreDropped(b *testing.B) {
	const tenants = 1_000_000
	p := redistest.Start(b, "--slowlog-log-slower-than", "500", "--slowlog-max-len", "1024")
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, ReadTimeout: time.Minute})
	b.Cleanup(func() { _ = rdb.Close() })
	x := &box{TB: b, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), mailbox.Settings{})}
	var longest, before, slowest time.Duration
	for i := range b.N {
		redistest.Fill(b, rdb, tenants/500, func(p redis.Pipeliner, i int) {
			marks, waits, due := make([]any, 0, 1000), make([]any, 0, 1000), make([]redis.Z, 0, 500)
			for j := range 500 {
				t := "tenant" + strconv.Itoa(i*500+j)
				marks = append(marks, t, "5")
				waits = append(waits, t+"|status", `5;8;0;0;1;{"v":1,"i":"chg_x_1","t":1}`)
				due = append(due, redis.Z{Score: 1, Member: t})
			}
			p.HSet(b.Context(), x.key(keys.AppTenants), marks...)
			p.HSet(b.Context(), x.key(keys.AppWaiting), waits...)
			p.ZAdd(b.Context(), x.key(keys.AppDue), due...)
		})
		within := func() { <-time.After(2 * time.Second) }
		idle, _ := redistest.Ping(b, rdb, within) // what the machine makes of it
		x.check(rdb.Do(b.Context(), "slowlog", "reset").Err())
		took, _ := redistest.Ping(b, rdb, func() {
			x.check(x.s.EndLife(b.Context(), at(int64(i)+1)))
			within() // what was unlinked is freed meanwhile
		})
		log, err := rdb.SlowLogGet(b.Context(), -1).Result()
		x.check(err)
		for _, l := range log {
			slowest = max(slowest, l.Duration)
		}
		longest, before = max(longest, took), max(before, idle)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(longest), "ping-max-ms")
	b.ReportMetric(ms(before), "ping-max-before-ms")
	b.ReportMetric(ms(slowest), "slowest-command-ms") // 0: none took half a millisecond
}
