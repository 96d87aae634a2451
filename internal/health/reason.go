package health

import (
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Reason is what a probe found, a metric label and a word of the API. Adding one means: the
// constant, descriptions, its row in the table of package told, the probe that finds it,
// docs/integration-endpoints.md and the dashboards.
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
	// TLSWeakKey: a certificate has an RSA key that is shorter than it may be.
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
	// Unreadable: an answer came, and nothing can be said of it.
	Unreadable Reason = "unreadable"

	NotSuccessful Reason = "not_successful"
	NoToken       Reason = "no_token"
	BadToken      Reason = "bad_token"
	WrongNonce    Reason = "wrong_nonce"
	StaleMinute   Reason = "stale_minute"
	WrongKey      Reason = "wrong_key"
	NoPublicKey   Reason = "no_public_key"

	// NoTenant: nothing was tried, because nobody approved the app.
	NoTenant Reason = "no_tenant"
	// OwnFault: nothing was learnt about the endpoint.
	OwnFault Reason = "own_fault"
)

// description is what a reason means to the machine that writes to people.
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

// Cause is the reason in the table of words, the zero Cause where nothing was found yet.
func (r Reason) Cause() told.Cause {
	if r == "" {
		return told.Cause{}
	}
	return told.FindCause(string(r))
}

// Description says the reason to operators; the endpoint is "it". Strangers are told Cause().Told().
func (r Reason) Description() string { return r.Cause().Description(partner.ERPSync) }

// DeliveryReason is the nearest reason of an attempt, by which incidents and mails go.
func (r Reason) DeliveryReason() delivery.Reason {
	d, _ := r.findDescription()
	return d.delivery
}

// IsFailing reports whether the reason counts against the endpoint.
func (r Reason) IsFailing() bool {
	return r != Healthy && r != NoTenant && r != OwnFault && r != Unreadable
}

// IsImmediate reports whether nothing but people will heal it, so that they are told at once. A blocked address is told when a name
// is that does not exist: the time would tell which of both it is.
func (r Reason) IsImmediate() bool { return r == WrongKey || r == NoPublicKey }
