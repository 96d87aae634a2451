package probe

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Apps is the directory of apps; *registry.Directory is one.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Store keeps the findings of probes; *registry.ProbeStore is one.
type Store interface {
	Claim(ctx context.Context, app partner.ClientID, k partner.EndpointKind, lease time.Duration, force bool) (registry.ProbeClaim, bool, error)
	Settle(ctx context.Context, c registry.ProbeClaim, next health.State) (bool, error)
}

// Approvals says which tenants approved an app; *mailbox.Store is one.
type Approvals interface {
	HasApproved(ctx context.Context, app partner.ClientID, t tenant.ID) (bool, error)
	// Approvals returns a page; next is empty on the last.
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []tenant.ID, next string, err error)
}

// IncidentObserver gets what is observed of endpoints.
type IncidentObserver interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// EndpointProber makes one probe; *Prober is one.
type EndpointProber interface {
	Probe(ctx context.Context, t Target) health.Finding
	AnsweredSince(at time.Time) bool
}

// Licences says which licence an endpoint lacks, empty for none.
type Licences interface {
	Missing(app *partner.App, k partner.EndpointKind) partner.License
}

// RunnerOptions configure a Runner.
type RunnerOptions struct {
	Apps      Apps
	Store     Store
	Approvals Approvals
	Incidents IncidentObserver
	Prober    EndpointProber
	Licences  Licences
	Schedule  health.Schedule
	// Timeout is the Prober's; a claim lasts longer.
	Timeout time.Duration
	// Hanging is how many slow probes may give their workers to others.
	Hanging     int
	Environment partner.Environment
	Metrics     *Metrics
	Log         *slog.Logger
}

// claimSlack is how much longer than a probe's timeout its claim lasts.
const claimSlack = 20 * time.Second

// settleWithin bounds the writing of a finding, which a shutdown must not cut off.
const settleWithin = 5 * time.Second

// ErrNoApp reports an app that does not exist.
var ErrNoApp = errors.New("no such app")

// Runner probes endpoints and writes the findings to the store, the incidents and the metrics. It is safe for
// concurrent use, also by several processes. The order of calls is NewRunner, then any number of calls, then Stop.
type Runner struct {
	opts  RunnerOptions
	tasks tasks
}

// NewRunner returns a Runner.
func NewRunner(opts RunnerOptions) *Runner {
	return &Runner{opts: opts, tasks: tasks{most: opts.Hanging, metrics: opts.Metrics}}
}

// ProbeIfDue probes an endpoint if it is due: on, licensed, not in quiet hours, and not claimed. When the endpoint
// takes long to answer, ProbeIfDue returns nil and the probe goes on without its caller. An error is the service's
// own and worth another try.
func (r *Runner) ProbeIfDue(ctx context.Context, id partner.ClientID, k partner.EndpointKind) error {
	app, ok, err := r.readApp(ctx, id)
	if err != nil {
		return fmt.Errorf("probe %s %s: %w", id, k, err)
	}
	if !ok || !isProbeWanted(&app, k, r.opts.Environment, r.opts.Licences) || r.opts.Schedule.IsQuiet(k, time.Now()) {
		return nil
	}
	t, claim, ok, err := r.claimProbe(ctx, &app, k, false)
	if err != nil || !ok {
		return err
	}
	r.opts.Metrics.observeDelay(k, claim.State.Due, time.Now())
	return r.tasks.runOrDetach(ctx, func(ctx context.Context) error {
		_, err := r.probeClaimed(ctx, &t, claim)
		return err
	}, func(err error) {
		r.opts.Log.WarnContext(ctx, "what a probe found was not kept; the endpoint is due again", "app", string(id), "endpoint", k.String(), "err", err)
	})
}

// readApp reads an app's present settings, since a switch must take effect at once. ok is false for an unknown app.
func (r *Runner) readApp(ctx context.Context, id partner.ClientID) (app partner.App, ok bool, err error) {
	if err := r.opts.Apps.Refresh(ctx); err != nil {
		return partner.App{}, false, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := r.opts.Apps.Lookup(id)
	if !ok || unreadable != nil {
		return partner.App{}, false, unreadable
	}
	return e.Rec.App, true, nil
}

// Stop waits for probes that go on without their callers. It returns when all have ended or ctx has.
func (r *Runner) Stop(ctx context.Context) error { return r.tasks.stop(ctx) }

// isProbeWanted reports whether an endpoint is probed at all.
func isProbeWanted(app *partner.App, k partner.EndpointKind, env partner.Environment, l Licences) bool {
	return k != partner.StateChange && app.Endpoints[k].IsOn(env) && l.Missing(app, k) == ""
}

// TestEndpoint probes an endpoint on request, whether or not it is on, due or in quiet hours. Its finding counts like
// any other.
func (r *Runner) TestEndpoint(ctx context.Context, id partner.ClientID, k partner.EndpointKind) (health.Finding, error) {
	app, ok, err := r.readApp(ctx, id)
	if err != nil {
		return health.Finding{}, fmt.Errorf("test %s %s: %w", id, k, err)
	}
	if !ok {
		return health.Finding{}, fmt.Errorf("test %s %s: %w", id, k, ErrNoApp)
	}
	t, claim, ok, err := r.claimProbe(ctx, &app, k, true)
	if err != nil || !ok {
		return health.Finding{}, err
	}
	return r.probeClaimed(ctx, &t, claim)
}

// TestSettings probes an endpoint by settings that need not be written yet. Only a counter records the result.
func (r *Runner) TestSettings(ctx context.Context, app *partner.App, k partner.EndpointKind) (health.Finding, error) {
	t, err := r.readTarget(ctx, app, k)
	if err != nil {
		return health.Finding{}, err
	}
	f := r.opts.Prober.Probe(ctx, t)
	r.opts.Metrics.countProbe(k, f)
	return f, nil
}

// claimProbe prepares a probe and claims it for this process; ok is false when it is not due, or claimed by another.
func (r *Runner) claimProbe(ctx context.Context, app *partner.App, k partner.EndpointKind, force bool) (t Target, claim registry.ProbeClaim, ok bool, err error) {
	if t, err = r.readTarget(ctx, app, k); err != nil {
		return t, claim, false, err
	}
	claim, ok, err = r.opts.Store.Claim(ctx, app.ClientID, k, r.opts.Timeout+claimSlack, force)
	return t, claim, ok, err
}

func (r *Runner) probeClaimed(ctx context.Context, t *Target, claim registry.ProbeClaim) (health.Finding, error) {
	began := time.Now()
	f := r.opts.Prober.Probe(ctx, *t)
	if f.Reason == health.OwnFault && ctx.Err() != nil {
		return f, nil // the claim expires, and the endpoint is due again
	}
	if f.Reason == health.OwnFault && claim.State.CountsOwnFault(began, r.opts.Prober.AnsweredSince(claim.State.OwnSince)) {
		f = persistentFaultFinding(t, f)
	}
	r.opts.Metrics.countProbe(t.Kind, f)
	return f, r.settleFinding(ctx, t.ClientID, t, claim, f)
}

// settleFinding writes a finding, then reports it to the incidents. If the process dies in between, the next probe
// reports it, and that comes soon after a failure.
func (r *Runner) settleFinding(ctx context.Context, app partner.ClientID, t *Target, claim registry.ProbeClaim, f health.Finding) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	now := time.Now()
	next := claim.State.AddFinding(f, health.HashTarget(t.URL), now)
	next.Due = r.opts.Schedule.NextTime(app, t.Kind, next, now, rand.Float64()) //nolint:gosec // it spreads load
	held, err := r.opts.Store.Settle(ctx, claim, next)
	if err != nil || !held {
		return err
	}
	r.logFinding(ctx, app, t.Kind, claim.State.Reason, f)
	return r.opts.Incidents.Observe(ctx, app, t.Kind, incidentEvents(f)...)
}

// incidentEvents translates a finding into events of an incident.
func incidentEvents(f health.Finding) []incident.Event {
	var list []incident.Event
	if !f.CertificateEnds.IsZero() {
		list = append(list, incident.Certificate{NotBefore: f.CertificateFrom, NotAfter: f.CertificateEnds})
	}
	switch {
	case f.Reason.IsFailing():
		list = append(list, incident.Failure{
			Reason: f.Reason.DeliveryReason(), Status: f.Status, Excerpt: f.Excerpt, Detail: f.Detail, Immediate: f.Reason.IsImmediate(),
			Source: incident.SourceProbe,
		})
	case f.Reason == health.Healthy:
		list = append(list, incident.Success{Source: incident.SourceProbe})
	case f.Reason == health.NoTenant:
		list = append(list, incident.EndpointUnused{})
	}
	return list
}

// logFinding writes one line per probe, at debug level when nothing has changed.
func (r *Runner) logFinding(ctx context.Context, app partner.ClientID, k partner.EndpointKind, before health.Reason, f health.Finding) {
	level := slog.LevelInfo
	if f.Reason == before || f.Reason == health.Healthy && before == "" {
		level = slog.LevelDebug
	}
	r.opts.Log.LogAttrs(ctx, level, "endpoint probed", slog.String("app", string(app)), slog.String("endpoint", k.String()),
		slog.String("reason", string(f.Reason)), slog.Int("status", f.Status), slog.Int64("duration_ms", f.Duration.Milliseconds()))
}

// readTarget collects what a probe of an endpoint needs. Keys are checked when they are set; one that has become
// unreadable is left out.
func (r *Runner) readTarget(ctx context.Context, app *partner.App, k partner.EndpointKind) (Target, error) {
	t := Target{ClientID: app.ClientID, Kind: k, URL: app.Endpoints[k].EffectiveURL(r.opts.Environment), TokenAlgorithm: app.TokenAlgorithm}
	if k != partner.Mirroring {
		return t, nil
	}
	id, ok, err := r.chooseTenant(ctx, app)
	if err != nil {
		return t, fmt.Errorf("find a tenant to probe %s with: %w", app.ClientID, err)
	}
	if ok {
		t.Tenant = id
	}
	t.Keys = make([]*rsa.PublicKey, 0, len(app.PublicKeys))
	for _, text := range app.PublicKeys {
		if key, err := partner.ParsePublicKey(text); err == nil {
			t.Keys = append(t.Keys, key)
		}
	}
	return t, nil
}

// chooseTenant chooses the tenant for which an app's mirroring endpoint is probed: its probe tenant if that has
// approved the app, otherwise the first one that has. ok is false when no tenant has. The first is the smallest of
// those that Redis lists first. It stays the same as long as the approvals do.
func (r *Runner) chooseTenant(ctx context.Context, app *partner.App) (id tenant.ID, ok bool, err error) {
	if id := tenant.ID(app.ProbeTenant); id != "" {
		ok, err := r.opts.Approvals.HasApproved(ctx, app.ClientID, id)
		if err != nil || ok {
			return id, ok, err
		}
	}
	for cursor := ""; ; {
		page, next, err := r.opts.Approvals.Approvals(ctx, app.ClientID, cursor, mailbox.MaxBatch)
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
