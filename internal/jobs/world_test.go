package jobs_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const hook = "https://app.example/hook"

func actor() registry.Actor { return registry.Actor{Name: "Kim", Role: "operator"} }

// world is a registry with its mailboxes and jobs, as the service wires them.
type world struct {
	testing.TB
	rdb       redis.UniversalClient
	reg       *registry.Store
	box       *mailbox.Store
	dir       *registry.Directory
	approvals *fanout.Approvals
	desk      *jobs.Manager
	metrics   *prometheus.Registry
	log       *slog.Logger
}

func each(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { f(newWorld(t, rdb)) })
}

func newWorld(t testing.TB, rdb redis.UniversalClient) *world {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		TB: t, rdb: rdb, reg: registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)}), box: mailbox.New(rdb, keys.New(""), mailbox.Settings{}),
		log: slog.New(slog.DiscardHandler),
	}
	w.dir = registry.NewDirectory(w.reg)
	w.approvals = fanout.NewApprovals(fanout.ApprovalsOptions{Index: w.reg, Admissions: w.box, Apps: w.dir, Waker: nobody{}, Log: w.log})
	w.desk = jobs.NewManager(w.reg, w.box, w.box, nil, time.Now)
	return w
}

type nobody struct{}

func (nobody) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

func ok[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// app writes an app that never had a URL, or has one.
func (w *world) app(id partner.ClientID, url string) mailbox.Life {
	w.Helper()
	a := partner.New(id)
	a.Name, a.EverHadURL = string(id), url != ""
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = url, true
	rec, _, err := w.reg.PutApp(w.Context(), a, registry.AnyRevision, nil, actor(), "app.put")
	w.must(err)
	return mailbox.Life{App: id, Birth: rec.Birth}
}

// reported gives tenants a status, all in the same words.
func (w *world) reported(n int) []tenant.ID {
	w.Helper()
	ids := make([]tenant.ID, n)
	var rs []registry.ChangeRequest
	for i := range ids {
		ids[i] = tenant.ID(fmt.Sprintf("t%05d", i))
		rs = append(rs, registry.ChangeRequest{Tenant: ids[i], Type: tenant.Suspend})
		if len(rs) == 1000 || i == n-1 {
			ok[[]registry.AcceptResult](w)(w.reg.Accept(w.Context(), rs))
			rs = nil
		}
	}
	return ids
}

func (w *world) approve(app partner.ClientID, ids ...tenant.ID) {
	w.Helper()
	w.must(w.approvals.Approve(w.Context(), app, ids, actor()))
}

// told has everything that waits for an app delivered, and says how much that was.
func (w *world) told(life mailbox.Life) (n int) {
	w.Helper()
	ok[mailbox.BeginResult](w)(w.box.Begin(w.Context(), life, "d", 0))
	var settled []mailbox.Settlement
	for {
		x := ok[mailbox.ExchangeResult](w)(w.box.Exchange(w.Context(), life, "d", mailbox.MaxBatch, settled))
		if len(x.Claims) == 0 {
			break
		}
		settled = nil
		for _, c := range x.Claims {
			settled = append(settled, mailbox.Settlement{Claim: c, Result: mailbox.OK})
		}
		n += len(x.Claims)
	}
	ok[mailbox.FinishResult](w)(w.box.Finish(w.Context(), life, "d", mailbox.Closing{Force: true}))
	return n
}

// delete removes an app from the settings, as the API does before anything else.
func (w *world) delete(id partner.ClientID) mailbox.Life {
	w.Helper()
	return mailbox.Life{App: id, Birth: ok[int64](w)(w.reg.DeleteApp(w.Context(), id, registry.AnyRevision, actor()))}
}

func (w *world) job(id mailbox.JobID) string {
	w.Helper()
	j, err := w.desk.Job(w.Context(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return "none"
	}
	w.must(err)
	return strings.TrimSpace(fmt.Sprintf("%s %d/%d %s", j.State, j.Done, j.Of, j.Reason))
}

// await waits until a job stands as told.
func (w *world) await(id mailbox.JobID, want string) {
	w.Helper()
	got := ""
	defer func() {
		if got != want {
			w.Logf("job %s is %q, want %q", id, got, want)
		}
	}()
	redistest.Eventually(w, time.Minute, "job "+id.String(), func() bool { got = w.job(id); return got == want })
}

// pages is what a worker makes pages with.
type pages = func(ctx context.Context, c *mailbox.JobClaim) (bool, error)

// worker runs a worker until the test, or stop, ends it.
func (w *world) worker(page pages, change func(*jobs.Options)) (stop func()) {
	w.Helper()
	if page == nil {
		page = w.approvals.AdvanceJob
	}
	w.metrics = prometheus.NewRegistry()
	o := jobs.Options{
		Due: w.reg, Claims: w.box, Page: page, StoreFault: func(err error) string { return string(redisconn.ClassifyFault(err)) },
		Metrics: jobs.NewMetrics(w.metrics), Log: w.log, Poll: 20 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan struct{})
	go func() {
		jobs.NewRunner(o).Run(ctx)
		close(done)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.Cleanup(stop)
	return stop
}

// finder looks for what is listed nowhere.
func (w *world) finder() *jobs.Finder {
	return jobs.NewFinder(jobs.FinderOptions{
		Leases: w.reg, Removed: w.reg, Lists: w.reg, Apps: w.dir, Boxes: w.box, Log: w.log,
		Deleted: func(ctx context.Context, id partner.ClientID, revision int64) error {
			_, err := w.desk.ClearApp(ctx, mailbox.Life{App: id, Birth: revision}, registry.Actor{})
			return err
		},
	})
}

func (w *world) look(f *jobs.Finder) {
	w.Helper()
	w.must(w.dir.Refresh(w.Context()))
	w.must(f.FindOnce(w.Context()))
}

// census lists the keys of an app, and the index entries that name it.
func (w *world) census(app partner.ClientID, ids []tenant.ID) (left []string) {
	w.Helper()
	for _, key := range ok[[]string](w)(w.rdb.Keys(w.Context(), "lamplighter:{"+string(app)+"}:*").Result()) {
		left = append(left, strings.TrimPrefix(key, "lamplighter:{"+string(app)+"}:"))
	}
	for _, id := range ids {
		if w.rdb.SIsMember(w.Context(), keys.New("").Tenant(id, keys.TenantApprovals), string(app)).Val() {
			left = append(left, "index of "+string(id))
		}
	}
	return left
}

// metric adds up a metric's series, of one kind where it is given.
func (w *world) metric(name, kind string) (sum float64) {
	w.Helper()
	for _, f := range ok[[]*dto.MetricFamily](w)(w.metrics.Gather()) {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if kind == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == kind {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
