package httpapi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// appAnswer is an app as answers show it.
type appAnswer struct {
	ClientID         partner.ClientID  `json:"client_id"`
	Name             string            `json:"name"`
	TechnicalContact contactAnswer     `json:"technical_contact"`
	ErrorEmails      []string          `json:"error_emails"`
	RequiredLicenses []partner.License `json:"required_licenses"`
	GrantedLicenses  []partner.License `json:"granted_licenses"`
	// AddressProblems are the addresses that get no mail at present.
	AddressProblems []addressProblem `json:"address_problems,omitempty"`
	// MissingLicenses are required and not granted.
	MissingLicenses []partner.License `json:"missing_licenses,omitempty"`
	PublicKeys      []string          `json:"public_keys"`
	// PublicKeyInfo describes public_keys in their order.
	PublicKeyInfo  []partner.KeyInfo      `json:"public_key_info,omitempty"`
	TokenAlgorithm partner.TokenAlgorithm `json:"token_algorithm"`
	ProbeTenant    string                 `json:"probe_tenant"`
	BudgetFactor   int                    `json:"budget_factor"`
	Endpoints      endpointsAnswer        `json:"endpoints"`
	Paused         bool                   `json:"paused"`
	Revision       string                 `json:"revision"`
	CreatedAt      time.Time              `json:"created_at,omitzero"`
	UpdatedAt      time.Time              `json:"updated_at,omitzero"`
	// WebhookSecret is shown once, when the app is made.
	WebhookSecret string       `json:"webhook_secret,omitempty"`
	Warnings      []FieldError `json:"warnings,omitempty"`
}

type addressProblem struct {
	Email string               `json:"email"`
	State partner.AddressState `json:"state"`
	Since time.Time            `json:"since"`
	// Code is the mail server's, for a bounced address.
	Code int `json:"code,omitempty"`
}

func listAddressProblems(app *partner.App) []addressProblem {
	var out []addressProblem
	for _, e := range app.Addresses() {
		if m, ok := app.MarkOf(e); ok {
			out = append(out, addressProblem{e, m.State, m.Since, m.Code})
		}
	}
	return out
}

type contactAnswer struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	TimeZone string `json:"time_zone"`
}

type endpointsAnswer struct {
	StateChange    endpointAnswer `json:"state_change"`
	ERPSync        endpointAnswer `json:"erp_sync"`
	QuoteConnector endpointAnswer `json:"quote_connector"`
	Mirroring      endpointAnswer `json:"mirroring"`
}

type endpointAnswer struct {
	URL             string                         `json:"url"`
	URLs            map[partner.Environment]string `json:"urls"`
	Enabled         bool                           `json:"enabled"`
	SendErrorEmails bool                           `json:"send_error_emails"`
	EffectiveURL    string                         `json:"effective_url"`
	// Traffic is "on" while the platform may call the endpoint, else "off".
	Traffic string `json:"traffic"`
	// OffBy is "service" or "people" for an endpoint that was switched off, else empty.
	OffBy      string            `json:"off_by,omitempty"`
	OffReason  partner.OffReason `json:"off_reason,omitempty"`
	SwitchedAt time.Time         `json:"switched_at,omitzero"`
	SwitchedBy string            `json:"switched_by,omitempty"`
	// MissingLicense keeps an endpoint that is on from being called.
	MissingLicense partner.License `json:"missing_license,omitempty"`
	// Health is set only in the answer of the endpoint's own resource.
	Health   *healthAnswer `json:"health,omitempty"`
	Warnings []FieldError  `json:"warnings,omitempty"`
}

// revisionETag is the revision as an entity tag.
func revisionETag(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }

func (a *API) newAppAnswer(rec registry.AppRecord) appAnswer {
	app := rec.App
	return appAnswer{
		ClientID: app.ClientID, Name: app.Name, TechnicalContact: contactAnswer(app.TechnicalContact),
		ErrorEmails: emptyIfNil(app.ErrorEmails), AddressProblems: listAddressProblems(&app), RequiredLicenses: emptyIfNil(app.RequiredLicenses), GrantedLicenses: emptyIfNil(app.GrantedLicenses),
		MissingLicenses: app.MissingLicenses(),
		PublicKeys:      emptyIfNil(app.PublicKeys), PublicKeyInfo: partner.DescribeKeys(app.PublicKeys), TokenAlgorithm: app.TokenAlgorithm, ProbeTenant: app.ProbeTenant,
		BudgetFactor: app.EffectiveBudgetFactor(),
		Endpoints: endpointsAnswer{
			StateChange: a.newEndpointAnswer(&app, partner.StateChange), ERPSync: a.newEndpointAnswer(&app, partner.ERPSync),
			QuoteConnector: a.newEndpointAnswer(&app, partner.QuoteConnector), Mirroring: a.newEndpointAnswer(&app, partner.Mirroring),
		},
		Paused: app.Paused, Revision: strconv.FormatInt(rec.Revision, 10), CreatedAt: app.CreatedAt, UpdatedAt: app.UpdatedAt,
	}
}

func (a *API) newEndpointAnswer(app *partner.App, k partner.EndpointKind) endpointAnswer {
	e := app.Endpoints[k]
	urls := e.URLs
	if urls == nil {
		urls = map[partner.Environment]string{}
	}
	answer := endpointAnswer{
		URL: e.URL, URLs: urls, Enabled: e.Enabled, SendErrorEmails: e.SendErrorEmails,
		EffectiveURL: e.EffectiveURL(a.Environment), OffBy: switchedOffBy(e), OffReason: e.OffReason, SwitchedAt: e.SwitchedAt,
		SwitchedBy: e.SwitchedBy, Traffic: "off",
	}
	if a.Licences.Usable(app, k, a.Environment) {
		answer.Traffic = "on"
	}
	if e.IsOn(a.Environment) {
		answer.MissingLicense = a.Licences.Missing(app, k)
	}
	return answer
}

// emptyIfNil makes an absent list an empty one, so that answers always have an array.
func emptyIfNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// readApp returns the app with the members that a document sets; members that the document leaves out keep the
// app's values. It collects wrong types and names. partner.ValidateApp checks the values.
func readApp(o *objectReader, app partner.App) partner.App {
	if id, ok := o.readString("client_id"); ok && id != string(app.ClientID) {
		o.add(o.pointerTo("client_id"), "must be the client id of the path, or absent")
	}
	app.Name, _ = o.readRequiredString("name")
	contact := o.readObject("technical_contact")
	app.TechnicalContact.Name, _ = contact.readString("name")
	app.TechnicalContact.Email, _ = contact.readString("email")
	app.TechnicalContact.TimeZone, _ = contact.readString("time_zone")
	contact.reportUnknownMembers()
	app.ErrorEmails, _ = o.readStrings("error_emails", partner.MaxErrorEmails)
	app.RequiredLicenses, _ = readLicenses(o, "required_licenses")
	if granted, ok := readLicenses(o, "granted_licenses"); ok {
		app.GrantedLicenses = granted
	}
	app.PublicKeys, _ = o.readStrings("public_keys", partner.MaxPublicKeys)
	if alg, ok := o.readString("token_algorithm"); ok {
		app.TokenAlgorithm = partner.TokenAlgorithm(alg)
	}
	app.ProbeTenant, _ = o.readString("probe_tenant")
	if n, ok := o.readInt("budget_factor", 1, partner.MaxBudgetFactor); ok {
		app.BudgetFactor = int(n)
		if n == 1 { // stored as 0, like the factor of an app whose budgets were never raised
			app.BudgetFactor = 0
		}
	}
	endpoints := o.readObject("endpoints")
	for _, k := range partner.AllEndpointKinds() {
		app.Endpoints[k] = readEndpoint(endpoints.readObject(k.String()))
	}
	endpoints.reportUnknownMembers()
	o.ignoreMembers("address_problems", "public_key_info", "paused", "revision", "created_at", "updated_at", "warnings", "missing_licenses")
	o.refuseMember("webhook_secret", "cannot be set: the service makes it, POST …/secrets replaces it")
	o.reportUnknownMembers()
	return app
}

func readLicenses(o *objectReader, name string) ([]partner.License, bool) {
	words, ok := o.readStrings(name, len(partner.AllLicenses()))
	out := make([]partner.License, len(words))
	for i, w := range words {
		out[i] = partner.License(w)
	}
	return out, ok
}

func readEndpoint(o *objectReader) partner.Endpoint {
	e := partner.Endpoint{SendErrorEmails: true}
	e.URL, _ = o.readString("url")
	urls := o.readObject("urls")
	for _, env := range partner.AllEnvironments() {
		if u, ok := urls.readString(string(env)); ok && u != "" {
			if e.URLs == nil {
				e.URLs = map[partner.Environment]string{}
			}
			e.URLs[env] = u
		}
	}
	urls.reportUnknownMembers()
	e.Enabled, _ = o.readBool("enabled")
	if send, ok := o.readBool("send_error_emails"); ok {
		e.SendErrorEmails = send
	}
	o.ignoreMembers("effective_url", "health", "traffic", "off_by", "off_reason", "switched_at", "switched_by", "missing_license", "warnings")
	o.reportUnknownMembers()
	return e
}

// appDocument is the writable part of an app, to which merge patches are applied.
func appDocument(app partner.App) map[string]any {
	endpoints := map[string]any{}
	for _, k := range partner.AllEndpointKinds() {
		endpoints[k.String()] = endpointDocument(app.Endpoints[k])
	}
	return map[string]any{
		"name": app.Name,
		"technical_contact": map[string]any{
			"name": app.TechnicalContact.Name, "email": app.TechnicalContact.Email, "time_zone": app.TechnicalContact.TimeZone,
		},
		"error_emails": toAnySlice(app.ErrorEmails), "required_licenses": toAnySlice(app.RequiredLicenses),
		"granted_licenses": toAnySlice(app.GrantedLicenses), "public_keys": toAnySlice(app.PublicKeys),
		"token_algorithm": string(app.TokenAlgorithm), "probe_tenant": app.ProbeTenant, "endpoints": endpoints,
		"budget_factor": json.Number(strconv.Itoa(app.EffectiveBudgetFactor())),
	}
}

func endpointDocument(e partner.Endpoint) map[string]any {
	urls := map[string]any{}
	for env, u := range e.URLs {
		urls[string(env)] = u
	}
	return map[string]any{"url": e.URL, "urls": urls, "enabled": e.Enabled, "send_error_emails": e.SendErrorEmails}
}

func toAnySlice[T ~string](s []T) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = string(v)
	}
	return out
}
