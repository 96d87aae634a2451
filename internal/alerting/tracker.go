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
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Apps is the directory of apps; *registry.Directory is one.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Store keeps incidents and the outbox; *registry.IncidentStore is one.
type Store interface {
	ReadIncident(ctx context.Context, app partner.ClientID, k partner.EndpointKind) (registry.StoredIncident, error)
	// ReadReportedIncident reads what engines reported, too. CommitIfUnchanged then marks it as taken.
	ReadReportedIncident(ctx context.Context, app partner.ClientID, k partner.EndpointKind) (registry.StoredIncident, error)
	// CommitIfUnchanged writes a decision if the incident is still the one that was read; it returns false if it is not.
	CommitIfUnchanged(ctx context.Context, app partner.ClientID, k partner.EndpointKind, was registry.StoredIncident, d incident.Decision) (bool, error)
	Incidents(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error)
	// ReportedEndpoints lists endpoints about which engines reported something that a commit takes or
	// forgets.
	ReportedEndpoints(ctx context.Context, app partner.ClientID) ([]partner.EndpointKind, error)
	MailsSuppressed(ctx context.Context, subs []registry.Subscription) ([]bool, error)
}

// Queue wakes the mailer for one mail. A wake-up with the same generation may be dropped.
type Queue interface {
	EnqueueForwardMail(ctx context.Context, app partner.ClientID, mailID string, generation int64) error
}

// Mailboxes reads what is pending for apps; *mailbox.Store is one.
type Mailboxes interface {
	View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
	// ReadPairs reads up to mailbox.MaxBatch pairs, each at its tenant's index.
	ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error)
}

// Licences says which licence an endpoint needs and the app was not granted, empty for none.
type Licences interface {
	Missing(app *partner.App, k partner.EndpointKind) partner.License
}

// Probes says when an integration endpoint is probed next, zero when nothing probes it.
type Probes interface {
	NextProbe(ctx context.Context, app *partner.App, k partner.EndpointKind, now time.Time) (time.Time, error)
}

// Options of a Tracker.
type Options struct {
	Apps      Apps
	Store     Store
	Queue     Queue
	Mailboxes Mailboxes
	// Probes may be nil: then nothing is probed.
	Probes Probes
	// Licences may be nil: then no endpoint needs one.
	Licences Licences
	// CommonCause returns the newest common cause of connection failures; nil stands for none.
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
	// quietAfter is how long a failing endpoint can go without a failure while its circuit is closed: twice
	// the longest cool-down by default. After that it counts as recovered: its success was not recorded, for instance
	// because a process died.
	quietAfter = 2 * time.Minute
	// wakeEvery is how often the mailer may be woken for one mail: the earlier task may be lost, or may
	// still be in its queue.
	wakeEvery = time.Minute
)

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

// Observe applies events about an endpoint, in their order, and writes the result. When nothing changes, as
// for a success of a healthy endpoint, it reads once and writes nothing. It ignores an unknown app. After an
// error the events may be lost; the caller need not repeat them, see the package's documentation.
func (t *Tracker) Observe(ctx context.Context, id partner.ClientID, k partner.EndpointKind, events ...incident.Event) error {
	app, ok, err := t.readApp(ctx, id)
	if err != nil {
		return fmt.Errorf("observe %s %s: %w", id, k, err)
	}
	if !ok || len(events) == 0 {
		return nil
	}
	_, err = t.applyEvents(ctx, &app, k, events)
	return err
}

// applyEvents decides about events, whatever the stored state is, and writes the result.
func (t *Tracker) applyEvents(ctx context.Context, app *partner.App, k partner.EndpointKind, events []incident.Event) (incident.State, error) {
	return t.decideAndCommit(ctx, app, k, t.opts.Store.ReadIncident, func(registry.StoredIncident) ([]incident.Event, error) { return events, nil })
}

// readApp finds an app's settings; ok is false for an unknown app. Only an app that is not known is looked for again:
// stale settings do no harm.
func (t *Tracker) readApp(ctx context.Context, id partner.ClientID) (app partner.App, ok bool, err error) {
	if e, ok, _ := t.opts.Apps.Lookup(id); ok {
		return e.Rec.App, true, nil
	}
	if err := t.opts.Apps.Refresh(ctx); err != nil {
		return partner.App{}, false, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := t.opts.Apps.Lookup(id)
	if !ok {
		return partner.App{}, false, unreadable
	}
	return e.Rec.App, true, nil
}

// TickApp lets time pass for an app: it applies engines' reports, and incidents open, remind and recover. It
// MUST be called every few seconds for every app with a state, reports or unconfirmed addresses. One process
// at a time is enough; several do no harm. seen is what was read of the app just before; what it lacks is not
// read again. TickApp returns the states of the app's endpoints.
func (t *Tracker) TickApp(ctx context.Context, id partner.ClientID, seen registry.OpenIncidents) (map[partner.EndpointKind]incident.State, error) {
	app, ok, err := t.readApp(ctx, id)
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
			return s, wrapError(err, "read the mailbox of", app.ClientID)
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
	stored, err := t.applyEvents(ctx, app, k, events)
	if err != nil {
		return s, err
	}
	return stored, nil
}

// unreportedEvents infers events that were not observed. A failing endpoint whose circuit is closed has
// recovered. A refused tenant for which nothing is pending any more is resolved: a newer change replaced its
// refused notification and was delivered.
func (t *Tracker) unreportedEvents(ctx context.Context, app partner.ClientID, s *incident.State) ([]incident.Event, error) {
	var events []incident.Event
	if t.isStaleFailure(s) {
		v, err := t.opts.Mailboxes.View(ctx, app)
		if err != nil {
			return nil, err
		}
		if v.CooldownUntil.IsZero() { // the circuit is closed
			events = append(events, incident.Success{})
		}
	}
	if len(s.Rejected) == 0 {
		return events, nil
	}
	refused := slices.Sorted(maps.Keys(s.Rejected))
	var settled []tenant.ID
	for chunk := range slices.Chunk(refused, mailbox.MaxBatch) {
		pairs, err := t.opts.Mailboxes.ReadPairs(ctx, app, chunk)
		if err != nil {
			return nil, err
		}
		for i, p := range pairs {
			if !p.HasPending() {
				settled = append(settled, chunk[i])
			}
		}
	}
	if len(settled) > 0 {
		events = append(events, incident.DeliveriesWithdrawn{Tenants: settled})
	}
	return events, nil
}

// isStaleFailure reports whether an endpoint counts as failing, although no failure was recorded for quietAfter.
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

// WakeMail wakes the mailer for a mail in an app's outbox, at most once in wakeEvery. It MUST be called every few
// seconds for each mail that is due there.
func (t *Tracker) WakeMail(ctx context.Context, id partner.ClientID, mailID string) error {
	return wrapError(t.opts.Queue.EnqueueForwardMail(ctx, id, mailID, t.wakeGeneration()), "wake the mailer for", id)
}

func (t *Tracker) wakeGeneration() int64 { return t.opts.Now().UnixMilli() / wakeEvery.Milliseconds() }

// CloseIncident ends an incident for a person, whose token's name is by. Recipients of mails about the incident
// get a mail. Errors: registry.ErrNotFound when it is not open.
func (t *Tracker) CloseIncident(ctx context.Context, incidentID, by string) error {
	id, k, _, err := incident.ParseID(incidentID)
	if err != nil {
		return fmt.Errorf("close incident %s: %w: %w", incidentID, registry.ErrNotFound, err)
	}
	app, ok, err := t.readApp(ctx, id)
	if err != nil {
		return wrapError(err, "close an incident of", id)
	}
	if !ok {
		app.ClientID = id // an app that is gone has no recipients
	}
	_, err = t.decideAndCommit(ctx, &app, k, t.opts.Store.ReadIncident, func(was registry.StoredIncident) ([]incident.Event, error) {
		if was.State.ID != incidentID {
			return nil, fmt.Errorf("it is not open: %w", registry.ErrNotFound)
		}
		return []incident.Event{incident.Closed{By: by}}, nil
	})
	if err != nil {
		return fmt.Errorf("close incident %s: %w", incidentID, err)
	}
	t.opts.Log.InfoContext(ctx, "incident closed", "app", string(id), "endpoint", k.String(), "incident", incidentID, "by", by)
	return nil
}
