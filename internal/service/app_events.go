package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// appEvents passes a written app on to the mailbox, the queue and the incidents. Each step may be lost. The sweep
// repairs the switch (which ends the cool-down of a changed endpoint) and the incident. The comparison finds what was
// not deposited for an app with a first URL. The job finder finds what was not cleared away.
type appEvents struct {
	boxes         *mailbox.Store
	store         *registry.Store
	waker         *drain.Dispatcher
	jobs          *jobs.Manager
	incidents     *registry.IncidentStore
	probes        *registry.ProbeStore
	tracker       incidentObserver
	confirmations confirmationRequester
	env           partner.Environment
	// feed is notified of a write before its next poll; nil when the process answers no engines.
	feed *feed.Feed
}

// confirmationRequester asks addresses that a partner set for their confirmation.
type confirmationRequester interface {
	RequestConfirmations(ctx context.Context, app *partner.App) error
}

// incidentObserver gets what happens to endpoints.
type incidentObserver interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// AppWritten implements httpapi.AppEvents.
func (a *appEvents) AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord, _ registry.Actor) error {
	app := &rec.App
	a.pollFeed()
	wake, err := a.boxes.ApplySwitch(ctx, uuid.NewString(), mailboxSwitch(rec, a.env))
	if errors.Is(err, mailbox.ErrGone) { // it was deleted since, and maybe made again
		return nil
	}
	errs := []error{err, a.waker.Wake(ctx, app.ClientID, wake)}
	before := partner.New(app.ClientID)
	if old != nil {
		before = old.App
	}
	if app.EverHadURL && !before.EverHadURL && old != nil {
		_, _, err := a.jobs.StartDepositJob(ctx, lifeOf(rec), mailbox.JobCatchUp, registry.Actor{})
		errs = append(errs, err)
	}
	for _, k := range partner.AllEndpointKinds() {
		was, is := before.Endpoints[k], app.Endpoints[k]
		if old == nil || was.IsOn(a.env) == is.IsOn(a.env) && was.OffReason == is.OffReason {
			continue
		}
		errs = append(errs, a.tracker.Observe(ctx, app.ClientID, k, incident.Switched{Switch: incident.ReadSwitch(is, a.env)}))
	}
	for _, k := range partner.IntegrationKinds() {
		if old != nil && a.needsFreshProbe(&before, app, k) {
			errs = append(errs, a.probes.Forget(ctx, app.ClientID, k))
		}
	}
	errs = append(errs, a.confirmations.RequestConfirmations(ctx, app))
	if old == nil {
		errs = append(errs, a.jobs.ClearFormerLives(ctx, app.ClientID))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spread the new settings of app %s: %w", app.ClientID, err)
	}
	return nil
}

// needsFreshProbe reports that the last finding is about another endpoint, or that its cause may be gone. The next
// probe is then made soon, not at its place in the schedule.
func (a *appEvents) needsFreshProbe(before, app *partner.App, k partner.EndpointKind) bool {
	was, is := before.Endpoints[k], app.Endpoints[k]
	return was.EffectiveURL(a.env) != is.EffectiveURL(a.env) || !was.IsOn(a.env) && is.IsOn(a.env) ||
		k == partner.Mirroring && !slices.Equal(before.PublicKeys, app.PublicKeys)
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}

// mailboxSwitch is what a mailbox needs to know of an app's settings.
func mailboxSwitch(rec registry.AppRecord, env partner.Environment) mailbox.Switch {
	return mailbox.Switch{Life: lifeOf(rec), Revision: rec.Revision, On: rec.App.IsDelivering(env), EndpointRevision: rec.EndpointRevision}
}

// AppResumed implements httpapi.AppEvents. It also ends the cool-down of an app that was not paused.
func (a *appEvents) AppResumed(ctx context.Context, rec registry.AppRecord) error {
	id := rec.App.ClientID
	wake, err := a.boxes.EndCooldown(ctx, lifeOf(rec), uuid.NewString())
	if err = errors.Join(err, a.waker.Wake(ctx, id, wake)); err != nil {
		return fmt.Errorf("end the cool-down of app %s: %w", id, err)
	}
	return nil
}

// AppDeleted implements httpapi.AppEvents. It is also the repair of a deletion that broke off.
func (a *appEvents) AppDeleted(ctx context.Context, id partner.ClientID, revision int64, actor registry.Actor) (string, error) {
	a.pollFeed()
	job, err := a.jobs.ClearApp(ctx, mailbox.Life{App: id, Birth: revision}, actor)
	if err != nil {
		return "", fmt.Errorf("clear away after app %s: %w", id, err)
	}
	return job.String(), nil
}

func (a *appEvents) pollFeed() {
	if a.feed != nil {
		a.feed.PollNow()
	}
}
