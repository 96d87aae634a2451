package httpapi

import (
	"maps"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func listAddressProblems(app *partner.App) []apitypes.AddressProblem {
	var out []apitypes.AddressProblem
	for _, e := range app.Addresses() {
		if m, ok := app.MarkOf(e); ok {
			out = append(out, apitypes.AddressProblem{Email: e, State: m.State, Since: m.Since, Code: m.Code})
		}
	}
	return out
}

// revisionETag is the revision as an entity tag.
func revisionETag(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }

func (a *API) newAppAnswer(rec registry.AppRecord) apitypes.App {
	app := rec.App
	answer := newAppShape(&app)
	answer.AddressProblems, answer.MissingLicenses, answer.PublicKeyInfo = listAddressProblems(&app), app.MissingLicenses(), partner.DescribeKeys(app.PublicKeys)
	answer.Paused, answer.Revision, answer.CreatedAt, answer.UpdatedAt = app.Paused, strconv.FormatInt(rec.Revision, 10), app.CreatedAt, app.UpdatedAt
	for _, k := range partner.AllEndpointKinds() {
		*answer.Endpoints.Of(k) = a.newEndpointAnswer(&app, k)
	}
	return answer
}

// The closed set of the member traffic.
const (
	trafficOn  = "on"
	trafficOff = "off"
)

func (a *API) newEndpointAnswer(app *partner.App, k partner.EndpointKind) apitypes.Endpoint {
	e := app.Endpoints[k]
	answer := newEndpointShape(&e)
	answer.EffectiveURL, answer.Traffic = e.EffectiveURL(a.Environment), trafficOff
	answer.OffBy, answer.OffReason, answer.SwitchedAt, answer.SwitchedBy = switchedOffBy(e), e.OffReason, e.SwitchedAt, e.SwitchedBy
	if a.Licences.Usable(app, k, a.Environment) {
		answer.Traffic = trafficOn
	}
	if e.IsOn(a.Environment) {
		answer.MissingLicense = a.Licences.Missing(app, k)
	}
	return answer
}

// newAppShape is an app with the members that callers may write.
func newAppShape(app *partner.App) apitypes.App {
	shape := apitypes.App{
		ClientID: app.ClientID, Name: app.Name, TechnicalContact: apitypes.Contact(app.TechnicalContact), ErrorEmails: cloneList(app.ErrorEmails),
		RequiredLicenses: cloneList(app.RequiredLicenses), GrantedLicenses: cloneList(app.GrantedLicenses), PublicKeys: cloneList(app.PublicKeys),
		TokenAlgorithm: app.TokenAlgorithm, ProbeTenant: app.ProbeTenant, BudgetFactor: app.EffectiveBudgetFactor(),
	}
	for _, k := range partner.AllEndpointKinds() {
		*shape.Endpoints.Of(k) = newEndpointShape(&app.Endpoints[k])
	}
	return shape
}

func newEndpointShape(e *partner.Endpoint) apitypes.Endpoint {
	urls := apitypes.URLs{}
	maps.Copy(urls, e.URLs)
	return apitypes.Endpoint{URL: e.URL, URLs: urls, Enabled: e.Enabled, SendErrorEmails: e.SendErrorEmails}
}

// applyAppShape returns the app with what callers may write.
func applyAppShape(app partner.App, shape *apitypes.App) partner.App {
	app.Name, app.TechnicalContact, app.ErrorEmails = shape.Name, partner.Contact(shape.TechnicalContact), shape.ErrorEmails
	app.RequiredLicenses, app.GrantedLicenses, app.PublicKeys = shape.RequiredLicenses, shape.GrantedLicenses, shape.PublicKeys
	app.TokenAlgorithm, app.ProbeTenant, app.BudgetFactor = shape.TokenAlgorithm, shape.ProbeTenant, shape.BudgetFactor
	if shape.BudgetFactor == 1 { // stored as 0, like the factor of an app whose budgets were never raised
		app.BudgetFactor = 0
	}
	for _, k := range partner.AllEndpointKinds() {
		app.Endpoints[k] = endpointOfShape(shape.Endpoints.Of(k))
	}
	return app
}

func endpointOfShape(shape *apitypes.Endpoint) partner.Endpoint {
	e := partner.Endpoint{URL: shape.URL, Enabled: shape.Enabled, SendErrorEmails: shape.SendErrorEmails}
	if len(shape.URLs) > 0 {
		e.URLs = shape.URLs
	}
	return e
}

// cloneList copies a list, which then belongs to the caller. An absent one becomes an empty one.
func cloneList[T any](s []T) []T { return append([]T{}, s...) }

// emptyIfNil makes an absent list an empty one, so that answers always have an array.
func emptyIfNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// readApp returns the app with the members that a document sets; those that it leaves out are as in base. A null of a merge patch
// resets a member. It collects wrong types and names. partner.ValidateApp checks the values.
func readApp(o *objectReader, base partner.App) partner.App {
	if id, ok := o.readString("client_id"); ok && id != string(base.ClientID) {
		o.add(o.pointerTo("client_id"), "must be the client id of the path, or absent")
	}
	empty := partner.New(base.ClientID)
	shape, reset := newAppShape(&base), newAppShape(&empty)
	readShape(o, &shape, &reset)
	empty.Paused = base.Paused
	return applyAppShape(empty, &shape)
}

// readEndpoint is readApp for one endpoint.
func readEndpoint(o *objectReader, base partner.Endpoint) partner.Endpoint {
	reset := partner.New("").Endpoints[0]
	shape, empty := newEndpointShape(&base), newEndpointShape(&reset)
	readShape(o, &shape, &empty)
	return endpointOfShape(&shape)
}
