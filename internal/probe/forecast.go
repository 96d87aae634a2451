package probe

import (
	"context"
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// States reads the stored state of endpoints; *registry.ProbeStore is one.
type States interface {
	Probes(ctx context.Context, apps []partner.ClientID) ([]registry.ProbeStates, error)
}

// Forecast says when endpoints are probed next. It must be given the same schedule and licences as the Scheduler.
type Forecast struct {
	States      States
	Licences    Licences
	Schedule    health.Schedule
	Environment partner.Environment
	// Idle says that nothing is probed.
	Idle bool
}

// NextProbe is when an endpoint is probed next, not before now; zero when it is not probed.
func (f *Forecast) NextProbe(ctx context.Context, app *partner.App, k partner.EndpointKind, now time.Time) (time.Time, error) {
	if f.Idle || !isProbeWanted(app, k, f.Environment, f.Licences) {
		return time.Time{}, nil
	}
	states, err := f.States.Probes(ctx, []partner.ClientID{app.ClientID})
	if err != nil && !errors.Is(err, registry.ErrUnreadable) { // an endpoint with an unreadable state is probed as if it never was
		return time.Time{}, err
	}
	at := nextProbeTime(f.Schedule, f.Environment, app, k, states[0][k], now)
	if at.Before(now) {
		at = now
	}
	if f.Schedule.IsQuiet(k, at) { // the quiet hours were changed since: the runner will skip it
		at = f.Schedule.NextRegularTime(app.ClientID, k, at)
	}
	return at, nil
}

// nextProbeTime is when an endpoint is to be probed next.
func nextProbeTime(
	plan health.Schedule, env partner.Environment, app *partner.App, k partner.EndpointKind, state health.State, now time.Time,
) time.Time {
	switch {
	case state.Target != health.HashTarget(app.Endpoints[k].EffectiveURL(env)):
		plan.Interval = min(plan.Interval, freshWithin)
		return plan.NextRegularTime(app.ClientID, k, now)
	case now.Sub(state.Due) > overdueAfter:
		return plan.NextRegularTime(app.ClientID, k, now)
	default:
		return state.Due
	}
}
