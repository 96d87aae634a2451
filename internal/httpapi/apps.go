package httpapi

import (
	"context"
	"errors"
	"net/http"

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

// AppEvents hears of writes after they are durable. The write stands when it fails; whatever it does
// MUST be repaired by the service.
type AppEvents interface {
	// AppWritten gets the app as it was, nil when it is new.
	AppWritten(ctx context.Context, old *registry.AppRecord, rec registry.AppRecord, actor registry.Actor) error
	// AppResumed follows AppWritten where people resumed the app, whether it was paused or not.
	AppResumed(ctx context.Context, rec registry.AppRecord) error
	// AppDeleted returns the job that clears away after the app.
	AppDeleted(ctx context.Context, id partner.ClientID, revision int64, actor registry.Actor) (job string, err error)
}

func (a *API) listApps(c *call) error {
	p, err := c.page("apps")
	if err != nil {
		return err
	}
	if c.role.Kind == Partner {
		return a.ownApp(c)
	}
	recs, next, err := a.Apps.Apps(c.ctx(), partner.ClientID(p.after), p.limit)
	if err != nil {
		return err
	}
	items := make([]appAnswer, len(recs))
	for i, rec := range recs {
		items[i] = a.appAnswer(rec)
	}
	return answerList(c, p, items, string(next))
}

// ownApp is the list that a partner sees.
func (a *API) ownApp(c *call) error {
	items := []appAnswer{}
	rec, err := a.Apps.App(c.ctx(), c.role.App)
	switch {
	case err == nil:
		items = append(items, a.appAnswer(rec))
	case !errors.Is(err, registry.ErrNotFound):
		return err
	}
	return answerList(c, page{}, items, "")
}

// app reads the path's app.
func (a *API) app(c *call) (registry.AppRecord, error) {
	id, err := c.clientID()
	if err != nil {
		return registry.AppRecord{}, err
	}
	rec, err := a.Apps.App(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return rec, notFound("app")
	}
	return rec, err
}

func (a *API) getApp(c *call) error {
	rec, err := a.app(c)
	if err != nil {
		return err
	}
	tag := etag(rec.Revision)
	c.w.Header().Set("ETag", tag)
	c.w.Header().Set("Cache-Control", revalidated)
	if matches(c.r.Header.Values("If-None-Match"), tag, weak) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.json(http.StatusOK, a.appAnswer(rec))
}

func (a *API) putApp(c *call) error {
	doc, err := c.document()
	if err != nil {
		return err
	}
	return a.writeApp(c, "app.put", func(old *registry.AppRecord, id partner.ClientID) (partner.App, error) {
		base := partner.New(id)
		if old != nil {
			base.GrantedLicenses, base.BudgetFactor, base.Paused = old.App.GrantedLicenses, old.App.BudgetFactor, old.App.Paused
		}
		f := &faults{}
		app := readApp(root(doc, f, false), base)
		return app, f.err()
	})
}

func (a *API) patchApp(c *call) error {
	patch, err := c.document()
	if err != nil {
		return err
	}
	return a.writeApp(c, "app.patch", func(old *registry.AppRecord, id partner.ClientID) (partner.App, error) {
		if old == nil {
			return partner.App{}, notFound("app")
		}
		base := partner.New(id)
		base.Paused = old.App.Paused
		f := &faults{}
		app := readApp(root(mergePatch(appDocument(old.App), patch), f, true), base)
		return app, f.err()
	})
}

// writeApp reads, changes and writes the path's app and answers with it.
func (a *API) writeApp(c *call, action string, change changeApp) error {
	w, err := a.write(c, action, change)
	if err != nil {
		return err
	}
	return a.answerApp(c, w)
}

func (a *API) answerApp(c *call, w written) error {
	answer := a.appAnswer(w.rec)
	answer.Warnings, answer.WebhookSecret = w.warnings, w.secret
	c.w.Header().Set("ETag", etag(w.rec.Revision))
	status := http.StatusOK
	if w.created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/v1/apps/"+string(w.rec.App.ClientID))
	}
	return c.json(status, answer)
}

func (a *API) deleteApp(c *call) error {
	id, err := c.clientID()
	if err != nil {
		return err
	}
	expect := registry.AnyRevision
	if conds := c.r.Header.Values("If-Match"); len(conds) > 0 {
		rec, err := a.app(c)
		if err != nil {
			return err
		}
		if !matches(conds, etag(rec.Revision), strong) {
			return preconditionFailed()
		}
		expect = rec.Revision
	}
	revision, err := a.AppWriter.DeleteApp(c.ctx(), id, expect, c.actor)
	if errors.Is(err, registry.ErrNotFound) {
		return notFound("app")
	}
	if err != nil {
		return err
	}
	if a.AppEvents != nil {
		a.after(c, func(ctx context.Context) error {
			job, err := a.AppEvents.AppDeleted(ctx, id, revision, c.actor)
			if err == nil {
				c.w.Header().Set("Location", "/v1/jobs/"+job)
			}
			return err
		})
	}
	return c.noContent()
}

// pause makes the handler that pauses or resumes an app. Saying it again is no fault and has its
// effect again: resuming opens the gate.
func (a *API) pause(paused bool) handler {
	action := "app.resume"
	if paused {
		action = "app.pause"
	}
	return func(c *call) error {
		if err := c.emptyDocument(); err != nil {
			return err
		}
		w, err := a.write(c, action, func(old *registry.AppRecord, _ partner.ClientID) (partner.App, error) {
			if old == nil {
				return partner.App{}, notFound("app")
			}
			app := old.App
			app.Paused = paused
			return app, nil
		})
		if err != nil {
			return err
		}
		if !paused && a.AppEvents != nil {
			a.after(c, func(ctx context.Context) error { return a.AppEvents.AppResumed(ctx, w.rec) })
		}
		return a.answerApp(c, w)
	}
}
