package service

import (
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/signing"
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
		Apps: s.dir, Store: s.probes, Approvals: s.boxes, Incidents: p.tracker, Prober: prober, Licences: s.licences,
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
