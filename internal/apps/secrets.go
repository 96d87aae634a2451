package apps

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	webhookPrefix = "whsec_"
	webhookBytes  = 32
	// MaxGrace bounds how long requests are also signed with a replaced webhook secret. maxReplaced is how many such
	// secrets there are.
	MaxGrace    = 30 * 24 * time.Hour
	maxReplaced = 3
)

// newWebhookSecret makes a Standard Webhooks secret.
func (w *Writer) newWebhookSecret() (string, error) {
	b := make([]byte, webhookBytes)
	if _, err := io.ReadFull(w.opts.Random, b); err != nil {
		return "", fmt.Errorf("make a webhook secret: %w", err)
	}
	return webhookPrefix + base64.StdEncoding.EncodeToString(b), nil
}

// Rotation is a request to replace an app's webhook secret. Requests are also signed with the replaced one for Grace, and
// with those replaced before until the end that they were given.
type Rotation struct {
	App   partner.ClientID
	Actor registry.Actor
	// Precondition may be nil, see Write.
	Precondition Precondition
	Grace        time.Duration
	// EndReplaced ends at once the secrets that were replaced before, whatever their end was to be.
	EndReplaced bool
}

// Rotated is the result of a rotation.
type Rotated struct {
	Record registry.AppRecord
	// Secret is the new one. PreviousUntil is when the replaced one stops, zero when there is none.
	Secret        string
	PreviousUntil time.Time
	// Valid is how many secrets sign now.
	Valid int
}

// RotateSecret replaces the webhook secret. Its errors are a partner.ValidationError when too many replaced secrets
// still sign, ErrBusy, registry.ErrNotFound, and those of Precondition and Store.
func (w *Writer) RotateSecret(ctx context.Context, req Rotation) (r Rotated, err error) {
	err = w.update(ctx, req.App, req.Precondition, func(stored *registry.AppRecord) (err error) {
		r, err = w.tryRotate(ctx, &req, stored)
		return err
	})
	return r, err
}

func (w *Writer) tryRotate(ctx context.Context, req *Rotation, old *registry.AppRecord) (Rotated, error) {
	if old == nil {
		return Rotated{}, noApp(req.App)
	}
	now := w.opts.Now().UTC()
	secrets, err := w.opts.Store.Secrets(ctx, req.App)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return Rotated{}, err
	}
	fresh, err := w.newWebhookSecret()
	if err != nil {
		return Rotated{}, err
	}
	next, err := req.nextSecrets(secrets, fresh, now)
	if err != nil {
		return Rotated{}, err
	}
	app := partner.NormalizeApp(old.App, &old.App, now)
	app.UpdatedAt = now // only the secret changed
	rec, _, err := w.opts.Store.PutApp(ctx, app, old.Revision, &next, req.Actor, "app.rotate_secret")
	if err != nil {
		return Rotated{}, err
	}
	w.reportWritten(ctx, req.Actor, old, rec)
	r := Rotated{Record: rec, Secret: fresh, Valid: 1 + len(next.Replaced)}
	if len(next.Replaced) > 0 {
		r.PreviousUntil = next.Replaced[0].Until
	}
	return r, nil
}

// nextSecrets makes the secrets that follow.
func (req *Rotation) nextSecrets(old registry.WebhookSecrets, fresh string, now time.Time) (registry.WebhookSecrets, error) {
	next := registry.WebhookSecrets{Current: secret.New(fresh)}
	if req.Grace > 0 && !old.Current.IsZero() {
		next.Replaced = append(next.Replaced, registry.ReplacedSecret{Secret: old.Current, Until: now.Add(req.Grace)})
	}
	for _, o := range old.Replaced {
		if !req.EndReplaced && now.Before(o.Until) {
			next.Replaced = append(next.Replaced, o)
		}
	}
	if len(next.Replaced) > maxReplaced {
		return next, partner.ValidationError{{Pointer: "/end_replaced", Detail: fmt.Sprintf(
			"must be true, or wait: %d replaced secrets still sign along, the first of them until %s", maxReplaced, earliestEnd(next.Replaced).UTC().Format(time.RFC3339))}}
	}
	return next, nil
}

func earliestEnd(replaced []registry.ReplacedSecret) time.Time {
	at := replaced[0].Until
	for _, r := range replaced[1:] {
		if r.Until.Before(at) {
			at = r.Until
		}
	}
	return at
}
