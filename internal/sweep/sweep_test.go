package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
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

// clusterCollector is what the loops look after, shared by all processes under test. Calls fail by name.
type clusterCollector struct {
	mu      sync.Mutex
	leases  map[string]string
	until   map[string]time.Time
	states  map[string]registry.LoopState
	docLock sync.Mutex
	doc     []byte
	docEnd  time.Time

	pendingFanouts []registry.PendingFanout
	apps           []*registry.Entry
	views          map[partner.ClientID]mailbox.View
	wakes          map[partner.ClientID]mailbox.Wake
	troubles       map[partner.ClientID]*registry.OpenIncidents
	trays          [][]string
	outboxes       map[partner.ClientID][]registry.OutboxPage

	// fails are calls that fail, bad are apps of which nothing can be read, slow are calls that never end.
	fails map[string]bool
	bad   map[partner.ClientID]error
	slow  map[string]bool

	switches []mailbox.Switch
	nonces   []string
	sizes    []int
	woken    []string
	notified [][]tenant.ID
	ticked   []partner.ClientID
	mailed   []string
	repairs  int
}

func newClusterCollector(n int) *clusterCollector {
	c := &clusterCollector{
		leases: map[string]string{}, until: map[string]time.Time{}, states: map[string]registry.LoopState{},
		views: map[partner.ClientID]mailbox.View{}, wakes: map[partner.ClientID]mailbox.Wake{}, troubles: map[partner.ClientID]*registry.OpenIncidents{},
		outboxes: map[partner.ClientID][]registry.OutboxPage{}, fails: map[string]bool{}, bad: map[partner.ClientID]error{}, slow: map[string]bool{},
	}
	for i := range n {
		a := partner.New(partner.ClientID(fmt.Sprintf("app%05d", i)))
		a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = "https://partner.example/", true
		c.apps = append(c.apps, &registry.Entry{Rec: registry.AppRecord{App: a, Revision: int64(i + 1)}})
	}
	return c
}

// note records a call, which may fail or never end.
func (c *clusterCollector) note(ctx context.Context, name string, record func()) error {
	c.mu.Lock()
	slow, fails := c.slow[name], c.fails[name]
	if record != nil {
		record()
	}
	c.mu.Unlock()
	if slow {
		<-ctx.Done()
		return ctx.Err()
	}
	if fails {
		return fmt.Errorf("%s: %w", name, errFake)
	}
	return nil
}

func (c *clusterCollector) TakeLoopLease(_ context.Context, name, holder string, ttl time.Duration, write *registry.LoopState) (registry.LoopLease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !now.Before(c.until[name]) {
		c.leases[name] = ""
	}
	k := registry.LoopLease{Now: now, Anew: c.leases[name] == "", Held: c.leases[name] == "" || c.leases[name] == holder}
	if k.Held {
		c.leases[name], c.until[name] = holder, now.Add(ttl)
	}
	if k.Held && !k.Anew && write != nil {
		completed := c.states[name].Completed
		if !write.Open && write.Faults == 0 {
			completed = now
		}
		st := *write
		st.Completed = completed
		c.states[name] = st
	}
	k.LoopState = c.states[name]
	return k, nil
}

func (c *clusterCollector) ReleaseLease(ctx context.Context, name, holder string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return errFake
	}
	if c.leases[name] == holder {
		c.leases[name] = ""
	}
	return nil
}

func (c *clusterCollector) Repair(ctx context.Context) error {
	return c.note(ctx, "repair", func() { c.repairs++ })
}

func (c *clusterCollector) ListPendingFanouts(ctx context.Context, waited time.Duration, after registry.PendingFanout, limit int) ([]registry.PendingFanout, error) {
	if waited != every {
		return nil, fmt.Errorf("asked for those that waited %v", waited)
	}
	i, _ := slices.BinarySearchFunc(c.pendingFanouts, after.Ticket+1, func(o registry.PendingFanout, ticket int64) int { return int(o.Ticket - ticket) })
	return slices.Clone(c.pendingFanouts[i:min(i+limit, len(c.pendingFanouts))]), c.note(ctx, "owed", nil)
}

func (c *clusterCollector) CountPendingFanouts(ctx context.Context, waited time.Duration) (int64, error) {
	n := 0
	for _, o := range c.pendingFanouts {
		if time.Since(time.UnixMicro(o.Ticket)) >= waited {
			n++
		}
	}
	return int64(n), c.note(ctx, "owed", nil)
}

func (c *clusterCollector) ReadTickets(ctx context.Context, ids []tenant.ID) ([]int64, error) {
	listed := make(map[tenant.ID]int64, len(c.pendingFanouts))
	for _, o := range c.pendingFanouts {
		listed[o.Tenant] = o.Ticket
	}
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = listed[id]
	}
	return out, c.note(ctx, "tickets", nil)
}

func (c *clusterCollector) ApproverCounts(ctx context.Context, ids []tenant.ID) ([]int64, error) {
	out := make([]int64, len(ids))
	for i := range ids {
		out[i] = int64(1 + i%3)
	}
	return out, c.note(ctx, "approvers", nil)
}

func (c *clusterCollector) SaveGauges(ctx context.Context, doc []byte, ttl time.Duration) error {
	if err := c.note(ctx, "save", nil); err != nil {
		return err
	}
	c.docLock.Lock()
	defer c.docLock.Unlock()
	c.doc, c.docEnd = doc, time.Now().Add(ttl)
	return nil
}

func (c *clusterCollector) Gauges(ctx context.Context) ([]byte, error) {
	c.docLock.Lock()
	doc := c.doc
	if time.Now().After(c.docEnd) {
		doc = nil
	}
	c.docLock.Unlock()
	return doc, c.note(ctx, "gauges", nil)
}

func (c *clusterCollector) Refresh(ctx context.Context) error { return c.note(ctx, "refresh", nil) }
func (c *clusterCollector) All() []*registry.Entry            { return c.apps }

func (c *clusterCollector) RepairWakeUps(_ context.Context, nonce string, apps []mailbox.Switch) ([]mailbox.Wake, []error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nonces, c.switches, c.sizes = append(c.nonces, nonce), append(c.switches, apps...), append(c.sizes, len(apps))
	wakes, errs := make([]mailbox.Wake, len(apps)), make([]error, len(apps))
	for i, a := range apps {
		if errs[i] = c.bad[a.Life.App]; errs[i] == nil {
			wakes[i] = c.wakes[a.Life.App]
		}
	}
	return wakes, errs
}

func (c *clusterCollector) Views(_ context.Context, apps []partner.ClientID) ([]mailbox.View, []error) {
	views, errs := make([]mailbox.View, len(apps)), make([]error, len(apps))
	for i, a := range apps {
		views[i], errs[i] = c.views[a], c.bad[a]
	}
	return views, errs
}

func (c *clusterCollector) Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error {
	return c.note(ctx, "wake", func() { c.woken = append(c.woken, fmt.Sprintf("%s:%d", app, w.Generation)) })
}

func (c *clusterCollector) Notify(ctx context.Context, _ string, ts []tenant.ID) error {
	return c.note(ctx, "notify", func() { c.notified = append(c.notified, ts) })
}

func (c *clusterCollector) ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error) {
	out, errs := make([]*registry.OpenIncidents, len(apps)), make([]error, len(apps))
	err := c.note(ctx, "troubled", nil)
	for i, a := range apps {
		out[i] = c.troubles[a]
		if errs[i] = c.bad[a]; err != nil {
			errs[i] = err
		}
	}
	return out, errs
}

func (c *clusterCollector) Tick(ctx context.Context, app partner.ClientID, found registry.OpenIncidents) error {
	if !cmp.Equal(&found, c.troubles[app]) {
		return fmt.Errorf("ticks %s with %+v", app, found)
	}
	return c.note(ctx, "tick", func() { c.ticked = append(c.ticked, app) })
}

func (c *clusterCollector) ReadMailQueues(ctx context.Context, after registry.MailQueuePlace) (sweep.MailQueuePage, error) {
	i := int(after.Score)
	p := sweep.MailQueuePage{Next: registry.MailQueuePlace{Score: float64(i + 1)}, More: i+1 < len(c.trays)}
	if i < len(c.trays) {
		p.Due, p.Mails, p.Late = c.trays[i], 2*len(c.trays[i]), time.Duration(i+1)*time.Minute
	}
	return p, c.note(ctx, "trays", nil)
}

func (c *clusterCollector) WakeMailQueue(ctx context.Context, recipient string) error {
	return c.note(ctx, "mail", func() { c.mailed = append(c.mailed, recipient) })
}

func (c *clusterCollector) HasOutboxMails(ctx context.Context, apps []partner.ClientID) ([]bool, []error) {
	out, errs := make([]bool, len(apps)), make([]error, len(apps))
	err := c.note(ctx, "outboxes", nil)
	for i, a := range apps {
		out[i], errs[i] = len(c.outboxes[a]) > 0 && err == nil, err
	}
	return out, errs
}

func (c *clusterCollector) ReadOutboxPages(_ context.Context, places []registry.OutboxPlace) ([]registry.OutboxPage, []error) {
	out, errs := make([]registry.OutboxPage, len(places)), make([]error, len(places))
	for i, p := range places {
		if errs[i] = c.bad[p.App]; errs[i] != nil {
			continue
		}
		pages, at := c.outboxes[p.App], len(p.Cursor)
		if out[i] = pages[at]; at+1 < len(pages) {
			out[i].Next = p.Cursor + "x"
		}
	}
	return out, errs
}

func (c *clusterCollector) WakeMail(ctx context.Context, app partner.ClientID, mailID string) error {
	return c.note(ctx, "mail", func() { c.mailed = append(c.mailed, string(app)+":"+mailID) })
}

const every = 5 * time.Second

// process is one worker.
type process struct {
	*sweep.Sweeper

	reg *prometheus.Registry
}

func (c *clusterCollector) process() process {
	reg := prometheus.NewPedanticRegistry()
	return process{sweep.New(sweep.Options{
		Registry: c, Apps: c, Mailboxes: c, Waker: c, Notifier: c, Repairer: c, Incidents: c, Mails: c, Metrics: sweep.NewMetrics(reg),
		Environment: partner.Online, Every: every, Log: slog.New(slog.DiscardHandler),
	}), reg}
}

// round does one round of a loop, all of it, and exports what is counted.
func (p process) round(ctx context.Context, name string) error {
	var errs []error
	for cursor := ""; ; {
		r, err := p.Steps()[name](ctx, cursor)
		errs = append(append(errs, err), r.Passed...)
		if r.End {
			return errors.Join(append(errs, p.Export(ctx))...)
		}
		if r.Next == cursor {
			return errors.Join(append(errs, errors.New("the loop does not move"))...)
		}
		cursor = r.Next
	}
}

func (p process) mustRound(t testing.TB, name string) {
	t.Helper()
	if err := p.round(t.Context(), name); err != nil {
		t.Error(err)
	}
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
	c := newClusterCollector(3)
	c.apps[1].Rec.App.Paused = true
	c.apps[2].Rec.App.Endpoints[partner.StateChange].Enabled = false
	c.wakes["app00000"] = mailbox.Wake{Generation: 7}
	c.pendingFanouts = []registry.PendingFanout{{Tenant: "a", Ticket: 1}, {Tenant: "b", Ticket: 2}}
	c.troubles["app00001"] = &registry.OpenIncidents{Reports: true}
	p := c.process()
	for _, name := range []string{"arm", "owed", "incidents", "gauges", "index"} {
		p.mustRound(t, name)
	}
	same(t, []mailbox.Switch{{Life: mailbox.Life{App: "app00000"}, Revision: 1, On: true}, {Life: mailbox.Life{App: "app00001"}, Revision: 2}, {Life: mailbox.Life{App: "app00002"}, Revision: 3}}, c.switches)
	same(t, []string{"app00000:7"}, c.woken)
	same(t, [][]tenant.ID{{"a", "b"}}, c.notified)
	same(t, []partner.ClientID{"app00001"}, c.ticked)
	same(t, 1, c.repairs)
	if owed := p.series(t, "oldest_owed_fanout_seconds")["oldest_owed_fanout_seconds"]; owed < 3600 {
		t.Errorf("the oldest fan-out is owed for %v s, want since its ticket", owed)
	}
	same(t, map[string]float64{"fanouts_owed": 2, "fanouts_stuck": 2, "owed_pairs": 3}, p.series(t, "fanouts_owed", "fanouts_stuck", "owed_pairs"))
}

func TestBatches(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(sweep.ArmPage + sweep.Batch + 1)
	for i := range 2 * mailbox.MaxBatch {
		c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: int64(i + 1)})
	}
	p := c.process()
	p.mustRound(t, "arm")
	p.mustRound(t, "owed")
	slices.Sort(c.sizes)
	same(t, append([]int{1}, slices.Repeat([]int{sweep.Batch}, sweep.ArmPage/sweep.Batch+1)...), c.sizes)
	if n := len(slices.Compact(slices.Sorted(slices.Values(c.nonces)))); n != len(c.sizes) {
		t.Errorf("%d nonces of %d calls: a repeat is told from a second call by its nonce", n, len(c.sizes))
	}
	seen := map[partner.ClientID]bool{}
	for _, s := range c.switches {
		seen[s.Life.App] = true
	}
	same(t, len(c.apps), len(seen))
	if len(c.notified) != 2 || len(c.notified[0]) != mailbox.MaxBatch || len(c.notified[1]) != mailbox.MaxBatch {
		t.Errorf("%d fan-outs", len(c.notified))
	}
}

// Each loop has one holder; all processes export what was counted; another takes over when it is silent.
func TestLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClusterCollector(1)
		c.views["app00000"] = mailbox.View{Waiting: 4, Diverged: 3, Oldest: 90 * time.Second}
		one, two := c.process(), c.process()
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { one.Run(ctx) })
		synctest.Wait()
		later, stopLater := context.WithCancel(t.Context())
		all.Go(func() { two.Run(later) })
		<-time.After(21 * time.Second)
		synctest.Wait()
		if n := len(c.switches); n != 5 {
			t.Errorf("%d rounds in 21 s", n)
		}
		names := []string{"apps", "waiting_notifications", "oldest_waiting_seconds", "diverged_tenants", "breakers"}
		want := map[string]float64{
			"apps behind": 1, "waiting_notifications behind": 4, "oldest_waiting_seconds behind": 90, "diverged_tenants behind": 3, "breakers closed": 1,
		}
		same(t, want, one.series(t, names...))
		same(t, want, two.series(t, names...))
		same(t, map[string]float64{}, two.series(t, "loop_rounds_total"))
		last := two.series(t, "loop_last_complete_timestamp_seconds")
		for _, name := range []string{"arm", "owed", "incidents", "mails", "gauges", "index"} {
			if age := float64(time.Now().UnixMilli())/1000 - last["loop_last_complete_timestamp_seconds "+name]; age > 6 || age < 0 {
				t.Errorf("%s was last complete %v s ago, as the other process knows", name, age)
			}
		}
		stop() // it gives the leases back
		<-time.After(every)
		synctest.Wait()
		if got := two.series(t, "loop_rounds_total"); got["loop_rounds_total arm complete"] != 1 || got["loop_rounds_total gauges complete"] != 1 {
			t.Errorf("the second process did %v", got)
		}
		stopLater()
		all.Wait()
		for name, holder := range c.leases {
			if holder != "" {
				t.Errorf("the lease of %s is still held", name)
			}
		}
	})
}

// No loop waits for another, whatever never ends in it.
func TestNothingDelaysArming(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"notify", "owed", "tick", "troubled", "mail", "trays", "outboxes", "repair", "save", "approvers", "refresh", "gauges"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newClusterCollector(2 * sweep.Batch)
				c.pendingFanouts = []registry.PendingFanout{{Tenant: "a", Ticket: 1}}
				c.wakes["app00399"] = mailbox.Wake{Generation: 1}
				for _, a := range c.apps {
					c.troubles[a.Rec.App.ClientID] = &registry.OpenIncidents{Mails: true}
				}
				c.trays, c.outboxes["app00001"] = [][]string{{"kim"}}, []registry.OutboxPage{{Due: []string{"m"}, Waiting: 1}}
				c.slow[name] = true
				ctx, stop := context.WithCancel(t.Context())
				p := c.process()
				done := make(chan struct{})
				go func() {
					defer close(done)
					p.Run(ctx)
				}()
				<-time.After(2 * time.Minute)
				synctest.Wait()
				c.mu.Lock()
				woken := len(c.woken)
				c.mu.Unlock()
				if want := 24; woken < want && (name != "refresh" || woken < want/2) { // a directory that hangs costs a round its time
					t.Errorf("woken %d times in 2 min", woken)
				}
				stop()
				<-done
			})
		})
	}
}

// One thing that fails keeps nothing else from being done.
func TestFailuresStayAlone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"owed", "notify", "refresh", "wake", "tick", "save", "troubled", "mail", "trays", "outboxes", "repair"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClusterCollector(2)
			c.pendingFanouts = []registry.PendingFanout{{Tenant: "a", Ticket: 1}}
			for i, a := range c.apps {
				id := a.Rec.App.ClientID
				c.wakes[id], c.troubles[id] = mailbox.Wake{Generation: int64(i + 1)}, &registry.OpenIncidents{Mails: true}
				c.outboxes[id] = []registry.OutboxPage{{Due: []string{"m"}, Waiting: 1}}
			}
			c.trays = [][]string{{"kim"}}
			c.fails[name] = true
			p := c.process()
			failed := 0
			for loop := range p.Steps() {
				if err := p.round(t.Context(), loop); errors.Is(err, errFake) {
					failed++
				} else if err != nil {
					t.Error(err)
				}
			}
			if failed == 0 {
				t.Error("no loop failed")
			}
			slices.Sort(c.woken)
			same(t, []string{"app00000:1", "app00001:2"}, c.woken)
			slices.Sort(c.ticked)
			if name != "troubled" {
				same(t, []partner.ClientID{"app00000", "app00001"}, c.ticked)
			}
			if name != "owed" && len(c.notified) != 1 {
				t.Error("the fan-out was not started")
			}
			slices.Sort(c.mailed)
			switch name {
			case "trays":
				same(t, []string{"app00000:m", "app00001:m", "kim"}, c.mailed)
			case "outboxes":
				same(t, []string{"kim"}, c.mailed)
			default:
				same(t, []string{"app00000:m", "app00001:m", "kim"}, c.mailed)
			}
			if c.repairs != 1 {
				t.Error("the index was not repaired")
			}
		})
	}
}

// An app that cannot be read is passed over: the others are looked after, and the rounds are complete.
func TestOneAppThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClusterCollector(3)
		c.bad["app00001"] = fmt.Errorf("app00001: %w", mailbox.ErrFormat)
		for _, a := range c.apps {
			id := a.Rec.App.ClientID
			c.wakes[id], c.troubles[id] = mailbox.Wake{Generation: 1}, &registry.OpenIncidents{Mails: true}
			c.outboxes[id] = []registry.OutboxPage{{Due: []string{"m"}, Waiting: 1}}
		}
		p := c.process()
		for name, l := range p.Loops() {
			for wait := time.Duration(0); wait == 0; {
				wait, _ = l.TakeTurn(t.Context())
			}
			if c.states[name].Completed.IsZero() {
				t.Errorf("%s is not complete", name)
			}
		}
		slices.Sort(c.woken)
		slices.Sort(c.mailed)
		same(t, []string{"app00000:1", "app00002:1"}, c.woken)
		same(t, []string{"app00000:m", "app00002:m"}, c.mailed)
		if err := p.Export(t.Context()); err != nil {
			t.Error(err)
		}
		same(t, map[string]float64{"apps in_step": 2}, p.series(t, "apps"))
		same(t, map[string]float64{
			"loop_failures_total arm item": 1, "loop_failures_total incidents item": 1, "loop_failures_total mails item": 1, "loop_failures_total gauges item": 1,
		}, p.series(t, "loop_failures_total"))
	})
}

// A round that could not see all apps leaves the numbers of the one before, and so does one that another process began.
func TestPartialCountsSaveNothing(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(1500)
	p := c.process()
	p.mustRound(t, "gauges")
	c.fails["troubled"] = true
	if err := p.round(t.Context(), "gauges"); !errors.Is(err, errFake) {
		t.Errorf("error %v", err)
	}
	same(t, map[string]float64{"apps in_step": 1500}, p.series(t, "apps"))
	c.fails["troubled"] = false
	r, err := p.Steps()["gauges"](t.Context(), "")
	if err != nil || r.End {
		t.Fatalf("%+v, %v", r, err)
	}
	other := c.process()
	for cursor, end := r.Next, false; !end; {
		if r, err = other.Steps()["gauges"](t.Context(), cursor); err != nil {
			t.Fatal(err)
		}
		cursor, end = r.Next, r.End
	}
	if err := other.Export(t.Context()); err != nil {
		t.Error(err)
	}
	same(t, map[string]float64{"apps in_step": 1500}, other.series(t, "apps"))
}

// Ticks have a time in each step; what is left goes on in the next, in another process too.
func TestTicksAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClusterCollector(100)
		for _, a := range c.apps {
			c.troubles[a.Rec.App.ClientID] = &registry.OpenIncidents{Reports: true}
		}
		c.slow["tick"] = true
		p, cursor, steps := c.process(), "", 0
		for end := false; !end; steps++ {
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			r, err := p.Steps()["incidents"](ctx, cursor)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			cursor, end = r.Next, r.End
		}
		if len(c.ticked) != 100 || steps != 2 {
			t.Errorf("%d ticked in %d steps, want 64 a step", len(c.ticked), steps)
		}
	})
}

// Mail queues and outboxes are read page by page, and what waits in all of them is counted, whichever process read which part.
func TestMails(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(2500)
	old := time.Now().Add(-time.Hour)
	c.trays = [][]string{{"kim", "lee"}, {"ada"}}
	c.outboxes["app00000"] = []registry.OutboxPage{{Due: []string{"a"}, Waiting: 3, Oldest: old.Add(time.Minute)}, {Due: []string{"b"}, Waiting: 2}, {Waiting: 1, Oldest: old}}
	c.outboxes["app02400"] = []registry.OutboxPage{{Due: []string{"c"}, Waiting: 1}}
	p, cursor := c.process(), ""
	var note string
	for end := false; !end; p = c.process() {
		r, err := p.Steps()["mails"](t.Context(), cursor)
		if err != nil || len(r.Passed) > 0 {
			t.Fatal(err, r.Passed)
		}
		cursor, end, note = r.Next, r.End, r.Note
	}
	slices.Sort(c.mailed)
	same(t, []string{"ada", "app00000:a", "app00000:b", "app02400:c", "kim", "lee"}, c.mailed)
	same(t, fmt.Sprintf(`{"n":13,"o":%d}`, old.UnixMilli()), note)
	c.states["mails"] = registry.LoopState{Note: note, Began: time.Now()}
	p = c.process()
	if _, err := p.Loops()["mails"].TakeTurn(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mustRound(t, "gauges")
	got := p.series(t, "outbox_mails", "outbox_oldest_seconds")
	if age := got["outbox_oldest_seconds"]; got["outbox_mails"] != 13 || age < 3599 || age > 3700 {
		t.Errorf("gauges %v", got)
	}
}

// Numbers that nobody keeps up to date, or of another version, are not shown as true.
func TestForeignGauges(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"Newer": `{"v":2,"apps":{"behind":9}}`, "Garbage": `{"v":1,"apps":{"behind":9},"waiting":[]}`, "Empty": ``, "Null": `null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClusterCollector(1)
			c.doc, c.docEnd = []byte(doc), time.Now().Add(time.Hour)
			p := c.process()
			if err := p.Export(t.Context()); err != nil {
				t.Fatal(err)
			}
			same(t, map[string]float64{}, p.series(t, "apps", "waiting_notifications"))
		})
	}
	t.Run("Stale", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newClusterCollector(1)
			one, two := c.process(), c.process()
			one.mustRound(t, "gauges")
			<-time.After(time.Minute - time.Second)
			if err := two.Export(t.Context()); err != nil || len(two.series(t, "apps")) != 1 {
				t.Errorf("%v, %v", two.series(t, "apps"), err)
			}
			<-time.After(2 * time.Second)
			if err := two.Export(t.Context()); err != nil || len(two.series(t, "apps")) != 0 {
				t.Errorf("%v, %v", two.series(t, "apps"), err)
			}
		})
	})
}
