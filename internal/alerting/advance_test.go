package alerting_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// switcher is a world whose endpoints can be switched off.
type switcher struct {
	*world
	// stored is the app as a switch-off reads it.
	stored registry.AppRecord
	offs   []partner.EndpointKind
	cause  incident.CommonCause
}

func (s *switcher) Approvals(context.Context, partner.ClientID, string, int) ([]tenant.ID, string, error) {
	return []tenant.ID{"a", "b"}, "", nil
}

// ReadPairs finds every tenant approved and known.
func (s *switcher) ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error) {
	out, err := s.world.ReadPairs(ctx, app, ts)
	for i := range out {
		out[i].Approved, out[i].Known = true, 7
	}
	return out, err
}

func (s *switcher) Resync(_ context.Context, _ partner.ClientID, ts []tenant.ID) (int, error) {
	s.waiting = append(s.waiting, ts...)
	return len(ts), nil
}

func (s *switcher) SwitchOffUnlessChanged(
	_ context.Context, _ partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, _ delivery.Result,
) (int64, error) {
	if unchanged(s.stored) && reason == partner.OffFailing {
		s.offs = append(s.offs, k)
	}
	return 1, nil
}

// newSwitcher returns a world in which an endpoint was seen failing at a time, for longer than the service allows.
func newSwitcher(t *testing.T, k partner.EndpointKind, seen time.Duration) (*switcher, *alerting.Advancer) {
	t.Helper()
	s := &switcher{world: newWorld(t)}
	s.app.Endpoints[k].Enabled, s.app.Endpoints[k].URL = true, "https://partner.example/hook"
	s.stored = registry.AppRecord{App: s.app}
	o := s.opts
	o.Settings.SwitchOffAfter = 5 * 24 * time.Hour
	o.CommonCause = func() incident.CommonCause { return s.cause }
	began := s.now.Add(-o.Settings.SwitchOffAfter - 48*time.Hour)
	state := incident.State{ // open, and all reminders sent, so that nothing but the switch-off is due
		FailingSince: began, SeenSince: began, SeenAt: s.now.Add(-seen), Failures: 9, Last: &incident.Failure{Reason: delivery.ReasonRefused, At: s.now},
		ID: incident.NewID(id, k, began), Since: began, OpenedAt: began, N: 3, Reminders: 2,
	}
	if err := s.rdb.HSet(t.Context(), keys.New("").App(id, keys.AppIncidents), k.String(), state.Encode()).Err(); err != nil {
		t.Fatal(err)
	}
	return s, alerting.NewAdvancer(alerting.AdvancerOptions{Tracker: alerting.New(o), Open: s.store, Mailboxes: s, Resyncer: s, Switcher: s})
}

// TestSwitchOffOfWhatFailsTooLong: an endpoint that fails too long is switched off, unless it was changed, was not seen
// lately, or could not answer.
func TestSwitchOffOfWhatFailsTooLong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind partner.EndpointKind
		seen time.Duration
		// between happens after the incidents were read.
		between func(s *switcher)
		off     bool
	}{
		"Notifications": {kind, 48 * time.Hour, nil, true},
		"Probes":        {partner.ERPSync, time.Hour, nil, true},
		"NotSeenLately": {partner.ERPSync, 25 * time.Hour, nil, false},
		"AnsweredSince": {kind, 0, func(s *switcher) { s.rdb.FlushAll(s.t.Context()) }, false},
		"SwitchedOff":   {kind, 0, func(s *switcher) { s.app.Endpoints[kind].Enabled = false }, false},
		"Changed":       {kind, 0, func(s *switcher) { s.stored.App.Endpoints[kind].URL = "https://partner.example/other" }, false},
		"MadeAnew":      {kind, 0, func(s *switcher) { s.stored.Birth = 7 }, false},
		"CommonCause":   {kind, 0, func(s *switcher) { s.cause.Since = s.now.Add(-time.Minute) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a := newSwitcher(t, tt.kind, tt.seen)
			found, errs := a.ReadOpenIncidents(t.Context(), []partner.ClientID{id})
			if errs[0] != nil || found[0] == nil {
				t.Fatal(found, errs)
			}
			if tt.between != nil {
				tt.between(s)
			}
			if err := a.Tick(t.Context(), id, *found[0]); err != nil {
				t.Fatal(err)
			}
			if off := slices.Equal(s.offs, []partner.EndpointKind{tt.kind}); off != tt.off || len(s.offs) > 1 {
				t.Errorf("switched off: %v", s.offs)
			}
		})
	}
}

// An endpoint whose notifications fail for one tenant is switched off after a second tenant's do.
func TestSwitchOffNeedsASecondTenant(t *testing.T) {
	t.Parallel()
	s, a := newSwitcher(t, kind, 0)
	s.waiting, s.view.Diverged, s.view.Approvals = []tenant.ID{"a"}, 1, 2
	for n, want := range []int{0, 1} {
		found, _ := a.ReadOpenIncidents(t.Context(), []partner.ClientID{id})
		if err := a.Tick(t.Context(), id, *found[0]); err != nil {
			t.Fatal(err)
		}
		if len(s.offs) != want {
			t.Errorf("look %d: switched off %v", n, s.offs)
		}
		s.view.Diverged = int64(len(s.waiting))
	}
	if !slices.Equal(s.waiting, []tenant.ID{"a", "b"}) {
		t.Errorf("pending: %v", s.waiting)
	}
}
