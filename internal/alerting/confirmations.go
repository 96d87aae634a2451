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
	letters := make([]incident.RecipientMail, len(addresses))
	for i, to := range addresses {
		m, _ := app.MarkOf(to)
		letters[i] = incident.RecipientMail{
			To: to, ClientID: app.ClientID, AppName: app.Name, Environment: t.opts.Environment, TimeZone: app.TechnicalContact.TimeZone,
			Mail: incident.Mail{Kind: incident.KindConfirm, Incident: incident.NewConfirmationID(app.ClientID, m.Since), N: 1, At: m.Since, Since: m.Since},
		}
	}
	_, err := t.opts.Store.Transition(ctx, app.ClientID, partner.StateChange, func(s incident.State) registry.IncidentStep {
		return registry.IncidentStep{State: s, Mails: letters}
	})
	if err != nil {
		return wrapError(err, "write confirmations of", app.ClientID)
	}
	var errs []error
	for i := range letters {
		errs = append(errs, t.opts.Queue.EnqueueForwardMail(ctx, app.ClientID, letters[i].ID(), 0))
	}
	return wrapError(errors.Join(errs...), "wake the mailer for", app.ClientID)
}
