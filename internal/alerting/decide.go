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

// pendingTransition is a decision that may not be stored yet, with the plans to log once it is. notable
// is set when it needs the audience.
type pendingTransition struct {
	step    registry.IncidentStep
	notable bool
	plans   []mailPlan
}

func (t *Tracker) newMachine(app *partner.App, k partner.EndpointKind) incident.Machine {
	return incident.Machine{
		Settings: t.opts.Settings, ClientID: app.ClientID, Endpoint: k,
		Switch:      incident.ReadSwitch(app.Endpoint(k), t.opts.Environment),
		Paused:      app.Paused && k == partner.StateChange,
		CommonCause: t.opts.CommonCause(),
	}
}

// applyEvents decides about events and writes the result.
func (t *Tracker) applyEvents(ctx context.Context, app *partner.App, k partner.EndpointKind, events []incident.Event) (registry.IncidentStep, error) {
	return t.decideAndCommit(ctx, app, k, func(decide decideFunc, _ skipFunc) (registry.IncidentStep, error) {
		return t.opts.Store.Transition(ctx, app.ClientID, k, func(s incident.State) registry.IncidentStep { return decide(s, events) })
	})
}

// decideFunc makes the step for a state that the store read and the events since.
type decideFunc func(s incident.State, events []incident.Event) registry.IncidentStep

// skipFunc returns a given step that decides nothing. The store calls the transition again after a conflict,
// so skipFunc also drops the decision of an earlier call, which was not written.
type skipFunc func(registry.IncidentStep) registry.IncidentStep

// decideAndCommit decides and writes by a transition of the store. Each time that the store calls it, the
// transition must return the result of one of the two functions. The first decision is made without the
// audience, which most steps do not need. A decision that needs it is dropped, the audience is read, and the
// transition runs again.
func (t *Tracker) decideAndCommit(
	ctx context.Context, app *partner.App, k partner.EndpointKind, transition func(decideFunc, skipFunc) (registry.IncidentStep, error),
) (registry.IncidentStep, error) {
	now := t.opts.Now()
	var a audience
	for {
		var v pendingTransition
		postponed := false
		step, err := transition(func(s incident.State, events []incident.Event) registry.IncidentStep {
			v = t.decideTransition(app, k, s, events, now, &a)
			if postponed = v.notable && !a.known; postponed {
				return registry.IncidentStep{State: s}
			}
			v.step.TakesReports = true
			return v.step
		}, func(step registry.IncidentStep) registry.IncidentStep {
			v, postponed = pendingTransition{}, false
			return step
		})
		if err != nil {
			return registry.IncidentStep{}, fmt.Errorf("write the incident of %s %s: %w", app.ClientID, k, err)
		}
		if !postponed {
			t.announceMails(ctx, app, k, &v)
			return step, nil
		}
		if a, err = t.findAudience(ctx, app, k); err != nil {
			return registry.IncidentStep{}, err
		}
	}
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

// decideTransition applies the events in their order and returns one step. It reads and writes nothing.
func (t *Tracker) decideTransition(app *partner.App, k partner.EndpointKind, s incident.State, events []incident.Event, now time.Time, a *audience) pendingTransition {
	m := t.newMachine(app, k)
	m.Backlog, m.NextTryAt = a.backlog, a.nextTry
	var v pendingTransition
	for _, e := range t.relevantEvents(app, k, events) {
		d := m.Next(s, e, now)
		v.notable = v.notable || len(d.Mails) > 0 || s.RecoveringSince.IsZero() && !d.State.RecoveringSince.IsZero()
		for _, mail := range d.Mails {
			t.addRecipientMails(app, k, &s, &d.State, mail, a, &v)
		}
		if d.Ended != nil {
			v.step.Ended = d.Ended
		}
		s = d.State
	}
	v.step.State = s
	return v
}

// addRecipientMails adds one mail per recipient to the step, and records in the state who gets it.
func (t *Tracker) addRecipientMails(
	app *partner.App, k partner.EndpointKind, before, after *incident.State, mail incident.Mail, a *audience, v *pendingTransition,
) {
	n := mailPlan{mail: mail, skipped: slices.Clone(a.skipped)}
	for _, to := range a.to {
		key := incident.RecipientKey(to)
		told, wasTold := before.MailedBefore(&mail, key)
		if mail.Kind.EndsIncident() && !wasTold {
			n.skipped = append(n.skipped, skippedRecipient{key, SuppressedNotMailed})
			continue
		}
		n.recipients++
		v.step.Mails = append(v.step.Mails, incident.RecipientMail{
			To: to, ClientID: app.ClientID, AppName: app.Name, Environment: t.opts.Environment,
			URL:      secret.RedactURL(app.Endpoint(k).EffectiveURL(t.opts.Environment)),
			TimeZone: app.TechnicalContact.TimeZone, First: told.First, After: told.Last, Mail: mail,
		})
		after.RecordMailed(&mail, key, told)
	}
	v.plans = append(v.plans, n)
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
func (t *Tracker) announceMails(ctx context.Context, app *partner.App, k partner.EndpointKind, v *pendingTransition) {
	for i := range v.plans {
		n := &v.plans[i]
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
	for i := range v.step.Mails {
		l := &v.step.Mails[i]
		if err := t.opts.Queue.EnqueueForwardMail(ctx, app.ClientID, l.ID(), t.wakeGeneration()); err != nil {
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
