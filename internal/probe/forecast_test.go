package probe_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// stored is what a store knows of one app.
type stored struct {
	states registry.ProbeStates
	err    error
}

func (s stored) Probes(context.Context, []partner.ClientID) ([]registry.ProbeStates, error) {
	return []registry.ProbeStates{s.states}, s.err
}

func TestForecast(t *testing.T) {
	t.Parallel()
	const url = "https://partner.example/map.svc"
	evening := time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)
	night, morning := evening.Add(4*time.Hour), evening.Add(10*time.Hour)
	plan := health.Schedule{Interval: 5 * time.Minute, BackoffMax: 24 * time.Hour, Quiet: health.QuietHours{From: 23 * time.Hour, To: 6 * time.Hour, Location: time.UTC}}
	for name, tc := range map[string]struct {
		kind     partner.EndpointKind
		due, now time.Time
		alter    func(f *probe.Forecast, app *partner.App, s *stored)
		// from and to are the first and the last time that it may say; zero for none at all.
		from, to time.Time
		fails    bool
	}{
		"Due":            {kind: partner.ERPSync, due: evening.Add(8 * time.Minute), now: evening, from: evening.Add(8 * time.Minute), to: evening.Add(8 * time.Minute)},
		"LongBackoff":    {kind: partner.Mirroring, due: evening.Add(20 * time.Hour), now: evening, from: evening.Add(20 * time.Hour), to: evening.Add(20 * time.Hour)},
		"AlmostNow":      {kind: partner.ERPSync, due: evening.Add(-time.Second), now: evening, from: evening, to: evening},
		"Overdue":        {kind: partner.ERPSync, due: evening.Add(-time.Hour), now: evening, from: evening, to: evening.Add(plan.Interval)},
		"OverdueAtNight": {kind: partner.Mirroring, due: evening, now: night, from: morning, to: morning.Add(plan.Interval)},
		"DueAtNight":     {kind: partner.Mirroring, due: night, now: evening, from: morning, to: morning.Add(plan.Interval)},
		"NoNightForERP":  {kind: partner.ERPSync, due: night, now: evening, from: night, to: night},
		"OtherURL": {
			kind: partner.ERPSync, due: night, now: evening, from: evening, to: evening.Add(time.Minute),
			alter: func(_ *probe.Forecast, app *partner.App, _ *stored) {
				app.Endpoints[partner.ERPSync].URL = "https://partner.example/new.svc"
			},
		},
		"Unreadable": {
			kind: partner.ERPSync, due: night, now: evening, from: evening, to: evening.Add(time.Minute),
			alter: func(_ *probe.Forecast, _ *partner.App, s *stored) {
				s.states, s.err = registry.ProbeStates{}, registry.ErrUnreadable
			},
		},
		"StoreFails": {
			kind: partner.ERPSync, due: night, now: evening, fails: true,
			alter: func(_ *probe.Forecast, _ *partner.App, s *stored) { s.err = errors.New("redis is away") },
		},
		"Idle": {
			kind: partner.ERPSync, due: night, now: evening,
			alter: func(f *probe.Forecast, _ *partner.App, _ *stored) { f.Idle = true },
		},
		"Off": {
			kind: partner.ERPSync, due: night, now: evening,
			alter: func(_ *probe.Forecast, app *partner.App, _ *stored) { app.Endpoints[partner.ERPSync].Enabled = false },
		},
		"Pushes": {kind: partner.StateChange, due: night, now: evening},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := partner.New("app1")
			app.Endpoints[tc.kind].Enabled, app.Endpoints[tc.kind].URL = true, url
			s := stored{states: registry.ProbeStates{tc.kind: {Target: health.HashTarget(url), Failures: 9, Due: tc.due}}}
			f := probe.Forecast{Licences: licensed{}, Schedule: plan, Environment: partner.Online}
			if tc.alter != nil {
				tc.alter(&f, &app, &s)
			}
			f.States = s
			got, err := f.NextProbe(t.Context(), &app, tc.kind, tc.now)
			if got.Before(tc.from) || got.After(tc.to) || (err != nil) != tc.fails {
				t.Errorf("at %v: %v, %v, want %v to %v", tc.now, got, err, tc.from, tc.to)
			}
		})
	}
}

// licensed needs no licence.
type licensed struct{}

func (licensed) Missing(*partner.App, partner.EndpointKind) partner.License { return "" }
