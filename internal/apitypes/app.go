package apitypes

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// FieldError is a fault of one member.
type FieldError = partner.FieldError

// App is a partner's app.
type App struct {
	ClientID         partner.ClientID       `json:"client_id"`
	Name             string                 `json:"name" api:"write,by=operator,required,maxLength=200"`
	TechnicalContact Contact                `json:"technical_contact" api:"write"`
	ErrorEmails      []string               `json:"error_emails" api:"write,unordered,maxItems=10"`
	RequiredLicenses []partner.License      `json:"required_licenses" api:"write,by=operator,unordered,maxItems=4"`
	GrantedLicenses  []partner.License      `json:"granted_licenses" api:"write,by=admin,unordered,maxItems=4" doc:"A PUT without it keeps it."`
	AddressProblems  []AddressProblem       `json:"address_problems,omitempty" doc:"The addresses that get no mail at present."`
	MissingLicenses  []partner.License      `json:"missing_licenses,omitempty" doc:"Required and not granted."`
	PublicKeys       []string               `json:"public_keys" api:"write,maxItems=4"`
	PublicKeyInfo    []partner.KeyInfo      `json:"public_key_info,omitempty" doc:"Describes public_keys in their order."`
	TokenAlgorithm   partner.TokenAlgorithm `json:"token_algorithm" api:"write,by=operator"`
	ProbeTenant      string                 `json:"probe_tenant" api:"write,by=operator"`
	BudgetFactor     int                    `json:"budget_factor" api:"write,by=operator,min=1,max=100" doc:"Multiplies the app's budgets; a PUT without it keeps it."`
	Endpoints        Endpoints              `json:"endpoints" api:"write"`
	Paused           bool                   `json:"paused"`
	Revision         string                 `json:"revision"`
	CreatedAt        time.Time              `json:"created_at,omitzero"`
	UpdatedAt        time.Time              `json:"updated_at,omitzero"`
	WebhookSecret    string                 `json:"webhook_secret,omitempty" api:"refused" doc:"The service makes it, the answer that makes the app shows it, and POST …/secrets replaces it."`
	Warnings         []FieldError           `json:"warnings,omitempty"`
}

// Contact is whom mails of an app address.
type Contact struct {
	Name     string `json:"name" api:"write"`
	Email    string `json:"email" api:"write"`
	TimeZone string `json:"time_zone" api:"write" doc:"An IANA name; UTC when empty."`
}

// AddressProblem is an address that gets no mail at present.
type AddressProblem struct {
	Email string               `json:"email"`
	State partner.AddressState `json:"state"`
	Since time.Time            `json:"since"`
	Code  int                  `json:"code,omitempty" doc:"The mail server's, for a bounced address."`
}

// Endpoints are the endpoints of an app, by kind.
type Endpoints struct {
	StateChange    Endpoint `json:"state_change" api:"write"`
	ERPSync        Endpoint `json:"erp_sync" api:"write"`
	QuoteConnector Endpoint `json:"quote_connector" api:"write"`
	Mirroring      Endpoint `json:"mirroring" api:"write"`
}

// Of returns the endpoint of a kind.
func (e *Endpoints) Of(k partner.EndpointKind) *Endpoint {
	return [...]*Endpoint{&e.StateChange, &e.ERPSync, &e.QuoteConnector, &e.Mirroring}[k]
}

// URLs override an endpoint's URL by environment.
type URLs map[partner.Environment]string

// Endpoint is an endpoint of an app.
type Endpoint struct {
	URL             string            `json:"url" api:"write,maxLength=2048"`
	URLs            URLs              `json:"urls" api:"write"`
	Enabled         bool              `json:"enabled" api:"write"`
	SendErrorEmails bool              `json:"send_error_emails" api:"write" doc:"Whether its failures are mailed; a PUT without it means true."`
	EffectiveURL    string            `json:"effective_url" doc:"The one that this deployment uses."`
	Traffic         string            `json:"traffic" api:"ref=Traffic" doc:"Whether the platform may call it."`
	OffBy           string            `json:"off_by,omitempty" api:"ref=SwitchedOffBy"`
	OffReason       partner.OffReason `json:"off_reason,omitempty"`
	SwitchedAt      time.Time         `json:"switched_at,omitzero"`
	SwitchedBy      string            `json:"switched_by,omitempty"`
	MissingLicense  partner.License   `json:"missing_license,omitempty" doc:"Keeps an endpoint that is on from being called."`
	Health          *EndpointHealth   `json:"health,omitempty" doc:"Only in the answer of the endpoint's own resource."`
	Warnings        []FieldError      `json:"warnings,omitempty"`
}

// EndpointHealth is what is known of an endpoint.
type EndpointHealth struct {
	State string    `json:"state" api:"ref=HealthState"`
	Since time.Time `json:"since,omitzero"`
	told.FailureInfo
	*OperatorDetail
	CheckedAt         time.Time `json:"checked_at,omitzero"`
	NextCheckAt       time.Time `json:"next_check_at,omitzero" doc:"When the next probe is made."`
	CertificateEndsAt time.Time `json:"certificate_ends_at,omitzero" doc:"When the TLS certificate ends that the last probe saw."`
}

// OperatorDetail is text that only operators and admins may read: the text of an error, which may hold addresses and names from
// certificates. Only package httpapi makes one, by the caller's role.
type OperatorDetail struct {
	Detail string `json:"detail,omitempty" doc:"More about the failure, such as the text of an error; for operators and admins only."`
}

// Tenant is a tenant with its status.
type Tenant struct {
	Tenant         tenant.ID    `json:"tenant"`
	State          tenant.State `json:"state" api:"write,required"`
	IsRunning      bool         `json:"is_running"`
	PublicEndpoint string       `json:"public_endpoint" api:"write,maxLength=253" doc:"The tenant's last known when a write leaves it out."`
	VersionName    string       `json:"version_name" api:"write,maxLength=200" doc:"The tenant's last known when a write leaves it out."`
	FileVersion    string       `json:"file_version" api:"write,maxLength=200" doc:"The tenant's last known when a write leaves it out."`
	UpdatedAt      time.Time    `json:"updated_at,omitzero"`
	Sequence       *int64       `json:"sequence,omitempty" doc:"The newest change's."`
	FanOutOwed     *bool        `json:"fan_out_owed,omitempty" doc:"True until every app's mailbox has it."`
	SourceSequence int64        `json:"source_sequence,omitempty" api:"min=1" doc:"The highest that came with an accepted change. Absent when none did."`
}

// Keys are the names of the environments.
func (URLs) Keys() []string {
	out := []string{}
	for _, e := range partner.AllEnvironments() {
		out = append(out, string(e))
	}
	return out
}
