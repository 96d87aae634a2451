package alerting

import (
	"context"
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// requestWithin is how long after an address was set its confirmation is still written. It is shorter than
// the time for which the outbox remembers sent mails, so that no confirmation is sent twice.
const requestWithin = time.Hour

// NeedsConfirmations reports whether an app has addresses whose confirmations may not be written yet. TickApp
// writes them.
func (t *Tracker) NeedsConfirmations(app *partner.App) bool {
	return len(t.addressesToConfirm(app)) > 0
}

func (t *Tracker) addressesToConfirm(app *partner.App) []string {
	var out []string
	for _, e := range app.Addresses() {
		if m, ok := app.MarkOf(e); ok && m.State == partner.Unconfirmed && t.opts.Now().Sub(m.Since) < requestWithin && app.IsConfirmationTarget(e) {
			out = append(out, e)
		}
	}
	return out
}

// RequestConfirmations writes the confirmations to addresses that a partner set. A repeated call writes no second
// mail for the same address and time.
func (t *Tracker) RequestConfirmations(ctx context.Context, app *partner.App) error {
	addresses := t.addressesToConfirm(app)
	if len(addresses) == 0 {
		return nil
	}
	mails := make([]incident.Mail, len(addresses))
	for i, to := range addresses {
		m, _ := app.MarkOf(to)
		mails[i] = incident.Mail{
			Recipient: t.newRecipient(app, to), Kind: incident.KindConfirm, Incident: incident.NewConfirmationID(app.ClientID, m.Since),
			N: 1, At: m.Since, Since: m.Since,
		}
	}
	if err := t.addMails(ctx, app, mails); err != nil {
		return err
	}
	var errs []error
	for i := range mails {
		errs = append(errs, t.opts.Queue.EnqueueForwardMail(ctx, app.ClientID, mails[i].ID(), 0))
	}
	return wrapError(errors.Join(errs...), "wake the mailer for", app.ClientID)
}

// addMails writes mails into an app's outbox that leave its incidents as they are.
func (t *Tracker) addMails(ctx context.Context, app *partner.App, mails []incident.Mail) error {
	const k = partner.StateChange // any endpoint's incident can carry them
	for range commitTries {
		was, err := t.opts.Store.ReadIncident(ctx, app.ClientID, k)
		if err != nil {
			return wrapError(err, "write confirmations of", app.ClientID)
		}
		committed, err := t.opts.Store.CommitIfUnchanged(ctx, app.ClientID, k, was, incident.Decision{State: was.State, Mails: mails})
		if err != nil || committed {
			return wrapError(err, "write confirmations of", app.ClientID)
		}
	}
	return wrapError(registry.ErrConflict, "write confirmations of", app.ClientID)
}
