package registry_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

// mailWork are the scripts of incidents, mails, reports and probes.
func mailWork(c *census) []redistest.Work {
	ctx, work := c.Context(), redistest.NewWork
	ignore := func(_ any, err error) { c.check(err) }
	incidents := registry.NewIncidentStore(c.rdb, c.keys, time.Hour)
	trays := registry.NewMailQueueStore(c.rdb, c.keys)
	probes := registry.NewProbeStore(c.rdb, c.keys)
	tray := c.keys.Recipient(trayOwner, keys.RecipientMailQueue)
	var claimed registry.MailClaim
	var queue registry.MailQueue
	var mail string
	var probed registry.ProbeClaim
	people := make([]string, 20)
	for i := range people {
		people[i] = fmt.Sprintf("person%d@example.com", i)
	}
	open := func() string {
		c.check(c.rdb.Del(ctx, c.keys.App(incidentApp, keys.AppIncidents), c.keys.App(incidentApp, keys.AppOutbox)).Err())
		step, err := registrytest.Decide(ctx, incidents, incidentApp, partner.StateChange, deciding(blocked, began, people...))
		c.check(err)
		return step.Mails[0].ID()
	}
	fill := func(n int) {
		if c.rdb.HGet(ctx, tray, "count").Val() == strconv.Itoa(n) {
			return
		}
		c.check(c.rdb.Del(ctx, tray).Err())
		all := map[string]any{"v": "1", "count": n, "due": "1", "oldest": "1"}
		for i := range n {
			l := trayLetter(i)
			all["letter:"+l.ID()] = "1700000000000;" + l.Encode()
		}
		c.check(c.rdb.HSet(ctx, tray, all).Err())
	}
	claim := func(n int) func() {
		return func() {
			fill(n)
			c.check(c.rdb.HSet(ctx, tray, "due", "1", "lease", "0").Err())
			var err error
			claimed, queue, err = trays.ClaimMailQueue(ctx, trayOwner, time.Minute)
			c.check(err)
		}
	}
	failure := incident.Failure{Detail: strings.Repeat("d", 200), Excerpt: strings.Repeat("x", 500)}
	reports := make([]registry.Report, 500)
	for i := range reports {
		reports[i] = registry.Report{Line: i, Tenant: c.ids[i], Failure: &failure}
	}
	return []redistest.Work{
		work("incident_commit", nil, "opens, 20 letters, 1,000 ended", func() {
			c.zset(c.keys.App(incidentApp, keys.AppHistory), 1000, float64(time.Now().UnixMilli()))
		}, func() { open() }),
		work("trouble", nil, "ten incidents", once(func() { open() }), func() { _, errs := incidents.ReadOpenIncidents(ctx, []partner.ClientID{incidentApp}); c.check(errs[0]) }),
		work("outbox_due", nil, "20 letters", once(func() { open() }), func() {
			_, errs := incidents.ReadOutboxPages(ctx, []registry.OutboxPlace{{App: incidentApp}})
			c.check(errs[0])
		}),
		work("outbox_claim", nil, "one", func() { mail = open() }, func() {
			_, _, err := incidents.ClaimMail(ctx, incidentApp, mail, time.Minute)
			c.check(err)
		}),
		work("outbox_settle", nil, "one", func() { mail = open() }, func() { ignore(incidents.MarkMailSent(ctx, incidentApp, mail, "token")) }),
		work("tray_put", nil, "beside 1,999 letters", func() {
			fill(1999)
			c.check(c.rdb.HSet(ctx, tray, "count", 1999).Err())
		}, func() {
			l := trayLetter(3000)
			_, _, err := trays.EnqueueMail(ctx, trayOwner, l.ID(), l, time.Minute)
			c.check(err)
			c.check(c.rdb.HDel(ctx, tray, "letter:"+l.ID()).Err())
		}),
		work("tray_claim", nil, "of 2,000 letters", func() {
			fill(2000)
			c.check(c.rdb.HSet(ctx, tray, "due", "1", "lease", "0").Err())
		}, func() {
			_, _, err := trays.ClaimMailQueue(ctx, trayOwner, time.Minute)
			c.check(err)
		}),
		work("tray_settle", nil, "100 of 2,000 letters leave", claim(2000), func() {
			t := registry.MailQueueSettlement{Delay: time.Minute}
			for _, l := range queue.Mails[:100] {
				t.Leave = append(t.Leave, l.ID)
			}
			_, _, err := trays.SettleMailQueue(ctx, trayOwner, claimed.Token, t)
			c.check(err)
		}),
		work("tray_strike", nil, "one", func() {
			c.check(c.rdb.Del(ctx, tray).Err())
			c.check(c.rdb.ZAdd(ctx, c.config(keys.ConfigMailQueues), redis.Z{Score: 1, Member: trayOwner}).Err())
		}, func() {
			_, _, _, err := trays.ListMailQueues(ctx, registry.MailQueuePlace{})
			c.check(err)
		}),
		work("report", nil, "500 lines under a key", nil, func() {
			ignore(incidents.RecordReports(ctx, incidentApp, partner.ERPSync, c.next(), time.Hour, reports))
		}),
		work("probe_claim", nil, "one", nil, func() {
			var err error
			probed, _, err = probes.Claim(ctx, probeApp, partner.Mirroring, time.Minute, true)
			c.check(err)
		}),
		work("probe_settle", nil, "one", func() {
			var err error
			probed, _, err = probes.Claim(ctx, probeApp, partner.Mirroring, time.Minute, true)
			c.check(err)
		}, func() { ignore(probes.Settle(ctx, probed, probeState(t0))) }),
	}
}

func allWork(c *census) []redistest.Work {
	return append(append(tenantWork(c), settingsWork(c)...), mailWork(c)...)
}

func BenchmarkScripts(b *testing.B) {
	rdb := redistest.NewCensusServer(b)
	for i, w := range allWork(newCensus(b, rdb.Client)) {
		b.Run(w.Script+"/"+w.What, func(b *testing.B) {
			if err := rdb.FlushDB(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			redistest.Census(b, rdb, allWork(newCensus(b, rdb.Client))[i])
		})
	}
}

func TestEveryScriptIsInTheCensus(t *testing.T) {
	t.Parallel()
	redistest.Covered(t, allWork(newCensus(t, redistest.Mini(t))))
}
