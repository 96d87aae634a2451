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
	silent  []silence
	backlog incident.Backlog
	gate    time.Time
}

// silence is a recipient who is not written to. The recipient is masked, and empty when there is none.
type silence struct {
	recipient string
	why       Suppression
}

// notice is a decided mail with how many are written to and who is not.
type notice struct {
	mail    incident.Mail
	letters int
	silent  []silence
}

// verdict is a decision on its way to the store, and what will be said about it.
type verdict struct {
	step    registry.IncidentStep
	notable bool
	notices []notice
}

func (t *Tracker) machine(app *partner.App, k partner.EndpointKind) incident.Machine {
	return incident.Machine{
		Settings: t.opts.Settings, ClientID: app.ClientID, Endpoint: k,
		Switch: incident.SwitchOf(app.Endpoint(k), t.opts.Environment),
		Held:   app.Paused && k == partner.StateChange,
		Common: t.opts.Common(),
	}
}

// observe decides and writes. The first look is without the audience, which most steps do not need.
func (t *Tracker) observe(ctx context.Context, app *partner.App, k partner.EndpointKind, events []incident.Event) (registry.IncidentStep, error) {
	return t.take(ctx, app, k, func(decide decision, _ leaving) (registry.IncidentStep, error) {
		return t.opts.Store.Transition(ctx, app.ClientID, k, func(s incident.State) registry.IncidentStep { return decide(s, events) })
	})
}

// decision is what a store has decided about a state it read and what happened since.
type decision func(s incident.State, events []incident.Event) registry.IncidentStep

// leaving is a step of a store that has decided nothing. A store that loses a race asks again: what
// was decided the time before was not written, and nobody may be told of it.
type leaving func(registry.IncidentStep) registry.IncidentStep

// take decides and writes by a transition of the store. Whenever the store asks, the transition
// answers by one of both.
func (t *Tracker) take(
	ctx context.Context, app *partner.App, k partner.EndpointKind, transition func(decision, leaving) (registry.IncidentStep, error),
) (registry.IncidentStep, error) {
	now := t.opts.Now()
	var a audience
	for {
		var v verdict
		postponed := false
		step, err := transition(func(s incident.State, events []incident.Event) registry.IncidentStep {
			v = t.decide(app, k, s, events, now, &a)
			if postponed = v.notable && !a.known; postponed {
				return registry.IncidentStep{State: s}
			}
			v.step.TakesReports = true
			return v.step
		}, func(step registry.IncidentStep) registry.IncidentStep {
			v, postponed = verdict{}, false
			return step
		})
		if err != nil {
			return registry.IncidentStep{}, fmt.Errorf("note what was observed of %s %s: %w", app.ClientID, k, err)
		}
		if !postponed {
			t.announce(ctx, app, k, &v)
			return step, nil
		}
		if a, err = t.audience(ctx, app, k); err != nil {
			return registry.IncidentStep{}, err
		}
	}
}

// heard are the events that mean something. An endpoint without its licence is not called: what was
// observed of it before is nobody's trouble any more.
func (t *Tracker) heard(app *partner.App, k partner.EndpointKind, events []incident.Event) []incident.Event {
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
	return append(out, incident.Uncalled{})
}

// decide is pure: it folds the events into one step.
func (t *Tracker) decide(app *partner.App, k partner.EndpointKind, s incident.State, events []incident.Event, now time.Time, a *audience) verdict {
	m := t.machine(app, k)
	m.Backlog, m.GateUntil = a.backlog, a.gate
	var v verdict
	for _, e := range t.heard(app, k, events) {
		d := m.Next(s, e, now)
		v.notable = v.notable || len(d.Mails) > 0 || s.RecoveringSince.IsZero() && !d.State.RecoveringSince.IsZero()
		for _, mail := range d.Mails {
			t.address(app, k, &s, &d.State, mail, a, &v)
		}
		if d.Ended != nil {
			v.step.Ended = d.Ended
		}
		s = d.State
	}
	v.step.State = s
	return v
}

// address writes one letter per recipient of a mail and notes in the state who was told.
func (t *Tracker) address(
	app *partner.App, k partner.EndpointKind, before, after *incident.State, mail incident.Mail, a *audience, v *verdict,
) {
	n := notice{mail: mail, silent: slices.Clone(a.silent)}
	for _, to := range a.to {
		key := incident.RecipientKey(to)
		told, wasTold := before.ToldOf(&mail, key)
		if (mail.Kind == incident.KindRecovered || mail.Kind == incident.KindClosed) && !wasTold {
			n.silent = append(n.silent, silence{key, SuppressedUntold})
			continue
		}
		n.letters++
		v.step.Letters = append(v.step.Letters, incident.Letter{
			To: to, ClientID: app.ClientID, AppName: app.Name, Environment: t.opts.Environment,
			URL:      secret.RedactURL(app.Endpoint(k).EffectiveURL(t.opts.Environment)),
			TimeZone: app.TechnicalContact.TimeZone, First: told.First, After: told.Last, Mail: mail,
		})
		after.Tell(&mail, key, told)
	}
	v.notices = append(v.notices, n)
}

// audience finds who gets the mail about an endpoint and what waits for the app.
func (t *Tracker) audience(ctx context.Context, app *partner.App, k partner.EndpointKind) (audience, error) {
	a := audience{known: true}
	silent := func(address string, why Suppression) {
		a.silent = append(a.silent, silence{incident.RecipientKey(address), why})
	}
	if err := t.outlook(ctx, app, k, &a); err != nil {
		return a, err
	}
	all, marked := app.Reachable()
	switch {
	case !app.Endpoint(k).SendErrorEmails:
		for _, to := range all {
			silent(to, SuppressedOff)
		}
		for _, m := range marked {
			silent(m.Address, SuppressedOff)
		}
		if len(a.silent) == 0 {
			a.silent = []silence{{why: SuppressedOff}}
		}
		return a, nil
	case len(all)+len(marked) == 0:
		a.silent = []silence{{why: SuppressedNobody}}
		return a, nil
	}
	for _, m := range marked {
		silent(m.Address, markedAs(m.State))
	}
	subs := make([]registry.Subscription, len(all))
	for i, to := range all {
		subs[i] = registry.Subscription{App: app.ClientID, Recipient: incident.RecipientKey(to)}
	}
	off, err := t.opts.Store.Suppressed(ctx, subs)
	if err != nil {
		return a, wrap(err, "find who gets mail about", app.ClientID)
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

// outlook finds what waits for an endpoint, and when it is tried next.
func (t *Tracker) outlook(ctx context.Context, app *partner.App, k partner.EndpointKind, a *audience) (err error) {
	switch {
	case k == partner.StateChange:
		standing, err := t.opts.Mailbox.Standing(ctx, app.ClientID)
		if err != nil {
			return wrap(err, "look into the mailbox of", app.ClientID)
		}
		a.backlog, a.gate = standing.Backlog, standing.GateUntil
	case t.opts.Probes != nil:
		if a.gate, err = t.opts.Probes.NextProbe(ctx, app, k, t.opts.Now()); err != nil {
			return wrap(err, "find the next probe of", app.ClientID)
		}
	}
	return nil
}

// announce logs each decided mail in one line, counts those that nobody gets and wakes the mailer for
// the others. A wake-up that fails is repeated by Tick.
func (t *Tracker) announce(ctx context.Context, app *partner.App, k partner.EndpointKind, v *verdict) {
	for i := range v.notices {
		n := &v.notices[i]
		m := &n.mail
		silent := make([]string, len(n.silent))
		for j, s := range n.silent {
			t.opts.Metrics.suppress(s.why)
			silent[j] = s.recipient + ":" + string(s.why)
		}
		attrs := []slog.Attr{
			slog.String("app", string(app.ClientID)), slog.String("endpoint", k.String()), slog.String("incident", m.Incident),
			slog.String("kind", string(m.Kind)), slog.Int("n", m.N), slog.Int("recipients", n.letters), slog.Any("not_mailed", silent),
		}
		if m.Failure != nil {
			attrs = append(attrs, slog.String("reason", m.Failure.Reason.String()), slog.Int("status", m.Failure.Status))
		}
		t.opts.Log.LogAttrs(ctx, slog.LevelInfo, "mail decided", attrs...)
	}
	for i := range v.step.Letters {
		l := &v.step.Letters[i]
		if err := t.opts.Queue.EnqueueMail(ctx, app.ClientID, l.ID(), t.generation()); err != nil {
			t.opts.Log.WarnContext(ctx, "mailer not woken, the next tick does it", "app", string(app.ClientID), "endpoint", k.String(), "err", err)
		}
	}
}

func markedAs(m partner.AddressState) Suppression {
	if m == partner.Bounced {
		return SuppressedBounced
	}
	return SuppressedUnconfirmed
}
