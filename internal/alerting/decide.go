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

// audience is what a mail needs beside the machine's decision. It is read only when a mail is due.
type audience struct {
	known   bool
	to      []string
	skipped []skippedRecipient
	backlog incident.Backlog
	nextTry time.Time
}

// skippedRecipient is a recipient who is not written to. The recipient is masked, and empty when there is none.
type skippedRecipient struct {
	recipient string
	why       Suppression
}

// mailPlan is a decided mail with how many are written to and who is not.
type mailPlan struct {
	mail       incident.Mail
	recipients int
	skipped    []skippedRecipient
}

// pendingTransition is a decision on its way to the store, and what will be said about it.
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

// applyEvents decides and writes. The first look is without the audience, which most steps do not need.
func (t *Tracker) applyEvents(ctx context.Context, app *partner.App, k partner.EndpointKind, events []incident.Event) (registry.IncidentStep, error) {
	return t.decideAndCommit(ctx, app, k, func(decide decideFunc, _ skipFunc) (registry.IncidentStep, error) {
		return t.opts.Store.Transition(ctx, app.ClientID, k, func(s incident.State) registry.IncidentStep { return decide(s, events) })
	})
}

// decideFunc is what a store has decided about a state it read and what happened since.
type decideFunc func(s incident.State, events []incident.Event) registry.IncidentStep

// skipFunc is a step of a store that has decided nothing. A store that loses a race asks again: what
// was decided the time before was not written, and nobody may be told of it.
type skipFunc func(registry.IncidentStep) registry.IncidentStep

// decideAndCommit decides and writes by a transition of the store. Whenever the store asks, the transition
// answers by one of both.
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
			return registry.IncidentStep{}, fmt.Errorf("note what was observed of %s %s: %w", app.ClientID, k, err)
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

// relevantEvents are the events that mean something. An endpoint without its licence is not called: what was
// observed of it before is nobody's trouble any more.
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

// decideTransition is pure: it folds the events into one step.
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

// addRecipientMails writes one letter per recipient of a mail and notes in the state who was told.
func (t *Tracker) addRecipientMails(
	app *partner.App, k partner.EndpointKind, before, after *incident.State, mail incident.Mail, a *audience, v *pendingTransition,
) {
	n := mailPlan{mail: mail, skipped: slices.Clone(a.skipped)}
	for _, to := range a.to {
		key := incident.RecipientKey(to)
		told, wasTold := before.MailedBefore(&mail, key)
		if (mail.Kind == incident.KindRecovered || mail.Kind == incident.KindClosed) && !wasTold {
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

// findAudience finds who gets the mail about an endpoint and what waits for the app.
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
		return a, wrapError(err, "find who gets mail about", app.ClientID)
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

// loadBacklog finds what waits for an endpoint, and when it is tried next.
func (t *Tracker) loadBacklog(ctx context.Context, app *partner.App, k partner.EndpointKind, a *audience) (err error) {
	switch {
	case k == partner.StateChange:
		standing, err := t.opts.Mailbox.AppStatus(ctx, app.ClientID)
		if err != nil {
			return wrapError(err, "look into the mailbox of", app.ClientID)
		}
		a.backlog, a.nextTry = standing.Backlog, standing.CooldownUntil
	case t.opts.Probes != nil:
		if a.nextTry, err = t.opts.Probes.NextProbe(ctx, app, k, t.opts.Now()); err != nil {
			return wrapError(err, "find the next probe of", app.ClientID)
		}
	}
	return nil
}

// announceMails logs each decided mail in one line, counts those that nobody gets and wakes the mailer for
// the others. A wake-up that fails is repeated by Tick.
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
			t.opts.Log.WarnContext(ctx, "mailer not woken, the next tick does it", "app", string(app.ClientID), "endpoint", k.String(), "err", err)
		}
	}
}

func suppressionForState(m partner.AddressState) Suppression {
	if m == partner.Bounced {
		return SuppressedBounced
	}
	return SuppressedUnconfirmed
}
