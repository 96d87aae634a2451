package mailer

import (
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const adviceUnknown = "Check that the endpoint is running and can be reached from the internet."

// adviceTogether comes before what else there is to say, where others fail alike.
const adviceTogether = "The endpoints of many apps began to fail at the same moment, so the cause may be on our side. " +
	"If others reach the endpoint, there is nothing for you to do. If they do not: "

// adviceSome comes before what else there is to say, where only some tenants' notifications fail.
const adviceSome = "Nothing is known to fail for other tenants, so look first at what belongs to these tenants: their data, or the server that they are on. "

// advice says what to do about a failure, one paragraph per reason.
func advice(m *incident.Mail) string {
	push := m.Endpoint == partner.StateChange
	switch {
	case m.Kind == incident.KindCertificate:
		return "Renew the certificate and install it, with its intermediate certificates, on every machine that serves the endpoint. If that is done by a program, look why it has not run."
	case m.OffReason == partner.OffGone:
		return "A 410 answer asks us to stop for good, so we did. If that was not meant, have the endpoint answer 2xx again and switch it on: what waited is delivered then."
	case failsForSome(m):
		return adviceSome + adviceOn(m.Failure.Reason, push)
	case len(m.Tenants) > 0:
		return "The endpoint takes other notifications but refuses these. Look in its log for what it dislikes about them, and answer 2xx even to a tenant that you do not know: a notification that is not for you is best accepted and ignored."
	case m.Failure == nil:
		return adviceUnknown
	}
	s := adviceOn(m.Failure.Reason, push)
	if m.Kind == incident.KindSwitchedOff {
		s += " Then switch the endpoint on again."
	}
	if !m.CommonSince.IsZero() {
		s = adviceTogether + s
	}
	return s
}

// failsForSome reports whether a mail is about tenants whose notifications fail otherwise than by being refused.
func failsForSome(m *incident.Mail) bool {
	return len(m.Tenants) > 0 && m.Failure != nil && !m.Failure.IsRefusal()
}

// adviceOn is what to do about a reason.
func adviceOn(r delivery.Reason, push bool) string {
	of := callAdvice
	if push {
		of = pushAdvice
	}
	if s := of(r); s != "" {
		return s
	}
	return commonAdvice(r)
}

// pushAdvice is for reasons whose remedy is that of a receiver of notifications, "" for others.
func pushAdvice(r delivery.Reason) string {
	switch r {
	case delivery.ReasonTimeout:
		return "Check that the service behind the endpoint is running and not overloaded, and that a firewall does not drop the connection. Answer first and do the work afterwards: only the answer is awaited."
	case delivery.ReasonAuthError:
		return "The endpoint, or something in front of it, asks for a login. Notifications prove their origin by their Token and signature instead: verify those, and let the request through."
	case delivery.ReasonClientError:
		return "The URL does not lead to the receiver: check its path, and that it accepts POST."
	case delivery.ReasonServerError:
		return "The service fails while it handles the notification, or the proxy in front cannot reach it: look in its log."
	case delivery.ReasonGone:
		return "A 410 answer asks us to stop for good. If that was not meant, have the endpoint answer 2xx."
	default:
		return ""
	}
}

// callAdvice is for reasons whose remedy is that of a service which the platform's engines call.
func callAdvice(r delivery.Reason) string {
	switch r {
	case delivery.ReasonTimeout:
		return "Check that the service behind the endpoint is running and not overloaded, and that a firewall does not drop the connection. Users of the platform wait for its answer."
	case delivery.ReasonAuthError:
		return "The endpoint, or something in front of it, asks for a login. Calls prove their origin by the signed token that they carry instead: verify that, and let the call through."
	case delivery.ReasonClientError:
		return "The URL does not lead to the service, or the service does not start: check the path, that it accepts POST, and the service's own log. A WCF service that is broken answers calls with 404 although its help page shows."
	case delivery.ReasonServerError:
		return "The service fails while it handles the call, or the proxy in front cannot reach it: look in its log."
	case delivery.ReasonGone:
		return "A 410 answer says that the service was taken away for good. If it was, switch the endpoint off; if that was not meant, bring the service back."
	default:
		return ""
	}
}

func commonAdvice(r delivery.Reason) string {
	switch r {
	case delivery.ReasonDNS:
		return "Check the host name in the endpoint's URL and its DNS records. If the endpoint has moved, set the new URL."
	case delivery.ReasonRefused:
		return "Nothing accepts connections on that port. Check that the service is running, that it listens on the port in the URL and that a firewall lets it through."
	case delivery.ReasonReset:
		return "The connection was accepted and then broken off. A crashing service, a proxy in front of it or a firewall can do that: look in their logs."
	case delivery.ReasonTLS:
		return "Check that the certificate has not expired, names this host, comes with its intermediate certificates, and that the server speaks TLS 1.2 or newer."
	case delivery.ReasonRedirect:
		return "Redirects are never followed. Set the endpoint's URL to where it leads, or have the service answer at the URL itself."
	case delivery.ReasonBlockedAddress:
		return "The URL leads to a private, local or otherwise reserved address, which is never called. Set a URL that is reachable on the public internet, or correct the DNS record of its host."
	case delivery.ReasonRateLimited:
		return "The endpoint keeps asking for fewer requests. We slow down as it asks, but it must take some: check its limits for requests that come from us."
	case delivery.ReasonWrongKey:
		return "The answer must be signed with the private key whose public key is set for the app. Check that the service uses that key, that it signs the nonce of this very call, and that its clock is right; or set the app's public keys anew."
	case delivery.ReasonBadAnswer:
		return "Something answers at the URL, but not the service that is expected there. Check that the URL leads to the service itself, not to a login or help page, and that the service answers as its interface says."
	default:
		return adviceUnknown
	}
}
