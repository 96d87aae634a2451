package partner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Environment is one of the platform's isolated copies; a deployment serves exactly one.
type Environment string

// The closed set of environments.
const (
	// Development is the partners' sandbox.
	Development Environment = "sod"
	// Stage is the platform's test environment; its host name is "qaonline".
	Stage Environment = "stage"
	// Online is production.
	Online Environment = "online"
)

// ErrUnknownEnvironment reports an environment outside the closed set.
var ErrUnknownEnvironment = errors.New("unknown environment: must be one of sod, stage, online")

// AllEnvironments lists the closed set.
func AllEnvironments() []Environment { return []Environment{Development, Stage, Online} }

// ParseEnvironment reads an environment's name.
func ParseEnvironment(s string) (Environment, error) {
	for _, e := range AllEnvironments() {
		if string(e) == s {
			return e, nil
		}
	}
	return "", ErrUnknownEnvironment
}

// Host is the environment's host name under the platform's domain.
func (e Environment) Host() string {
	if e == Stage {
		return "qaonline"
	}
	return string(e)
}

// EndpointKind is one of the four endpoints an app can have. Adding one means: the constants,
// endpointNames, the API document, the mails and the dashboards.
type EndpointKind uint8

// The closed set of endpoint kinds.
const (
	StateChange EndpointKind = iota
	ERPSync
	QuoteConnector
	Mirroring
)

// EndpointKinds is the number of endpoint kinds.
const EndpointKinds = 4

var endpointNames = [EndpointKinds]string{"state_change", "erp_sync", "quote_connector", "mirroring"}

// ErrUnknownEndpoint reports an endpoint outside the closed set.
var ErrUnknownEndpoint = errors.New("unknown endpoint")

// AllEndpointKinds lists the closed set.
func AllEndpointKinds() []EndpointKind {
	return []EndpointKind{StateChange, ERPSync, QuoteConnector, Mirroring}
}

// IntegrationKinds lists the endpoints that the platform's engines call.
func IntegrationKinds() []EndpointKind { return []EndpointKind{ERPSync, QuoteConnector, Mirroring} }

// ParseEndpointKind reads the admin API's name.
func ParseEndpointKind(s string) (EndpointKind, error) {
	for i, n := range endpointNames {
		if n == s {
			return EndpointKind(i), nil
		}
	}
	return 0, fmt.Errorf("%w: must be one of %s", ErrUnknownEndpoint, strings.Join(endpointNames[:], ", "))
}

// String is the admin API's name.
func (k EndpointKind) String() string {
	if int(k) < len(endpointNames) {
		return endpointNames[k]
	}
	return "endpoint(" + strconv.Itoa(int(k)) + ")"
}

// MarshalText writes the admin API's name.
func (k EndpointKind) MarshalText() ([]byte, error) {
	if int(k) >= len(endpointNames) {
		return nil, ErrUnknownEndpoint
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the admin API's name.
func (k *EndpointKind) UnmarshalText(b []byte) error {
	v, err := ParseEndpointKind(string(b))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// OffReason says why the service switched an endpoint off; it is empty when a caller did.
type OffReason string

// The closed set of reasons for a switch-off by the service.
const (
	// OffGone: the endpoint answered 410.
	OffGone OffReason = "gone"
	// OffFailing: it failed without a break for delivery.switch_off_after.
	OffFailing OffReason = "failing"
)

// AllOffReasons lists the closed set.
func AllOffReasons() []OffReason { return []OffReason{OffGone, OffFailing} }

// Endpoint is where one integration of an app is reached, and whether it is on.
type Endpoint struct {
	// URL serves every environment that has no override, empty when unset.
	URL string `json:"url,omitempty"`
	// URLs override URL per environment.
	URLs    map[Environment]string `json:"urls,omitempty"`
	Enabled bool                   `json:"enabled"`
	// SendErrorEmails says whether the app's recipients get mail about this endpoint.
	SendErrorEmails bool `json:"send_error_emails"`
	// OffReason is set when the service switched the endpoint off; switching on clears it.
	OffReason OffReason `json:"off_reason,omitempty"`
	// SwitchedAt is when Enabled last changed, zero when it never did.
	SwitchedAt time.Time `json:"switched_at,omitzero"`
	// SwitchedBy names the token, or the part of the service, that changed it.
	SwitchedBy string `json:"switched_by,omitempty"`
}

// EffectiveURL is the URL that an environment uses, empty when there is none.
func (e Endpoint) EffectiveURL(env Environment) string {
	if u := e.URLs[env]; u != "" {
		return u
	}
	return e.URL
}

// HasURL reports whether any environment has a URL.
func (e Endpoint) HasURL() bool {
	for _, u := range e.URLs {
		if u != "" {
			return true
		}
	}
	return e.URL != ""
}

// SettingsDigest covers the URLs of the environments and whether the endpoint is on and not paused. Settings with the
// same digest are the same for the drainer.
func (e Endpoint) SettingsDigest(paused bool) string {
	h := sha256.New()
	on := e.Enabled && !paused
	_, _ = fmt.Fprint(h, on)
	for _, env := range AllEnvironments() {
		_, _ = fmt.Fprintf(h, ";%q", e.EffectiveURL(env))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// IsOn reports whether the endpoint is switched on and has a URL in an environment.
func (e Endpoint) IsOn(env Environment) bool { return e.Enabled && e.EffectiveURL(env) != "" }
