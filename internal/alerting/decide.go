package alerting

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// audience is what a mail needs besides the machine's decision: the recipients, and the state of the
// app's deliveries. It is read only when a mail is due.
type audience struct {
	known   bool
	to      []string
	skipped []skippedRecipient
	backlog incident.Backlog
	nextTry time.Time
}

// skippedRecipient is a recipient who gets no mail. recipient is a hash, and empty when there is none.
type skippedRecipient struct {
	recipient string
	why       Suppression
}

// mailPlan is a decided mail, with the number of its recipients and those who are skipped.
type mailPlan struct {
	mail       incident.Mail
	recipients int
	skipped    []skippedRecipient
}

func (t *Tracker) newMachine(app *partner.App, k partner.EndpointKind) incident.Machine {
	return incident.Machine{
		Settings: t.opts.Settings, ClientID: app.ClientID, Endpoint: k,
		Switch:      incident.ReadSwitch(app.Endpoint(k), t.opts.Environment),
		Paused:      app.Paused && k == partner.StateChange,
		CommonCause: t.opts.CommonCause(),
	}
}

// commitTries bounds how often a decision is made again because the incident was written meanwhile. Few processes
// ever write one endpoint's incident at the same time.
const commitTries = 20

// readFunc reads an incident: Store.ReadIncident or Store.ReadReportedIncident.
type readFunc func(context.Context, partner.ClientID, partner.EndpointKind) (registry.StoredIncident, error)

// eventsFunc returns the events that apply to an incident that was read. After an error nothing is decided.
type eventsFunc func(registry.StoredIncident) ([]incident.Event, error)

// decideAndCommit reads an incident, decides about events, reads the audience if that decision needs it, and writes
// the decision unless the incident was written meanwhile. In that case it drops the decision and starts again. It
// returns the state that is stored then.
func (t *Tracker) decideAndCommit(
	ctx context.Context, app *partner.App, k partner.EndpointKind, read readFunc, eventsFor eventsFunc,
) (incident.State, error) {
	now := t.opts.Now()
	var a audience
	for range commitTries {
		was, err := read(ctx, app.ClientID, k)
		if err != nil {
			return incident.State{}, wrapCommitError(err, app, k)
		}
		events, err := eventsFor(was)
		if err != nil {
			return incident.State{}, err
		}
		d, plans, needsAudience := t.decide(app, k, was.State, events, now, &a)
		if needsAudience && !a.known {
			if a, err = t.findAudience(ctx, app, k); err != nil {
				return incident.State{}, err
			}
			d, plans, _ = t.decide(app, k, was.State, events, now, &a)
		}
		committed, err := t.opts.Store.CommitIfUnchanged(ctx, app.ClientID, k, was, d)
		if err != nil {
			return incident.State{}, wrapCommitError(err, app, k)
		}
		if committed {
			t.announceMails(ctx, app, k, d.Mails, plans)
			return d.State, nil
		}
	}
	return incident.State{}, wrapCommitError(fmt.Errorf("%w, %d times in a row", registry.ErrConflict, commitTries), app, k)
}

func wrapCommitError(err error, app *partner.App, k partner.EndpointKind) error {
	return fmt.Errorf("write the incident of %s %s: %w", app.ClientID, k, err)
}

// relevantEvents leaves out events that are ignored. An endpoint whose licence is missing is not called, so
// its failures and successes are replaced by EndpointUnused.
func (t *Tracker) relevantEvents(app *partner.App, k partner.EndpointKind, events []incident.Event) []incident.Event {
	if t.opts.Licences == nil || t.opts.Licences.Missing(app, k) == "" {
		return events
	}
	var out []incident.Event
	for _, e := range events {
		switch e.(type) {
		case incident.Switched, incident.Closed:
			out = append(out, e)
		}
	}
	return append(out, incident.EndpointUnused{})
}

// decide applies the events in their order and returns what to write, and a plan for each mail of the machine. It
// reads and writes nothing. needsAudience is set when a mail is due, or when the endpoint begins to recover and its
// backlog is shown later. A decision that was made without the audience is then incomplete.
func (t *Tracker) decide(
	app *partner.App, k partner.EndpointKind, s incident.State, events []incident.Event, now time.Time, a *audience,
) (out incident.Decision, plans []mailPlan, needsAudience bool) {
	m := t.newMachine(app, k)
	m.Backlog, m.NextTryAt = a.backlog, a.nextTry
	for _, e := range t.relevantEvents(app, k, events) {
		d := m.Next(s, e, now)
		needsAudience = needsAudience || len(d.Mails) > 0 || s.RecoveringSince.IsZero() && !d.State.RecoveringSince.IsZero()
		for _, mail := range d.Mails {
			mails, plan := t.addressMail(app, k, &s, &d.State, mail, a)
			out.Mails, plans = append(out.Mails, mails...), append(plans, plan)
		}
		if d.Ended != nil {
			out.Ended = d.Ended
		}
		s = d.State
	}
	out.State = s
	return out, plans, needsAudience
}

// addressMail makes one mail for each recipient, and records in the new state who gets it.
func (t *Tracker) addressMail(
	app *partner.App, k partner.EndpointKind, before, after *incident.State, mail incident.Mail, a *audience,
) ([]incident.Mail, mailPlan) {
	plan := mailPlan{mail: mail, skipped: slices.Clone(a.skipped)}
	var mails []incident.Mail
	for _, to := range a.to {
		key := incident.RecipientKey(to)
		told, wasTold := before.MailedBefore(&mail, key)
		if mail.Kind.EndsIncident() && !wasTold {
			plan.skipped = append(plan.skipped, skippedRecipient{key, SuppressedNotMailed})
			continue
		}
		plan.recipients++
		mail.Recipient = t.newRecipient(app, to)
		mail.URL = secret.RedactURL(app.Endpoint(k).EffectiveURL(t.opts.Environment))
		mail.First, mail.After = told.First, told.Last
		mails = append(mails, mail)
		after.RecordMailed(&mail, key, told)
	}
	return mails, plan
}

func (t *Tracker) newRecipient(app *partner.App, to string) incident.Recipient {
	return incident.Recipient{
		To: to, ClientID: app.ClientID, AppName: app.Name, Environment: t.opts.Environment, TimeZone: app.TechnicalContact.TimeZone,
	}
}

// findAudience finds the recipients of a mail about an endpoint, and what is pending for the app.
func (t *Tracker) findAudience(ctx context.Context, app *partner.App, k partner.EndpointKind) (audience, error) {
	a := audience{known: true}
	silent := func(address string, why Suppression) {
		a.skipped = append(a.skipped, skippedRecipient{incident.RecipientKey(address), why})
	}
	if err := t.loadBacklog(ctx, app, k, &a); err != nil {
		return a, err
	}
	all, marked := app.ReachableRecipients()
	switch {
	case !app.Endpoint(k).SendErrorEmails:
		for _, to := range all {
			silent(to, SuppressedOff)
		}
		for _, m := range marked {
			silent(m.Address, SuppressedOff)
		}
		if len(a.skipped) == 0 {
			a.skipped = []skippedRecipient{{why: SuppressedOff}}
		}
		return a, nil
	case len(all)+len(marked) == 0:
		a.skipped = []skippedRecipient{{why: SuppressedNoRecipient}}
		return a, nil
	}
	for _, m := range marked {
		silent(m.Address, suppressionForState(m.State))
	}
	subs := make([]registry.Subscription, len(all))
	for i, to := range all {
		subs[i] = registry.Subscription{App: app.ClientID, Recipient: incident.RecipientKey(to)}
	}
	off, err := t.opts.Store.MailsSuppressed(ctx, subs)
	if err != nil {
		return a, wrapError(err, "find the recipients of mail about", app.ClientID)
	}
	for i, to := range all {
		if off[i] {
			silent(to, SuppressedUnsubscribed)
			continue
		}
		a.to = append(a.to, to)
	}
	return a, nil
}

// loadBacklog finds what is pending for an endpoint, and when the next attempt or probe is made.
func (t *Tracker) loadBacklog(ctx context.Context, app *partner.App, k partner.EndpointKind, a *audience) (err error) {
	switch {
	case k == partner.StateChange:
		v, err := t.opts.Mailboxes.View(ctx, app.ClientID)
		if err != nil {
			return wrapError(err, "read the mailbox of", app.ClientID)
		}
		a.backlog = incident.Backlog{Notifications: v.Waiting, Tenants: v.Diverged, Superseded: v.Superseded}
		a.nextTry = v.CooldownUntil
	case t.opts.Probes != nil:
		if a.nextTry, err = t.opts.Probes.NextProbe(ctx, app, k, t.opts.Now()); err != nil {
			return wrapError(err, "find the next probe of", app.ClientID)
		}
	}
	return nil
}

// announceMails logs each decided mail in one line, counts the suppressed ones and wakes the mailer for the
// others. A wake-up that fails is only logged: the loop that calls WakeMail repeats it.
func (t *Tracker) announceMails(ctx context.Context, app *partner.App, k partner.EndpointKind, mails []incident.Mail, plans []mailPlan) {
	for i := range plans {
		n := &plans[i]
		m := &n.mail
		silent := make([]string, len(n.skipped))
		for j, s := range n.skipped {
			t.opts.Metrics.countSuppressed(s.why)
			silent[j] = s.recipient + ":" + string(s.why)
		}
		attrs := []slog.Attr{
			slog.String("app", string(app.ClientID)), slog.String("endpoint", k.String()), slog.String("incident", m.Incident),
			slog.String("kind", string(m.Kind)), slog.Int("n", m.N), slog.Int("recipients", n.recipients), slog.Any("not_mailed", silent),
		}
		if m.Failure != nil {
			attrs = append(attrs, slog.String("reason", m.Failure.Reason.String()), slog.Int("status", m.Failure.Status))
		}
		t.opts.Log.LogAttrs(ctx, slog.LevelInfo, "mail decided", attrs...)
	}
	for i := range mails {
		if err := t.opts.Queue.EnqueueForwardMail(ctx, app.ClientID, mails[i].ID(), t.wakeGeneration()); err != nil {
			t.opts.Log.WarnContext(ctx, "mailer not woken; the loop of mails repeats it", "app", string(app.ClientID), "endpoint", k.String(), "err", err)
		}
	}
}

func suppressionForState(m partner.AddressState) Suppression {
	if m == partner.Bounced {
		return SuppressedBounced
	}
	return SuppressedUnconfirmed
}
