package alerting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// OpenIncidents reads the incidents of many apps at once; *registry.IncidentStore is one.
type OpenIncidents interface {
	ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error)
}

// ApprovedMailboxes also lists the tenants that approved an app; *mailbox.Store is one.
type ApprovedMailboxes interface {
	Mailboxes
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []tenant.ID, next string, err error)
}

// Resyncer deposits the present status of tenants in an app's mailbox.
type Resyncer interface {
	Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error)
}

// Switcher switches endpoints off on behalf of the service.
type Switcher interface {
	// SwitchOffUnlessChanged switches an endpoint off while unchanged holds for the app as it is stored. It returns the
	// revision of the write.
	SwitchOffUnlessChanged(
		ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
	) (revision int64, err error)
}

// AdvancerOptions configure an Advancer.
type AdvancerOptions struct {
	Tracker   *Tracker
	Open      OpenIncidents
	Mailboxes ApprovedMailboxes
	Resyncer  Resyncer
	Switcher  Switcher
}

// Advancer lets time pass for the apps that have incidents, and switches off endpoints that have failed too long. It is
// safe for concurrent use, also by several processes.
type Advancer struct {
	*Tracker

	open     OpenIncidents
	switcher Switcher
	second   secondOpinion
}

// NewAdvancer returns an Advancer with the settings and the clock of a Tracker.
func NewAdvancer(o AdvancerOptions) *Advancer {
	return &Advancer{
		Tracker: o.Tracker, open: o.Open, switcher: o.Switcher,
		second: secondOpinion{boxes: o.Mailboxes, approvals: o.Resyncer, asked: map[string]bool{}},
	}
}

// ReadOpenIncidents reads what Tick must handle of each app, nil for nothing.
func (a *Advancer) ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error) {
	out, errs := a.open.ReadOpenIncidents(ctx, apps)
	for i := range out {
		if e, ok, _ := a.opts.Apps.Lookup(apps[i]); ok && out[i] == nil && errs[i] == nil && a.NeedsConfirmations(&e.Rec.App) {
			out[i] = &registry.OpenIncidents{}
		}
	}
	return out, errs
}

// Tick handles what ReadOpenIncidents found of an app.
func (a *Advancer) Tick(ctx context.Context, app partner.ClientID, found registry.OpenIncidents) error {
	states, err := a.TickApp(ctx, app, found)
	errs := []error{err}
	for k, s := range states {
		errs = append(errs, a.switchOffFailing(ctx, app, k, s))
	}
	if s := states[partner.StateChange]; failsForOne(&s) {
		errs = append(errs, a.second.resyncAnotherOnce(ctx, app, &s))
	}
	return errors.Join(errs...)
}

// seenFailing is how recently an integration endpoint must have been seen failing to be switched off. Nothing is
// pending for it that would show that it still fails.
const seenFailing = 24 * time.Hour

// switchOffFailing switches off an endpoint that notifications or probes have seen failing for too long. Reports of
// engines are not enough: they may come from one tenant's calls.
func (a *Advancer) switchOffFailing(ctx context.Context, app partner.ClientID, k partner.EndpointKind, s incident.State) error {
	e, ok, _ := a.opts.Apps.Lookup(app)
	if !ok {
		return nil
	}
	ep, now := e.Rec.App.Endpoints[k], a.opts.Now()
	if !ep.IsOn(a.opts.Environment) || !a.failedTooLong(k, &ep, &s, now) {
		return nil
	}
	states, err := a.opts.Store.Incidents(ctx, app) // s was read for many apps at once: the endpoint may have answered since
	if err != nil {
		return fmt.Errorf("read the failing %s endpoint of app %s again: %w", k, app, err)
	}
	if s = states[k]; !a.failedTooLong(k, &ep, &s, now) {
		return nil
	}
	if k == partner.StateChange {
		if more, err := a.second.severalTenantsPending(ctx, app); err != nil || !more {
			return err
		}
	}
	unchanged := func(rec registry.AppRecord) bool {
		now := rec.App.Endpoints[k]
		return lifeOf(rec) == lifeOf(e.Rec) && now.SettingsDigest(false) == ep.SettingsDigest(false) && now.SwitchedAt.Equal(ep.SwitchedAt)
	}
	if _, err := a.switcher.SwitchOffUnlessChanged(ctx, app, k, unchanged, partner.OffFailing, delivery.Result{}); err != nil {
		return fmt.Errorf("it has been failing for too long: %w", err)
	}
	return nil
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}

// failedTooLong reports whether an endpoint must be switched off.
func (a *Advancer) failedTooLong(k partner.EndpointKind, ep *partner.Endpoint, s *incident.State, now time.Time) bool {
	if a.opts.CommonCause().PreventsSwitchOff(now, a.opts.Settings.OpenAfter) {
		return false
	}
	since, seen := s.SeenFailing()
	at := a.opts.Settings.SwitchOffAt(since, ep.SwitchedAt)
	return !at.IsZero() && !now.Before(at) && (k == partner.StateChange || now.Sub(seen) <= seenFailing)
}
