package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	// casAttempts bounds how often a write without If-Match is tried while other callers write the app.
	casAttempts = 20
	// eventsWithin bounds the work after a write is durable.
	eventsWithin = 10 * time.Second
)

// appChange makes the app to write from the stored one, which is nil when there is none.
type appChange func(old *registry.AppRecord, id partner.ClientID) (partner.App, error)

type writeResult struct {
	rec      registry.AppRecord
	created  bool
	warnings []FieldError
	// secret is the webhook secret that the write made, empty when it made none.
	secret string
}

// updateApp reads the path's app, changes it, and writes it if the stored one is still the one that was read.
// After a conflict with another write it starts over, or fails with 412 when the caller named a revision.
func (a *API) updateApp(c *call, action string, change appChange) (writeResult, error) {
	id, err := c.pathClientID()
	if err != nil {
		return writeResult{}, err
	}
	sw, err := a.newSwitchChecker(c)
	if err != nil {
		return writeResult{}, err
	}
	var w writeResult
	err = retryOnConflict(c, func() (err error) {
		w, err = a.tryUpdateApp(c, id, action, change, sw)
		return err
	})
	return w, err
}

// retryOnConflict repeats a write after a conflict with another one, unless the caller set a precondition.
func retryOnConflict(c *call, once func() error) error {
	for range casAttempts {
		err := once()
		if !errors.Is(err, registry.ErrConflict) || len(c.r.Header.Values("If-Match")) > 0 || len(c.r.Header.Values("If-None-Match")) > 0 {
			return err
		}
	}
	p := unavailableProblem()
	p.Detail = "Other callers keep changing the app: nothing was written. Try again."
	return p
}

func (a *API) tryUpdateApp(c *call, id partner.ClientID, action string, change appChange, sw *switchChecker) (writeResult, error) {
	old, err := a.readForUpdate(c, id)
	if err != nil {
		return writeResult{}, err
	}
	app, err := change(old, id)
	if err != nil {
		return writeResult{}, err
	}
	warnings, err := a.checkWrite(c, old, app, sw)
	if err != nil {
		return writeResult{}, err
	}
	w, expect := writeResult{warnings: warnings}, registry.NoRevision
	var secrets *registry.WebhookSecrets
	var before *partner.App
	if old == nil {
		if w.secret, err = a.newWebhookSecret(); err != nil {
			return writeResult{}, err
		}
		secrets = &registry.WebhookSecrets{Current: secret.New(w.secret)}
	} else {
		expect, before = old.Revision, &old.App
	}
	for i := range app.Endpoints {
		app.Endpoints[i].SwitchedBy = c.actor.Name
	}
	app = partner.NormalizeApp(app, before, a.Now().UTC())
	if c.role.Kind == Partner {
		if app, w.warnings, err = a.requestConfirmations(app, before, w.warnings); err != nil {
			return writeResult{}, err
		}
	}
	notes := sw.auditNotes(old, &app)
	if w.rec, w.created, err = a.AppWriter.PutApp(c.ctx(), app, expect, secrets, c.actor, action, notes...); err != nil {
		return writeResult{}, err
	}
	a.reportAppWritten(c, old, w.rec)
	return w, nil
}

// requestConfirmations marks the new addresses of a partner's write for confirmation, within the app's budget.
func (a *API) requestConfirmations(app partner.App, before *partner.App, warnings []FieldError) (partner.App, []FieldError, error) {
	now := a.Now().UTC()
	app, unasked, err := partner.MarkNewUnconfirmed(app, before, now, a.NewAddresses*app.EffectiveBudgetFactor())
	if beyond, ok := errors.AsType[*partner.NewAddressesError](err); ok {
		wait := 24 * time.Hour
		if !beyond.Until.IsZero() {
			wait = beyond.Until.Sub(now)
		}
		return app, nil, tooManyRequestsProblem(budgetAddresses, beyond.Error(), wait)
	}
	return app, append(warnings, unasked...), err
}

// checkWrite checks a write before it is made: the role, the rules, the addresses, and the switches that it turns on.
func (a *API) checkWrite(c *call, old *registry.AppRecord, app partner.App, sw *switchChecker) (warnings []FieldError, err error) {
	if err := checkPermittedChanges(c.role, old, app); err != nil {
		return nil, err
	}
	if err := partner.ValidateApp(&app); err != nil {
		return nil, err
	}
	var before *partner.App
	if old != nil {
		before = &old.App
	}
	if err := partner.CheckNewAddresses(&app, before, guard.IsConfusing); err != nil {
		return nil, err
	}
	if warnings, err = a.checkAddresses(c, old, app, sw); err != nil {
		return nil, err
	}
	if err := sw.checkSwitches(old, &app); err != nil {
		return nil, err
	}
	return warnings, sw.probeEndpoints(c.ctx(), old, &app)
}

// readForUpdate reads the app and checks the request's preconditions against it.
func (a *API) readForUpdate(c *call, id partner.ClientID) (*registry.AppRecord, error) {
	rec, err := a.Apps.App(c.ctx(), id)
	exists := err == nil
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	tag := ""
	if exists {
		tag = revisionETag(rec.Revision)
	}
	if conds := c.r.Header.Values("If-Match"); len(conds) > 0 && !matchesETag(conds, tag, strong) {
		return nil, preconditionFailedProblem()
	}
	if conds := c.r.Header.Values("If-None-Match"); len(conds) > 0 && matchesETag(conds, tag, weak) {
		return nil, preconditionFailedProblem()
	}
	if !exists {
		return nil, nil //nolint:nilnil // no app is an answer here, and the caller's to judge
	}
	return &rec, nil
}

// reportAppWritten notifies the service of a write. It continues when the caller disconnects.
func (a *API) reportAppWritten(c *call, old *registry.AppRecord, rec registry.AppRecord) {
	if a.AppEvents != nil {
		a.runFollowUp(c, func(ctx context.Context) error { return a.AppEvents.AppWritten(ctx, old, rec, c.actor) })
	}
}

func (a *API) runFollowUp(c *call, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), eventsWithin)
	defer cancel()
	if err := f(ctx); err != nil {
		a.Log.LogAttrs(ctx, slog.LevelError, "app written, but a step after the write failed; the service repairs it",
			slog.String("request_id", c.id), slog.String("app", string(c.app)), slog.Any("err", err))
	}
}

// checkPermittedChanges refuses a write of members that the role may not change, and names them.
func checkPermittedChanges(role Role, old *registry.AppRecord, app partner.App) error {
	if role.Kind == Admin {
		return nil
	}
	var before partner.App
	if old != nil {
		before = old.App
	}
	if role.Kind == Partner && old == nil {
		return forbiddenProblem("An operator has to make the app first.")
	}
	var faults []FieldError
	was, is := newAppShape(&before), newAppShape(&app)
	for _, m := range apitypes.ShapeOf(reflect.TypeFor[apitypes.App]()).Members {
		who := "an admin"
		if m.By == "operator" {
			who = "an operator or admin"
		}
		if m.By == "" || m.By == "operator" && role.Kind != Partner {
			continue
		}
		if !sameValues(reflect.ValueOf(was).FieldByIndex(m.Index), reflect.ValueOf(is).FieldByIndex(m.Index)) {
			faults = append(faults, FieldError{Pointer: "/" + m.Name, Detail: "may be changed by " + who + " alone"})
		}
	}
	if len(faults) > 0 {
		return forbiddenProblem("The members named in errors may not be changed.", faults...)
	}
	return nil
}

// sameValues reports whether two values of a member say the same. The order of a list, and repeats in it, do not count.
func sameValues(a, b reflect.Value) bool {
	if a.Kind() != reflect.Slice {
		return a.Equal(b)
	}
	return containsAll(a, b) && containsAll(b, a)
}

func containsAll(list, items reflect.Value) bool {
	for i := range items.Len() {
		found := false
		for j := 0; j < list.Len() && !found; j++ {
			found = list.Index(j).Equal(items.Index(i))
		}
		if !found {
			return false
		}
	}
	return true
}

type urlMember struct{ pointer, url string }

// changedEndpointURLs lists the URLs of an endpoint that differ from the stored ones.
func changedEndpointURLs(k partner.EndpointKind, e, before partner.Endpoint) []urlMember {
	var out []urlMember
	pointer := "/endpoints/" + k.String()
	if e.URL != "" && e.URL != before.URL {
		out = append(out, urlMember{pointer + "/url", e.URL})
	}
	for _, env := range partner.AllEnvironments() {
		if u := e.URLs[env]; u != "" && u != before.URLs[env] {
			out = append(out, urlMember{pointer + "/urls/" + string(env), u})
		}
	}
	return out
}
