package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// endpointTester tests endpoints on request.
//
// A state-change endpoint is tested with real data, because receivers know no test notifications: one tenant is
// resynced. While the endpoint is on, this goes through the mailbox, which keeps the order. While it is off, nothing
// else is in flight, so the notification is posted directly. The other endpoints get an ordinary probe.
type endpointTester struct {
	endpoints *endpointDirectory
	boxes     *mailbox.Store
	store     *registry.Store
	approvals *fanout.Approvals
	waker     *waker
	tracker   incidentObserver
	probes    *probe.Runner
	guard     *guard.Guard
	env       partner.Environment
	timeout   time.Duration
}

// Test implements httpapi.Tester.
func (t *endpointTester) Test(ctx context.Context, app partner.ClientID, kind partner.EndpointKind) (health.TestResult, error) {
	if err := t.endpoints.dir.Refresh(ctx); err != nil {
		return health.TestResult{}, fmt.Errorf("refresh apps: %w", err)
	}
	e, ok, unreadable := t.endpoints.dir.Lookup(app)
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
		f, err := t.probes.TestEndpoint(ctx, app, kind)
		return resultFromFinding(f), err
	}
	id, err := t.chooseTenant(ctx, &e.Rec.App)
	if err != nil {
		return health.TestResult{}, err
	}
	if id == "" {
		return noTenantResult(), nil
	}
	if e.Rec.App.IsDelivering(t.env) {
		return t.testThroughMailbox(ctx, e.Rec, id)
	}
	return t.testDirectly(ctx, e, id)
}

func noTenantResult() health.TestResult {
	return health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("nothing_to_tell")}
}

// TestSettings implements httpapi.Tester.
func (t *endpointTester) TestSettings(ctx context.Context, app partner.App, kind partner.EndpointKind) (health.TestResult, error) {
	if short, weak := t.refuseWeakKey(ctx, &app, kind); weak {
		return short, nil
	}
	f, err := t.probes.TestSettings(ctx, &app, kind)
	return resultFromFinding(f), err
}

// refuseWeakKey refuses an endpoint whose certificate has a short RSA key. Calls to existing endpoints may go on with
// one.
func (t *endpointTester) refuseWeakKey(ctx context.Context, app *partner.App, kind partner.EndpointKind) (health.TestResult, bool) {
	began := time.Now()
	u, err := t.guard.CheckURL(app.Endpoints[kind].EffectiveURL(t.env))
	if err != nil {
		return health.TestResult{}, false // the call itself reports why
	}
	if err = t.guard.CheckKey(ctx, u, nil); err == nil {
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
func (t *endpointTester) chooseTenant(ctx context.Context, app *partner.App) (tenant.ID, error) {
	page, _, err := t.boxes.Approvals(ctx, app.ClientID, "", mailbox.MaxBatch)
	if err != nil {
		return "", err
	}
	if len(page) > mailbox.MaxBatch {
		page = page[:mailbox.MaxBatch]
	}
	if app.ProbeTenant != "" {
		page = append([]tenant.ID{tenant.ID(app.ProbeTenant)}, page...)
	}
	views, err := t.store.Tenants(ctx, page)
	if err != nil {
		return "", err
	}
	for i, v := range views {
		if _, ok := v.Record.ResyncChange(); !ok {
			continue
		}
		if i == 0 && app.ProbeTenant != "" {
			if ok, err := t.boxes.HasApproved(ctx, app.ClientID, page[0]); err != nil || !ok {
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

func (t *endpointTester) testThroughMailbox(ctx context.Context, rec registry.AppRecord, id tenant.ID) (health.TestResult, error) {
	app := rec.App.ClientID
	before, _, err := t.store.Attempts(ctx, app, registry.AttemptQuery{Limit: testLook})
	if err != nil {
		return health.TestResult{}, err
	}
	start := time.Now()
	if _, err := t.approvals.Resync(ctx, app, []tenant.ID{id}); err != nil {
		return health.TestResult{}, err
	}
	wake, err := t.boxes.EndCooldown(ctx, lifeOf(rec), uuid.NewString())
	if err = errors.Join(err, t.waker.Wake(ctx, app, wake)); err != nil {
		return health.TestResult{}, err
	}
	wait, cancel := context.WithTimeout(ctx, t.timeout+5*time.Second)
	defer cancel()
	tick := time.NewTicker(testPoll)
	defer tick.Stop()
	for {
		list, _, err := t.store.Attempts(wait, app, registry.AttemptQuery{Limit: testLook})
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
func (t *endpointTester) testDirectly(ctx context.Context, e *registry.Entry, id tenant.ID) (health.TestResult, error) {
	app := e.Rec.App.ClientID
	view, err := t.store.Tenant(ctx, id)
	if err != nil {
		return health.TestResult{}, err
	}
	target, err := t.endpoints.prepareTarget(e, time.Now())
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
	res := t.endpoints.pusher.Post(ctx, target, m)
	if res.Outcome == delivery.Delivered {
		if err := t.tracker.Observe(ctx, app, partner.StateChange, incident.Success{}); err != nil {
			return health.TestResult{}, err
		}
	}
	r := resultFromAttempt(delivery.Attempt{
		Outcome: res.Outcome.String(), Reason: res.Reason.String(), Status: res.Status, DurationMS: res.Duration.Milliseconds(),
		Detail: res.Detail, Tenant: id,
	})
	return r, nil
}
