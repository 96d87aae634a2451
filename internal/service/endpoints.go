package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// endpointDirectory finds the endpoints of apps.
type endpointDirectory struct {
	dir    *registry.Directory
	store  *registry.Store
	pusher *push.Pusher
	env    partner.Environment
	events *appEvents
}

// preparedTarget is a target made from one directory entry and kept with it. A new entry gets a new one.
type preparedTarget struct {
	target push.Target
	// until is when a replaced secret no longer signs, zero when there is none.
	until time.Time
}

// Life implements drain.Endpoints.
func (e *endpointDirectory) Life(ctx context.Context, app partner.ClientID, anew bool) (mailbox.Life, bool, error) {
	entry, ok := e.dir.App(app)
	if !ok || anew {
		if err := e.refreshApps(ctx); err != nil {
			return mailbox.Life{}, false, err
		}
		entry, ok = e.dir.App(app)
	}
	if !ok {
		return mailbox.Life{}, false, nil
	}
	return lifeOf(entry.Rec), true, nil
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}

// refreshApps reads the settings again.
func (e *endpointDirectory) refreshApps(ctx context.Context) error {
	if err := e.dir.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh apps: %w", err)
	}
	return nil
}

// Endpoint implements drain.Endpoints.
func (e *endpointDirectory) Endpoint(ctx context.Context, app partner.ClientID, revision int64) (drain.Endpoint, bool, error) {
	if revision == 0 || e.dir.Revision() != revision {
		if err := e.refreshApps(ctx); err != nil {
			return drain.Endpoint{}, false, err
		}
	}
	entry, ok := e.dir.App(app)
	if !ok || entry.Rec.App.Endpoints[partner.StateChange].EffectiveURL(e.env) == "" {
		return drain.Endpoint{}, false, nil
	}
	attempt, err := e.PrepareAttempt(entry, time.Now())
	if err != nil {
		return drain.Endpoint{}, false, err
	}
	return drain.Endpoint{Life: lifeOf(entry.Rec), Revision: entry.Rec.EndpointRevision, Attempt: attempt}, true, nil
}

// PrepareAttempt implements endpointtest.Targets.
func (e *endpointDirectory) PrepareAttempt(entry *registry.Entry, now time.Time) (func(context.Context, delivery.Message) delivery.Result, error) {
	t, err := e.prepareTarget(entry, now)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, m delivery.Message) delivery.Result { return e.pusher.Post(ctx, t, m) }, nil
}

func (e *endpointDirectory) prepareTarget(entry *registry.Entry, now time.Time) (push.Target, error) {
	app := &entry.Rec.App
	if p, ok := entry.Derived.Load().(*preparedTarget); ok && (p.until.IsZero() || now.Before(p.until)) {
		return p.target, nil
	}
	p := &preparedTarget{target: push.Target{
		ClientID: app.ClientID, URL: app.Endpoints[partner.StateChange].EffectiveURL(e.env), TokenAlgorithm: app.TokenAlgorithm,
	}}
	if !entry.Secrets.Current.IsZero() {
		k, err := signing.ParseWebhookSecret(entry.Secrets.Current)
		if err != nil {
			return push.Target{}, fmt.Errorf("webhook secret of app %s: %w", app.ClientID, err)
		}
		p.target.WebhookKeys = append(p.target.WebhookKeys, k)
	}
	for _, old := range entry.Secrets.Replaced {
		if !now.Before(old.Until) {
			continue
		}
		k, err := signing.ParseWebhookSecret(old.Secret)
		if err != nil {
			return push.Target{}, fmt.Errorf("replaced webhook secret of app %s: %w", app.ClientID, err)
		}
		p.target.WebhookKeys = append(p.target.WebhookKeys, k)
		if p.until.IsZero() || old.Until.Before(p.until) {
			p.until = old.Until
		}
	}
	entry.Derived.Store(p)
	return p.target, nil
}

// SwitchOff implements drain.Endpoints.
func (e *endpointDirectory) SwitchOff(ctx context.Context, seen drain.Endpoint, answer delivery.Result) (int64, error) {
	unchanged := func(rec registry.AppRecord) bool {
		return lifeOf(rec) == seen.Life && rec.EndpointRevision == seen.Revision
	}
	return e.switchOffUnlessChanged(ctx, seen.Life.App, partner.StateChange, unchanged, partner.OffGone, answer)
}

// switchOffTries limits how often a switch-off starts over because of other writes of the app.
const switchOffTries = 20

// switchOffUnlessChanged switches an endpoint off on behalf of the service, unless the endpoint was changed since it
// was judged. Other settings may have changed. An answer that asked for it is quoted in the mail.
func (e *endpointDirectory) switchOffUnlessChanged(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
) (revision int64, err error) {
	for range switchOffTries {
		if revision, err = e.trySwitchOff(ctx, app, k, unchanged, reason, answer); !errors.Is(err, registry.ErrConflict) {
			break
		}
	}
	if err != nil {
		return revision, fmt.Errorf("switch off the %s endpoint of app %s: %w", k, app, err)
	}
	return revision, nil
}

// errChanged reports a switch-off of an endpoint that was changed meanwhile.
var errChanged = errors.New("it was changed, switched or deleted meanwhile")

func (e *endpointDirectory) trySwitchOff(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
) (int64, error) {
	rec, err := e.store.App(ctx, app)
	if err != nil {
		return 0, err
	}
	if !unchanged(rec) {
		return 0, errChanged
	}
	actor := registry.Actor{Name: "lamplighter", Role: "service"}
	next := rec.App
	next.Endpoints[k].Enabled, next.Endpoints[k].OffReason, next.Endpoints[k].SwitchedBy = false, reason, actor.Name
	next = partner.NormalizeApp(next, &rec.App, time.Now().UTC())
	written, _, err := e.store.PutApp(ctx, next, rec.Revision, nil, actor, "endpoint.switch_off", httpapi.SwitchNotes(&rec.App, &next)...)
	if err != nil {
		return 0, err
	}
	if reason == partner.OffGone { // before the switch-off, whose mail states the reason
		if gone, ok := incident.EventFromResult(answer, ""); ok {
			err = e.events.tracker.Observe(ctx, app, k, gone)
		}
	}
	return written.Revision, errors.Join(err, e.events.AppWritten(ctx, &rec, written, actor))
}
