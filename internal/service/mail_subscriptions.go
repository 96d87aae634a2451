package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// markTries limits how often a change of an address starts over because of other writes of the app.
const markTries = 10

// mailSubscriptions carries out the links in mails, and marks addresses that bounce.
type mailSubscriptions struct {
	links  *mailer.Links
	subs   *registry.IncidentStore
	queues *registry.MailQueueStore
	store  *registry.Store
	log    *slog.Logger
}

// Unsubscribe implements httpapi.MailSubscriptions.
func (d *mailSubscriptions) Unsubscribe(ctx context.Context, token string, change httpapi.MailAction) ([]partner.ClientID, error) {
	r, err := d.links.ReadUnsubscribe(token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", httpapi.ErrBadMailLink, err)
	}
	if change == httpapi.MailPreview {
		return r.Apps, nil
	}
	for _, app := range r.Apps {
		if err := d.subs.SetMailSuppressed(ctx, registry.Subscription{App: app, Recipient: r.Key}, change == httpapi.MailUnsubscribe); err != nil {
			return nil, err
		}
		d.log.InfoContext(ctx, "mail subscription changed", "app", string(app), "recipient", r.Key, "silent", change == httpapi.MailUnsubscribe)
	}
	return r.Apps, nil
}

// BlockConfirmations implements httpapi.MailSubscriptions.
func (d *mailSubscriptions) BlockConfirmations(ctx context.Context, token string, change httpapi.MailAction) error {
	tray, err := d.links.ReadBlockConfirmations(token)
	if err != nil {
		return fmt.Errorf("%w: %w", httpapi.ErrBadMailLink, err)
	}
	if change == httpapi.MailPreview {
		return nil
	}
	if err := d.queues.SetConfirmationsRefused(ctx, tray, change == httpapi.MailUnsubscribe); err != nil {
		return err
	}
	d.log.InfoContext(ctx, "confirmation mails changed", "recipient", tray, "silent", change == httpapi.MailUnsubscribe)
	return nil
}

// Confirm implements httpapi.MailSubscriptions. A link confirms the address that it was sent to, while that address
// still waits for confirmation. A repeated confirmation changes nothing.
func (d *mailSubscriptions) Confirm(ctx context.Context, token string, commit bool) (partner.ClientID, error) {
	r, err := d.links.ReadConfirm(token, time.Now())
	if errors.Is(err, mailer.ErrOldLink) {
		return "", fmt.Errorf("%w: %w", httpapi.ErrOldMailLink, err)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", httpapi.ErrBadMailLink, err)
	}
	id := r.Apps[0]
	actor := registry.Actor{Name: "recipient " + r.Key, Role: "recipient"}
	good := false
	err = d.changeApp(ctx, id, actor, "app.confirm_address", func(app partner.App) (partner.App, bool) {
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
		return "", httpapi.ErrOldMailLink
	}
	return id, err
}

// MarkBounced implements mailer.BounceMarker.
func (d *mailSubscriptions) MarkBounced(ctx context.Context, id partner.ClientID, address string, code int) error {
	err := d.changeApp(ctx, id, registry.Actor{Name: "lamplighter", Role: "service"}, "app.bounce_address", func(app partner.App) (partner.App, bool) {
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

// changeApp writes an app if it has not changed since it was read.
func (d *mailSubscriptions) changeApp(ctx context.Context, id partner.ClientID, actor registry.Actor, action string, alter func(partner.App) (partner.App, bool)) error {
	for range markTries {
		rec, err := d.store.App(ctx, id)
		if err != nil {
			return fmt.Errorf("mark an address of app %s: %w", id, err)
		}
		next, changed := alter(rec.App)
		if !changed {
			return nil
		}
		next.UpdatedAt = time.Now().UTC()
		if _, _, err = d.store.PutApp(ctx, next, rec.Revision, nil, actor, action); !errors.Is(err, registry.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("mark an address of app %s: %w", id, registry.ErrConflict)
}
