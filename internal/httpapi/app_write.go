package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// AppWriter writes apps; *apps.Writer is one.
type AppWriter interface {
	Write(ctx context.Context, w apps.Write) (apps.Result, error)
	SetPaused(ctx context.Context, w apps.Write, paused bool) (apps.Result, error)
	RotateSecret(ctx context.Context, r apps.Rotation) (apps.Rotated, error)
	// Delete returns the job that clears away after the app, empty when it starts later.
	Delete(ctx context.Context, id partner.ClientID, actor registry.Actor, pre apps.Precondition) (job string, err error)
	// CountTest counts a test of an endpoint. Its error is an *apps.BudgetError.
	CountTest(app *partner.App, k partner.EndpointKind) error
	// NewAddresses is how many new addresses a day a partner may set for an app.
	NewAddresses() int
}

// appChange makes the app to write from the stored one, which is nil when there is none.
type appChange func(old *registry.AppRecord, id partner.ClientID) (partner.App, error)

// newAppWrite makes the write of the path's app that the request asks for, without its change.
func (c *call) newAppWrite(action string) (apps.Write, error) {
	id, err := c.pathClientID()
	if err != nil {
		return apps.Write{}, err
	}
	force, err := c.readForce()
	return apps.Write{
		App: id, Action: action, Force: force, Precondition: c.precondition(),
		Caller: apps.Caller{Actor: c.actor, Partner: c.role.Kind == Partner, Factor: c.factor},
	}, err
}

// readForce reads the parameter force.
func (c *call) readForce() (bool, error) {
	switch values := c.r.URL.Query()["force"]; {
	case len(values) == 0:
		return false, nil
	case len(values) == 1 && (values[0] == "true" || values[0] == "false"):
		return values[0] == "true", nil
	default:
		return false, invalidProblem(FieldError{Pointer: "/force", Detail: "must be true or false"})
	}
}

// precondition is that of the headers If-Match and If-None-Match, nil without one.
func (c *call) precondition() apps.Precondition {
	match, noneMatch := c.r.Header.Values("If-Match"), c.r.Header.Values("If-None-Match")
	if len(match)+len(noneMatch) == 0 {
		return nil
	}
	return func(stored *registry.AppRecord) error {
		tag := ""
		if stored != nil {
			tag = revisionETag(stored.Revision)
		}
		if len(match) > 0 && !matchesETag(match, tag, strong) || len(noneMatch) > 0 && matchesETag(noneMatch, tag, weak) {
			return preconditionFailedProblem()
		}
		return nil
	}
}

// updateApp writes what change makes of the path's app, if the role may change it so.
func (a *API) updateApp(c *call, action string, change appChange) (apps.Result, error) {
	w, err := c.newAppWrite(action)
	if err != nil {
		return apps.Result{}, err
	}
	w.Change = func(old *registry.AppRecord) (partner.App, error) {
		app, err := change(old, w.App)
		if err == nil {
			err = checkPermittedChanges(c.role, old, app)
		}
		return app, err
	}
	r, err := a.AppWriter.Write(c.ctx(), w)
	return r, c.writeProblem(err)
}

// writeProblem turns an error of the use case into the problem of the answer.
func (c *call) writeProblem(err error) error {
	var addresses *apps.AddressError
	var licences *apps.LicenceError
	var probes *apps.ProbeError
	var budget *apps.BudgetError
	switch {
	case errors.As(err, &addresses):
		faults := make([]FieldError, len(addresses.Faults))
		for i, f := range addresses.Faults {
			faults[i] = c.describeRefusedURL(f)
		}
		return invalidProblem(faults...)
	case errors.As(err, &licences):
		return licenceMissingProblem(licences.Fields)
	case errors.As(err, &probes):
		failed := make([]FieldError, len(probes.Failures))
		for i, f := range probes.Failures {
			failed[i] = FieldError{Pointer: f.Pointer, Detail: c.describeFinding(f)}
		}
		return probeFailedProblem(failed)
	case errors.As(err, &budget):
		return c.budgetProblem(budget)
	case errors.Is(err, apps.ErrBusy):
		p := unavailableProblem()
		p.Detail = "Other callers keep changing the app: nothing was written. Try again."
		return p
	case errors.Is(err, registry.ErrNotFound):
		return notFoundProblem("app")
	}
	return err
}

func (c *call) budgetProblem(e *apps.BudgetError) *Problem {
	switch e.Budget {
	case apps.HostNames:
		return tooManyRequestsProblem(budgetNames, "The number of host names that are looked up for this app is limited: "+
			describeRate(apps.NamesBurst, apps.NamesInterval, c.factor)+". Nothing was written.", e.Wait)
	case apps.NewAddresses:
		return tooManyRequestsProblem(budgetAddresses, e.Error(), e.Wait)
	default:
		return tooManyRequestsProblem(budgetTests, "This endpoint was tried several times just now.", e.Wait)
	}
}

// describeRefusedURL says why a URL is refused. A partner gets the exact reason only if it is about the URL's text.
func (c *call) describeRefusedURL(f apps.AddressFault) FieldError {
	if f.WeakKey {
		return FieldError{Pointer: f.Pointer, Detail: told.FindCause("tls_weak_key").Description(partner.StateChange)}
	}
	if blocked, ok := errors.AsType[*guard.BlockedError](f.Err); c.role.Kind != Partner || ok && blocked.Reason.IsAboutText() {
		return FieldError{Pointer: f.Pointer, Detail: f.Err.Error()}
	}
	return FieldError{Pointer: f.Pointer, Detail: told.UnreachableReason().Description(partner.StateChange).String()}
}

// describeFinding describes a probe's result to the caller.
func (c *call) describeFinding(f apps.ProbeFailure) string {
	said := c.explainCause(f.Result.Cause, f.Endpoint)
	if more := c.detailForOperators(f.Result.Detail); more != nil && more.Detail != "" {
		return more.Detail
	}
	return strings.TrimSpace(said.Description.String() + ". " + said.Advice.String())
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

func licenceMissingProblem(errs []FieldError) *Problem {
	p := newProblem(http.StatusConflict, "licence-missing", "A licence is missing",
		"An admin must grant the licences named in errors first; nothing was changed.")
	p.Errors = errs
	return p
}

func probeFailedProblem(errs []FieldError) *Problem {
	p := newProblem(http.StatusConflict, "probe-failed", "The endpoint did not pass its probe",
		"Correct what errors says, or write it all the same with ?force=true; nothing was changed.")
	p.Errors = errs
	return p
}

// switchedOffBy says whether the service or a caller switched an endpoint off.
func switchedOffBy(e partner.Endpoint) string {
	switch {
	case e.Enabled:
		return ""
	case e.OffReason != "":
		return "service"
	case e.SwitchedAt.IsZero():
		return ""
	default:
		return "people"
	}
}
