package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// appEvents carries a written app to the mailbox, the queue and the incidents. Each step may be
// lost: the sweep repairs the switch and the incident, and a lost resync of a first URL is made
// good by the next change of each tenant.
type appEvents struct {
	boxes     *mailbox.Store
	store     *registry.Store
	waker     *waker
	queue     *queue.Client
	approvals *fanout.Approvals
	incidents *registry.IncidentStore
	probes    *registry.ProbeStore
	people    people
	asker     asker
	env       partner.Environment
	// feed hears of writes before it would find them; nil where no engine is answered.
	feed *feed.Feed
}

// asker asks addresses that a partner set whether mail is wanted there.
type asker interface {
	Ask(ctx context.Context, app *partner.App) error
}

// people learns what happens to endpoints.
type people interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// AppWritten implements httpapi.AppEvents.
func (a *appEvents) AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord, _ registry.Actor) error {
	app := &rec.App
	a.nudge()
	wake, err := a.boxes.Switch(ctx, uuid.NewString(), mailbox.Switch{App: app.ClientID, Revision: rec.Revision, On: app.Delivering(a.env)})
	errs := []error{err, a.waker.Wake(ctx, app.ClientID, wake)}
	before := partner.New(app.ClientID)
	if old != nil {
		before = old.App
	}
	if before.Endpoints[partner.StateChange].EffectiveURL(a.env) != app.Endpoints[partner.StateChange].EffectiveURL(a.env) {
		wake, err = a.boxes.Open(ctx, app.ClientID, uuid.NewString())
		errs = append(errs, err, a.waker.Wake(ctx, app.ClientID, wake))
	}
	if app.EverHadURL && !before.EverHadURL && old != nil {
		errs = append(errs, a.queue.EnqueueResync(ctx, app.ClientID, strconv.FormatInt(rec.Revision, 10)))
	}
	for _, k := range partner.AllEndpointKinds() {
		was, is := before.Endpoints[k], app.Endpoints[k]
		if old == nil || was.On(a.env) == is.On(a.env) && was.OffReason == is.OffReason {
			continue
		}
		errs = append(errs, a.people.Observe(ctx, app.ClientID, k, incident.Switched{Switch: incident.SwitchOf(is, a.env)}))
	}
	for _, k := range partner.IntegrationKinds() {
		if old != nil && a.probedAnew(&before, app, k) {
			errs = append(errs, a.probes.Forget(ctx, app.ClientID, k))
		}
	}
	errs = append(errs, a.asker.Ask(ctx, app))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spread the new settings of app %s: %w", app.ClientID, err)
	}
	return nil
}

// probedAnew reports that what was found about an endpoint is about another one, or that what was wrong
// may be right now: then nobody should wait for the next probe until the one after a failure is due.
func (a *appEvents) probedAnew(before, app *partner.App, k partner.EndpointKind) bool {
	was, is := before.Endpoints[k], app.Endpoints[k]
	return was.EffectiveURL(a.env) != is.EffectiveURL(a.env) || !was.On(a.env) && is.On(a.env) ||
		k == partner.Mirroring && !slices.Equal(before.PublicKeys, app.PublicKeys)
}

// AppResumed implements httpapi.AppEvents: the gate of an app that was not paused opens too.
func (a *appEvents) AppResumed(ctx context.Context, id partner.ClientID) error {
	wake, err := a.boxes.Open(ctx, id, uuid.NewString())
	if err = errors.Join(err, a.waker.Wake(ctx, id, wake)); err != nil {
		return fmt.Errorf("open the gate of app %s: %w", id, err)
	}
	return nil
}

// AppComing implements httpapi.AppEvents: approvals are consent to the app that was, and what
// waits was meant for its owner.
func (a *appEvents) AppComing(ctx context.Context, id partner.ClientID) error {
	return a.forget(ctx, id, 0)
}

// AppDeleted implements httpapi.AppEvents, and the sweep's repair of a deletion cut short.
func (a *appEvents) AppDeleted(ctx context.Context, id partner.ClientID, revision int64) error {
	a.nudge()
	return a.forget(ctx, id, revision)
}

func (a *appEvents) nudge() {
	if a.feed != nil {
		a.feed.Nudge()
	}
}

// forget removes what is kept of an app outside its settings: index entries first, because the
// mailbox lists them.
func (a *appEvents) forget(ctx context.Context, id partner.ClientID, revision int64) error {
	if err := a.approvals.Forget(ctx, id); err != nil {
		return fmt.Errorf("forget the approvals of app %s: %w", id, err)
	}
	if err := a.boxes.Drop(ctx, id, revision); err != nil {
		return err
	}
	if err := a.incidents.Drop(ctx, id); err != nil {
		return err
	}
	if err := a.probes.Drop(ctx, id); err != nil {
		return err
	}
	return a.store.DropAttempts(ctx, id)
}
