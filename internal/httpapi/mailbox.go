package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// MailboxViewer reads the state of mailboxes.
type MailboxViewer interface {
	View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
}

// Resyncer deposits the present status of tenants again.
type Resyncer interface {
	// Resync deposits the status of the given tenants for an app, and counts them. It leaves out tenants that did not
	// approve the app.
	Resync(ctx context.Context, app partner.ClientID, ts []tenant.ID) (tenants int, err error)
	// ResyncAll starts a job that deposits the status of all tenants of an app, and counts them. If such a job runs
	// already, it returns that one, which then goes round once more, unless it was requested a short time ago. Errors: a
	// jobs.TooSoonError when a job has ended that was requested a short time ago.
	ResyncAll(ctx context.Context, rec registry.AppRecord, actor registry.Actor) (job string, tenants int64, err error)
}

// busyApps is a set of apps with an operation in progress. Its zero value is empty.
type busyApps struct {
	mu   sync.Mutex
	apps map[partner.ClientID]bool
}

// tryAdd adds an app; false when it is in the set already.
func (b *busyApps) tryAdd(app partner.ClientID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.apps[app] {
		return false
	}
	if b.apps == nil {
		b.apps = map[partner.ClientID]bool{}
	}
	b.apps[app] = true
	return true
}

func (b *busyApps) remove(app partner.ClientID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.apps, app)
}

// Deliveries lists recent attempts, newest first.
type Deliveries interface {
	// Attempts returns a page and the cursor of the next, empty on the last page.
	Attempts(ctx context.Context, app partner.ClientID, q registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error)
}

// maxResync bounds the tenants that one resync may name.
const maxResync = 10_000

func (a *API) getMailbox(c *call) error {
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	v, err := a.Mailboxes.View(c.ctx(), rec.App.ClientID)
	if err != nil {
		return err
	}
	retryAt := v.CooldownUntil.UTC()
	if v.Off {
		retryAt = time.Time{}
	}
	return c.writeJSON(http.StatusOK, mailboxAnswer{v.Waiting, float64(v.Oldest.Milliseconds()) / 1000, v.InFlight, v.CircuitState(), retryAt, rec.App.Paused, v.Diverged})
}

func (a *API) listDeliveries(c *call) error {
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	p, err := c.readPage("deliveries/"+string(rec.App.ClientID), "tenant")
	if err != nil {
		return err
	}
	var filter tenant.ID
	if s := c.r.URL.Query().Get("tenant"); s != "" {
		if filter, err = tenant.ParseID(s); err != nil {
			return invalidProblem(FieldError{Pointer: "/tenant", Detail: err.Error()})
		}
	}
	attempts, next, err := a.Deliveries.Attempts(c.ctx(), rec.App.ClientID, registry.AttemptQuery{Tenant: filter, After: p.after, Limit: p.limit})
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, newPageAnswer(p, c.newDeliveryAnswers(attempts), next))
}

func (a *API) resyncApp(c *call) error {
	doc, err := c.readOptionalDocument()
	if err != nil {
		return err
	}
	f := &faults{}
	o := newObjectReader(doc, f, false)
	names, given := o.readStrings("tenants", maxResync)
	ts := make([]tenant.ID, 0, len(names))
	for i, name := range names {
		t, err := tenant.ParseID(name)
		if err != nil {
			o.add(o.pointerTo("tenants")+"/"+strconv.Itoa(i), err.Error())
		}
		ts = append(ts, t)
	}
	if given && len(names) == 0 {
		o.add("/tenants", "must name a tenant; leave it out for all")
	}
	o.reportUnknownMembers()
	if err := f.err(); err != nil {
		return err
	}
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	answer := resyncAnswer{}
	note := ""
	if given {
		told, e := a.resyncTenants(c, &rec, ts)
		answer.Tenants, err = int64(told), e
	} else {
		answer.Job, answer.Tenants, err = a.resyncAll(c, rec)
		note = `,"job":"` + answer.Job + `"`
	}
	if err != nil {
		return err
	}
	if err := a.auditAction(c, "app.resync", string(rec.App.ClientID), fmt.Sprintf(`{"all":%t,"tenants":%d%s}`, !given, answer.Tenants, note)); err != nil {
		return err
	}
	return c.writeJSON(http.StatusAccepted, answer)
}

// resyncAll starts the job that deposits the status of all tenants, or returns the running one.
func (a *API) resyncAll(c *call, rec registry.AppRecord) (job string, tenants int64, err error) {
	job, tenants, err = a.Resyncer.ResyncAll(c.ctx(), rec, c.actor)
	if soon, ok := errors.AsType[*jobs.TooSoonError](err); ok {
		err = tooManyRequestsProblem(budgetResyncs, "A resync of all tenants of this app was requested less than a minute ago, and has ended. The next one is accepted after the time in Retry-After.", soon.Wait)
	}
	return job, tenants, err
}

// resyncTenants deposits the status of the named tenants: one call per app at a time, within the budget of tenants.
func (a *API) resyncTenants(c *call, rec *registry.AppRecord, ts []tenant.ID) (int, error) {
	app, factor := rec.App.ClientID, rec.App.EffectiveBudgetFactor()
	if !a.resyncing.tryAdd(app) {
		return 0, tooManyRequestsProblem(budgetResyncs, "A resync of this app is running, and one at a time is accepted. Try again after the time in Retry-After.", 0)
	}
	defer a.resyncing.remove(app)
	if wait, ok := a.resyncs.TakeWithDebt(string(app), len(ts), factor, a.Now()); !ok {
		return 0, tooManyRequestsProblem(budgetResyncs, fmt.Sprintf("Resyncs of this app may name %d tenants a minute. The next one is accepted after the time in Retry-After.", int(time.Minute/resyncInterval)*factor), wait)
	}
	return a.Resyncer.Resync(c.ctx(), app, ts)
}

type mailboxAnswer struct {
	Waiting  int64     `json:"waiting" api:"min=0"`
	Oldest   float64   `json:"oldest_waiting_seconds" api:"min=0"`
	InFlight int64     `json:"in_flight" api:"min=0"`
	Breaker  string    `json:"breaker" api:"ref=Breaker"`
	RetryAt  time.Time `json:"retry_at,omitzero"`
	Paused   bool      `json:"paused"`
	Diverged int64     `json:"diverged_tenants" api:"min=0"`
}

// resyncRequest describes a resync in the API's document. resyncApp reads one.
type resyncRequest struct {
	Tenants []tenant.ID `json:"tenants" api:"minItems=1,maxItems=10000" doc:"All when absent."`
}

type resyncAnswer struct {
	Tenants int64  `json:"tenants" api:"min=0" doc:"How many tenants' status is sent. For all tenants, as many as had approved the app when the job began."`
	Job     string `json:"job,omitempty" doc:"The job for all tenants; absent when tenants were named."`
}
