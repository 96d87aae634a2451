package sweep_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/sweep"
)

var realApps = flag.Int("sweep.apps", 2000, "how many apps the loops go round in tests on a real Redis, each trip to which takes a millisecond longer")

func TestMain(m *testing.M) { redistest.Main(m) }

// far has everything on a Redis that is a millisecond away, but the apps, which cost nothing to make.
type far struct {
	*clusterCollector
	*registry.IncidentStore
	*mailbox.Store

	queue *queue.Client
}

func (r *far) RepairWakeUps(ctx context.Context, nonce string, apps []mailbox.Switch) ([]mailbox.Wake, []error) {
	return r.Store.RepairWakeUps(ctx, nonce, apps)
}

func (r *far) Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error) {
	return r.Store.Views(ctx, apps)
}

func (r *far) Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error {
	return r.queue.EnqueueDrain(ctx, app, w.Generation, w.Delay)
}

func (r *far) ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error) {
	return r.IncidentStore.ReadOpenIncidents(ctx, apps)
}

func (r *far) HasOutboxMails(ctx context.Context, apps []partner.ClientID) ([]bool, []error) {
	return r.IncidentStore.HasOutboxMails(ctx, apps)
}

func (r *far) ReadOutboxPages(ctx context.Context, places []registry.OutboxPlace) ([]registry.OutboxPage, []error) {
	return r.IncidentStore.ReadOutboxPages(ctx, places)
}

func newFar(t *testing.T) (*far, redis.UniversalClient) {
	t.Helper()
	p := redistest.Start(t)
	remote := redis.NewClient(&redis.Options{Addr: redistest.Delay(t, p.Addr, time.Millisecond/2), PoolSize: 64, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = remote.Close() })
	space := keys.New("")
	r := &far{
		clusterCollector: newClusterCollector(*realApps), IncidentStore: registry.NewIncidentStore(remote, space, 0), queue: queue.NewClient(remote, "test"),
		Store: mailbox.New(remote, space, mailbox.Settings{OwnerLease: time.Minute, EntryLease: time.Minute, Grace: 10 * time.Second, Horizon: 15 * time.Second}),
	}
	return r, p.Client(t)
}

func (r *far) process() process {
	p := r.clusterCollector.process()
	p.Sweeper = sweep.New(sweep.Options{
		Registry: r.clusterCollector, Apps: r.clusterCollector, Mailboxes: r, Waker: r, Notifier: r.clusterCollector, Repairer: r.clusterCollector, Incidents: r, Mails: r,
		Metrics: nil, Environment: partner.Online, Every: every, Log: slog.New(slog.DiscardHandler),
	})
	return p
}

func (r *far) each(t *testing.T, rdb redis.UniversalClient, do func(p redis.Pipeliner, key func(keys.AppKey) string)) {
	t.Helper()
	_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for _, a := range r.apps {
			do(p, func(k keys.AppKey) string { return keys.New("").App(a.Rec.App.ClientID, k) })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// round is how long a round of a loop takes.
func (r *far) round(t *testing.T, name string) time.Duration {
	t.Helper()
	start := time.Now()
	r.process().mustRound(t, name)
	took := time.Since(start)
	t.Logf("%d apps: %s takes %v", len(r.apps), name, took.Round(time.Millisecond))
	if took > every {
		t.Errorf("%s takes %v, longer than until the next round", name, took)
	}
	return took
}

// Where all apps are in back-off, their wake-ups are armed and handed on in one round, well before the next; a mailbox
// that cannot be read costs the others nothing, and apps with which nothing is wrong cost little.
func TestRoundsOnARealRedis(t *testing.T) {
	t.Parallel()
	r, rdb := newFar(t)
	for _, name := range []string{"arm", "incidents", "mails", "gauges"} {
		r.round(t, name)
	}
	now := time.Now()
	r.each(t, rdb, func(p redis.Pipeliner, key func(keys.AppKey) string) {
		p.ZAdd(t.Context(), key(keys.AppDue), redis.Z{Score: float64(now.Add(-time.Second).UnixMilli()), Member: "Cust1"})
		p.HSet(t.Context(), key(keys.AppMailbox), "gate", now.Add(10*time.Second).UnixMilli(), "gopen", 3)
	})
	bad := keys.New("").App(r.apps[7].Rec.App.ClientID, keys.AppMailbox)
	rdb.Del(t.Context(), bad)
	rdb.Set(t.Context(), bad, "no hash", 0)
	start := time.Now()
	failed := 0
	for cursor, end := "", false; !end; {
		rep, err := r.process().Steps()["arm"](t.Context(), cursor)
		if err != nil {
			t.Error(err)
		}
		cursor, end, failed = rep.Next, rep.End, failed+len(rep.Passed)
	}
	took := time.Since(start)
	t.Logf("%d apps in back-off: armed and handed on in %v", len(r.apps), took.Round(time.Millisecond))
	if tasks := rdb.ZCard(t.Context(), "asynq:{test-drain}:scheduled").Val(); int(tasks) != len(r.apps)-1 || failed != 1 || took > every {
		t.Errorf("%d tasks in %v, %d apps failed", tasks, took, failed)
	}
}

// An app that was told of incidents costs what another costs: what was sent is not looked at again.
func TestSentMailsCostNothing(t *testing.T) {
	t.Parallel()
	r, rdb := newFar(t)
	const sent = 10_000
	for _, a := range r.apps[:3] {
		settled := make([]redis.Z, sent)
		for i := range settled {
			settled[i] = redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: fmt.Sprint("mail", i)}
		}
		rdb.ZAdd(t.Context(), keys.New("").App(a.Rec.App.ClientID, keys.AppSettled), settled...)
	}
	before := rdb.Info(t.Context(), "commandstats").Val()
	r.round(t, "mails")
	after := rdb.Info(t.Context(), "commandstats").Val()
	if calls(after, "evalsha") != calls(before, "evalsha") || calls(after, "exists")-calls(before, "exists") != len(r.apps) {
		t.Errorf("a round of mails took more than one EXISTS an app:\n%s", after)
	}
}

// calls reads how often a command ran.
func calls(stats, command string) (n int) {
	for line := range strings.Lines(stats) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			_, _ = fmt.Sscanf(rest, "%d", &n)
		}
	}
	return n
}
