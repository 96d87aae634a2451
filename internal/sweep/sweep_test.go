package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/sweep"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var errFake = errors.New("connection lost")

// cluster is what a sweep looks after, shared by all processes under test. Calls fail by name.
type cluster struct {
	holder string
	until  time.Time
	// away is until when no lease can be had.
	away   time.Time
	owed   []registry.Owed
	doc    []byte
	docEnd time.Time

	apps     []*registry.Entry
	views    map[partner.ClientID]mailbox.View
	wakes    map[partner.ClientID]mailbox.Wake
	troubles map[partner.ClientID]sweep.Troubles
	// mails wait in trays.
	mails      int
	oldestMail time.Duration

	fails map[string]bool
	bad   map[partner.ClientID]bool

	switches []mailbox.Switch
	nonces   []string
	woken    []string
	notified [][]tenant.ID
	ticked   []partner.ClientID
	leases   []time.Duration
	sizes    []int
	repairs  int
}

func newCluster(n int) *cluster {
	c := &cluster{
		views: map[partner.ClientID]mailbox.View{}, wakes: map[partner.ClientID]mailbox.Wake{}, troubles: map[partner.ClientID]sweep.Troubles{},
		fails: map[string]bool{}, bad: map[partner.ClientID]bool{},
	}
	for i := range n {
		a := partner.New(partner.ClientID(fmt.Sprintf("app%d", i)))
		a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = "https://partner.example/", true
		c.apps = append(c.apps, &registry.Entry{Rec: registry.AppRecord{App: a, Revision: int64(i + 1)}})
	}
	return c
}

func (c *cluster) fail(name string) error {
	if c.fails[name] {
		return fmt.Errorf("%s: %w", name, errFake)
	}
	return nil
}

func (c *cluster) Lease(_ context.Context, name, holder string, ttl time.Duration) (bool, error) {
	if time.Now().Before(c.away) || name != "sweep" {
		return false, errFake
	}
	c.leases = append(c.leases, ttl)
	if c.holder != "" && c.holder != holder && time.Now().Before(c.until) {
		return false, nil
	}
	c.holder, c.until = holder, time.Now().Add(ttl)
	return true, nil
}

func (c *cluster) Release(ctx context.Context, name, holder string) error {
	if ctx.Err() != nil || name != "sweep" {
		return errFake
	}
	if c.holder == holder {
		c.holder = ""
	}
	return c.fail("release")
}

func (c *cluster) Repair(context.Context) error {
	c.repairs++
	return c.fail("repair")
}

func (c *cluster) OwedTenants(_ context.Context, waited time.Duration, skip, limit int) ([]registry.Owed, error) {
	if waited != every {
		return nil, fmt.Errorf("asked for those that waited %v", waited)
	}
	skip = min(skip, len(c.owed))
	return c.owed[skip:min(skip+limit, len(c.owed))], c.fail("owed")
}

func (c *cluster) ApproversOf(_ context.Context, ids []tenant.ID) ([][]partner.ClientID, error) {
	out := make([][]partner.ClientID, len(ids))
	for i := range ids {
		out[i] = []partner.ClientID{"app0", "app1", "app2"}[:1+i%3]
	}
	return out, c.fail("approvers")
}

func (c *cluster) SaveGauges(_ context.Context, doc []byte, ttl time.Duration) error {
	if err := c.fail("save"); err != nil {
		return err
	}
	c.doc, c.docEnd = doc, time.Now().Add(ttl)
	return nil
}

func (c *cluster) Gauges(context.Context) ([]byte, error) {
	if time.Now().After(c.docEnd) {
		return nil, c.fail("gauges")
	}
	return c.doc, c.fail("gauges")
}

func (c *cluster) Refresh(context.Context) error { return c.fail("refresh") }
func (c *cluster) All() []*registry.Entry        { return c.apps }

func (c *cluster) Sweep(_ context.Context, nonce string, apps []mailbox.Switch) ([]mailbox.Wake, []error) {
	c.nonces, c.switches, c.sizes = append(c.nonces, nonce), append(c.switches, apps...), append(c.sizes, len(apps))
	wakes, errs := make([]mailbox.Wake, len(apps)), make([]error, len(apps))
	for i, a := range apps {
		if c.bad[a.Life.App] {
			errs[i] = errFake
			continue
		}
		wakes[i] = c.wakes[a.Life.App]
	}
	return wakes, errs
}

func (c *cluster) Views(_ context.Context, apps []partner.ClientID) ([]mailbox.View, []error) {
	views, errs := make([]mailbox.View, len(apps)), make([]error, len(apps))
	for i, a := range apps {
		if c.bad[a] {
			errs[i] = errFake
			continue
		}
		views[i] = c.views[a]
	}
	return views, errs
}

func (c *cluster) Wake(_ context.Context, app partner.ClientID, w mailbox.Wake) error {
	c.woken = append(c.woken, fmt.Sprintf("%s:%d", app, w.Generation))
	return c.fail("wake")
}

func (c *cluster) Notify(_ context.Context, _ string, ts []tenant.ID) error {
	c.notified = append(c.notified, ts)
	return c.fail("notify")
}

func (c *cluster) Troubled(_ context.Context, apps []partner.ClientID) ([]*registry.Trouble, error) {
	out := make([]*registry.Trouble, len(apps))
	for i, a := range apps {
		if _, ok := c.troubles[a]; ok {
			out[i] = &registry.Trouble{Unreadable: fmt.Errorf("found of %s", a)}
		}
	}
	return out, c.fail("troubled")
}

func (c *cluster) Tick(_ context.Context, app partner.ClientID, found registry.Trouble) (sweep.Troubles, error) {
	if want := fmt.Sprintf("found of %s", app); found.Unreadable == nil || found.Unreadable.Error() != want {
		return sweep.Troubles{}, fmt.Errorf("ticks %s with %w", app, found.Unreadable)
	}
	c.ticked = append(c.ticked, app)
	return c.troubles[app], c.fail("tick")
}

func (c *cluster) Mails(context.Context) (int, time.Duration, error) {
	return c.mails, c.oldestMail, c.fail("mails")
}

const every = 5 * time.Second

// process is one worker.
type process struct {
	*sweep.Sweeper

	reg *prometheus.Registry
}

func (c *cluster) process() process {
	reg := prometheus.NewPedanticRegistry()
	return process{sweep.New(sweep.Options{
		Registry: c, Apps: c, Mailboxes: c, Waker: c, Notifier: c, Repairer: c, Incidents: c, Metrics: sweep.NewMetrics(reg),
		Environment: partner.Online, Every: every, Log: slog.New(slog.DiscardHandler),
	}), reg}
}

// series are the values of the metrics with these names, those of zero left out.
func (p process) series(t testing.TB, names ...string) map[string]float64 {
	t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "lamplighter_")
		if !slices.Contains(names, name) {
			continue
		}
		for _, m := range f.GetMetric() {
			words := []string{name}
			for _, l := range m.GetLabel() {
				words = append(words, l.GetValue())
			}
			if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); v != 0 {
				out[strings.Join(words, " ")] = v
			}
		}
	}
	return out
}

func same(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Each thing that only time can break is repaired.
func TestRepairs(t *testing.T) {
	t.Parallel()
	c := newCluster(3)
	c.apps[1].Rec.App.Paused = true
	c.apps[2].Rec.App.Endpoints[partner.StateChange].Enabled = false
	c.wakes["app0"] = mailbox.Wake{Generation: 7}
	c.owed = []registry.Owed{{Tenant: "a", Ticket: 1}, {Tenant: "b", Ticket: 2}}
	c.troubles["app1"] = sweep.Troubles{}
	p := c.process()
	if err := p.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, []mailbox.Switch{{Life: mailbox.Life{App: "app0"}, Revision: 1, On: true}, {Life: mailbox.Life{App: "app1"}, Revision: 2}, {Life: mailbox.Life{App: "app2"}, Revision: 3}}, c.switches)
	same(t, []string{"app0:7"}, c.woken)
	same(t, [][]tenant.ID{{"a", "b"}}, c.notified)
	same(t, []partner.ClientID{"app1"}, c.ticked)
	if owed := p.series(t, "oldest_owed_fanout_seconds")["oldest_owed_fanout_seconds"]; owed < 3600 {
		t.Errorf("the oldest fan-out is owed for %v s, want since its ticket", owed)
	}
	same(t, map[string]float64{"sweeps_total ok": 1, "fanouts_owed": 2, "owed_pairs": 3}, p.series(t, "sweeps_total", "fanouts_owed", "owed_pairs"))
	if p.series(t, "sweep_last_success_timestamp_seconds")["sweep_last_success_timestamp_seconds"] == 0 {
		t.Error("the last success is not told")
	}
}

// Of many owed fan-outs the pairs are reckoned from the oldest, and none are told once none is owed.
func TestPairsOfOwedFanOuts(t *testing.T) {
	t.Parallel()
	c := newCluster(0)
	for i := range 450 {
		c.owed = append(c.owed, registry.Owed{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: int64(i + 1)})
	}
	p := c.process()
	for _, want := range []map[string]float64{{"owed_pairs": 897}, {}} { // 399 of the oldest 200
		if err := p.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, want, p.series(t, "owed_pairs"))
		c.owed = nil
	}
	c.owed = []registry.Owed{{Tenant: "a", Ticket: 1}}
	c.fails["approvers"] = true
	if err := p.Once(t.Context()); !errors.Is(err, errFake) {
		t.Errorf("error = %v, want that of the approvals", err)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	c := newCluster(2*sweep.Batch + 1)
	for i := range 2 * mailbox.MaxBatch {
		c.owed = append(c.owed, registry.Owed{Tenant: tenant.ID(fmt.Sprintf("t%d", i))})
	}
	if err := c.process().Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, []int{sweep.Batch, sweep.Batch, 1}, c.sizes)
	if len(slices.Compact(c.nonces)) != 3 {
		t.Errorf("nonces %v: a repeat is told from a second call by its nonce", c.nonces)
	}
	if len(c.notified) != 2 || len(c.notified[0]) != mailbox.MaxBatch || len(c.notified[1]) != mailbox.MaxBatch {
		t.Errorf("%d fan-outs", len(c.notified))
	}
}

// Many owed fan-outs are worked off faster and faster while the workers keep up, and slower when
// they do not: 100,000 are started within nine sweeps of 5 s.
func TestOwedAdapts(t *testing.T) {
	t.Parallel()
	c := newCluster(1)
	for i := range 100_000 {
		c.owed = append(c.owed, registry.Owed{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: int64(i + 1)})
	}
	p := c.process()
	var started []int
	for sweep := range 9 {
		c.notified = nil
		if err := p.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, ts := range c.notified {
			n += len(ts)
		}
		started = append(started, n)
		if sweep != 3 { // in the fourth the workers are slow
			c.owed = c.owed[n:]
		}
	}
	same(t, []int{500, 1000, 2000, 4000, 2000, 4000, 8000, 16000, 32000}, started)
}

// Only the holder of the lease sweeps; all export what it found; another takes over when it is silent.
func TestLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1)
		c.views["app0"] = mailbox.View{Waiting: 4, Diverged: 3, Oldest: 90 * time.Second}
		one, two := c.process(), c.process()
		for _, p := range []process{one, two, two, one} {
			if err := p.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.switches) != 2 {
			t.Errorf("%d sweeps", len(c.switches))
		}
		names := []string{"apps", "waiting_notifications", "oldest_waiting_seconds", "diverged_tenants", "breakers"}
		want := map[string]float64{
			"apps behind": 1, "waiting_notifications behind": 4, "oldest_waiting_seconds behind": 90, "diverged_tenants behind": 3, "breakers closed": 1,
		}
		same(t, want, one.series(t, names...))
		same(t, want, two.series(t, names...))
		same(t, map[string]float64{}, two.series(t, "sweeps_total"))
		<-time.After(c.leases[0] + time.Second)
		if err := two.Once(t.Context()); err != nil || len(c.switches) != 3 {
			t.Errorf("%d sweeps, %v", len(c.switches), err)
		}
	})
}

// Run goes on after failures and ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1)
		c.away = time.Now().Add(12 * time.Second)
		p := c.process()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Run(ctx)
		}()
		<-time.After(22 * time.Second)
		synctest.Wait()
		same(t, map[string]float64{"sweeps_total error": 3, "sweeps_total ok": 2}, p.series(t, "sweeps_total"))
		cancel()
		<-done
	})
}

// One thing that fails keeps nothing else from being repaired.
func TestFailuresStayAlone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"owed", "notify", "refresh", "wake", "tick", "save", "troubled", "gauges"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(2)
			c.owed = []registry.Owed{{Tenant: "a"}}
			c.wakes["app0"], c.wakes["app1"] = mailbox.Wake{Generation: 1}, mailbox.Wake{Generation: 2}
			c.troubles["app0"], c.troubles["app1"] = sweep.Troubles{}, sweep.Troubles{}
			c.fails[name] = true
			p := c.process()
			if err := p.Once(t.Context()); !errors.Is(err, errFake) {
				t.Errorf("error %v", err)
			}
			same(t, []string{"app0:1", "app1:2"}, c.woken)
			if name != "troubled" {
				same(t, []partner.ClientID{"app0", "app1"}, c.ticked)
			}
			if name != "owed" && len(c.notified) != 1 {
				t.Error("the fan-out was not started")
			}
			if got := p.series(t, "sweeps_total")["sweeps_total error"]; (got == 1) != (name != "gauges") {
				t.Errorf("%v errors counted", got)
			}
		})
	}
}

// A mailbox that cannot be read is missing from the numbers, and the others are there.
func TestOneMailboxFailing(t *testing.T) {
	t.Parallel()
	c := newCluster(3)
	c.bad["app1"] = true
	c.wakes["app1"], c.wakes["app2"] = mailbox.Wake{Generation: 1}, mailbox.Wake{Generation: 2}
	p := c.process()
	if err := p.Once(t.Context()); !errors.Is(err, errFake) {
		t.Errorf("error %v", err)
	}
	same(t, []string{"app2:2"}, c.woken)
	same(t, map[string]float64{"apps in_step": 2}, p.series(t, "apps"))
}

// A sweep that could not see all apps leaves the numbers of the one before.
func TestPartialSweepSavesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(2)
	p := c.process()
	if err := p.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.fails["troubled"] = true
	if err := p.Once(t.Context()); !errors.Is(err, errFake) {
		t.Errorf("error %v", err)
	}
	same(t, map[string]float64{"apps in_step": 2}, p.series(t, "apps"))
}

// Numbers that nobody keeps up to date, or of another version, are not shown as true.
func TestForeignGauges(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"Newer": `{"v":2,"apps":{"behind":9}}`, "Garbage": `{"v":1,"apps":{"behind":9},"waiting":[]}`, "Empty": ``, "Null": `null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(1)
			c.holder, c.until = "another", time.Now().Add(time.Hour)
			c.doc, c.docEnd = []byte(doc), time.Now().Add(time.Hour)
			p := c.process()
			if err := p.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			same(t, map[string]float64{}, p.series(t, "apps", "waiting_notifications"))
		})
	}
	t.Run("Stale", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(1)
			one, two := c.process(), c.process()
			if err := one.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.until = time.Now().Add(time.Hour) // it holds the lease and does nothing
			<-time.After(time.Minute - time.Second)
			if err := two.Once(t.Context()); err != nil || len(two.series(t, "apps")) != 1 {
				t.Errorf("%v, %v", two.series(t, "apps"), err)
			}
			<-time.After(2 * time.Second)
			if err := two.Once(t.Context()); err != nil || len(two.series(t, "apps")) != 0 {
				t.Errorf("%v, %v", two.series(t, "apps"), err)
			}
		})
	})
}

// A process that stops gives the lease back: another sweeps at its next turn.
func TestStoppingGivesTheLeaseBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1)
		one, two := c.process(), c.process()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			one.Run(ctx)
			close(done)
		}()
		synctest.Wait()
		if err := two.Once(t.Context()); err != nil || len(two.series(t, "sweeps_total")) != 0 {
			t.Fatalf("the second swept beside the first: %v", err)
		}
		stop()
		<-done
		if err := two.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, map[string]float64{"sweeps_total ok": 1}, two.series(t, "sweeps_total"))
	})
}

func TestConditionOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	waiting := mailbox.View{Waiting: 1, Now: now}
	gated, probing := waiting, waiting
	gated.GateUntil, probing.GateUntil = now.Add(time.Minute), now.Add(-time.Minute)
	off := gated
	off.Off = true
	open := sweep.Troubles{}
	open.Open[partner.StateChange] = true
	other := sweep.Troubles{}
	other.Open[partner.ERPSync], other.Failing[partner.StateChange] = true, true
	idle := func(v mailbox.View) mailbox.View {
		v.Waiting = 0
		return v
	}
	for name, c := range map[string]struct {
		view mailbox.View
		t    sweep.Troubles
		on   bool
		want string
	}{
		"OffBySettings": {gated, open, false, "off"}, "OffInTheMailbox": {off, open, true, "off"},
		"GateClosed": {gated, sweep.Troubles{}, true, "failing"}, "GateRunOut": {probing, sweep.Troubles{}, true, "failing"},
		"GateClosedAndNothingWaits": {idle(gated), sweep.Troubles{}, true, "failing"}, "GateRunOutAndNothingWaits": {idle(probing), sweep.Troubles{}, true, "in_step"},
		"IncidentOpen": {waiting, open, true, "failing"}, "IncidentOfAnotherEndpoint": {waiting, other, true, "behind"},
		"Behind": {waiting, sweep.Troubles{}, true, "behind"}, "InStep": {mailbox.View{}, sweep.Troubles{}, true, "in_step"},
	} {
		if got := sweep.ConditionOf(c.view, c.t, c.on); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Series name apps only while something is wrong with them.
func TestExceptions(t *testing.T) {
	t.Parallel()
	c := newCluster(5)
	now := time.Now()
	c.views["app0"] = mailbox.View{Waiting: 3, Diverged: 2, GateUntil: now.Add(time.Hour), Now: now} // failing
	c.views["app1"] = mailbox.View{Waiting: 2, Diverged: 1, Now: now}                                // behind
	c.views["app2"] = mailbox.View{Waiting: 9, Off: true, Now: now}                                  // off: somebody decided so
	c.views["app3"] = mailbox.View{GateUntil: now.Add(-time.Second), Now: now}                       // nothing waits, nothing to prove it with
	var t4 sweep.Troubles
	t4.Open[partner.Mirroring], t4.Failing[partner.ERPSync], t4.Outbox, t4.OldestMail = true, true, 2, time.Minute
	c.troubles["app4"] = t4
	c.mails, c.oldestMail = 3, 2*time.Minute
	p := c.process()
	if err := p.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, map[string]float64{
		"endpoint_failing app0 state_change": 1,
		"endpoint_failing app4 erp_sync":     1, "endpoint_failing app4 mirroring": 1,
		"endpoint_waiting app0": 3, "endpoint_waiting app1": 2,
		"endpoint_diverged_tenants app0": 2, "endpoint_diverged_tenants app1": 1,
		"incidents_open mirroring": 1, "breakers closed": 2, "breakers open": 1, "breakers half_open": 1,
		"outbox_mails": 5, "outbox_oldest_seconds": 120,
	}, p.series(t, "endpoint_failing", "endpoint_waiting", "endpoint_diverged_tenants", "incidents_open", "breakers", "endpoint_exceptions_dropped", "outbox_mails", "outbox_oldest_seconds"))
}

func TestExceptionsAreCapped(t *testing.T) {
	t.Parallel()
	const more = 7
	c := newCluster(sweep.MaxExceptions + more)
	for _, a := range c.apps {
		c.views[a.Rec.App.ClientID] = mailbox.View{Waiting: 1, Diverged: 1}
	}
	p := c.process()
	if err := p.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := p.series(t, "endpoint_waiting", "endpoint_diverged_tenants", "endpoint_exceptions_dropped")
	if len(got) != 2*sweep.MaxExceptions+1 || got["endpoint_exceptions_dropped"] != more {
		t.Errorf("%d series, %v dropped", len(got), got["endpoint_exceptions_dropped"])
	}
}
