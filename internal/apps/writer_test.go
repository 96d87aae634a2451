package apps_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

func TestAWriteStartsOverAfterAConflict(t *testing.T) {
	t.Parallel()
	errStale := errors.New("stale")
	is := func(revision int64) apps.Precondition {
		return func(stored *registry.AppRecord) error {
			if stored == nil || stored.Revision != revision {
				return errStale
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		overtakenBy int
		pre         apps.Precondition
		want        error
	}{
		"nobody else writes":          {},
		"others write a few times":    {overtakenBy: 5},
		"others write all the time":   {overtakenBy: 1000, want: apps.ErrBusy},
		"the named revision":          {pre: is(10)},
		"not the named revision":      {pre: is(11), want: errStale},
		"overtaken with a condition":  {pre: is(10), overtakenBy: 1, want: registry.ErrConflict},
		"never more than it may read": {overtakenBy: 19},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApp()
			r := newRig(t, &app)
			r.overtakenBy = tt.overtakenBy
			w := rename("New name")
			w.Precondition = tt.pre
			got, err := r.Write(t.Context(), w)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			wrote := r.stored.App.Name == "New name"
			if wrote != (tt.want == nil) || wrote != slices.Contains(r.effects, "changed") || wrote && got.Record.App.Name != "New name" {
				t.Errorf("written %t, effects %v, result %+v", wrote, r.effects, got)
			}
		})
	}
}

func TestANewAppGetsASecret(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := rename("App")
	w.Change = func(stored *registry.AppRecord) (partner.App, error) {
		if stored != nil {
			t.Error("there is an app")
		}
		return newApp(), nil
	}
	got, err := r.Write(t.Context(), w)
	if err != nil || !got.Created || !strings.HasPrefix(got.Secret, "whsec_") || r.secrets.Current.Reveal() != got.Secret || !slices.Equal(r.effects, []string{"made"}) {
		t.Errorf("%+v, %v, effects %v", got, err, r.effects)
	}
	if again, err := r.Write(t.Context(), rename("Other")); err != nil || again.Created || again.Secret != "" {
		t.Errorf("a later write: %+v, %v", again, err)
	}
}

// TestAWriteStandsWithoutItsEffects: what follows a write cannot undo it, goes on when the caller has gone, and is
// logged when it fails.
func TestAWriteStandsWithoutItsEffects(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	r.fail = errors.New("the mailbox is away")
	ctx, cancel := context.WithCancel(t.Context())
	w := rename("New name")
	change := w.Change
	w.Change = func(stored *registry.AppRecord) (partner.App, error) {
		defer cancel()
		return change(stored)
	}
	w.Caller.Actor.RequestID = "req1"
	if _, err := r.Write(ctx, w); err != nil || r.stored.App.Name != "New name" {
		t.Errorf("%v, stored %q", err, r.stored.App.Name)
	}
	if log := r.log.String(); !strings.Contains(log, "the mailbox is away") || !strings.Contains(log, "req1") || strings.Contains(log, "canceled") {
		t.Errorf("log: %s", log)
	}
	if job, err := r.Delete(t.Context(), "app1", registry.Actor{}, nil); err != nil || job != "job1" || r.stored != nil {
		t.Errorf("deletion: job %q, %v", job, err)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	for _, paused := range []bool{true, false, false} { // a repeat has its effect again
		if got, err := r.SetPaused(t.Context(), rename(""), paused); err != nil || got.Record.App.Paused != paused {
			t.Fatalf("paused %t: %+v, %v", paused, got, err)
		}
	}
	if want := []string{"changed", "changed", "resumed", "changed", "resumed"}; !slices.Equal(r.effects, want) {
		t.Errorf("effects %v, want %v", r.effects, want)
	}
	if _, err := newRig(t, nil).SetPaused(t.Context(), rename(""), true); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no app: %v", err)
	}
}

func TestDeletionUnderACondition(t *testing.T) {
	t.Parallel()
	errStale := errors.New("stale")
	app := newApp()
	r := newRig(t, &app)
	if _, err := r.Delete(t.Context(), "app1", registry.Actor{}, func(*registry.AppRecord) error { return errStale }); !errors.Is(err, errStale) || r.stored == nil {
		t.Errorf("condition not met: %v", err)
	}
	r.overtakenBy = 1
	if _, err := r.Delete(t.Context(), "app1", registry.Actor{}, func(*registry.AppRecord) error { return nil }); !errors.Is(err, registry.ErrConflict) || r.stored == nil {
		t.Errorf("overtaken: %v", err)
	}
	if _, err := newRig(t, nil).Delete(t.Context(), "app1", registry.Actor{}, func(*registry.AppRecord) error { return errStale }); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no app: %v", err)
	}
}

func TestSwitches(t *testing.T) {
	t.Parallel()
	failing := health.TestResult{State: health.StatusFailing, Cause: told.FindCause("refused")}
	for name, tt := range map[string]struct {
		kind   partner.EndpointKind
		change func(*partner.App)
		probe  health.TestResult
		force  bool
		check  func(error) bool
		probes int
	}{
		"healthy":                  {kind: partner.ERPSync, probe: health.TestResult{State: health.StatusHealthy, Cause: told.FindCause("none")}, probes: 1},
		"cannot be tried":          {kind: partner.ERPSync, probe: health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("no_tenant")}, probes: 1},
		"failing":                  {kind: partner.ERPSync, probe: failing, probes: 1, check: isA[*apps.ProbeError]},
		"failing and forced":       {kind: partner.ERPSync, probe: failing, force: true, probes: 1},
		"without a URL":            {kind: partner.ERPSync, change: func(a *partner.App) { a.Endpoints[partner.ERPSync].URL = "" }, check: isA[partner.ValidationError]},
		"notifications need none":  {kind: partner.StateChange, probe: failing},
		"an unknown host, warning": {kind: partner.StateChange, change: func(a *partner.App) { a.Endpoints[partner.StateChange].URL = "https://unknown.example/" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApp()
			if tt.change != nil {
				tt.change(&app)
			}
			r := newRig(t, &app)
			r.probe = tt.probe
			r.overtakenBy = 2 // what was probed once is not probed again
			w := switchOn(tt.kind)
			w.Force = tt.force
			_, err := r.Write(t.Context(), w)
			if tt.check == nil && err != nil || tt.check != nil && !tt.check(err) {
				t.Errorf("error %v", err)
			}
			if r.probes != tt.probes {
				t.Errorf("%d probes, want %d", r.probes, tt.probes)
			}
			if on := r.stored.App.Endpoints[tt.kind].Enabled; on != (tt.check == nil) || on != (len(r.notes) == 1 && r.notes[0].Action == apps.ActionSwitchedOn) {
				t.Errorf("on %t, notes %+v", on, r.notes)
			}
			if tt.force && !strings.Contains(r.notes[0].After, `"forced":true`) {
				t.Errorf("note %s", r.notes[0].After)
			}
		})
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestBudgets: tests of an endpoint are limited, whatever they come from. What answered a moment ago counts as healthy.
func TestBudgets(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	off := switchOn(partner.ERPSync)
	off.Change = func(stored *registry.AppRecord) (partner.App, error) {
		app := stored.App
		app.Endpoints[partner.ERPSync].Enabled = false
		return app, nil
	}
	toggle := func() error {
		_, err := r.Write(t.Context(), switchOn(partner.ERPSync))
		if err == nil {
			_, err = r.Write(t.Context(), off)
		}
		return err
	}
	for range apps.TestBurst + 3 {
		if err := toggle(); err != nil {
			t.Fatal(err)
		}
	}
	if r.probes != apps.TestBurst {
		t.Errorf("%d probes, want %d", r.probes, apps.TestBurst)
	}
	if budget, ok := errors.AsType[*apps.BudgetError](r.CountTest(&app, partner.ERPSync)); !ok || budget.Budget != apps.EndpointTests || budget.Wait <= 0 {
		t.Errorf("a test besides: %v", budget)
	}
	if err := r.CountTest(&app, partner.QuoteConnector); err != nil {
		t.Errorf("another endpoint: %v", err)
	}
	r.now = r.now.Add(5 * time.Second)
	other := switchOn(partner.ERPSync)
	change := other.Change
	other.Change = func(stored *registry.AppRecord) (partner.App, error) {
		app, err := change(stored)
		app.Endpoints[partner.ERPSync].URL = "https://partner.example/another" // nothing is known of it
		return app, err
	}
	if _, err := r.Write(t.Context(), other); !isA[*apps.BudgetError](err) {
		t.Errorf("another URL: %v", err)
	}
}

func TestAPartnersLookUpsAreLimited(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	move := func(host string, caller apps.Caller) error {
		w := switchOn(partner.StateChange)
		w.Caller = caller
		w.Change = func(stored *registry.AppRecord) (partner.App, error) {
			app := stored.App
			app.Endpoints[partner.StateChange].URL = "https://" + host + "/"
			return app, nil
		}
		_, err := r.Write(t.Context(), w)
		return err
	}
	of := apps.Caller{Partner: true, Factor: 1}
	for range apps.NamesBurst {
		if err := move("a.example", of); err != nil {
			t.Fatal(err)
		}
		if err := move("192.0.2.1", of); err != nil { // no name
			t.Fatal(err)
		}
	}
	if budget, ok := errors.AsType[*apps.BudgetError](move("b.example", of)); !ok || budget.Budget != apps.HostNames {
		t.Errorf("one more: %v", budget)
	}
	if err := move("b.example", apps.Caller{Factor: 1}); err != nil {
		t.Errorf("an operator: %v", err)
	}
	r.now = r.now.Add(time.Minute)
	addresses, ok := errors.AsType[*apps.AddressError](move("unknown.example", apps.Caller{Partner: true, Factor: 100}))
	if !ok || len(addresses.Faults) != 1 || addresses.Faults[0].Pointer != "/endpoints/state_change/url" {
		t.Errorf("a partner's unknown name: %v", addresses)
	}
}

func TestSwitchOffUnlessChanged(t *testing.T) {
	t.Parallel()
	app := newApp()
	app.Endpoints[partner.StateChange].Enabled = true
	app = partner.NormalizeApp(app, nil, time.Unix(1_600_000_000, 0))
	unchanged := func(rec registry.AppRecord) bool {
		return rec.App.Endpoints[partner.StateChange].URL == app.Endpoints[partner.StateChange].URL
	}
	off := func(r *rig, reason partner.OffReason) (int64, error) {
		return r.SwitchOffUnlessChanged(t.Context(), "app1", partner.StateChange, unchanged, reason, delivery.Result{})
	}
	r := newRig(t, &app)
	r.overtakenBy = 3 // other settings were written
	revision, err := off(r, partner.OffGone)
	if e := r.stored.App.Endpoints[partner.StateChange]; err != nil || revision != r.stored.Revision || e.Enabled || e.OffReason != partner.OffGone || e.SwitchedBy != "lamplighter" {
		t.Errorf("%d, %v: %+v", revision, err, e)
	}
	if want := []string{"gone", "changed"}; !slices.Equal(r.effects, want) {
		t.Errorf("effects %v, want %v", r.effects, want)
	}
	if len(r.notes) != 1 || r.notes[0].Action != apps.ActionSwitchedOff || r.notes[0].After != `{"endpoint":"state_change","enabled":false,"off_reason":"gone"}` {
		t.Errorf("notes %+v", r.notes)
	}

	r = newRig(t, &app)
	r.fail = registry.ErrConflict // of an effect: the write is done, and not repeated
	if revision, err := off(r, partner.OffFailing); !errors.Is(err, registry.ErrConflict) || revision != 20 || len(r.effects) != 1 {
		t.Errorf("failed effects: %d, %v, effects %v", revision, err, r.effects)
	}

	moved := app
	moved.Endpoints[partner.StateChange].URL = "https://partner.example/new"
	r = newRig(t, &moved)
	if _, err := off(r, partner.OffFailing); err == nil || !r.stored.App.Endpoints[partner.StateChange].Enabled || len(r.effects) != 0 {
		t.Errorf("it was changed: %v, effects %v", err, r.effects)
	}
	if _, err := off(newRig(t, nil), partner.OffFailing); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no app: %v", err)
	}
}

func TestChangeApp(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	r.overtakenBy = 2
	calls := 0
	change := func(write bool) error {
		return r.ChangeApp(t.Context(), "app1", registry.Actor{}, "app.bounce_address", func(app partner.App) (partner.App, bool) {
			calls++
			app.Name = "Marked"
			return app, write
		})
	}
	if err := change(false); err != nil || r.stored.App.Name != "App" {
		t.Errorf("nothing to change: %v", err)
	}
	if err := change(true); err != nil || r.stored.App.Name != "Marked" || calls < 2 || !r.stored.App.UpdatedAt.Equal(r.now) || len(r.effects) != 0 {
		t.Errorf("%v, %d calls, effects %v", err, calls, r.effects)
	}
	r.stored = nil
	if err := change(true); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no app: %v", err)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	app := newApp()
	r := newRig(t, &app)
	rotate := func(grace time.Duration, end bool) (apps.Rotated, error) {
		return r.RotateSecret(t.Context(), apps.Rotation{App: "app1", Grace: grace, EndReplaced: end})
	}
	first, err := rotate(time.Hour, false)
	if err != nil || first.Valid != 1 || !first.PreviousUntil.IsZero() || r.secrets.Current.Reveal() != first.Secret {
		t.Fatalf("the first secret replaces none: %+v, %v", first, err)
	}
	for n := 1; n <= 3; n++ {
		if got, err := rotate(time.Hour, false); err != nil || got.Valid != 1+n || !got.PreviousUntil.Equal(r.now.Add(time.Hour)) {
			t.Fatalf("rotation %d: %+v, %v", n, got, err)
		}
	}
	if _, err := rotate(time.Hour, false); !isA[partner.ValidationError](err) {
		t.Errorf("one too many: %v", err)
	}
	if got, err := rotate(time.Hour, true); err != nil || got.Valid != 2 {
		t.Errorf("the replaced ones end: %+v, %v", got, err)
	}
	r.now = r.now.Add(2 * time.Hour)
	if got, err := rotate(0, false); err != nil || got.Valid != 1 {
		t.Errorf("they expired: %+v, %v", got, err)
	}
	r.stored = nil
	if _, err := rotate(0, false); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no app: %v", err)
	}
}
