package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Leases gives work to one process at a time.
type Leases interface {
	TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Directory lists the apps as of the last refresh.
type Directory interface {
	Refresh(ctx context.Context) error
	All() []*registry.Entry
}

// ResultStore is the stored state of endpoints; *registry.ProbeStore is one.
type ResultStore interface {
	Probes(ctx context.Context, apps []partner.ClientID) ([]registry.ProbeStates, error)
	SaveSummary(ctx context.Context, doc []byte, ttl time.Duration) error
	Summary(ctx context.Context) ([]byte, error)
}

// Incidents reads the incidents of several apps.
type Incidents interface {
	IncidentsOf(ctx context.Context, apps []partner.ClientID) ([]map[partner.EndpointKind]incident.State, error)
}

// Queue schedules a probe for a time.
type Queue interface {
	EnqueueProbe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, due time.Time) error
}

// SchedulerOptions configure a Scheduler.
type SchedulerOptions struct {
	Leases      Leases
	Apps        Directory
	Results     ResultStore
	Incidents   Incidents
	Queue       Queue
	Licences    Licences
	Schedule    health.Schedule
	Environment partner.Environment
	// Idle says that nothing is probed; health is still counted.
	Idle    bool
	Metrics *Metrics
	Log     *slog.Logger
}

const (
	leaseName = "probes"
	// everyMost is the longest time between two looks at what is due.
	everyMost = 10 * time.Second
	// leaseLooks is the lease's length, in looks.
	leaseLooks = 3
	// staleLooks is how long a summary stays valid after it was written, in looks.
	staleLooks = 12
	batch      = 200
	// ahead is how many looks ahead tasks are enqueued, so that one look may fail.
	ahead = 2
	// overdueAfter is how late a probe may be and still be made at once. A later one, after a time without workers,
	// gets a new place in the schedule, so a start after an outage does not probe all endpoints at once.
	overdueAfter = time.Minute
	// freshWithin is how soon a new endpoint with a URL is first probed.
	freshWithin = time.Minute
)

// endpointKey names one endpoint.
type endpointKey struct {
	app  partner.ClientID
	kind partner.EndpointKind
}

// Scheduler enqueues probes while it holds the lease. The order of calls is NewScheduler, then Run once.
type Scheduler struct {
	opts   SchedulerOptions
	every  time.Duration
	holder string
	// enqueued is the due time of each endpoint's last task. ScheduleDue owns it.
	enqueued map[endpointKey]time.Time
}

// NewScheduler returns a Scheduler.
func NewScheduler(opts SchedulerOptions) *Scheduler {
	return &Scheduler{
		opts: opts, every: min(everyMost, max(opts.Schedule.Interval/4, time.Second)), holder: uuid.NewString(), enqueued: map[endpointKey]time.Time{},
	}
}

// Run looks for due endpoints until ctx ends.
func (s *Scheduler) Run(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	defer s.releaseLease(ctx)
	for {
		if err := s.ScheduleDue(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.WarnContext(ctx, "some probes were not scheduled; the next look does it", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Scheduler) releaseLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if err := s.opts.Leases.ReleaseLease(ctx, leaseName, s.holder); err != nil {
		s.opts.Log.WarnContext(ctx, "the lease of the probes was not given back; it ends by itself", "err", err)
	}
}

// ScheduleDue enqueues due probes if this process holds the lease, and exports the summary of the holder.
func (s *Scheduler) ScheduleDue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.every*leaseLooks)
	defer cancel()
	held, err := s.opts.Leases.TakeLease(ctx, leaseName, s.holder, s.every*leaseLooks)
	if err != nil {
		return fmt.Errorf("take the lease of the probes: %w", err)
	}
	var errs []error
	if held {
		errs = append(errs, s.scheduleAll(ctx))
	} else {
		clear(s.enqueued)
	}
	doc, err := s.opts.Results.Summary(ctx)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	s.opts.Metrics.setSummary(doc)
	return errors.Join(errs...)
}

func (s *Scheduler) scheduleAll(ctx context.Context) error {
	var errs []error
	if err := s.opts.Apps.Refresh(ctx); err != nil {
		// one app of another version must not prevent the others from being probed
		errs = append(errs, fmt.Errorf("refresh apps: %w", err))
	}
	sum, known := newSummary(), make(map[endpointKey]time.Time, len(s.enqueued))
	apps := s.opts.Apps.All()
	for len(apps) > 0 {
		n := min(len(apps), batch)
		errs = append(errs, s.scheduleApps(ctx, apps[:n], sum, known))
		apps = apps[n:]
	}
	s.enqueued = known
	if !sum.partial {
		if err := s.opts.Results.SaveSummary(ctx, sum.encode(), s.every*staleLooks); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// scheduleApps schedules some apps. known collects what is enqueued.
func (s *Scheduler) scheduleApps(ctx context.Context, entries []*registry.Entry, sum *summary, known map[endpointKey]time.Time) error {
	ids := make([]partner.ClientID, len(entries))
	for i, e := range entries {
		ids[i] = e.Rec.App.ClientID
	}
	probes, err := s.opts.Results.Probes(ctx, ids)
	errs := []error{err}
	if probes == nil {
		sum.partial = true
		return err
	}
	incidents, err := s.opts.Incidents.IncidentsOf(ctx, ids)
	if err != nil { // health is unknown, but probes go on
		sum.partial = true
		errs = append(errs, err)
		incidents = make([]map[partner.EndpointKind]incident.State, len(ids))
	}
	now := time.Now()
	for i, e := range entries {
		app := &e.Rec.App
		for _, k := range listProbedKinds() {
			state := probes[i][k]
			trouble := incidents[i][k]
			sum.add(app.ClientID, k, health.Assess(health.Subject{
				Kind: k, Endpoint: app.Endpoints[k], Environment: s.opts.Environment, Missing: s.opts.Licences.Missing(app, k),
				FailingSince: trouble.FailingSince, Probe: state, Probing: !s.opts.Idle,
			}), now)
			if !s.opts.Idle && isProbeWanted(app, k, s.opts.Environment, s.opts.Licences) {
				errs = append(errs, s.enqueueProbe(ctx, app, k, state, now, known))
			}
		}
	}
	return errors.Join(errs...)
}

// enqueueProbe enqueues a probe that comes due within the next looks, once.
func (s *Scheduler) enqueueProbe(
	ctx context.Context, app *partner.App, k partner.EndpointKind, state health.State, now time.Time, known map[endpointKey]time.Time,
) error {
	at := endpointKey{app.ClientID, k}
	next := nextProbeTime(s.opts.Schedule, s.opts.Environment, app, k, state, now)
	if last, ok := s.enqueued[at]; ok {
		known[at] = last
	}
	if next.After(now.Add(ahead*s.every)) || next.Equal(known[at]) {
		return nil
	}
	if err := s.opts.Queue.EnqueueProbe(ctx, app.ClientID, k, next); err != nil {
		return err
	}
	known[at] = next
	return nil
}

// listProbedKinds lists the endpoints that are probed. State-change endpoints are not: each notification shows their
// health.
func listProbedKinds() []partner.EndpointKind {
	return []partner.EndpointKind{partner.ERPSync, partner.QuoteConnector, partner.Mirroring}
}
