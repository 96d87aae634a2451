package endpointtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Apps is the directory of apps.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Store reads tenants and attempts; *registry.Store is one.
type Store interface {
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	Tenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error)
	// Attempts lists an app's recent attempts, newest first.
	Attempts(ctx context.Context, app partner.ClientID, q registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error)
}

// Mailboxes knows which tenants approved an app, and ends the cool-down of its endpoint.
type Mailboxes interface {
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (ts []tenant.ID, next string, err error)
	HasApproved(ctx context.Context, app partner.ClientID, t tenant.ID) (bool, error)
	EndCooldown(ctx context.Context, life mailbox.Life, nonce string) (mailbox.Wake, error)
}

// Resyncer deposits the present status of tenants in an app's mailbox.
type Resyncer interface {
	Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (int, error)
}

// Waker starts a drain for a mailbox's wake-up.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Targets prepares attempts at an app's state-change endpoint by its settings.
type Targets interface {
	PrepareAttempt(e *registry.Entry, now time.Time) (attempt func(context.Context, delivery.Message) delivery.Result, err error)
}

// IncidentObserver gets what is observed of endpoints.
type IncidentObserver interface {
	Observe(ctx context.Context, app partner.ClientID, k partner.EndpointKind, events ...incident.Event) error
}

// Prober probes integration endpoints.
type Prober interface {
	// TestEndpoint probes an endpoint of a stored app, and records what it found.
	TestEndpoint(ctx context.Context, id partner.ClientID, k partner.EndpointKind) (health.Finding, error)
	// TestSettings probes an endpoint by these settings, and records nothing.
	TestSettings(ctx context.Context, app *partner.App, k partner.EndpointKind) (health.Finding, error)
}

// Guard checks URLs and the keys of their hosts.
type Guard interface {
	CheckURL(rawURL string) (*url.URL, error)
	// CheckKey reports a host whose certificate has a short key; addrs are its addresses, nil for the present ones.
	CheckKey(ctx context.Context, u *url.URL, addrs []netip.Addr) error
}

// Options of a Tester.
type Options struct {
	Apps      Apps
	Store     Store
	Mailboxes Mailboxes
	Resyncer  Resyncer
	Waker     Waker
	Targets   Targets
	Incidents IncidentObserver
	Prober    Prober
	Guard     Guard
	// Environment is the one that this deployment serves.
	Environment partner.Environment
	// Timeout bounds one attempt.
	Timeout time.Duration
}

// Tester tests endpoints on request. It is safe for concurrent use.
//
// A state-change endpoint is tested with real data, because receivers know no test notifications: one tenant is
// resynced. While the endpoint is on, this goes through the mailbox, which keeps the order. While it is off, nothing
// else is in flight, so the notification is posted directly. The other endpoints get an ordinary probe.
type Tester struct{ opts Options }

// New returns a Tester.
func New(opts Options) *Tester { return &Tester{opts: opts} }

// Test tests an endpoint of a stored app, whether it is on or off. A success closes its circuit. Errors:
// registry.ErrNotFound for an unknown app.
func (t *Tester) Test(ctx context.Context, app partner.ClientID, kind partner.EndpointKind) (health.TestResult, error) {
	if err := t.opts.Apps.Refresh(ctx); err != nil {
		return health.TestResult{}, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := t.opts.Apps.Lookup(app)
	if unreadable != nil {
		return health.TestResult{}, unreadable
	}
	if !ok {
		return health.TestResult{}, fmt.Errorf("app %s: %w", app, registry.ErrNotFound)
	}
	if short, weak := t.refuseWeakKey(ctx, &e.Rec.App, kind); weak {
		return short, nil
	}
	if kind != partner.StateChange {
		f, err := t.opts.Prober.TestEndpoint(ctx, app, kind)
		return resultFromFinding(f), err
	}
	id, err := t.chooseTenant(ctx, &e.Rec.App)
	if err != nil {
		return health.TestResult{}, err
	}
	if id == "" {
		return noTenantResult(), nil
	}
	if e.Rec.App.IsDelivering(t.opts.Environment) {
		return t.testThroughMailbox(ctx, e.Rec, id)
	}
	return t.testDirectly(ctx, e, id)
}

func noTenantResult() health.TestResult {
	return health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("nothing_to_tell")}
}

// TestSettings tests an integration endpoint with these settings, which may not be stored yet. It records nothing: its
// result goes only to the caller.
func (t *Tester) TestSettings(ctx context.Context, app partner.App, kind partner.EndpointKind) (health.TestResult, error) {
	if short, weak := t.refuseWeakKey(ctx, &app, kind); weak {
		return short, nil
	}
	f, err := t.opts.Prober.TestSettings(ctx, &app, kind)
	return resultFromFinding(f), err
}

// refuseWeakKey refuses an endpoint whose certificate has a short RSA key. Calls to existing endpoints may go on with
// one.
func (t *Tester) refuseWeakKey(ctx context.Context, app *partner.App, kind partner.EndpointKind) (health.TestResult, bool) {
	began := time.Now()
	u, err := t.opts.Guard.CheckURL(app.Endpoints[kind].EffectiveURL(t.opts.Environment))
	if err != nil {
		return health.TestResult{}, false // the call itself reports why
	}
	if err = t.opts.Guard.CheckKey(ctx, u, nil); err == nil {
		return health.TestResult{}, false
	}
	return health.TestResult{State: health.StatusFailing, Cause: health.TLSWeakKey.Cause(), Detail: err.Error(), Duration: time.Since(began)}, true
}

func resultFromFinding(f health.Finding) health.TestResult {
	r := health.TestResult{State: health.StatusFailing, Cause: f.Reason.Cause(), Status: f.Status, Detail: f.Detail, Duration: f.Duration}
	switch f.Reason {
	case health.Healthy:
		r.State, r.Cause = health.StatusHealthy, delivery.ReasonNone.Cause()
	case health.NoTenant, health.OwnFault, health.Unreadable: // they say nothing about the endpoint
		r.State = health.StatusUnchecked
	}
	return r
}

// chooseTenant chooses the tenant of the test: the probe tenant if its status can be notified.
func (t *Tester) chooseTenant(ctx context.Context, app *partner.App) (tenant.ID, error) {
	page, _, err := t.opts.Mailboxes.Approvals(ctx, app.ClientID, "", mailbox.MaxBatch)
	if err != nil {
		return "", err
	}
	if len(page) > mailbox.MaxBatch {
		page = page[:mailbox.MaxBatch]
	}
	if app.ProbeTenant != "" {
		page = append([]tenant.ID{tenant.ID(app.ProbeTenant)}, page...)
	}
	views, err := t.opts.Store.Tenants(ctx, page)
	if err != nil {
		return "", err
	}
	for i, v := range views {
		if _, ok := v.Record.ResyncChange(); !ok {
			continue
		}
		if i == 0 && app.ProbeTenant != "" {
			if ok, err := t.opts.Mailboxes.HasApproved(ctx, app.ClientID, page[0]); err != nil || !ok {
				continue
			}
		}
		return page[i], nil
	}
	return "", nil
}

const (
	// testPoll is how often the result of a test is looked for.
	testPoll = 50 * time.Millisecond
	// testLook is how many of the newest attempts are read each time.
	testLook = 50
	// testSkew is how far the clock of the process that makes the attempt may be behind.
	testSkew = time.Second
)

func (t *Tester) testThroughMailbox(ctx context.Context, rec registry.AppRecord, id tenant.ID) (health.TestResult, error) {
	app := rec.App.ClientID
	before, _, err := t.opts.Store.Attempts(ctx, app, registry.AttemptQuery{Limit: testLook})
	if err != nil {
		return health.TestResult{}, err
	}
	start := time.Now()
	if _, err := t.opts.Resyncer.Resync(ctx, app, []tenant.ID{id}); err != nil {
		return health.TestResult{}, err
	}
	wake, err := t.opts.Mailboxes.EndCooldown(ctx, mailbox.Life{App: app, Birth: rec.Birth}, uuid.NewString())
	if err = errors.Join(err, t.opts.Waker.Wake(ctx, app, wake)); err != nil {
		return health.TestResult{}, err
	}
	wait, cancel := context.WithTimeout(ctx, t.opts.Timeout+5*time.Second)
	defer cancel()
	tick := time.NewTicker(testPoll)
	defer tick.Stop()
	for {
		list, _, err := t.opts.Store.Attempts(wait, app, registry.AttemptQuery{Limit: testLook})
		if err != nil && wait.Err() == nil {
			return health.TestResult{}, err
		}
		for _, a := range list {
			// any attempt that began after the start of the test counts; none that was listed before
			if a.At.After(start.Add(-testSkew)) && a.Outcome != delivery.Aborted.String() && !slices.Contains(before, a) {
				return resultFromAttempt(a), nil
			}
		}
		select {
		case <-tick.C:
		case <-wait.Done():
			return health.TestResult{
				State: health.StatusUnchecked, Cause: delivery.ReasonOwnFault.Cause(),
				Detail: "The notification was not sent in time. Is a worker running? The test says nothing about the endpoint.",
			}, nil
		}
	}
}

func resultFromAttempt(a delivery.Attempt) health.TestResult {
	reason, _ := delivery.ParseReason(a.Reason)
	r := health.TestResult{
		State: health.StatusFailing, Cause: told.FindCause(a.Reason), Status: a.Status, Duration: time.Duration(a.DurationMS) * time.Millisecond,
		Detail: describeAttempt(reason, a.Status, a.Detail, a.Tenant),
	}
	if a.Outcome == delivery.Delivered.String() {
		r.State = health.StatusHealthy
	}
	return r
}

func describeAttempt(reason delivery.Reason, status int, detail string, id tenant.ID) string {
	if reason == delivery.ReasonNone {
		return "The endpoint took a notification about tenant " + string(id) + " and answered " + strconv.Itoa(status) + "."
	}
	text := "The endpoint was tried with a notification about tenant " + string(id) + ": " + reason.Description() + "."
	if status != 0 {
		text += " It answered with status " + strconv.Itoa(status) + "."
	} else if detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

// testDirectly posts to an endpoint that is off, so that nothing else is in flight.
func (t *Tester) testDirectly(ctx context.Context, e *registry.Entry, id tenant.ID) (health.TestResult, error) {
	app := e.Rec.App.ClientID
	view, err := t.opts.Store.Tenant(ctx, id)
	if err != nil {
		return health.TestResult{}, err
	}
	attempt, err := t.opts.Targets.PrepareAttempt(e, time.Now())
	if err != nil {
		return health.TestResult{}, err
	}
	change, ok := view.Record.ResyncChange()
	if !ok { // its status was set meanwhile
		return noTenantResult(), nil
	}
	m := delivery.Message{
		ClientID: app, Change: change, WebhookID: change.ID + "_" + uuid.NewString(), Sequence: view.Record.Top, FirstDeposited: time.Now(),
	}
	res := attempt(ctx, m)
	if res.Outcome == delivery.Delivered {
		if err := t.opts.Incidents.Observe(ctx, app, partner.StateChange, incident.Success{}); err != nil {
			return health.TestResult{}, err
		}
	}
	r := resultFromAttempt(delivery.Attempt{
		Outcome: res.Outcome.String(), Reason: res.Reason.String(), Status: res.Status, DurationMS: res.Duration.Milliseconds(),
		Detail: res.Detail, Tenant: id,
	})
	return r, nil
}
