package apps_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// steps records what a Propagator does.
type steps struct {
	done []string
	box  error // of the mailbox
	fail error // of all others
}

func (s *steps) add(what string) error {
	s.done = append(s.done, what)
	return s.fail
}

func (s *steps) ApplySwitch(_ context.Context, _ string, sw mailbox.Switch) (mailbox.Wake, error) {
	what := "off"
	if sw.On {
		what = "on"
	}
	s.done = append(s.done, "mailbox "+what)
	return mailbox.Wake{}, s.box
}

func (s *steps) EndCooldown(context.Context, mailbox.Life, string) (mailbox.Wake, error) {
	return mailbox.Wake{}, s.add("cool-down ended")
}

func (*steps) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

func (s *steps) StartDepositJob(_ context.Context, _ mailbox.Life, kind mailbox.JobKind, _ registry.Actor) (mailbox.JobID, int64, error) {
	return mailbox.JobID{}, 0, s.add("job " + string(kind))
}

func (s *steps) ClearFormerLives(context.Context, partner.ClientID) error {
	return s.add("former lives cleared")
}

func (s *steps) ClearApp(_ context.Context, life mailbox.Life, _ registry.Actor) (mailbox.JobID, error) {
	return mailbox.JobID{App: life.App, Kind: mailbox.JobClear, Number: life.Birth}, s.add("cleared")
}

func (s *steps) Observe(_ context.Context, _ partner.ClientID, k partner.EndpointKind, events ...incident.Event) error {
	for range events {
		s.done = append(s.done, "incident of "+k.String())
	}
	return s.fail
}

func (s *steps) RequestConfirmations(context.Context, *partner.App) error {
	return s.add("confirmations")
}

func (s *steps) Forget(_ context.Context, _ partner.ClientID, k partner.EndpointKind) error {
	return s.add("probe of " + k.String())
}

func (s *steps) propagator() *apps.Propagator {
	return apps.NewPropagator(apps.PropagatorOptions{
		Mailboxes: s, Waker: s, Jobs: s, Incidents: s, Probes: s, Environment: partner.Online, PollFeed: func() { s.done = append(s.done, "feed") },
	})
}

func TestWhatFollowsAWrite(t *testing.T) {
	t.Parallel()
	with := func(change func(*partner.App)) partner.App {
		app := newApp()
		app.EverHadURL = true
		change(&app)
		return app
	}
	same := with(func(*partner.App) {})
	for name, tt := range map[string]struct {
		old  *partner.App
		app  partner.App
		box  error
		want []string
	}{
		"a new app":             {app: same, want: []string{"feed", "mailbox off", "confirmations", "former lives cleared"}},
		"nothing changed":       {old: &same, app: same, want: []string{"feed", "mailbox off", "confirmations"}},
		"deleted meanwhile":     {old: &same, app: same, box: mailbox.ErrGone, want: []string{"feed", "mailbox off"}},
		"its first URL":         {old: new(with(func(a *partner.App) { a.EverHadURL = false })), app: same, want: []string{"feed", "mailbox off", "job catch_up", "confirmations"}},
		"switched on":           {old: &same, app: with(func(a *partner.App) { a.Endpoints[partner.StateChange].Enabled = true }), want: []string{"feed", "mailbox on", "incident of state_change", "confirmations"}},
		"off for a reason":      {old: &same, app: with(func(a *partner.App) { a.Endpoints[partner.ERPSync].OffReason = partner.OffFailing }), want: []string{"feed", "mailbox off", "incident of erp_sync", "confirmations"}},
		"a connector's new URL": {old: &same, app: with(func(a *partner.App) { a.Endpoints[partner.QuoteConnector].URL += "/v2" }), want: []string{"feed", "mailbox off", "probe of quote_connector", "confirmations"}},
		"a new key":             {old: &same, app: with(func(a *partner.App) { a.PublicKeys = []string{"key"} }), want: []string{"feed", "mailbox off", "probe of mirroring", "confirmations"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &steps{box: tt.box}
			var old *registry.AppRecord
			if tt.old != nil {
				old = &registry.AppRecord{App: *tt.old}
			}
			if err := s.propagator().AppWritten(t.Context(), old, registry.AppRecord{App: tt.app}); err != nil || !slices.Equal(s.done, tt.want) {
				t.Errorf("%v, %v, want %v", s.done, err, tt.want)
			}
		})
	}
}

// TestAFailedStepHindersNoOther: every step is tried, and the error names each that failed.
func TestAFailedStepHindersNoOther(t *testing.T) {
	t.Parallel()
	errAway := errors.New("away")
	s := &steps{box: errAway, fail: errAway}
	was := newApp()
	is := was
	is.EverHadURL, is.Endpoints[partner.ERPSync].URL, is.Endpoints[partner.StateChange].Enabled = true, "https://partner.example/v2", true
	err := s.propagator().AppWritten(t.Context(), &registry.AppRecord{App: was}, registry.AppRecord{App: is})
	want := []string{"feed", "mailbox on", "job catch_up", "incident of state_change", "probe of erp_sync", "confirmations"}
	if !errors.Is(err, errAway) || !slices.Equal(s.done, want) {
		t.Errorf("%v, %v, want %v", s.done, err, want)
	}
	if err := s.propagator().AppResumed(t.Context(), registry.AppRecord{}); !errors.Is(err, errAway) {
		t.Errorf("resumed: %v", err)
	}
	if job, err := s.propagator().AppDeleted(t.Context(), "app1", 7, registry.Actor{}); !errors.Is(err, errAway) || job != "" {
		t.Errorf("deleted: %q, %v", job, err)
	}
}
