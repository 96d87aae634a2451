package mailer

import (
	"fmt"
	htmltemplate "html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

const (
	// detailMax bounds a URL, and an answer of a mail server, in characters.
	detailMax = 300
	// nameMax bounds an app's name in mails; a subject must stay readable.
	nameMax = 80
	// tenantsMax bounds the tenants that a mail names.
	tenantsMax = 20
	// soon is the longest time until a probe for which a mail does not name its time of day.
	soon = 2 * time.Minute
)

// mailView is the data of the templates. Every string in it is one line without control characters.
type mailView struct {
	Tone     htmltemplate.CSS
	Subject  string
	Headline string
	Intro    string
	Facts    []detailRow
	Next     []string
	Advice   string
	// Action is the link that a mail asks to follow, for KindConfirm.
	Action  string
	Stop    string
	StopURL string
	// StopWord names the link in the text, StopLink in the HTML.
	StopWord, StopLink string
	Footer             string
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

// ConfirmWithin is how long the link of a confirmation is valid.
const ConfirmWithin = partner.ConfirmationPeriod

type detailRow struct{ Name, Value string }

// oneLine makes untrusted text fit for a header or a line of a mail: it drops control characters, line breaks
// and text direction overrides, and cuts the text after limit characters.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		default:
			return r
		}
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

var endpointNames = map[partner.EndpointKind]string{
	partner.StateChange: "state change", partner.ERPSync: "ERP sync",
	partner.QuoteConnector: "quote connector", partner.Mirroring: "mirroring",
}

// newView describes a mail in words.
func newView(l *incident.RecipientMail, unsubscribe string) mailView {
	m := &l.Mail
	w := newTextRenderer(l, loadLocation(l.TimeZone))
	v := mailView{
		Tone: toneColor(m.Kind), Subject: w.subjectLine(), Headline: w.headlineText(), Intro: w.introText(), Facts: w.detailRows(), Next: w.nextSteps(),
		Stop: fmt.Sprintf("To stop mails about this endpoint, turn off its setting \"send error emails\" in the settings of app %s. "+
			"To have them sent to another address, set the app's error emails.", w.client),
		StopURL: unsubscribe, StopWord: "Unsubscribe", StopLink: "Unsubscribe from mails about this app",
		Footer: fmt.Sprintf("Incident %s, message %d. This mail was sent automatically; replies to it are not read.", m.Incident, m.N),
	}
	if m.Kind == incident.KindConfirm {
		v.Stop = "If you do nothing, you get no mail about this app."
		if v.StopWord = "Never ask me again"; unsubscribe != "" {
			v.Stop += " You can also refuse all further questions like this one, about any app."
		}
		v.StopLink = v.StopWord
		v.Footer = "This mail was sent automatically; replies to it are not read."
		return v
	}
	if !endsIncident(m.Kind) {
		v.Advice = adviceForMail(m)
	}
	return v
}

// endsIncident reports whether a mail says that an incident has ended. Such a mail has no advice.
func endsIncident(k incident.Kind) bool {
	return k == incident.KindRecovered || k == incident.KindClosed
}

// textRenderer makes the texts of one mail.
type textRenderer struct {
	l                          *incident.RecipientMail
	m                          *incident.Mail
	loc                        *time.Location
	app, client, env, endpoint string
}

func newTextRenderer(l *incident.RecipientMail, loc *time.Location) textRenderer {
	return textRenderer{
		l: l, m: &l.Mail, loc: loc, app: oneLine(l.AppName, nameMax), client: oneLine(string(l.ClientID), nameMax),
		env: oneLine(string(l.Environment), nameMax), endpoint: endpointNames[l.Mail.Endpoint],
	}
}

// loadLocation is a contact's time zone, or UTC if the name is empty, "Local" or unknown.
func loadLocation(name string) *time.Location {
	if zone, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
		return zone
	}
	return time.UTC
}

const timeForm = "Mon 2 Jan 2006 15:04 MST"

func (w *textRenderer) formatTime(t time.Time) string { return t.In(w.loc).Format(timeForm) }

// formatShortTime is for subjects: it is the same in every mail of an incident but the recovery.
func (w *textRenderer) formatShortTime(t time.Time) string {
	return t.In(w.loc).Format("2 Jan 15:04 MST")
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

// failureText describes a failure, in words that recipients of mail may read.
func (w *textRenderer) failureText(r told.Reason) string { return r.Description(w.m.Endpoint).String() }

// publicReason is the reason of a failure as recipients of mail may read it.
func publicReason(f *incident.PublicFailure) told.Reason { return f.Reason.Cause().PublicReason() }

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
	add("URL", oneLine(w.l.URL, detailMax))
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

// tenantList names at most tenantsMax tenants. unnamed says that there are more than those in ts.
func (w *textRenderer) tenantList(ts []tenant.ID, unnamed bool) string {
	ids := make([]string, 0, tenantsMax)
	for _, t := range ts[:min(len(ts), tenantsMax)] {
		ids = append(ids, oneLine(string(t), nameMax))
	}
	s := strings.Join(ids, ", ")
	switch more := len(ts) - tenantsMax; {
	case unnamed:
		s += " and more"
	case more > 0:
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func (w *textRenderer) backlogText() string {
	b := w.m.Backlog
	if b.Notifications == 0 {
		return "nothing"
	}
	s := formatCount(b.Notifications, "notification") + " for " + formatCount(b.Tenants, "tenant")
	if b.Superseded > 0 {
		s += fmt.Sprintf("; %s superseded by newer ones", formatCount(b.Superseded, "older change"))
	}
	return s
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

// nextProbeText says when an integration endpoint is probed next.
func (w *textRenderer) nextProbeText() string {
	const test = "you can test it yourself at any time."
	switch m := w.m; {
	case m.NextTry.IsZero():
		return "Y" + test[1:]
	case m.NextTry.Sub(m.At) <= soon:
		return "It is checked again within two minutes; " + test
	default:
		return "It is checked again on " + w.formatTime(m.NextTry) + "; " + test
	}
}

// nextTryText says when the next attempt is made.
func (w *textRenderer) nextTryText() string {
	switch m := w.m; {
	case !m.NextTry.IsZero():
		return "It is tried again on " + w.formatTime(m.NextTry) + ", then at least every minute, unless it asks for a longer pause."
	default:
		return "It is tried again at least every minute, unless it asks for a longer pause."
	}
}

func (w *textRenderer) switchOffText() []string {
	if w.m.SwitchOffAt.IsZero() {
		return nil
	}
	return []string{"If it goes on failing, it is switched off on " + w.formatTime(w.m.SwitchOffAt) + "."}
}

// formatDuration writes a duration in its largest unit, and the next smaller one if that is not 0.
func formatDuration(d time.Duration) string {
	d = max(d, 0)
	days, hours := int64(d/(24*time.Hour)), int64(d%(24*time.Hour)/time.Hour)
	minutes, seconds := int64(d%time.Hour/time.Minute), int64(d%time.Minute/time.Second)
	two := func(a int64, an string, b int64, bn string) string {
		if b == 0 {
			return formatCount(a, an)
		}
		return formatCount(a, an) + " " + formatCount(b, bn)
	}
	switch {
	case days > 0:
		return two(days, "day", hours, "hour")
	case hours > 0:
		return two(hours, "hour", minutes, "minute")
	case minutes > 0:
		return two(minutes, "minute", seconds, "second")
	default:
		return formatCount(seconds, "second")
	}
}

func formatCount(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatInt(n, 10) + " " + noun + "s"
}

func formatTimes(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

func formatOrdinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}
