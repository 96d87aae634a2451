package partner

import (
	"bytes"
	"encoding/json"
	"time"
)

// TokenAlgorithm is the JWS algorithm of an app's Token.
type TokenAlgorithm string

// The closed set of token algorithms.
const (
	RS256 TokenAlgorithm = "RS256"
	ES256 TokenAlgorithm = "ES256"
)

// AllTokenAlgorithms lists the closed set.
func AllTokenAlgorithms() []TokenAlgorithm { return []TokenAlgorithm{RS256, ES256} }

// License is a platform licence an app may need or hold.
type License string

// The closed set of licences.
const (
	CustomApps        License = "custom_apps"
	IntegrationServer License = "integration_server"
	DatabaseMirroring License = "database_mirroring"
	ExpanderServices  License = "expander_services"
)

// AllLicenses lists the closed set.
func AllLicenses() []License {
	return []License{CustomApps, IntegrationServer, DatabaseMirroring, ExpanderServices}
}

// Contact is the person who is responsible for an app.
type Contact struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	// TimeZone is an IANA name; mails use UTC when it is empty.
	TimeZone string `json:"time_zone,omitempty"`
}

// App is a partner's application and its settings. It holds no secret.
type App struct {
	ClientID         ClientID       `json:"client_id"`
	Name             string         `json:"name"`
	TechnicalContact Contact        `json:"technical_contact"`
	ErrorEmails      []string       `json:"error_emails,omitempty"`
	RequiredLicenses []License      `json:"required_licenses,omitempty"`
	GrantedLicenses  []License      `json:"granted_licenses,omitempty"`
	PublicKeys       []string       `json:"public_keys,omitempty"`
	TokenAlgorithm   TokenAlgorithm `json:"token_algorithm"`
	ProbeTenant      string         `json:"probe_tenant,omitempty"`
	// BudgetFactor multiplies the budgets of the app's callers; 0 is 1, see EffectiveBudgetFactor.
	BudgetFactor int `json:"budget_factor,omitempty"`
	// Endpoints is indexed by EndpointKind.
	Endpoints [EndpointKinds]Endpoint `json:"endpoints"`
	// Paused holds notifications back without switching the endpoint off.
	Paused bool `json:"paused,omitempty"`
	// AddressMarks say which addresses get no mail, by the address in lower case.
	AddressMarks map[string]AddressMark `json:"address_marks,omitempty"`
	// Confirmations are those that writes of partners caused, by ConfirmationKey. They are kept for
	// ConfirmationPeriod, even when the address is removed.
	Confirmations map[string]Confirmation `json:"questions,omitempty"`
	// EverHadURL is true once the app has had a state-change URL. Before that, nothing is deposited for it.
	EverHadURL bool      `json:"ever_had_url,omitempty"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at,omitzero"`
}

// Endpoint returns the settings of one endpoint.
func (a *App) Endpoint(k EndpointKind) Endpoint { return a.Endpoints[k] }

// MaxBudgetFactor bounds App.BudgetFactor.
const MaxBudgetFactor = 100

// EffectiveBudgetFactor multiplies the app's budgets: 1, unless an operator raised them.
func (a *App) EffectiveBudgetFactor() int { return max(a.BudgetFactor, 1) }

// HasIntegration reports whether engines need the app's configuration: it has an integration endpoint with
// a URL in any environment, or one that is on.
func (a *App) HasIntegration() bool {
	for _, k := range IntegrationKinds() {
		if a.Endpoints[k].Enabled || a.Endpoints[k].HasURL() {
			return true
		}
	}
	return false
}

// IsDelivering reports whether state changes flow to the app in an environment.
func (a *App) IsDelivering(env Environment) bool {
	return !a.Paused && a.Endpoints[StateChange].IsOn(env)
}

// ErrorRecipients are the addresses that get the app's error mail: the list if any, else the
// technical contact.
func (a *App) ErrorRecipients() []string {
	if len(a.ErrorEmails) > 0 {
		return a.ErrorEmails
	}
	if a.TechnicalContact.Email != "" {
		return []string{a.TechnicalContact.Email}
	}
	return nil
}

// New is an app with default settings: RS256 tokens, error mail on for each endpoint.
func New(id ClientID) App {
	a := App{ClientID: id, TokenAlgorithm: RS256}
	for i := range a.Endpoints {
		a.Endpoints[i].SendErrorEmails = true
	}
	return a
}

// NormalizeApp derives the members that the service maintains from those that a caller wrote. It sets
// SwitchedAt where a switch moves, clears OffReason where one is switched on, and sets EverHadURL. It
// takes SwitchedBy from the caller's app where a switch moves, and else keeps the old one. old is nil
// for a new app.
func NormalizeApp(app App, old *App, now time.Time) App {
	app.UpdatedAt = now
	app.CreatedAt = now
	if old != nil {
		app.CreatedAt = old.CreatedAt
		app.EverHadURL = app.EverHadURL || old.EverHadURL
	}
	app = keepMarks(app, old)
	app.Confirmations = nil
	if old != nil {
		app.Confirmations = old.Confirmations
	}
	for i := range app.Endpoints {
		e := &app.Endpoints[i]
		var was Endpoint
		if old != nil {
			was = old.Endpoints[i]
		}
		if e.Enabled != was.Enabled {
			e.SwitchedAt = now
		} else {
			e.SwitchedAt, e.SwitchedBy = was.SwitchedAt, was.SwitchedBy
			if e.OffReason == "" {
				e.OffReason = was.OffReason
			}
		}
		if e.Enabled {
			e.OffReason = ""
		}
	}
	e := app.Endpoints[StateChange]
	app.EverHadURL = app.EverHadURL || e.HasURL()
	if old != nil && isSameExceptTime(app, *old) {
		app.UpdatedAt = old.UpdatedAt
	}
	return app
}

// isSameExceptTime reports whether two apps are stored as the same text, apart from the time of the write.
// An empty list is stored like a missing one.
func isSameExceptTime(a, b App) bool {
	b.UpdatedAt = a.UpdatedAt
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
