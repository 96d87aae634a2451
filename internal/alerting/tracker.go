package alerting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Apps finds an app's settings; ok is false for an unknown one. An old view does no harm.
type Apps interface {
	App(ctx context.Context, id partner.ClientID) (app partner.App, ok bool, err error)
}

// Store keeps incidents and the outbox; *registry.IncidentStore is one.
type Store interface {
	Transition(ctx context.Context, app partner.ClientID, k partner.EndpointKind, decide func(incident.State) registry.IncidentStep) (registry.IncidentStep, error)
	Incidents(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error)
	// ReportedEndpoints lists endpoints about which engines reported something that TransitionReports takes
	// or forgets.
	ReportedEndpoints(ctx context.Context, app partner.ClientID) ([]partner.EndpointKind, error)
	TransitionReports(ctx context.Context, app partner.ClientID, k partner.EndpointKind, decide func(incident.State, registry.Reports) registry.IncidentStep) (registry.IncidentStep, error)
	MailsSuppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error)
}

// Queue wakes the mailer for one mail. A wake-up with the same generation may be dropped.
type Queue interface {
	EnqueueForwardMail(ctx context.Context, app partner.ClientID, mailID string, generation int64) error
}

// Mailbox says how an app's notifications stand.
type Mailbox interface {
	AppStatus(ctx context.Context, app partner.ClientID) (MailboxStatus, error)
	// HasPending reports, at each tenant's index, whether a notification about it waits for the app.
	HasPending(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]bool, error)
}

// Licences says which licence an endpoint waits for, empty for none.
type Licences interface {
	Missing(app *partner.App, k partner.EndpointKind) partner.License
}

// Probes says when an integration endpoint is probed next, zero when nothing does so.
type Probes interface {
	NextProbe(ctx context.Context, app *partner.App, k partner.EndpointKind, now time.Time) (time.Time, error)
}

// MailboxStatus is how an app's notifications stand.
type MailboxStatus struct {
	Backlog incident.Backlog
	// CircuitOpen is true from the endpoint's first fault to its next success, CooldownUntil when it is tried
	// next.
	CircuitOpen   bool
	CooldownUntil time.Time
}

// Options of a Tracker.
type Options struct {
	Apps    Apps
	Store   Store
	Queue   Queue
	Mailbox Mailbox
	// Probes may be nil: then nothing is probed.
	Probes Probes
	// Licences may be nil: then no endpoint needs one.
	Licences Licences
	// CommonCause tells the newest common cause of failures on the connection; nil for none ever.
	CommonCause func() incident.CommonCause
	// Environment is the one that this deployment serves.
	Environment partner.Environment
	Settings    incident.Settings
	Metrics     *Metrics
	Log         *slog.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

const (
	// quietAfter is how long a failing endpoint can go without a failure, unless its gate keeps
	// everybody off: twice what the longest cool-down takes. After that its success went unheard,
	// such as in a process that died.
	quietAfter = 2 * time.Minute
	// wakeEvery is how often the mailer may be woken for one mail: the task before may have been
	// lost, or still wait in its queue.
	wakeEvery = time.Minute
)

// ErrNoIncident reports an incident that is not open.
var ErrNoIncident = errors.New("no such open incident")

// Tracker is safe for concurrent use, also by several processes.
type Tracker struct{ opts Options }

// New returns a Tracker.
func New(opts Options) *Tracker {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.CommonCause == nil {
		opts.CommonCause = func() incident.CommonCause { return incident.CommonCause{} }
	}
	return &Tracker{opts: opts}
}

// Observe takes what was observed about an endpoint, in its order, and writes what follows. When
// nothing follows, as from a success of an endpoint that is well, it reads once and writes
// nothing. An app that is unknown is passed over.
func (t *Tracker) Observe(ctx context.Context, id partner.ClientID, k partner.EndpointKind, events ...incident.Event) error {
	app, ok, err := t.opts.Apps.App(ctx, id)
	if err != nil {
		return fmt.Errorf("observe %s %s: %w", id, k, err)
	}
	if !ok || len(events) == 0 {
		return nil
	}
	_, err = t.applyEvents(ctx, &app, k, events)
	return err
}

// TickApp lets time pass for an app: engines' reports are taken into account, incidents open, remind
// and recover. It MUST be called every few seconds for every app, by one process at a time
// for economy, by several without harm. seen is what was read of the app a moment ago: where it says
// that nothing is there, nothing is read. It returns what is remembered of the app's endpoints.
func (t *Tracker) TickApp(ctx context.Context, id partner.ClientID, seen registry.OpenIncidents) (map[partner.EndpointKind]incident.State, error) {
	app, ok, err := t.opts.Apps.App(ctx, id)
	if err != nil || !ok {
		return nil, wrapError(err, "tick", id)
	}
	errs := []error{t.RequestConfirmations(ctx, &app)}
	states, err := seen.Incidents, seen.Unreadable
	if seen.Reports {
		errs = append(errs, t.applyReports(ctx, &app))
		states, err = t.opts.Store.Incidents(ctx, id)
	}
	if err != nil {
		return nil, errors.Join(append(errs, wrapError(err, "tick", id))...)
	}
	after := make(map[partner.EndpointKind]incident.State, partner.EndpointKinds)
	for _, k := range partner.AllEndpointKinds() {
		s, err := t.tickEndpoint(ctx, &app, k, states[k])
		after[k], errs = s, append(errs, err)
	}
	return after, errors.Join(errs...)
}

func wrapError(err error, what string, id partner.ClientID) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}

func (t *Tracker) tickEndpoint(ctx context.Context, app *partner.App, k partner.EndpointKind, s incident.State) (incident.State, error) {
	var events []incident.Event
	if k == partner.StateChange {
		unheard, err := t.unreportedEvents(ctx, app.ClientID, &s)
		if err != nil {
			return s, wrapError(err, "look into the mailbox of", app.ClientID)
		}
		events = unheard
	}
	events = t.relevantEvents(app, k, append(events, incident.Tick{}))
	m, next := t.newMachine(app, k), s
	for _, e := range events {
		next = m.Next(next, e, t.opts.Now()).State
	}
	if next.Encode() == s.Encode() {
		return s, nil
	}
	step, err := t.applyEvents(ctx, app, k, events)
	if err != nil {
		return s, err
	}
	return step.State, nil
}

// unreportedEvents finds what went well without anybody saying so: an endpoint whose gate is open although
// it counts as failing, and refused tenants for which nothing waits any more. Their notification
// was replaced by newer truth, which the endpoint took as if it were the first it heard of them.
func (t *Tracker) unreportedEvents(ctx context.Context, app partner.ClientID, s *incident.State) ([]incident.Event, error) {
	var events []incident.Event
	if t.isStaleFailure(s) {
		standing, err := t.opts.Mailbox.AppStatus(ctx, app)
		if err != nil {
			return nil, err
		}
		if !standing.CircuitOpen {
			events = append(events, incident.Success{})
		}
	}
	if len(s.Rejected) == 0 {
		return events, nil
	}
	refused := slices.Sorted(maps.Keys(s.Rejected))
	waits, err := t.opts.Mailbox.HasPending(ctx, app, refused)
	if err != nil {
		return nil, err
	}
	var settled []tenant.ID
	for i, id := range refused {
		if !waits[i] {
			settled = append(settled, id)
		}
	}
	if len(settled) > 0 {
		events = append(events, incident.DeliveriesWithdrawn{Tenants: settled})
	}
	return events, nil
}

// isStaleFailure reports whether an endpoint counts as failing although nothing was heard of it for a while.
func (t *Tracker) isStaleFailure(s *incident.State) bool {
	if s.FailingSince.IsZero() || !s.OffSince.IsZero() {
		return false
	}
	last := s.FailingSince
	if s.Last != nil && s.Last.At.After(last) {
		last = s.Last.At
	}
	return t.opts.Now().Sub(last) > quietAfter
}

// WakeMail wakes the mailer for a mail that waits in an app's outbox, at most once in wakeEvery. Whoever finds one that is due
// MUST call it, every few seconds.
func (t *Tracker) WakeMail(ctx context.Context, id partner.ClientID, mailID string) error {
	return wrapError(t.opts.Queue.EnqueueForwardMail(ctx, id, mailID, t.wakeGeneration()), "wake the mailer for", id)
}

func (t *Tracker) wakeGeneration() int64 { return t.opts.Now().UnixMilli() / wakeEvery.Milliseconds() }

// CloseIncident ends an incident on a person's word, and tells those who were told of it. ErrNoIncident when
// it is not open.
func (t *Tracker) CloseIncident(ctx context.Context, incidentID, by string) error {
	id, k, _, err := incident.ParseID(incidentID)
	if err != nil {
		return fmt.Errorf("close %w: %w", ErrNoIncident, err)
	}
	app, ok, err := t.opts.Apps.App(ctx, id)
	if err != nil {
		return wrapError(err, "close an incident of", id)
	}
	if !ok {
		app.ClientID = id // nobody is left to be told
	}
	found := false
	_, err = t.decideAndCommit(ctx, &app, k, func(decide decideFunc, leave skipFunc) (registry.IncidentStep, error) {
		return t.opts.Store.Transition(ctx, id, k, func(s incident.State) registry.IncidentStep {
			if found = s.ID == incidentID; !found {
				return leave(registry.IncidentStep{State: s})
			}
			return decide(s, []incident.Event{incident.Closed{By: by}})
		})
	})
	if err != nil {
		return fmt.Errorf("close incident %s: %w", incidentID, err)
	}
	if !found {
		return fmt.Errorf("close %s: %w", incidentID, ErrNoIncident)
	}
	t.opts.Log.InfoContext(ctx, "incident closed", "app", string(id), "endpoint", k.String(), "incident", incidentID, "by", by)
	return nil
}
