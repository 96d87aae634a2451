package endpointtest_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/endpointtest"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// world is everything beside a Tester: one app, its tenants and what comes of attempts.
type world struct {
	app partner.App
	// approved are in the order of the mailbox; silent are tenants whose status no change says.
	approved, silent []tenant.ID
	// attempts are those that are listed, newest first; arrives is listed once the endpoint was woken.
	attempts []delivery.Attempt
	arrives  *delivery.Attempt
	result   delivery.Result
	finding  health.Finding
	weak     error

	resynced, posted []tenant.ID
	woken            bool
	observed         []incident.Event
}

func newWorld() *world {
	w := &world{app: partner.New("app1"), approved: []tenant.ID{"a", "b"}}
	w.app.Endpoints[partner.StateChange].URL, w.app.Endpoints[partner.StateChange].Enabled = "https://hook.example/", true
	return w
}

func (w *world) test(t *testing.T, k partner.EndpointKind) (health.TestResult, error) {
	t.Helper()
	return endpointtest.New(endpointtest.Options{
		Apps: w, Store: w, Mailboxes: w, Resyncer: w, Waker: w, Targets: w, Incidents: w, Prober: w, Guard: w, Environment: partner.Online, Timeout: time.Second,
	}).Test(t.Context(), "app1", k)
}

func (w *world) Refresh(context.Context) error { return nil }

func (w *world) Lookup(id partner.ClientID) (*registry.Entry, bool, error) {
	if id != w.app.ClientID {
		return nil, false, nil
	}
	return &registry.Entry{Rec: registry.AppRecord{App: w.app, Birth: 3}}, true, nil
}

func (w *world) Tenant(_ context.Context, id tenant.ID) (registry.TenantView, error) {
	r := tenant.Record{Tenant: id, Top: 7}
	if !slices.Contains(w.silent, id) {
		r.Heads[tenant.SlotStatus] = tenant.Head{Sequence: 7, Change: tenant.Change{ID: "change7", Tenant: id, Sequence: 7}}
	}
	return registry.TenantView{Record: r}, nil
}

func (w *world) Tenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error) {
	out := make([]registry.TenantView, len(ids))
	for i, id := range ids {
		out[i], _ = w.Tenant(ctx, id)
	}
	return out, nil
}

func (w *world) Attempts(context.Context, partner.ClientID, registry.AttemptQuery) ([]delivery.Attempt, string, error) {
	if w.woken && w.arrives != nil {
		return append([]delivery.Attempt{*w.arrives}, w.attempts...), "", nil
	}
	return w.attempts, "", nil
}

func (w *world) Approvals(context.Context, partner.ClientID, string, int) ([]tenant.ID, string, error) {
	return w.approved, "", nil
}

func (w *world) HasApproved(_ context.Context, _ partner.ClientID, t tenant.ID) (bool, error) {
	return slices.Contains(w.approved, t), nil
}

func (w *world) EndCooldown(_ context.Context, life mailbox.Life, _ string) (mailbox.Wake, error) {
	if life != (mailbox.Life{App: "app1", Birth: 3}) {
		return mailbox.Wake{}, mailbox.ErrGone
	}
	return mailbox.Wake{Generation: 1}, nil
}

func (w *world) Resync(_ context.Context, _ partner.ClientID, ts []tenant.ID) (int, error) {
	w.resynced = append(w.resynced, ts...)
	return len(ts), nil
}

func (w *world) Wake(_ context.Context, _ partner.ClientID, wk mailbox.Wake) error {
	w.woken = wk.Generation == 1
	return nil
}

func (w *world) PrepareAttempt(*registry.Entry, time.Time) (func(context.Context, delivery.Message) delivery.Result, error) {
	return func(_ context.Context, m delivery.Message) delivery.Result {
		w.posted = append(w.posted, m.Change.Tenant)
		return w.result
	}, nil
}

func (w *world) Observe(_ context.Context, _ partner.ClientID, _ partner.EndpointKind, events ...incident.Event) error {
	w.observed = append(w.observed, events...)
	return nil
}

func (w *world) TestEndpoint(context.Context, partner.ClientID, partner.EndpointKind) (health.Finding, error) {
	return w.finding, nil
}

func (w *world) TestSettings(context.Context, *partner.App, partner.EndpointKind) (health.Finding, error) {
	return w.finding, nil
}

func (w *world) CheckURL(raw string) (*url.URL, error) { return url.Parse(raw) }

func (w *world) CheckKey(context.Context, *url.URL, []netip.Addr) error { return w.weak }

// An endpoint that is on is tested through its mailbox: the first attempt since counts, whichever tenant it is about.
func TestThroughMailbox(t *testing.T) {
	t.Parallel()
	old := delivery.Attempt{Tenant: "a", Outcome: delivery.Delivered.String(), Reason: delivery.ReasonNone.String(), Status: 200}
	for name, tt := range map[string]struct {
		arrives *delivery.Attempt
		state   health.Status
		detail  string
	}{
		"Delivered": {&delivery.Attempt{Tenant: "b", Outcome: delivery.Delivered.String(), Reason: delivery.ReasonNone.String(), Status: 204}, health.StatusHealthy, "about tenant b and answered 204"},
		"Refused":   {&delivery.Attempt{Tenant: "a", Outcome: delivery.Retryable.String(), Reason: delivery.ReasonServerError.String(), Status: 500}, health.StatusFailing, "It answered with status 500."},
		"Aborted":   {&delivery.Attempt{Tenant: "a", Outcome: delivery.Aborted.String()}, health.StatusUnchecked, "was not sent in time"},
		"NoWorker":  {nil, health.StatusUnchecked, "was not sent in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.attempts = []delivery.Attempt{old}
				w.attempts[0].At = time.Now()
				if w.arrives = tt.arrives; w.arrives != nil {
					w.arrives.At = time.Now()
				}
				r, err := w.test(t, partner.StateChange)
				if err != nil || r.State != tt.state || !strings.Contains(r.Detail, tt.detail) {
					t.Errorf("%+v, %v", r, err)
				}
				if !slices.Equal(w.resynced, []tenant.ID{"a"}) || len(w.posted) > 0 {
					t.Errorf("resynced %v, posted %v", w.resynced, w.posted)
				}
			})
		})
	}
}

// An endpoint that is off is posted to directly; only a success is observed.
func TestDirectly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		result   delivery.Result
		state    health.Status
		observed int
	}{
		"Delivered": {delivery.Result{Outcome: delivery.Delivered, Reason: delivery.ReasonNone, Status: 204}, health.StatusHealthy, 1},
		"Refused":   {delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRefused, Detail: "connection refused"}, health.StatusFailing, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.app.Endpoints[partner.StateChange].Enabled = false
			w.result = tt.result
			r, err := w.test(t, partner.StateChange)
			if err != nil || r.State != tt.state || len(w.observed) != tt.observed {
				t.Errorf("%+v, %v, observed %v", r, err, w.observed)
			}
			if !slices.Equal(w.posted, []tenant.ID{"a"}) || len(w.resynced) > 0 || w.woken {
				t.Errorf("posted %v, resynced %v", w.posted, w.resynced)
			}
		})
	}
}

// TestChoiceOfTenant: the probe tenant if it approved and has a status, otherwise the first that has one.
func TestChoiceOfTenant(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		probe            string
		approved, silent []tenant.ID
		want             []tenant.ID
	}{
		"First":                {"", []tenant.ID{"a", "b"}, nil, []tenant.ID{"a"}},
		"ProbeTenant":          {"b", []tenant.ID{"a", "b"}, nil, []tenant.ID{"b"}},
		"ProbeTenantElsewhere": {"c", []tenant.ID{"a", "b"}, nil, []tenant.ID{"a"}},
		"ProbeTenantSilent":    {"b", []tenant.ID{"a", "b"}, []tenant.ID{"b"}, []tenant.ID{"a"}},
		"Silent":               {"", []tenant.ID{"a", "b"}, []tenant.ID{"a"}, []tenant.ID{"b"}},
		"None":                 {"", []tenant.ID{"a"}, []tenant.ID{"a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.app.Endpoints[partner.StateChange].Enabled = false
			w.app.ProbeTenant, w.approved, w.silent = tt.probe, tt.approved, tt.silent
			r, err := w.test(t, partner.StateChange)
			if err != nil || !slices.Equal(w.posted, tt.want) || tt.want == nil && r.State != health.StatusUnchecked {
				t.Errorf("posted %v, want %v: %+v, %v", w.posted, tt.want, r, err)
			}
		})
	}
}

// TestProbes: the other endpoints get a probe. A finding about the service itself says nothing about the endpoint, and
// a short key is a fault before any call.
func TestProbes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reason health.Reason
		weak   error
		state  health.Status
	}{
		"Healthy":  {health.Healthy, nil, health.StatusHealthy},
		"NoTenant": {health.NoTenant, nil, health.StatusUnchecked},
		"OwnFault": {health.OwnFault, nil, health.StatusUnchecked},
		"Refused":  {"refused", nil, health.StatusFailing},
		"ShortKey": {health.Healthy, errors.New("a key of 1024 bits"), health.StatusFailing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.finding, w.weak = health.Finding{Reason: tt.reason}, tt.weak
			if r, err := w.test(t, partner.Mirroring); err != nil || r.State != tt.state {
				t.Errorf("%+v, %v, want %s", r, err, tt.state)
			}
		})
	}
	w := newWorld()
	w.app.ClientID = "app2"
	if _, err := w.test(t, partner.Mirroring); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("an unknown app: %v", err)
	}
}
