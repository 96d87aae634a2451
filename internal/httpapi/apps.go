package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/apps"
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

func (a *API) answerApp(c *call, w apps.Result) error {
	answer := a.newAppAnswer(w.Record)
	answer.Warnings, answer.WebhookSecret = w.Warnings, w.Secret
	c.w.Header().Set("ETag", revisionETag(w.Record.Revision))
	status := http.StatusOK
	if w.Created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/v1/apps/"+string(w.Record.App.ClientID))
	}
	return c.writeJSON(status, answer)
}

func (a *API) deleteApp(c *call) error {
	id, err := c.pathClientID()
	if err != nil {
		return err
	}
	var pre apps.Precondition
	if len(c.r.Header.Values("If-Match")) > 0 {
		pre = c.precondition()
	}
	job, err := a.AppWriter.Delete(c.ctx(), id, c.actor, pre)
	if err != nil {
		return c.writeProblem(err)
	}
	if job != "" {
		c.w.Header().Set("Location", "/v1/jobs/"+job)
	}
	return c.writeNoContent()
}

// newPauseHandler makes the handler that pauses or resumes an app.
func (a *API) newPauseHandler(paused bool) handler {
	action := "app.resume"
	if paused {
		action = "app.pause"
	}
	return func(c *call) error {
		if err := c.requireEmptyDocument(); err != nil {
			return err
		}
		w, err := c.newAppWrite(action)
		if err != nil {
			return err
		}
		r, err := a.AppWriter.SetPaused(c.ctx(), w, paused)
		if err != nil {
			return c.writeProblem(err)
		}
		return a.answerApp(c, r)
	}
}
