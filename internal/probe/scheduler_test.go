package probe_test

import (
	"context"
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
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

type spot struct {
	app  partner.ClientID
	kind partner.EndpointKind
}

// simulation is everything around a Scheduler and a Runner, in memory and on the bubble's clock.
type simulation struct {
	t       testing.TB
	entries []*registry.Entry
	runner  *probe.Runner
	// answer is what an endpoint's probe comes to, and how long that takes.
	answer func(spot) (health.Reason, time.Duration)

	mu       sync.Mutex
	states   map[spot]health.State
	claimed  map[spot]bool
	began    map[spot][]time.Time
	due      map[spot]time.Time     // for which the running task was enqueued
	late     map[spot]time.Duration // the latest start of a probe after its due time
	observed map[spot]int
	tasks    sync.WaitGroup
	calls    int // round trips to Redis
	// slots bounds the tasks that run at once, as asynq does; busiest is how many did.
	slots   chan struct{}
	busiest int
	// calling is how many probes are at an endpoint, mostCalling how many were at once.
	calling, mostCalling int
	reg                  *prometheus.Registry
}

// inFlight is the default of probe.in_flight.
const inFlight = 128

func (s *simulation) TakeLease(context.Context, string, string, time.Duration) (bool, error) {
	return true, s.trip()
}

func (s *simulation) ReleaseLease(context.Context, string, string) error { return s.trip() }

func (s *simulation) Refresh(context.Context) error { return s.trip() }

func (s *simulation) All() []*registry.Entry { return s.entries }

func (s *simulation) SaveSummary(context.Context, []byte, time.Duration) error { return s.trip() }

func (s *simulation) Summary(context.Context) ([]byte, error) { return nil, s.trip() }

func (s *simulation) AnsweredSince(time.Time) bool { return true }

func (s *simulation) trip() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return nil
}

func (s *simulation) Probes(_ context.Context, apps []partner.ClientID) ([]registry.ProbeStates, error) {
	_ = s.trip()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]registry.ProbeStates, len(apps))
	for i, id := range apps {
		out[i] = registry.ProbeStates{}
		for _, k := range partner.AllEndpointKinds() {
			if st, ok := s.states[spot{id, k}]; ok {
				out[i][k] = st
			}
		}
	}
	return out, nil
}

func (s *simulation) IncidentsOf(_ context.Context, apps []partner.ClientID) ([]map[partner.EndpointKind]incident.State, error) {
	return make([]map[partner.EndpointKind]incident.State, len(apps)), s.trip()
}

// EnqueueProbe runs the task at its time, as asynq does: rounded up to the second.
func (s *simulation) EnqueueProbe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, due time.Time) error {
	_ = s.trip()
	s.tasks.Go(func() {
		<-time.After(time.Until(due.Add(time.Second - 1).Truncate(time.Second)))
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
		s.mu.Lock()
		s.due[spot{app, k}] = due
		s.busiest = max(s.busiest, len(s.slots))
		s.mu.Unlock()
		if err := s.runner.ProbeIfDue(context.WithoutCancel(ctx), app, k); err != nil {
			s.t.Error(err)
		}
	})
	return nil
}

func (s *simulation) Lookup(id partner.ClientID) (*registry.Entry, bool, error) {
	i, ok := slices.BinarySearchFunc(s.entries, id, func(e *registry.Entry, id partner.ClientID) int {
		return strings.Compare(string(e.Rec.App.ClientID), string(id))
	})
	if !ok {
		return nil, false, nil
	}
	return s.entries[i], true, nil
}

func (s *simulation) Claim(_ context.Context, app partner.ClientID, k partner.EndpointKind, _ time.Duration, force bool) (registry.ProbeClaim, bool, error) {
	_ = s.trip()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := spot{app, k}
	st := s.states[at]
	if !force && (s.claimed[at] || time.Until(st.Due) > 2*time.Second) {
		return registry.ProbeClaim{}, false, nil
	}
	s.claimed[at] = true
	return registry.ProbeClaim{App: app, Endpoint: k, State: st}, true, nil
}

func (s *simulation) Settle(_ context.Context, c registry.ProbeClaim, next health.State) (bool, error) {
	_ = s.trip()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := spot{c.App, c.Endpoint}
	s.states[at], s.claimed[at] = next, false
	return true, nil
}

func (s *simulation) HasApproved(context.Context, partner.ClientID, tenant.ID) (bool, error) {
	return true, nil
}

func (s *simulation) Approvals(context.Context, partner.ClientID, string, int) ([]tenant.ID, string, error) {
	return []tenant.ID{"Cust1"}, "", nil
}

func (s *simulation) Observe(_ context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observed[spot{app, k}] += len(events)
	return nil
}

func (s *simulation) Probe(ctx context.Context, t probe.Target) health.Finding {
	at := spot{t.ClientID, t.Kind}
	s.mu.Lock()
	s.calling++
	s.mostCalling = max(s.mostCalling, s.calling)
	s.began[at] = append(s.began[at], time.Now())
	if due, ok := s.due[at]; ok {
		s.late[at] = max(s.late[at], time.Since(due))
		delete(s.due, at)
	}
	s.mu.Unlock()
	r, d := s.answer(at)
	select {
	case <-time.After(d):
	case <-ctx.Done():
		r = health.OwnFault
	}
	s.mu.Lock()
	s.calling--
	s.mu.Unlock()
	return health.Finding{Reason: r, Detail: r.Description(), Duration: d, Blame: health.DNS}
}

func simulate(t testing.TB, apps int, answer func(spot) (health.Reason, time.Duration)) (*simulation, *probe.Scheduler, *prometheus.Registry) {
	t.Helper()
	s := &simulation{
		t: t, answer: answer, states: map[spot]health.State{}, claimed: map[spot]bool{}, began: map[spot][]time.Time{},
		due: map[spot]time.Time{}, late: map[spot]time.Duration{}, slots: make(chan struct{}, inFlight), observed: map[spot]int{},
	}
	for i := range apps {
		app := partner.New(partner.ClientID(appID(i)))
		app.GrantedLicenses = partner.AllLicenses()
		for _, k := range []partner.EndpointKind{partner.ERPSync, partner.QuoteConnector, partner.Mirroring} {
			app.Endpoints[k] = partner.Endpoint{URL: "https://partner.example/" + k.String(), Enabled: true}
		}
		s.entries = append(s.entries, &registry.Entry{Rec: registry.AppRecord{App: app, Revision: 1}})
	}
	plan := schedulePlan(t)
	reg := prometheus.NewRegistry()
	metrics, log := probe.NewMetrics(reg), slog.New(slog.DiscardHandler)
	s.runner = probe.NewRunner(probe.RunnerOptions{
		Apps: s, Store: s, Approvals: s, Incidents: s, Prober: s, Licences: partner.DefaultRequirements(), Schedule: plan,
		Timeout: 10 * time.Second, Hanging: probe.HangingPerPlace * inFlight, Environment: partner.Online, Metrics: metrics, Log: log,
	})
	return s, probe.NewScheduler(probe.SchedulerOptions{
		Leases: s, Apps: s, Results: s, Incidents: s, Queue: s, Licences: partner.DefaultRequirements(), Schedule: plan,
		Environment: partner.Online, Metrics: metrics, Log: log,
	}), reg
}

func appID(i int) string { return fmt.Sprintf("app%04d", i) }

func schedulePlan(t testing.TB) health.Schedule {
	t.Helper()
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	return health.Schedule{
		Interval: 5 * time.Minute, BackoffMax: 15 * time.Minute, Quiet: health.QuietHours{From: 23 * time.Hour, To: 6 * time.Hour, Location: oslo},
	}
}

// run lets a scheduler work for a while from a time of the bubble's first day on.
func (s *simulation) run(t testing.TB, sched *probe.Scheduler, from, d time.Duration) time.Time {
	t.Helper()
	<-time.After(from)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	sched.Run(ctx)
	s.tasks.Wait()
	if err := s.runner.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	return start
}

// 3,000 endpoints, 400 ERP syncs among them hanging, for an hour by day, from the first minute on, in
// which all are new: the probes are spread evenly, each endpoint gets its own, and as many run at once
// as a worker lets, so that hanging ones would delay others if they could.
func TestAnHourOf3000Endpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := func(at spot) bool { return at.kind == partner.ERPSync && at.app[len(at.app)-1]%3 == 0 }
		s, sched, _ := simulate(t, 1000, func(at spot) (health.Reason, time.Duration) {
			if hangs(at) {
				return health.Timeout, 10 * time.Second
			}
			return health.Healthy, 50 * time.Millisecond
		})
		start := s.run(t, sched, 12*time.Hour, time.Hour)
		settled := start.Add(10 * time.Minute) // by then everybody had a first turn
		perSecond, perMinute, firstSecond, firstMinute := map[int64]int{}, map[int64]int{}, map[int64]int{}, map[int64]int{}
		total, healthy, latest := 0, 0, time.Duration(0)
		for at, times := range s.began {
			if !hangs(at) {
				healthy++
				if n := len(times); n < 11 || n > 14 {
					t.Fatalf("%v was probed %d times in an hour", at, n)
				}
			}
			total += len(times)
			for _, when := range times {
				if when.After(settled) {
					perSecond[when.Unix()]++
					perMinute[when.Unix()/60]++
				} else {
					firstSecond[when.Unix()]++
					firstMinute[when.Unix()/60]++
				}
			}
			if latest = max(latest, s.late[at]); s.late[at] > 2*time.Second {
				t.Errorf("%v began %v late", at, s.late[at])
			}
		}
		if len(s.began) != 3000 || healthy < 2600 {
			t.Fatalf("%d endpoints were probed, %d of them well", len(s.began), healthy)
		}
		second, minute := most(perSecond), most(perMinute)
		t.Logf("in the first ten minutes at most %d in a second and %d in a minute; at most %d at once, on %d workers, none more than %v after it was due",
			most(firstSecond), most(firstMinute), s.mostCalling, s.busiest, latest)
		t.Logf("%d probes; at most %d in a second and %d in a minute (mean %.1f and %.0f); %.1f round trips to Redis a probe",
			total, second, minute, float64(total)/3600, float64(total)/60, float64(s.calls)/float64(total))
		if second > 30 || minute > 750 {
			t.Errorf("a herd: %d in a second, %d in a minute", second, minute)
		}
		if second, minute := most(firstSecond), most(firstMinute); second > 100 || minute > 3600 {
			t.Errorf("a herd of new ones: %d in a second, %d in a minute", second, minute)
		}
	})
}

func most(m map[int64]int) int {
	n := 0
	for _, v := range m {
		n = max(n, v)
	}
	return n
}

// Nothing is probed that is off, waits for a licence or, being a mirror, rests.
func TestOnlyWhatIsWanted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, sched, _ := simulate(t, 3, func(spot) (health.Reason, time.Duration) { return health.Healthy, 0 })
		s.entries[0].Rec.App.Endpoints[partner.ERPSync].Enabled = false
		s.entries[1].Rec.App.GrantedLicenses = nil
		s.entries[2].Rec.App.Endpoints[partner.QuoteConnector].URL = ""
		s.run(t, sched, 0, 20*time.Minute) // the bubble begins at midnight UTC: a quiet hour
		got := map[spot]bool{}
		for at := range s.began {
			got[at] = true
		}
		want := map[spot]bool{
			{"app0000", partner.QuoteConnector}: true, {"app0001", partner.QuoteConnector}: true, {"app0002", partner.ERPSync}: true,
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(spot{})); d != "" {
			t.Errorf("probed (-want +got):\n%s", d)
		}
		if _, err := s.runner.TestEndpoint(t.Context(), "app0000", partner.Mirroring); err != nil || len(s.began[spot{"app0000", partner.Mirroring}]) != 1 {
			t.Errorf("people could not test a mirror at night: %v", err)
		}
		if _, err := s.runner.TestEndpoint(t.Context(), "nobody", partner.Mirroring); err == nil {
			t.Error("an unknown app was tested")
		}
	})
}

// What a probe finds is told once to the incidents, counted, and paces the next one.
func TestFindingsGoWhereTheyBelong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		found := health.WrongKey
		s, _, reg := simulate(t, 1, func(spot) (health.Reason, time.Duration) { return found, time.Second })
		<-time.After(12 * time.Hour)
		at := spot{"app0000", partner.Mirroring}
		for _, step := range []struct {
			reason   health.Reason
			observed int
			wait     time.Duration
		}{
			{health.WrongKey, 1, time.Minute},
			{health.WrongKey, 2, 2 * time.Minute},
			{health.NoTenant, 3, 5 * time.Minute},
			{health.Healthy, 4, 5 * time.Minute},
			{health.OwnFault, 4, time.Minute},
		} {
			found = step.reason
			if f, err := s.runner.TestEndpoint(t.Context(), at.app, at.kind); err != nil || f.Reason != step.reason {
				t.Fatalf("%+v, %v", f, err)
			}
			if n := s.observed[at]; n != step.observed {
				t.Errorf("after %s: %d events", step.reason, n)
			}
			if wait := time.Until(s.states[at].Due); wait < step.wait/2-time.Second || wait > step.wait*2 {
				t.Errorf("after %s it is due in %v", step.reason, wait)
			}
		}
		// an own fault that lasts, while others are reached, is the endpoint's
		<-time.After(6 * time.Minute)
		if f, err := s.runner.TestEndpoint(t.Context(), at.app, at.kind); err != nil || f.Reason == health.OwnFault {
			t.Errorf("after six minutes: %+v, %v", f, err)
		}
		if n := testutil.CollectAndCount(reg, "lamplighter_probes_total"); n != 3*len(health.AllReasons()) {
			t.Errorf("%d series", n)
		}
	})
}
