package mailer

import (
	"fmt"
	htmltemplate "html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// This file has everything that depends on the kind of a mail. A kind that is left out is shown as a failure.

const adviceUnknown = "Check that the endpoint is running and can be reached from the internet."

// adviceTogether comes before the advice for the reason when many endpoints fail together.
const adviceTogether = "The endpoints of many apps began to fail at the same moment, so the cause may be on our side. " +
	"If others reach the endpoint, there is nothing for you to do. If they do not: "

// adviceSome comes before the advice for the reason when only some tenants' notifications fail.
const adviceSome = "Nothing is known to fail for other tenants, so look first at what belongs to these tenants: their data, or the server that they are on. "

// isFailure reports whether a mail says that an endpoint fails.
func isFailure(k incident.Kind) bool {
	switch k {
	case incident.KindRecovered, incident.KindClosed, incident.KindCertificate, incident.KindConfirm:
		return false
	default:
		return true
	}
}

// toneColor is a mail's colour: red for failures, amber for warnings, green for recoveries, blue for the rest.
func toneColor(k incident.Kind) htmltemplate.CSS {
	switch k {
	case incident.KindRecovered:
		return "#1f883d"
	case incident.KindConfirm, incident.KindClosed, "":
		return "#0b57d0"
	case incident.KindCertificate:
		return "#b7791f"
	default:
		return "#c4321f"
	}
}

func (w *textRenderer) subjectLine() string {
	start := fmt.Sprintf("[Lamplighter] %s (%s): %s endpoint ", w.app, w.env, w.endpoint)
	switch w.m.Kind {
	case incident.KindReminder:
		return start + "still failing since " + w.formatShortTime(w.m.Since)
	case incident.KindSwitchedOff:
		return start + "switched off"
	case incident.KindRecovered:
		return start + "recovered after " + formatDuration(w.m.EndedAt.Sub(w.m.Since))
	case incident.KindClosed:
		return start + "incident closed by hand"
	case incident.KindConfirm:
		return fmt.Sprintf("[Lamplighter] Do you want the error mail of %s (%s)?", w.app, w.env)
	case incident.KindCertificate:
		return start + "certificate ends on " + w.m.CertificateEnds.In(w.loc).Format("2 Jan")
	default:
		if failsForSomeTenants(w.m) {
			return start + "failing for " + formatCount(int64(len(w.m.Tenants)), "tenant") + " since " + w.formatShortTime(w.m.Since)
		}
		if len(w.m.Tenants) > 0 {
			return start + "refusing notifications since " + w.formatShortTime(w.m.Since)
		}
		return start + "failing since " + w.formatShortTime(w.m.Since)
	}
}

func (w *textRenderer) headlineText() string {
	switch w.m.Kind {
	case incident.KindReminder:
		return fmt.Sprintf("%s: the %s endpoint is still failing", w.app, w.endpoint)
	case incident.KindSwitchedOff:
		return fmt.Sprintf("%s: the %s endpoint was switched off", w.app, w.endpoint)
	case incident.KindRecovered:
		return fmt.Sprintf("%s: the %s endpoint works again", w.app, w.endpoint)
	case incident.KindClosed:
		return fmt.Sprintf("%s: the incident of the %s endpoint was closed by hand", w.app, w.endpoint)
	case incident.KindConfirm:
		return fmt.Sprintf("%s: your address was set for error mail", w.app)
	case incident.KindCertificate:
		return fmt.Sprintf("%s: the certificate of the %s endpoint ends soon", w.app, w.endpoint)
	default:
		if failsForSomeTenants(w.m) {
			return fmt.Sprintf("%s: the %s endpoint is failing for %s", w.app, w.endpoint, formatCount(int64(len(w.m.Tenants)), "tenant"))
		}
		if len(w.m.Tenants) > 0 {
			return fmt.Sprintf("%s: the %s endpoint is refusing notifications", w.app, w.endpoint)
		}
		return fmt.Sprintf("%s: the %s endpoint is failing", w.app, w.endpoint)
	}
}

func (w *textRenderer) introText() string {
	m := w.m
	var s string
	switch {
	case m.Kind == incident.KindConfirm:
		return fmt.Sprintf("The owner of app %s wants you to get its error mail: one mail when an endpoint of the app fails, and one when it works again. "+
			"No such mail is sent to you unless you confirm within %d days.", w.app, int(ConfirmWithin/day))
	case m.Kind == incident.KindCertificate:
		return fmt.Sprintf("Its certificate ends on %s, in %s. Nothing fails yet, but after that time every call will fail.", w.formatTime(m.CertificateEnds), formatDuration(m.CertificateEnds.Sub(m.At)))
	case m.Kind == incident.KindRecovered:
		s = fmt.Sprintf("It failed for %s and has been working since %s.", formatDuration(m.EndedAt.Sub(m.Since)), w.formatTime(m.EndedAt))
		if m.Flaps > 0 {
			s += fmt.Sprintf(" In between it recovered and failed again %s.", formatTimes(m.Flaps))
		}
		return s + " Nothing needs to be done."
	case m.Kind == incident.KindClosed:
		s = "The platform's staff closed the incident on " + w.formatTime(m.At)
		if m.Failure != nil {
			s += ". The endpoint's last failure was: " + w.failureText(publicReason(m.Failure))
		}
		return s + "."
	case m.Kind == incident.KindSwitchedOff && m.OffReason == partner.OffFailing:
		s = fmt.Sprintf("It failed for %s without a break, so we have stopped calling it.", formatDuration(m.At.Sub(m.Since)))
	case m.Kind == incident.KindSwitchedOff:
		s = "It answered that it is gone for good (410), so we have stopped calling it."
	case failsForSomeTenants(m):
		s = fmt.Sprintf("The notifications of %s have been failing since %s: %s.", formatCount(int64(len(m.Tenants)), "tenant"), w.formatTime(m.Since), w.failureText(publicReason(m.Failure)))
	case len(m.Tenants) > 0:
		s = fmt.Sprintf("It has been refusing the notifications of %s since %s, while it accepts others.", formatCount(int64(len(m.Tenants)), "tenant"), w.formatTime(m.Since))
	case m.Failure != nil:
		s = fmt.Sprintf("It has been failing since %s: %s.", w.formatTime(m.Since), w.failureText(publicReason(m.Failure)))
	default:
		s = fmt.Sprintf("It has been failing since %s.", w.formatTime(m.Since))
	}
	if m.Reopened > 0 && m.Kind == incident.KindOpened {
		s += fmt.Sprintf(" It had recovered shortly before; this is the %s time in a row.", formatOrdinal(m.Reopened+1))
	}
	return s
}

func (w *textRenderer) detailRows() []detailRow {
	m := w.m
	fs := []detailRow{
		{"App", w.app}, {"Client ID", w.client}, {"Environment", w.env}, {"Endpoint", w.endpoint},
	}
	add := func(name, value string) {
		if value != "" {
			fs = append(fs, detailRow{name, value})
		}
	}
	if m.Kind == incident.KindConfirm {
		return fs[:3]
	}
	add("URL", oneLine(w.m.URL, detailMax))
	switch m.Kind {
	case incident.KindCertificate:
		add("Certificate ends", w.formatTime(m.CertificateEnds))
		return fs
	case incident.KindRecovered:
		add("Failed since", w.formatTime(m.Since))
		add("Working since", w.formatTime(m.EndedAt))
		add("Failed for", formatDuration(m.EndedAt.Sub(m.Since)))
	default:
		add("Failing since", w.formatTime(m.Since))
	}
	if f := m.Failure; f != nil {
		add("Last failure", w.failureText(publicReason(f))+" ("+publicReason(f).String()+")")
		if f.Status != 0 {
			add("Last status", strings.TrimSpace(strconv.Itoa(f.Status)+" "+http.StatusText(f.Status)))
		}
		if !f.At.IsZero() {
			add("Last tried", w.formatTime(f.At))
		}
	}
	if m.Reported > 0 {
		add("Failed calls", formatCount(m.Reported, "call")+" of the platform's engines")
	}
	label := "Tenants refused"
	if failsForSomeTenants(m) {
		label = "Failing tenants"
	}
	add(label, w.tenantList(m.Tenants, false))
	affected := w.tenantList(m.Affected, m.AffectedMore)
	if m.AffectedCount > int64(len(m.Affected)) {
		affected = fmt.Sprintf("%s: %s", formatCount(m.AffectedCount, "tenant"), affected)
	}
	add("Tenants affected", affected)
	if m.Endpoint == partner.StateChange {
		add(backlogLabel(m.Kind), w.backlogText())
	}
	return fs
}

func backlogLabel(k incident.Kind) string {
	if k == incident.KindRecovered {
		return "Pending at most"
	}
	return "Pending"
}

// nextSteps says what happens next by itself.
func (w *textRenderer) nextSteps() []string {
	m := w.m
	push := m.Endpoint == partner.StateChange
	switch {
	case m.Kind == incident.KindConfirm:
		return nil
	case m.Kind == incident.KindCertificate:
		return []string{"Once a newer certificate is seen, no further warning is sent. At most two warnings are sent about one certificate."}
	case m.Kind == incident.KindRecovered && push:
		return []string{"Pending notifications are delivered now: each tenant's latest state, without older changes."}
	case m.Kind == incident.KindRecovered:
		return nil
	case w.isSwitchedOff() && push:
		return []string{"Pending notifications are kept, for each tenant the latest state. They are delivered once you switch the endpoint on again."}
	case w.isSwitchedOff():
		return []string{"It is not called any more until you switch it on again."}
	case m.Kind == incident.KindClosed && push:
		return []string{
			"It is called as before, and pending notifications are kept.",
			"You get another mail if it works for a time and then fails again, or if it is switched off.",
		}
	case m.Kind == incident.KindClosed:
		return []string{"It is called as before. You get another mail if it works for a time and then fails again, or if it is switched off."}
	case !push:
		return append([]string{w.nextProbeText(), "You get one mail when it works again."}, w.switchOffText()...)
	case failsForSomeTenants(m):
		return []string{
			"These notifications are tried again: at first after seconds, then about every minute, and at once when a newer change of the tenant comes. Until then they are kept.",
			"You get one mail when all of them are delivered. The endpoint is not switched off because of this.",
		}
	case len(m.Tenants) > 0:
		return []string{
			"These notifications are tried again at growing intervals, up to once a day, and at once when a newer change of the tenant comes. Until then they are kept.",
			"You get one mail when all of them are delivered.",
		}
	}
	return append([]string{
		w.nextTryText() + " Pending notifications are kept, for each tenant the latest state, and are delivered when it answers.",
		"You get one mail when it works again.",
	}, w.switchOffText()...)
}

// isSwitchedOff reports whether the endpoint is switched off. It stays off when its incident is closed.
func (w *textRenderer) isSwitchedOff() bool {
	return w.m.Kind == incident.KindSwitchedOff || w.m.Kind == incident.KindClosed && w.m.OffReason != ""
}

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

// digestHeading is the heading under which a mail is listed, and the heading's place in the digest.
func (w *textRenderer) digestHeading() (order int, title string) {
	m := w.m
	switch {
	case m.Kind == incident.KindRecovered:
		return 5, "Recovered"
	case m.Kind == incident.KindClosed:
		return 4, "Closed by hand"
	case m.Kind == incident.KindCertificate:
		return 3, "Certificate ends soon"
	case m.Kind == incident.KindSwitchedOff:
		return 0, "Switched off"
	case failsForSomeTenants(m):
		return 2, "Failing for some tenants: " + w.failureText(publicReason(m.Failure))
	case len(m.Tenants) > 0:
		return 2, "Failing: notifications of some tenants are refused"
	case m.Failure != nil:
		return 1, "Failing: " + w.failureText(publicReason(m.Failure))
	default:
		return 1, "Failing"
	}
}

// summaryLine summarises a mail in one line.
func (w *textRenderer) summaryLine() digestLine {
	m := w.m
	parts := []string{w.endpoint}
	switch m.Kind {
	case incident.KindRecovered:
		parts = append(parts, "failed for "+formatDuration(m.EndedAt.Sub(m.Since))+", working since "+w.formatTime(m.EndedAt))
	case incident.KindClosed:
		parts = append(parts, "closed on "+w.formatTime(m.At)+" by the platform's staff")
	case incident.KindCertificate:
		parts = append(parts, "certificate ends on "+w.formatTime(m.CertificateEnds))
	default:
		parts = append(parts, "since "+w.formatTime(m.Since))
		if m.Failure != nil && m.Failure.Status != 0 {
			parts = append(parts, "last status "+strconv.Itoa(m.Failure.Status))
		}
		if m.Backlog.Notifications > 0 {
			parts = append(parts, formatCount(m.Backlog.Notifications, "notification")+" for "+formatCount(m.Backlog.Tenants, "tenant")+" pending")
		}
	}
	return digestLine{App: w.app + " (" + w.client + ")", Text: strings.Join(parts, "; "), Incident: m.Incident}
}
