package mailer

import (
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const adviceUnknown = "Check that the endpoint is running and can be reached from the internet."

// adviceTogether comes before what else there is to say, where others fail alike.
const adviceTogether = "The endpoints of many apps began to fail at the same moment, so the cause may be on our side. " +
	"If others reach the endpoint, there is nothing for you to do. If they do not: "

// adviceSome comes before what else there is to say, where only some tenants' notifications fail.
const adviceSome = "Nothing is known to fail for other tenants, so look first at what belongs to these tenants: their data, or the server that they are on. "

// adviceForMail says what to do about a failure, one paragraph per reason.
func adviceForMail(m *incident.Mail) string {
	switch {
	case m.Kind == incident.KindCertificate:
		return "Renew the certificate and install it, with its intermediate certificates, on every machine that serves the endpoint. If that is done by a program, look why it has not run."
	case m.OffReason == partner.OffGone:
		return "A 410 answer asks us to stop for good, so we did. If that was not meant, have the endpoint answer 2xx again and switch it on: what waited is delivered then."
	case failsForSomeTenants(m):
		return adviceSome + adviceForFailure(m)
	case len(m.Tenants) > 0:
		return "The endpoint takes other notifications but refuses these. Look in its log for what it dislikes about them, and answer 2xx even to a tenant that you do not know: a notification that is not for you is best accepted and ignored."
	case m.Failure == nil:
		return adviceUnknown
	}
	s := adviceForFailure(m)
	if m.Kind == incident.KindSwitchedOff {
		s += " Then switch the endpoint on again."
	}
	if !m.CommonSince.IsZero() {
		s = adviceTogether + s
	}
	return s
}

// failsForSomeTenants reports whether a mail is about tenants whose notifications fail otherwise than by being refused.
func failsForSomeTenants(m *incident.Mail) bool {
	return len(m.Tenants) > 0 && m.Failure != nil && !m.Failure.IsRefusal()
}

// adviceForFailure is what to do about a mail's failure.
func adviceForFailure(m *incident.Mail) string {
	if s := m.Failure.Reason.Cause().PublicReason().Advice(m.Endpoint); !s.IsZero() {
		return s.String()
	}
	return adviceUnknown
}
