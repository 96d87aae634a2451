package health

import "github.com/lamplighter/lamplighter/internal/delivery"

// Reason is what a probe found, a metric label and a word of the API. Adding one means: the
// constant, findings, the probe that finds it, docs/integration-endpoints.md and the dashboards.
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

// description is what a reason means: to people, and to the machine that writes to them.
type description struct {
	reason   Reason
	words    string
	delivery delivery.Reason
}

// descriptions are complete sentences about the endpoint, which is "it", without the final stop.
func descriptions() []description {
	return []description{
		{Healthy, "it answered as it should", delivery.ReasonNone},

		{DNS, "its host name does not exist", delivery.ReasonDNS},
		{Refused, "it refused the connection: nothing listens on that port, or a firewall rejects us", delivery.ReasonRefused},
		{Reset, "it broke the connection off before it had answered", delivery.ReasonReset},
		{HalfClosed, "it closed its side of the connection before its answer was complete", delivery.ReasonReset},
		{Timeout, "it did not answer in time", delivery.ReasonTimeout},
		{Trickling, "it began to answer, but so slowly that the answer was not complete in time", delivery.ReasonTimeout},
		{TooLarge, "its answer is larger than any answer to this call can be (64 KiB are read)", delivery.ReasonBadAnswer},
		{NotHTTP, "it answered in something that is not HTTP", delivery.ReasonReset},

		{TLSExpired, "its TLS certificate has expired or is not valid yet", delivery.ReasonTLS},
		{TLSUnknownAuthority, "its TLS certificate is from an authority that is not trusted: self-signed, or an intermediate certificate is not sent", delivery.ReasonTLS},
		{TLSWrongHost, "its TLS certificate is for another host name", delivery.ReasonTLS},
		{TLSRefused, "it refused the TLS handshake: it wants a protocol older than TLS 1.2, another cipher, or a client certificate", delivery.ReasonTLS},
		{TLSClientCertificate, "it asks for a TLS client certificate, and none is sent: let this address be called without one", delivery.ReasonTLS},
		{TLSProtocol, "what answers on that port does not speak TLS as it should", delivery.ReasonTLS},

		{BlockedAddress, "its address may not be called", delivery.ReasonBlockedAddress},

		{GETOnly, "it does not take POST: what answers there serves pages, not SOAP calls", delivery.ReasonBadAnswer},
		{NotFound, "it answers a POST with 404: a WCF service that is broken does so even while its help page still shows", delivery.ReasonClientError},
		{Redirect, "it answered with a redirect, which is never followed", delivery.ReasonRedirect},
		{AuthError, "it, or something in front of it, asks for a login", delivery.ReasonAuthError},
		{RateLimited, "it asked for fewer requests", delivery.ReasonRateLimited},
		{Gone, "it answered that it is gone for good", delivery.ReasonGone},
		{ClientError, "it refused the call with an error that is not SOAP", delivery.ReasonClientError},
		{ServerError, "it, or the proxy in front of it, failed with an error that is not SOAP", delivery.ReasonServerError},

		{HTML, "it answered a SOAP call with a web page", delivery.ReasonBadAnswer},
		{NotSOAP, "it answered in something that is not SOAP 1.1", delivery.ReasonBadAnswer},
		{SOAP12, "it answered in SOAP 1.2; the platform calls with SOAP 1.1 (basicHttpBinding)", delivery.ReasonBadAnswer},
		{UnsafeXML, "its answer holds a document type, entities or other XML that SOAP forbids; it was not read", delivery.ReasonBadAnswer},
		{Fault, "it answered Authenticate with a SOAP Fault", delivery.ReasonBadAnswer},
		{UnexpectedAnswer, "it answered in SOAP, but not with an AuthenticateResponse", delivery.ReasonBadAnswer},

		{Unreadable, "an answer came, but it cannot be read here: it is compressed, or in an encoding (charset) that is not known or does not fit", delivery.ReasonNone},

		{NotSuccessful, "it does not trust the platform's token: it answered IsSuccessful=false", delivery.ReasonAuthError},
		{NoToken, "its AuthenticateResponse holds no SignedApplicationToken", delivery.ReasonBadAnswer},
		{BadToken, "its SignedApplicationToken is not of the form NONCE.yyyyMMddHHmm.BASE64", delivery.ReasonBadAnswer},
		{WrongNonce, "it signed another nonce than the one it was sent: an old answer, or a nonce of its own", delivery.ReasonBadAnswer},
		{StaleMinute, "it signed another time than now: its clock is wrong, it does not use UTC, or the answer is an old one", delivery.ReasonBadAnswer},
		{WrongKey, "its signature does not fit any public key that is registered for the app", delivery.ReasonWrongKey},
		{NoPublicKey, "it answered, but no public key is registered for the app, so its signature cannot be checked", delivery.ReasonWrongKey},

		{NoTenant, "no tenant has approved the app, so there is nobody in whose name it could be called", delivery.ReasonNone},
		{OwnFault, "the fault is on the calling side; nothing was learnt about it", delivery.ReasonOwnFault},
	}
}

// Reasons lists the closed set.
func Reasons() []Reason {
	ds := descriptions()
	out := make([]Reason, len(ds))
	for i, d := range ds {
		out[i] = d.reason
	}
	return out
}

func (r Reason) description() (description, bool) {
	for _, d := range descriptions() {
		if d.reason == r {
			return d, true
		}
	}
	return description{}, false
}

// Known reports whether r is of the closed set.
func (r Reason) Known() bool {
	_, ok := r.description()
	return ok
}

// Words says the reason to a person; the endpoint is "it".
func (r Reason) Words() string {
	if d, ok := r.description(); ok {
		return d.words
	}
	return string(r)
}

// Delivery is the nearest reason of an attempt, by which incidents and mails go.
func (r Reason) Delivery() delivery.Reason {
	d, _ := r.description()
	return d.delivery
}

// Failing reports whether the reason counts against the endpoint.
func (r Reason) Failing() bool {
	return r != Healthy && r != NoTenant && r != OwnFault && r != Unreadable
}

// Immediate reports whether nothing but people will heal it, so that they are told at once.
func (r Reason) Immediate() bool { return r == WrongKey || r == NoPublicKey || r == BlockedAddress }
