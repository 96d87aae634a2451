package push

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// Targets makes targets of the apps in a directory. It is safe for concurrent use.
type Targets struct {
	pusher *Pusher
	env    partner.Environment
}

// NewTargets returns Targets to which p posts, with the URLs of an environment.
func NewTargets(p *Pusher, env partner.Environment) *Targets { return &Targets{pusher: p, env: env} }

// PrepareAttempt returns a function that makes an attempt at an app's state-change endpoint, with the URL and the
// secrets of the entry at a time.
func (t *Targets) PrepareAttempt(e *registry.Entry, now time.Time) (func(context.Context, delivery.Message) delivery.Result, error) {
	target, err := t.prepareTarget(e, now)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, m delivery.Message) delivery.Result { return t.pusher.Post(ctx, target, m) }, nil
}

// preparedTarget is a target made from one directory entry and kept with it. A new entry gets a new one.
type preparedTarget struct {
	target Target
	// until is when a replaced secret no longer signs, zero when there is none.
	until time.Time
}

func (t *Targets) prepareTarget(e *registry.Entry, now time.Time) (Target, error) {
	app := &e.Rec.App
	if p, ok := e.Derived.Load().(*preparedTarget); ok && (p.until.IsZero() || now.Before(p.until)) {
		return p.target, nil
	}
	p := &preparedTarget{target: Target{
		ClientID: app.ClientID, URL: app.Endpoints[partner.StateChange].EffectiveURL(t.env), TokenAlgorithm: app.TokenAlgorithm,
	}}
	if !e.Secrets.Current.IsZero() {
		k, err := signing.ParseWebhookSecret(e.Secrets.Current)
		if err != nil {
			return Target{}, fmt.Errorf("webhook secret of app %s: %w", app.ClientID, err)
		}
		p.target.WebhookKeys = append(p.target.WebhookKeys, k)
	}
	for _, old := range e.Secrets.Replaced {
		if !now.Before(old.Until) {
			continue
		}
		k, err := signing.ParseWebhookSecret(old.Secret)
		if err != nil {
			return Target{}, fmt.Errorf("replaced webhook secret of app %s: %w", app.ClientID, err)
		}
		p.target.WebhookKeys = append(p.target.WebhookKeys, k)
		if p.until.IsZero() || old.Until.Before(p.until) {
			p.until = old.Until
		}
	}
	e.Derived.Store(p)
	return p.target, nil
}
