package mailer

import (
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const adviceUnknown = "Check that the endpoint is running and can be reached from the internet."

// adviceTogether comes before the advice for the reason when many endpoints fail together.
const adviceTogether = "The endpoints of many apps began to fail at the same moment, so the cause may be on our side. " +
	"If others reach the endpoint, there is nothing for you to do. If they do not: "

// adviceSome comes before the advice for the reason when only some tenants' notifications fail.
const adviceSome = "Nothing is known to fail for other tenants, so look first at what belongs to these tenants: their data, or the server that they are on. "

// adviceForMail says what to do, in one paragraph.
func adviceForMail(m *incident.Mail) string {
	switch {
	case m.Kind == incident.KindCertificate:
		return "Renew the certificate and install it, with its intermediate certificates, on every machine that serves the endpoint. If a program does that, find out why it has not run."
	case m.OffReason == partner.OffGone:
		return "A 410 answer asks us to stop for good, so we did. If that was not meant, have the endpoint answer 2xx again and switch it on: pending notifications are delivered then."
	case failsForSomeTenants(m):
		return adviceSome + adviceForFailure(m)
	case len(m.Tenants) > 0:
		return "The endpoint accepts other notifications but refuses these. Look in its log for the reason, and answer 2xx even for a tenant that you do not know: accept a notification that is not for you, and ignore it."
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

// failsForSomeTenants reports whether a mail is about tenants whose notifications fail without being refused.
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
