package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// endpoints finds how apps are reached and keeps what is prepared for it.
type endpoints struct {
	dir    *registry.Directory
	store  *registry.Store
	pusher *push.Pusher
	env    partner.Environment
	events *appEvents

	mu       sync.Mutex
	prepared map[partner.ClientID]preparedTarget
}

// preparedTarget is a target made from one entry of the directory: a new entry makes a new one.
type preparedTarget struct {
	entry  *registry.Entry
	target push.Target
	until  time.Time
}

// Endpoint implements drain.Endpoints.
func (e *endpoints) Endpoint(ctx context.Context, app partner.ClientID) (drain.Post, int64, bool, error) {
	// An app that cannot be read keeps the settings that are known, and must not stop all others.
	if err := e.dir.Refresh(ctx); err != nil && !errors.Is(err, registry.ErrUnreadable) {
		return nil, 0, false, fmt.Errorf("refresh apps: %w", err)
	}
	entry, ok := e.dir.App(app)
	if !ok || entry.Rec.App.Endpoints[partner.StateChange].EffectiveURL(e.env) == "" {
		return nil, 0, false, nil
	}
	t, err := e.target(entry, time.Now())
	if err != nil {
		return nil, 0, false, err
	}
	return func(ctx context.Context, m delivery.Message) delivery.Result { return e.pusher.Post(ctx, t, m) }, entry.Rec.Revision, true, nil
}

func (e *endpoints) target(entry *registry.Entry, now time.Time) (push.Target, error) {
	app := &entry.Rec.App
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.prepared[app.ClientID]; ok && p.entry == entry && (p.until.IsZero() || now.Before(p.until)) {
		return p.target, nil
	}
	p := preparedTarget{entry: entry, target: push.Target{
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
	e.prepared[app.ClientID] = p
	return p.target, nil
}

// SwitchOff implements drain.Endpoints.
func (e *endpoints) SwitchOff(ctx context.Context, app partner.ClientID, revision int64, answer delivery.Result) (int64, error) {
	return e.switchOff(ctx, app, partner.StateChange, revision, partner.OffGone, answer)
}

// switchOff switches an endpoint off on the service's own behalf. An answer that asked for it is told
// in the mail.
func (e *endpoints) switchOff(ctx context.Context, app partner.ClientID, k partner.EndpointKind, revision int64, reason partner.OffReason, answer delivery.Result) (int64, error) {
	rec, err := e.store.App(ctx, app)
	if err != nil {
		return 0, fmt.Errorf("switch off: %w", err)
	}
	if rec.Revision != revision {
		return 0, fmt.Errorf("switch off app %s: %w", app, registry.ErrConflict)
	}
	actor := registry.Actor{Name: "lamplighter", Role: "service"}
	next := rec.App
	next.Endpoints[k].Enabled, next.Endpoints[k].OffReason, next.Endpoints[k].SwitchedBy = false, reason, actor.Name
	next = partner.Normalize(next, &rec.App, time.Now().UTC())
	written, _, err := e.store.PutApp(ctx, next, revision, nil, actor, "endpoint.switch_off", httpapi.SwitchNotes(&rec.App, &next)...)
	if err != nil {
		return 0, fmt.Errorf("switch off: %w", err)
	}
	if reason == partner.OffGone { // before the switch-off, whose mail says why
		if gone, ok := incident.FromResult(answer, ""); ok {
			err = e.events.people.Observe(ctx, app, k, gone)
		}
	}
	return written.Revision, errors.Join(err, e.events.AppWritten(ctx, &rec, written, actor))
}
