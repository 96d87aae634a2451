package mailer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// LinkAction is what a request of a link does.
type LinkAction uint8

// The closed set of actions.
const (
	// LinkPreview changes nothing.
	LinkPreview LinkAction = iota
	// LinkUnsubscribe unsubscribes the recipient, LinkResubscribe undoes that.
	LinkUnsubscribe
	LinkResubscribe
)

// SuppressionWriter keeps the recipients that want no mail about an app; *registry.IncidentStore is one.
type SuppressionWriter interface {
	SetMailSuppressed(ctx context.Context, sub registry.Subscription, on bool) error
}

// ConfirmationRefuser keeps the recipients that refuse confirmations; *registry.MailQueueStore is one.
type ConfirmationRefuser interface {
	SetConfirmationsRefused(ctx context.Context, recipient string, on bool) error
}

// AppChanger writes apps.
type AppChanger interface {
	// ChangeApp writes what alter makes of an app. It writes nothing if alter reports no change. alter is called again
	// if the app was written meanwhile. Errors: registry.ErrNotFound.
	ChangeApp(ctx context.Context, id partner.ClientID, actor registry.Actor, action string, alter func(partner.App) (partner.App, bool)) error
}

// SubscriptionOptions configure Subscriptions.
type SubscriptionOptions struct {
	Links         *Links
	Suppressions  SuppressionWriter
	Confirmations ConfirmationRefuser
	Apps          AppChanger
	Log           *slog.Logger
}

// Subscriptions carries out the links in mails, and marks addresses that bounce. It is safe for concurrent use.
type Subscriptions struct{ opts SubscriptionOptions }

// NewSubscriptions returns a Subscriptions.
func NewSubscriptions(opts SubscriptionOptions) *Subscriptions { return &Subscriptions{opts: opts} }

// Unsubscribe unsubscribes the recipient of a link, or undoes that, and returns the apps. Errors: ErrBadLink.
func (s *Subscriptions) Unsubscribe(ctx context.Context, token string, action LinkAction) ([]partner.ClientID, error) {
	r, err := s.opts.Links.ReadUnsubscribe(token)
	if err != nil {
		return nil, err
	}
	if action == LinkPreview {
		return r.Apps, nil
	}
	for _, app := range r.Apps {
		if err := s.opts.Suppressions.SetMailSuppressed(ctx, registry.Subscription{App: app, Recipient: r.Key}, action == LinkUnsubscribe); err != nil {
			return nil, err
		}
		s.opts.Log.InfoContext(ctx, "mail subscription changed", "app", string(app), "recipient", r.Key, "silent", action == LinkUnsubscribe)
	}
	return r.Apps, nil
}

// BlockConfirmations ends all confirmations to the recipient of a link, or undoes that. Errors: ErrBadLink.
func (s *Subscriptions) BlockConfirmations(ctx context.Context, token string, action LinkAction) error {
	recipient, err := s.opts.Links.ReadBlockConfirmations(token)
	if err != nil {
		return err
	}
	if action == LinkPreview {
		return nil
	}
	if err := s.opts.Confirmations.SetConfirmationsRefused(ctx, recipient, action == LinkUnsubscribe); err != nil {
		return err
	}
	s.opts.Log.InfoContext(ctx, "confirmation mails changed", "recipient", recipient, "silent", action == LinkUnsubscribe)
	return nil
}

// Confirm records that a recipient wants an app's mail; without commit it only reads the link. A link confirms the
// address that it was sent to, while that address still waits for confirmation. A repeated confirmation changes
// nothing. Errors: ErrBadLink, ErrOldLink.
func (s *Subscriptions) Confirm(ctx context.Context, token string, commit bool) (partner.ClientID, error) {
	r, err := s.opts.Links.ReadConfirm(token, time.Now())
	if err != nil {
		return "", err
	}
	id := r.Apps[0]
	actor := registry.Actor{Name: "recipient " + r.Key, Role: "recipient"}
	good := false
	err = s.opts.Apps.ChangeApp(ctx, id, actor, "app.confirm_address", func(app partner.App) (partner.App, bool) {
		good = false
		for _, e := range app.Addresses() {
			if incident.RecipientKey(e) != r.Key {
				continue
			}
			m, marked := app.MarkOf(e)
			asked := marked && m.State == partner.Unconfirmed && m.Since.Equal(r.Asked)
			if good = asked || !marked; asked && commit {
				return app.WithMark(e, nil), true
			}
		}
		return app, false
	})
	if errors.Is(err, registry.ErrNotFound) || err == nil && !good {
		return "", ErrOldLink
	}
	return id, err
}

// MarkBounced implements BounceMarker.
func (s *Subscriptions) MarkBounced(ctx context.Context, id partner.ClientID, address string, code int) error {
	err := s.opts.Apps.ChangeApp(ctx, id, registry.Actor{Name: "lamplighter", Role: "service"}, "app.bounce_address", func(app partner.App) (partner.App, bool) {
		for _, e := range app.Addresses() {
			if incident.RecipientKey(e) != incident.RecipientKey(address) {
				continue
			}
			if m, ok := app.MarkOf(e); ok && m.State == partner.Bounced {
				return app, false
			}
			return app.WithMark(e, &partner.AddressMark{State: partner.Bounced, Since: time.Now().UTC().Truncate(time.Millisecond), Code: code}), true
		}
		return app, false
	})
	if errors.Is(err, registry.ErrNotFound) {
		return nil // the app is deleted, and its addresses with it
	}
	return err
}
