package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Resealer seals secrets again that older keys sealed.
type Resealer interface {
	// Reencrypt may be repeated; it returns how many secrets it read, and how many it sealed again.
	Reencrypt(ctx context.Context, actor registry.Actor) (examined, resealed int, err error)
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
	r := apps.Rotation{Actor: c.actor, Precondition: c.precondition(), Grace: a.SecretGrace}
	if n, ok := o.readInt("grace_seconds", 0, int64(apps.MaxGrace/time.Second)); ok {
		r.Grace = time.Duration(n) * time.Second
	}
	r.EndReplaced, _ = o.readBool("end_replaced")
	o.reportUnknownMembers()
	if err := f.err(); err != nil {
		return err
	}
	if r.App, err = c.pathClientID(); err != nil {
		return err
	}
	done, err := a.AppWriter.RotateSecret(c.ctx(), r)
	if err != nil {
		return c.writeProblem(err)
	}
	c.w.Header().Set("ETag", revisionETag(done.Record.Revision))
	return c.writeJSON(http.StatusOK, rotationAnswer{done.Secret, done.PreviousUntil, done.Valid})
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
