package mailer

import (
	"fmt"
	htmltemplate "html/template"
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
func newView(m *incident.Mail, unsubscribe string) mailView {
	w := newTextRenderer(m, loadLocation(m.TimeZone))
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
	if !m.Kind.EndsIncident() {
		v.Advice = adviceForMail(m)
	}
	return v
}

// textRenderer makes the texts of one mail.
type textRenderer struct {
	m                          *incident.Mail
	loc                        *time.Location
	app, client, env, endpoint string
}

func newTextRenderer(m *incident.Mail, loc *time.Location) textRenderer {
	return textRenderer{
		m: m, loc: loc, app: oneLine(m.AppName, nameMax), client: oneLine(string(m.ClientID), nameMax),
		env: oneLine(string(m.Environment), nameMax), endpoint: endpointNames[m.Endpoint],
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

// failureText describes a failure, in words that recipients of mail may read.
func (w *textRenderer) failureText(r told.Reason) string { return r.Description(w.m.Endpoint).String() }

// publicReason is the reason of a failure as recipients of mail may read it.
func publicReason(f *incident.PublicFailure) told.Reason { return f.Reason.Cause().PublicReason() }

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
