package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Mailboxes is the part of the mailboxes that follows an app's settings.
type Mailboxes interface {
	ApplySwitch(ctx context.Context, nonce string, sw mailbox.Switch) (mailbox.Wake, error)
	EndCooldown(ctx context.Context, life mailbox.Life, nonce string) (mailbox.Wake, error)
}

// Waker turns a mailbox's wake-up into a drain, in this process or by a task.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Jobs starts the jobs that follow a write.
type Jobs interface {
	StartDepositJob(ctx context.Context, life mailbox.Life, kind mailbox.JobKind, actor registry.Actor) (id mailbox.JobID, tenants int64, err error)
	ClearFormerLives(ctx context.Context, app partner.ClientID) error
	ClearApp(ctx context.Context, life mailbox.Life, actor registry.Actor) (mailbox.JobID, error)
}

// Incidents gets what happens to endpoints, and asks addresses for their confirmation.
type Incidents interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
	RequestConfirmations(ctx context.Context, app *partner.App) error
}

// Probes forgets the finding of an endpoint's last probe, so that the next one is made soon.
type Probes interface {
	Forget(ctx context.Context, app partner.ClientID, k partner.EndpointKind) error
}

// PropagatorOptions are the dependencies of a Propagator.
type PropagatorOptions struct {
	Mailboxes   Mailboxes
	Waker       Waker
	Jobs        Jobs
	Incidents   Incidents
	Probes      Probes
	Environment partner.Environment
	// PollFeed makes the configuration feed of this process look for the write at once; nil when it has none.
	PollFeed func()
}

// Propagator passes a written app on to the mailbox, the queue and the incidents. Each step may be lost. The loop that
// arms wake-ups repairs the switch (which ends the cool-down of a changed endpoint), the loop of the incidents the
// incident. The comparison finds what was not deposited for an app with a first URL. The job finder finds what was not
// cleared away.
type Propagator struct{ opts PropagatorOptions }

// NewPropagator returns a Propagator.
func NewPropagator(o PropagatorOptions) *Propagator {
	if o.PollFeed == nil {
		o.PollFeed = func() {}
	}
	return &Propagator{opts: o}
}

// AppWritten implements Effects.
func (p *Propagator) AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord) error {
	o, app := &p.opts, &rec.App
	o.PollFeed()
	sw := mailbox.Switch{Life: lifeOf(rec), Revision: rec.Revision, On: rec.App.IsDelivering(o.Environment), EndpointRevision: rec.EndpointRevision}
	wake, err := o.Mailboxes.ApplySwitch(ctx, uuid.NewString(), sw)
	if errors.Is(err, mailbox.ErrGone) { // it was deleted since, and maybe made again
		return nil
	}
	errs := []error{err, o.Waker.Wake(ctx, app.ClientID, wake)}
	if old == nil {
		errs = append(errs, o.Incidents.RequestConfirmations(ctx, app), o.Jobs.ClearFormerLives(ctx, app.ClientID))
	} else {
		errs = append(errs, p.propagateChange(ctx, &old.App, rec), o.Incidents.RequestConfirmations(ctx, app))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spread the new settings of app %s: %w", app.ClientID, err)
	}
	return nil
}

// propagateChange does what follows from the difference to the app as it was.
func (p *Propagator) propagateChange(ctx context.Context, before *partner.App, rec registry.AppRecord) error {
	o, app := &p.opts, &rec.App
	var errs []error
	if app.EverHadURL && !before.EverHadURL {
		_, _, err := o.Jobs.StartDepositJob(ctx, lifeOf(rec), mailbox.JobCatchUp, registry.Actor{})
		errs = append(errs, err)
	}
	for _, k := range partner.AllEndpointKinds() {
		was, is := before.Endpoints[k], app.Endpoints[k]
		if was.IsOn(o.Environment) != is.IsOn(o.Environment) || was.OffReason != is.OffReason {
			errs = append(errs, o.Incidents.Observe(ctx, app.ClientID, k, incident.Switched{Switch: incident.ReadSwitch(is, o.Environment)}))
		}
	}
	for _, k := range partner.IntegrationKinds() {
		if p.needsFreshProbe(before, app, k) {
			errs = append(errs, o.Probes.Forget(ctx, app.ClientID, k))
		}
	}
	return errors.Join(errs...)
}

// needsFreshProbe reports that the last finding is about another endpoint, or that its cause may be gone. The next
// probe is then made soon, not at its place in the schedule.
func (p *Propagator) needsFreshProbe(before, app *partner.App, k partner.EndpointKind) bool {
	was, is, env := before.Endpoints[k], app.Endpoints[k], p.opts.Environment
	return was.EffectiveURL(env) != is.EffectiveURL(env) || !was.IsOn(env) && is.IsOn(env) ||
		k == partner.Mirroring && !slices.Equal(before.PublicKeys, app.PublicKeys)
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}

// AppResumed implements Effects. It also ends the cool-down of an app that was not paused.
func (p *Propagator) AppResumed(ctx context.Context, rec registry.AppRecord) error {
	id := rec.App.ClientID
	wake, err := p.opts.Mailboxes.EndCooldown(ctx, lifeOf(rec), uuid.NewString())
	if err = errors.Join(err, p.opts.Waker.Wake(ctx, id, wake)); err != nil {
		return fmt.Errorf("end the cool-down of app %s: %w", id, err)
	}
	return nil
}

// AppDeleted implements Effects. It is also the repair of a deletion that broke off.
func (p *Propagator) AppDeleted(ctx context.Context, id partner.ClientID, revision int64, actor registry.Actor) (string, error) {
	p.opts.PollFeed()
	job, err := p.opts.Jobs.ClearApp(ctx, mailbox.Life{App: id, Birth: revision}, actor)
	if err != nil {
		return "", fmt.Errorf("clear away after app %s: %w", id, err)
	}
	return job.String(), nil
}

// EndpointGone implements Effects.
func (p *Propagator) EndpointGone(ctx context.Context, app partner.ClientID, k partner.EndpointKind, answer delivery.Result) error {
	gone, ok := incident.EventFromResult(answer, "")
	if !ok {
		return nil
	}
	return p.opts.Incidents.Observe(ctx, app, k, gone)
}
