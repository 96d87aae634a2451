package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// buildProbes builds the probing of integration endpoints: the runner in every process, because endpoints are tested
// through the API; the scheduler in workers.
func (s *Service) buildProbes() error {
	c := s.cfg.Probe
	tokens, err := signing.NewTokenIssuer(s.keySet, s.cfg.Token.Issuer.Mirroring)
	if err != nil {
		return fmt.Errorf("tokens for mirroring: %w", err)
	}
	plan, err := newProbeSchedule(c)
	if err != nil {
		return err
	}
	metrics := probe.NewMetrics(s.metrics)
	prober := probe.NewProber(probe.ProberOptions{
		Client: s.guard.Client(0, guard.TransportOptions{FreshTLS: true}), Tokens: tokens, Timeout: s.cfg.Delivery.Timeout,
		Tolerance: c.ClockTolerance, Version: s.opts.Version, Reach: s.causes,
	})
	p := &s.parts
	p.probes = probe.NewRunner(probe.RunnerOptions{
		Apps: freshApps{s.dir}, Store: s.probes, Tenants: probeTenants{s.boxes}, Incidents: p.tracker, Prober: prober, Licences: s.licences,
		Schedule: plan, Timeout: s.cfg.Delivery.Timeout, Hanging: probe.HangingPerPlace * c.InFlight, Environment: s.env, Metrics: metrics, Log: s.log,
	})
	if s.hasRole(RoleWorker) {
		s.scheduler = probe.NewScheduler(probe.SchedulerOptions{
			Leases: s.store, Apps: s.dir, Results: s.probes, Incidents: s.incidents, Queue: s.queue, Licences: s.licences, Schedule: plan,
			Environment: s.env, Idle: c.Interval == 0, Metrics: metrics, Log: s.log,
		})
	}
	return nil
}

// testedAgain is when an endpoint is due after a test, in a deployment without probes.
const testedAgain = 24 * time.Hour

func newProbeSchedule(c config.Probe) (health.Schedule, error) {
	plan := health.Schedule{Interval: c.Interval, BackoffMax: c.BackoffMax}
	if plan.Interval == 0 {
		plan.Interval = testedAgain
	}
	var err error
	if plan.Quiet.From, err = config.ParseClockTime(c.QuietFrom); err != nil {
		return plan, fmt.Errorf("probe.quiet_from: %w", err)
	}
	if plan.Quiet.To, err = config.ParseClockTime(c.QuietTo); err != nil {
		return plan, fmt.Errorf("probe.quiet_to: %w", err)
	}
	if plan.Quiet.Location, err = time.LoadLocation(c.TimeZone); err != nil {
		return plan, fmt.Errorf("probe.time_zone: %w", err)
	}
	return plan, nil
}

// freshApps gives probes the present settings: a switch takes effect at once.
type freshApps struct{ dir *registry.Directory }

// App implements probe.Apps.
func (a freshApps) App(ctx context.Context, id partner.ClientID) (partner.App, bool, error) {
	if err := a.dir.Refresh(ctx); err != nil {
		return partner.App{}, false, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := a.dir.Lookup(id)
	if !ok || unreadable != nil {
		return partner.App{}, false, unreadable
	}
	return e.Rec.App, true, nil
}

// probeTenants chooses tenants from the approvals.
type probeTenants struct{ boxes *mailbox.Store }

// ProbeTenant implements probe.Tenants. The first approved tenant is the smallest of those that Redis lists first. It
// stays the same as long as the approvals do.
func (p probeTenants) ProbeTenant(ctx context.Context, app *partner.App) (tenant.ID, bool, error) {
	if id := tenant.ID(app.ProbeTenant); id != "" {
		ok, err := p.boxes.HasApproved(ctx, app.ClientID, id)
		if err != nil || ok {
			return id, ok, err
		}
	}
	for cursor := ""; ; {
		page, next, err := p.boxes.Approvals(ctx, app.ClientID, cursor, mailbox.MaxBatch)
		if err != nil {
			return "", false, err
		}
		if len(page) > 0 {
			return slices.Min(page), true, nil
		}
		if next == "" {
			return "", false, nil
		}
		cursor = next
	}
}

// healthReader assesses endpoints by their incidents, probes and attempts.
type healthReader struct {
	incidents *registry.IncidentStore
	probes    *registry.ProbeStore
	attempts  *registry.Store
	licences  partner.Requirements
	probing   bool
	env       partner.Environment
	log       *slog.Logger
}

// EndpointHealth implements httpapi.HealthReader.
func (h healthReader) EndpointHealth(ctx context.Context, app *partner.App, kind partner.EndpointKind) (health.Assessment, error) {
	states, err := h.incidents.Incidents(ctx, app.ClientID)
	if err != nil {
		return health.Assessment{}, err
	}
	s := health.Subject{
		Kind: kind, Endpoint: app.Endpoints[kind], Environment: h.env, Paused: app.Paused, Missing: h.licences.Missing(app, kind),
		FailingSince: states[kind].FailingSince, Probing: h.probing,
	}
	if last := states[kind].Last; last != nil {
		s.FailingCause, s.FailingDetail = last.Reason.Cause(), last.Detail
	}
	if kind == partner.StateChange {
		recent, _, err := h.attempts.Attempts(ctx, app.ClientID, registry.AttemptQuery{Limit: 1})
		if err != nil {
			return health.Assessment{}, err
		}
		if len(recent) > 0 {
			s.TriedAt = recent[0].At
		}
	} else {
		probes, err := h.probes.Probes(ctx, []partner.ClientID{app.ClientID})
		switch {
		case errors.Is(err, registry.ErrUnreadable): // as if it was never probed: the settings do not depend on it
			h.log.WarnContext(ctx, "the probe state of an endpoint cannot be read", "app", string(app.ClientID), "endpoint", kind.String(), "err", err)
		case err != nil:
			return health.Assessment{}, err
		}
		s.Probe = probes[0][kind]
	}
	return health.Assess(s), nil
}
