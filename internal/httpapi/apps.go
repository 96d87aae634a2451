package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Apps reads apps.
type Apps interface {
	// App returns registry.ErrNotFound when there is none.
	App(ctx context.Context, id partner.ClientID) (registry.AppRecord, error)
	// Apps returns a page in the order of client ids, behind after; next is empty on the last.
	Apps(ctx context.Context, after partner.ClientID, limit int) (recs []registry.AppRecord, next partner.ClientID, err error)
}

// AppWriter writes apps; each write is durable and audited on return.
type AppWriter interface {
	// PutApp returns registry.ErrConflict when the revision is not the expected one.
	PutApp(ctx context.Context, app partner.App, expect int64, secrets *registry.WebhookSecrets, actor registry.Actor, action string, notes ...registry.AuditNote) (rec registry.AppRecord, created bool, err error)
	DeleteApp(ctx context.Context, id partner.ClientID, expect int64, actor registry.Actor) (revision int64, err error)
	Secrets(ctx context.Context, id partner.ClientID) (registry.WebhookSecrets, error)
}

// AppEvents is called after a write is durable. The write stands even if the call fails; the service MUST repair
// what the call did not do.
type AppEvents interface {
	// AppWritten gets the app as it was, nil when it is new.
	AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord, actor registry.Actor) error
	// AppResumed follows AppWritten when a caller resumed the app, whether it was paused or not.
	AppResumed(ctx context.Context, rec registry.AppRecord) error
	// AppDeleted returns the job that clears away after the app.
	AppDeleted(ctx context.Context, id partner.ClientID, revision int64, actor registry.Actor) (job string, err error)
}

func (a *API) listApps(c *call) error {
	p, err := c.readPage("apps")
	if err != nil {
		return err
	}
	if c.role.Kind == Partner {
		return a.listOwnApp(c)
	}
	recs, next, err := a.Apps.Apps(c.ctx(), partner.ClientID(p.after), p.limit)
	if err != nil {
		return err
	}
	items := make([]apitypes.App, len(recs))
	for i, rec := range recs {
		items[i] = a.newAppAnswer(rec)
	}
	return answerList(c, p, items, string(next))
}

// listOwnApp is the list that a partner sees.
func (a *API) listOwnApp(c *call) error {
	items := []apitypes.App{}
	rec, err := a.Apps.App(c.ctx(), c.role.App)
	switch {
	case err == nil:
		items = append(items, a.newAppAnswer(rec))
	case !errors.Is(err, registry.ErrNotFound):
		return err
	}
	return answerList(c, pageRequest{}, items, "")
}

// readPathApp reads the path's app.
func (a *API) readPathApp(c *call) (registry.AppRecord, error) {
	id, err := c.pathClientID()
	if err != nil {
		return registry.AppRecord{}, err
	}
	rec, err := a.Apps.App(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return rec, notFoundProblem("app")
	}
	return rec, err
}

func (a *API) getApp(c *call) error {
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	tag := revisionETag(rec.Revision)
	c.w.Header().Set("ETag", tag)
	c.w.Header().Set("Cache-Control", revalidated)
	if matchesETag(c.r.Header.Values("If-None-Match"), tag, weak) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.writeJSON(http.StatusOK, a.newAppAnswer(rec))
}

func (a *API) putApp(c *call) error {
	doc, err := c.readDocument()
	if err != nil {
		return err
	}
	return a.updateAndAnswerApp(c, "app.put", func(old *registry.AppRecord, id partner.ClientID) (partner.App, error) {
		base := partner.New(id)
		if old != nil {
			base.GrantedLicenses, base.BudgetFactor, base.Paused = old.App.GrantedLicenses, old.App.BudgetFactor, old.App.Paused
		}
		f := &faults{}
		app := readApp(newObjectReader(doc, f, false), base)
		return app, f.err()
	})
}

func (a *API) patchApp(c *call) error {
	patch, err := c.readDocument()
	if err != nil {
		return err
	}
	return a.updateAndAnswerApp(c, "app.patch", func(old *registry.AppRecord, id partner.ClientID) (partner.App, error) {
		if old == nil {
			return partner.App{}, notFoundProblem("app")
		}
		f := &faults{}
		app := readApp(newObjectReader(patch, f, true), old.App)
		return app, f.err()
	})
}

// updateAndAnswerApp reads, changes and writes the path's app and answers with it.
func (a *API) updateAndAnswerApp(c *call, action string, change appChange) error {
	w, err := a.updateApp(c, action, change)
	if err != nil {
		return err
	}
	return a.answerApp(c, w)
}

func (a *API) answerApp(c *call, w writeResult) error {
	answer := a.newAppAnswer(w.rec)
	answer.Warnings, answer.WebhookSecret = w.warnings, w.secret
	c.w.Header().Set("ETag", revisionETag(w.rec.Revision))
	status := http.StatusOK
	if w.created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/v1/apps/"+string(w.rec.App.ClientID))
	}
	return c.writeJSON(status, answer)
}

func (a *API) deleteApp(c *call) error {
	id, err := c.pathClientID()
	if err != nil {
		return err
	}
	expect := registry.AnyRevision
	if conds := c.r.Header.Values("If-Match"); len(conds) > 0 {
		rec, err := a.readPathApp(c)
		if err != nil {
			return err
		}
		if !matchesETag(conds, revisionETag(rec.Revision), strong) {
			return preconditionFailedProblem()
		}
		expect = rec.Revision
	}
	revision, err := a.AppWriter.DeleteApp(c.ctx(), id, expect, c.actor)
	if errors.Is(err, registry.ErrNotFound) {
		return notFoundProblem("app")
	}
	if err != nil {
		return err
	}
	if a.AppEvents != nil {
		a.runFollowUp(c, func(ctx context.Context) error {
			job, err := a.AppEvents.AppDeleted(ctx, id, revision, c.actor)
			if err == nil {
				c.w.Header().Set("Location", "/v1/jobs/"+job)
			}
			return err
		})
	}
	return c.writeNoContent()
}

// newPauseHandler makes the handler that pauses or resumes an app. A repeat is no fault and has its effect again:
// resuming closes the circuit.
func (a *API) newPauseHandler(paused bool) handler {
	action := "app.resume"
	if paused {
		action = "app.pause"
	}
	return func(c *call) error {
		if err := c.requireEmptyDocument(); err != nil {
			return err
		}
		w, err := a.updateApp(c, action, func(old *registry.AppRecord, _ partner.ClientID) (partner.App, error) {
			if old == nil {
				return partner.App{}, notFoundProblem("app")
			}
			app := old.App
			app.Paused = paused
			return app, nil
		})
		if err != nil {
			return err
		}
		if !paused && a.AppEvents != nil {
			a.runFollowUp(c, func(ctx context.Context) error { return a.AppEvents.AppResumed(ctx, w.rec) })
		}
		return a.answerApp(c, w)
	}
}
