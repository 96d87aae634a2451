package health

import (
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Reason is what a probe found: a metric label, and a value in the API. CONTRIBUTING.md says how to add one.
type Reason string

// The closed set of reasons.
const (
	// Healthy: it answered as it should.
	Healthy Reason = "healthy"

	DNS        Reason = "dns"
	Refused    Reason = "refused"
	Reset      Reason = "reset"
	HalfClosed Reason = "half_closed"
	Timeout    Reason = "timeout"
	Trickling  Reason = "trickling"
	TooLarge   Reason = "too_large"
	NotHTTP    Reason = "not_http"

	TLSExpired          Reason = "tls_expired"
	TLSUnknownAuthority Reason = "tls_unknown_authority"
	TLSWrongHost        Reason = "tls_wrong_host"
	TLSRefused          Reason = "tls_refused"
	// TLSClientCertificate: it asks for a certificate, in the handshake or by renegotiating.
	TLSClientCertificate Reason = "tls_client_certificate"
	TLSProtocol          Reason = "tls_protocol"
	// TLSWeakKey: a certificate has an RSA key that is too short.
	TLSWeakKey Reason = "tls_weak_key"

	BlockedAddress Reason = "blocked_address"

	GETOnly     Reason = "get_only"
	NotFound    Reason = "not_found"
	Redirect    Reason = "redirect"
	AuthError   Reason = "auth_error"
	RateLimited Reason = "rate_limited"
	Gone        Reason = "gone"
	ClientError Reason = "client_error"
	ServerError Reason = "server_error"

	HTML             Reason = "html"
	NotSOAP          Reason = "not_soap"
	SOAP12           Reason = "soap_1_2"
	UnsafeXML        Reason = "unsafe_xml"
	Fault            Reason = "fault"
	UnexpectedAnswer Reason = "unexpected_answer"
	// Unreadable: an answer came that cannot be read.
	Unreadable Reason = "unreadable"

	NotSuccessful Reason = "not_successful"
	NoToken       Reason = "no_token"
	BadToken      Reason = "bad_token"
	WrongNonce    Reason = "wrong_nonce"
	StaleMinute   Reason = "stale_minute"
	WrongKey      Reason = "wrong_key"
	NoPublicKey   Reason = "no_public_key"

	// NoTenant: no probe was made, because no tenant approved the app.
	NoTenant Reason = "no_tenant"
	// OwnFault: the fault is the service's own, and says nothing about the endpoint.
	OwnFault Reason = "own_fault"
)

// description is what a reason means to the incident machine.
type description struct {
	reason   Reason
	delivery delivery.Reason
}

func listDescriptions() []description {
	return []description{
		{Healthy, delivery.ReasonNone},

		{DNS, delivery.ReasonDNS},
		{Refused, delivery.ReasonRefused},
		{Reset, delivery.ReasonReset},
		{HalfClosed, delivery.ReasonReset},
		{Timeout, delivery.ReasonTimeout},
		{Trickling, delivery.ReasonTimeout},
		{TooLarge, delivery.ReasonBadAnswer},
		{NotHTTP, delivery.ReasonReset},

		{TLSExpired, delivery.ReasonTLS},
		{TLSUnknownAuthority, delivery.ReasonTLS},
		{TLSWrongHost, delivery.ReasonTLS},
		{TLSRefused, delivery.ReasonTLS},
		{TLSClientCertificate, delivery.ReasonTLS},
		{TLSProtocol, delivery.ReasonTLS},
		{TLSWeakKey, delivery.ReasonTLS},

		{BlockedAddress, delivery.ReasonBlockedAddress},

		{GETOnly, delivery.ReasonBadAnswer},
		{NotFound, delivery.ReasonClientError},
		{Redirect, delivery.ReasonRedirect},
		{AuthError, delivery.ReasonAuthError},
		{RateLimited, delivery.ReasonRateLimited},
		{Gone, delivery.ReasonGone},
		{ClientError, delivery.ReasonClientError},
		{ServerError, delivery.ReasonServerError},

		{HTML, delivery.ReasonBadAnswer},
		{NotSOAP, delivery.ReasonBadAnswer},
		{SOAP12, delivery.ReasonBadAnswer},
		{UnsafeXML, delivery.ReasonBadAnswer},
		{Fault, delivery.ReasonBadAnswer},
		{UnexpectedAnswer, delivery.ReasonBadAnswer},

		{Unreadable, delivery.ReasonNone},

		{NotSuccessful, delivery.ReasonAuthError},
		{NoToken, delivery.ReasonBadAnswer},
		{BadToken, delivery.ReasonBadAnswer},
		{WrongNonce, delivery.ReasonBadAnswer},
		{StaleMinute, delivery.ReasonBadAnswer},
		{WrongKey, delivery.ReasonWrongKey},
		{NoPublicKey, delivery.ReasonWrongKey},

		{NoTenant, delivery.ReasonNone},
		{OwnFault, delivery.ReasonOwnFault},
	}
}

// AllReasons lists the closed set.
func AllReasons() []Reason {
	ds := listDescriptions()
	out := make([]Reason, len(ds))
	for i, d := range ds {
		out[i] = d.reason
	}
	return out
}

func (r Reason) findDescription() (description, bool) {
	for _, d := range listDescriptions() {
		if d.reason == r {
			return d, true
		}
	}
	return description{}, false
}

// IsKnown reports whether r is of the closed set.
func (r Reason) IsKnown() bool {
	_, ok := r.findDescription()
	return ok
}

// Cause is the reason's row in the table of package told, the zero Cause when nothing was found yet.
func (r Reason) Cause() told.Cause {
	if r == "" {
		return told.Cause{}
	}
	return told.FindCause(string(r))
}

// Description describes the reason to operators; it calls the endpoint "it". Partners and recipients of mail are
// shown Cause().PublicReason().
func (r Reason) Description() string { return r.Cause().Description(partner.ERPSync) }

// DeliveryReason is the nearest reason of an attempt; incidents and mails use it.
func (r Reason) DeliveryReason() delivery.Reason {
	d, _ := r.findDescription()
	return d.delivery
}

// IsFailing reports whether the reason counts against the endpoint.
func (r Reason) IsFailing() bool {
	return r != Healthy && r != NoTenant && r != OwnFault && r != Unreadable
}

// IsImmediate reports whether only a change of settings can repair the endpoint, so that the incident opens at
// once. A blocked address is not immediate: it must open as late as a name that does not exist. Otherwise
// the time of the mail would show which of the two it is.
func (r Reason) IsImmediate() bool { return r == WrongKey || r == NoPublicKey }
