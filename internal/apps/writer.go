package apps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/ratelimit"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	// attempts bounds how often a write starts over because of other writes of the app.
	attempts = 20
	// EffectsWithin bounds each step after a write is durable.
	EffectsWithin = 10 * time.Second
)

// Store keeps apps; each write is durable and audited on return.
type Store interface {
	// App returns registry.ErrNotFound when there is none.
	App(ctx context.Context, id partner.ClientID) (registry.AppRecord, error)
	// PutApp returns registry.ErrConflict when the revision is not the expected one.
	PutApp(ctx context.Context, app partner.App, expect int64, secrets *registry.WebhookSecrets, actor registry.Actor, action string, notes ...registry.AuditNote) (rec registry.AppRecord, created bool, err error)
	DeleteApp(ctx context.Context, id partner.ClientID, expect int64, actor registry.Actor) (revision int64, err error)
	Secrets(ctx context.Context, id partner.ClientID) (registry.WebhookSecrets, error)
}

// Effects is called after a write is durable. The write stands even if the call fails; the loops MUST repair what the
// call did not do. *Propagator is one.
type Effects interface {
	// AppWritten gets the app as it was, nil when it is new.
	AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord) error
	// AppResumed follows AppWritten when a caller resumed the app, whether it was paused or not.
	AppResumed(ctx context.Context, rec registry.AppRecord) error
	// AppDeleted returns the job that clears away after the app.
	AppDeleted(ctx context.Context, id partner.ClientID, revision int64, actor registry.Actor) (job string, err error)
	// EndpointGone gets the answer for which an endpoint was switched off. It comes before AppWritten, whose mail states
	// the reason.
	EndpointGone(ctx context.Context, app partner.ClientID, k partner.EndpointKind, answer delivery.Result) error
}

// Options of a Writer.
type Options struct {
	Store Store
	// Effects may be nil.
	Effects Effects
	// Addresses checks the addresses of endpoints, Prober tries integration endpoints before they are switched on; nil
	// checks nothing.
	Addresses AddressChecker
	Prober    Prober
	// Licences says which licence an endpoint needs; nil needs none.
	Licences    partner.Requirements
	Environment partner.Environment
	// NewAddresses is how many new addresses a day a partner may set for an app; 0 is partner.NewAddressesADay.
	NewAddresses int
	Now          func() time.Time
	// Random makes webhook secrets.
	Random io.Reader
	Log    *slog.Logger
}

// Writer writes apps. It is safe for concurrent use.
type Writer struct {
	opts Options
	// tests bounds the probes of an endpoint, names the host names that are looked up for an app's partner.
	tests, names *ratelimit.Limiter
	// proven are endpoints that answered a probe lately, by app, kind and URL.
	proven *ratelimit.Set
}

// New returns a Writer.
func New(o Options) *Writer {
	if o.NewAddresses <= 0 {
		o.NewAddresses = partner.NewAddressesADay
	}
	return &Writer{
		opts: o, tests: ratelimit.New(TestInterval, TestBurst), names: ratelimit.New(NamesInterval, NamesBurst),
		proven: ratelimit.NewSet(provenFor, provenMost),
	}
}

// NewAddresses is how many new addresses a day a partner may set for an app.
func (w *Writer) NewAddresses() int { return w.opts.NewAddresses }

// Caller is who asks for a write.
type Caller struct {
	Actor registry.Actor
	// Partner is set for the partner of an app. Factor multiplies its budgets.
	Partner bool
	Factor  int
}

// Precondition checks the stored app, nil when there is none, before a write. Its error ends the write.
type Precondition func(stored *registry.AppRecord) error

// Write is a write of an app's settings.
type Write struct {
	App    partner.ClientID
	Caller Caller
	// Action is the audit's word for it.
	Action string
	// Force writes even if a probe fails.
	Force bool
	// Precondition may be nil. A write with one does not start over after a conflict: the error is then
	// registry.ErrConflict.
	Precondition Precondition
	// Change makes the app to write from the stored one, which is nil when there is none.
	Change func(stored *registry.AppRecord) (partner.App, error)
}

// Result is what a write came to.
type Result struct {
	Record   registry.AppRecord
	Created  bool
	Warnings []partner.FieldError
	// Secret is the webhook secret that the write made, empty when it made none.
	Secret string
}

// ErrBusy is returned when other callers keep changing the app. Nothing was written.
var ErrBusy = errors.New("other callers keep changing the app")

// update reads an app, checks the precondition and calls write, until there is no conflict with another write. The
// stored app is nil when there is none.
func (w *Writer) update(ctx context.Context, id partner.ClientID, pre Precondition, write func(stored *registry.AppRecord) error) error {
	for range attempts {
		stored, err := w.readApp(ctx, id)
		if err == nil && pre != nil {
			err = pre(stored)
		}
		if err == nil {
			err = write(stored)
		}
		if pre != nil || !errors.Is(err, registry.ErrConflict) {
			return err
		}
	}
	return ErrBusy
}

func (w *Writer) readApp(ctx context.Context, id partner.ClientID) (*registry.AppRecord, error) {
	rec, err := w.opts.Store.App(ctx, id)
	switch {
	case err == nil:
		return &rec, nil
	case errors.Is(err, registry.ErrNotFound):
		return nil, nil //nolint:nilnil // no app is an answer here, and the caller's to judge
	default:
		return nil, err
	}
}

// Write writes an app. Its errors are a partner.ValidationError, *AddressError, *LicenceError, *ProbeError, *BudgetError,
// ErrBusy, what Precondition and Change return, and those of the Store.
func (w *Writer) Write(ctx context.Context, req Write) (r Result, err error) {
	check := &writeCheck{writer: w, write: &req, probed: map[string]health.TestResult{}, hosts: map[string]resolvedHost{}}
	err = w.update(ctx, req.App, req.Precondition, func(stored *registry.AppRecord) (err error) {
		r, err = w.tryWrite(ctx, &req, stored, check)
		return err
	})
	return r, err
}

func (w *Writer) tryWrite(ctx context.Context, req *Write, old *registry.AppRecord, check *writeCheck) (r Result, err error) {
	app, err := req.Change(old)
	if err != nil {
		return Result{}, err
	}
	if r.Warnings, err = w.checkWrite(ctx, old, app, check); err != nil {
		return Result{}, err
	}
	expect := registry.NoRevision
	var secrets *registry.WebhookSecrets
	before := appOf(old)
	if old == nil {
		if r.Secret, err = w.newWebhookSecret(); err != nil {
			return Result{}, err
		}
		secrets = &registry.WebhookSecrets{Current: secret.New(r.Secret)}
	} else {
		expect = old.Revision
	}
	for i := range app.Endpoints {
		app.Endpoints[i].SwitchedBy = req.Caller.Actor.Name
	}
	app = partner.NormalizeApp(app, before, w.opts.Now().UTC())
	if req.Caller.Partner {
		if app, r.Warnings, err = w.requestConfirmations(app, before, r.Warnings); err != nil {
			return Result{}, err
		}
	}
	notes := buildSwitchNotes(before, &app, check.probeNote)
	if r.Record, r.Created, err = w.opts.Store.PutApp(ctx, app, expect, secrets, req.Caller.Actor, req.Action, notes...); err != nil {
		return Result{}, err
	}
	w.reportWritten(ctx, req.Caller.Actor, old, r.Record)
	return r, nil
}

func appOf(rec *registry.AppRecord) *partner.App {
	if rec == nil {
		return nil
	}
	return &rec.App
}

// checkWrite checks a write before it is made: the rules, the addresses, and the switches that it turns on.
func (w *Writer) checkWrite(ctx context.Context, old *registry.AppRecord, app partner.App, check *writeCheck) (warnings []partner.FieldError, err error) {
	if err := partner.ValidateApp(&app); err != nil {
		return nil, err
	}
	if err := partner.CheckNewAddresses(&app, appOf(old), guard.IsConfusing); err != nil {
		return nil, err
	}
	if warnings, err = check.checkAddresses(ctx, old, &app); err != nil {
		return nil, err
	}
	if err := check.checkSwitches(old, &app); err != nil {
		return nil, err
	}
	return warnings, check.probeEndpoints(ctx, old, &app)
}

// requestConfirmations marks the new addresses of a partner's write for confirmation, within the app's budget.
func (w *Writer) requestConfirmations(app partner.App, before *partner.App, warnings []partner.FieldError) (partner.App, []partner.FieldError, error) {
	now := w.opts.Now().UTC()
	app, unasked, err := partner.MarkNewUnconfirmed(app, before, now, w.opts.NewAddresses*app.EffectiveBudgetFactor())
	if beyond, ok := errors.AsType[*partner.NewAddressesError](err); ok {
		wait := 24 * time.Hour
		if !beyond.Until.IsZero() {
			wait = beyond.Until.Sub(now)
		}
		return app, nil, &BudgetError{Budget: NewAddresses, Wait: wait, Err: beyond}
	}
	return app, append(warnings, unasked...), err
}

// SetPaused pauses or resumes an app. A repeat is no fault and has its effect again: resuming closes the circuit.
// req.Change is not used.
func (w *Writer) SetPaused(ctx context.Context, req Write, paused bool) (Result, error) {
	req.Change = func(stored *registry.AppRecord) (partner.App, error) {
		if stored == nil {
			return partner.App{}, noApp(req.App)
		}
		app := stored.App
		app.Paused = paused
		return app, nil
	}
	r, err := w.Write(ctx, req)
	if err == nil && !paused {
		w.followUp(ctx, req.Caller.Actor, req.App, func(ctx context.Context, e Effects) error { return e.AppResumed(ctx, r.Record) })
	}
	return r, err
}

// Delete deletes an app and returns the job that clears away after it, empty when it could not be started: the job
// finder then starts it.
func (w *Writer) Delete(ctx context.Context, id partner.ClientID, actor registry.Actor, pre Precondition) (job string, err error) {
	expect := registry.AnyRevision
	if pre != nil {
		stored, err := w.readApp(ctx, id)
		switch {
		case err != nil:
			return "", err
		case stored == nil:
			return "", noApp(id)
		}
		if err := pre(stored); err != nil {
			return "", err
		}
		expect = stored.Revision
	}
	revision, err := w.opts.Store.DeleteApp(ctx, id, expect, actor)
	if err != nil {
		return "", err
	}
	w.followUp(ctx, actor, id, func(ctx context.Context, e Effects) (err error) {
		job, err = e.AppDeleted(ctx, id, revision, actor)
		return err
	})
	return job, nil
}

func noApp(id partner.ClientID) error { return fmt.Errorf("app %s: %w", id, registry.ErrNotFound) }

func (w *Writer) reportWritten(ctx context.Context, actor registry.Actor, old *registry.AppRecord, rec registry.AppRecord) {
	w.followUp(ctx, actor, rec.App.ClientID, func(ctx context.Context, e Effects) error { return e.AppWritten(ctx, old, rec) })
}

// followUp does a step after a write. It continues when the caller disconnects.
func (w *Writer) followUp(ctx context.Context, actor registry.Actor, app partner.ClientID, step func(context.Context, Effects) error) {
	if w.opts.Effects == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EffectsWithin)
	defer cancel()
	if err := step(ctx, w.opts.Effects); err != nil {
		w.opts.Log.LogAttrs(ctx, slog.LevelError, "app written, but a step after the write failed; the service repairs it",
			slog.String("request_id", actor.RequestID), slog.String("app", string(app)), slog.Any("err", err))
	}
}
