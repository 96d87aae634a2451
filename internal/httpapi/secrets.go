package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	webhookPrefix = "whsec_"
	webhookBytes  = 32
	// maxGrace bounds how long requests are also signed with a replaced webhook secret, maxReplaced how many such
	// secrets there are.
	maxGrace    = 30 * 24 * time.Hour
	maxReplaced = 3
)

// Resealer seals secrets again that older keys sealed.
type Resealer interface {
	// Reencrypt may be repeated; it returns how many secrets it read, and how many it sealed again.
	Reencrypt(ctx context.Context, actor registry.Actor) (examined, resealed int, err error)
}

// newWebhookSecret makes a Standard Webhooks secret.
func (a *API) newWebhookSecret() (string, error) {
	b := make([]byte, webhookBytes)
	if _, err := io.ReadFull(a.Random, b); err != nil {
		return "", fmt.Errorf("make a webhook secret: %w", err)
	}
	return webhookPrefix + base64.StdEncoding.EncodeToString(b), nil
}

// rotation is the caller's request for the present secrets.
type rotation struct {
	grace time.Duration
	// endReplaced ends at once the secrets that were replaced before, whatever their end was to be.
	endReplaced bool
}

// rotateSecret replaces the webhook secret. Requests are also signed with the replaced one for grace_seconds, which the body
// may set, and with those replaced before until the end that they were given.
func (a *API) rotateSecret(c *call) error {
	doc, err := c.readOptionalDocument()
	if err != nil {
		return err
	}
	f := &faults{}
	o := newObjectReader(doc, f, false)
	r := rotation{grace: a.SecretGrace}
	if n, ok := o.readInt("grace_seconds", 0, int64(maxGrace/time.Second)); ok {
		r.grace = time.Duration(n) * time.Second
	}
	r.endReplaced, _ = o.readBool("end_replaced")
	o.reportUnknownMembers()
	if err := f.err(); err != nil {
		return err
	}
	id, err := c.pathClientID()
	if err != nil {
		return err
	}
	return retryOnConflict(c, func() error { return a.tryRotateSecret(c, id, r) })
}

func (a *API) tryRotateSecret(c *call, id partner.ClientID, r rotation) error {
	old, err := a.readForUpdate(c, id)
	if err != nil {
		return err
	}
	if old == nil {
		return notFoundProblem("app")
	}
	now := a.Now().UTC()
	secrets, err := a.AppWriter.Secrets(c.ctx(), id)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	fresh, err := a.newWebhookSecret()
	if err != nil {
		return err
	}
	next, err := r.nextSecrets(secrets, fresh, now)
	if err != nil {
		return err
	}
	app := partner.NormalizeApp(old.App, &old.App, now)
	app.UpdatedAt = now // only the secret changed
	rec, _, err := a.AppWriter.PutApp(c.ctx(), app, old.Revision, &next, c.actor, "app.rotate_secret")
	if err != nil {
		return err
	}
	a.reportAppWritten(c, old, rec)
	c.w.Header().Set("ETag", revisionETag(rec.Revision))
	var until time.Time
	if len(next.Replaced) > 0 {
		until = next.Replaced[0].Until
	}
	return c.writeJSON(http.StatusOK, rotationAnswer{fresh, until, 1 + len(next.Replaced)})
}

// nextSecrets makes the secrets that follow.
func (r rotation) nextSecrets(old registry.WebhookSecrets, fresh string, now time.Time) (registry.WebhookSecrets, error) {
	next := registry.WebhookSecrets{Current: secret.New(fresh)}
	if r.grace > 0 && !old.Current.IsZero() {
		next.Replaced = append(next.Replaced, registry.ReplacedSecret{Secret: old.Current, Until: now.Add(r.grace)})
	}
	for _, o := range old.Replaced {
		if !r.endReplaced && now.Before(o.Until) {
			next.Replaced = append(next.Replaced, o)
		}
	}
	if len(next.Replaced) > maxReplaced {
		return next, invalidProblem(FieldError{Pointer: "/end_replaced", Detail: fmt.Sprintf(
			"must be true, or wait: %d replaced secrets still sign along, the first of them until %s", maxReplaced, earliestEnd(next.Replaced).UTC().Format(time.RFC3339))})
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

// reencryptSecrets seals all secrets again that an older encryption key sealed, so that the key can be removed.
func (a *API) reencryptSecrets(c *call) error {
	if err := c.requireEmptyDocument(); err != nil {
		return err
	}
	examined, resealed, err := a.Resealer.Reencrypt(c.ctx(), c.actor)
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, reencryptionAnswer{examined, resealed})
}

// rotationRequest describes a rotation in the API's document. rotateSecret reads one.
type rotationRequest struct {
	GraceSeconds int  `json:"grace_seconds" api:"min=0,max=2592000" doc:"How long notifications are also signed with the replaced secret; a day by default."`
	EndReplaced  bool `json:"end_replaced" doc:"Ends those replaced before at once, as after a leak."`
}

type rotationAnswer struct {
	WebhookSecret string    `json:"webhook_secret" doc:"Shown only this once."`
	PreviousUntil time.Time `json:"previous_valid_until,omitzero"`
	Valid         int       `json:"valid_secrets" api:"min=1"`
}

type reencryptionAnswer struct {
	Examined int `json:"examined" api:"min=0"`
	Resealed int `json:"resealed" api:"min=0" doc:"0: no webhook secret needs the former key. It can go once retention.idempotency has passed; older links in mails and older cursors become invalid then."`
}
