package mailer

import (
	"cmp"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// digestView is the data of a digest's templates. Every string in it is one line without control characters.
type digestView struct {
	Tone     htmltemplate.CSS
	Subject  string
	Headline string
	Intro    string
	Groups   []digestGroup
	Stop     string
	StopURL  string
	Footer   string
}

// digestGroup holds the lines with the same heading and advice.
type digestGroup struct {
	Title  string
	Advice string
	Lines  []digestLine
	order  int
}

// digestLine summarises one mail.
type digestLine struct{ App, Text, Incident string }

// ComposeDigest composes one message from several mails to one recipient, in the order of their decision. at is
// the time of the digest; the same mails and time become the same message. An error means that these mails can
// never be sent.
func (c *Composer) ComposeDigest(ls []*incident.Mail, at time.Time) (*Message, error) {
	if len(ls) == 0 {
		return nil, errors.New("compose digest: no mails")
	}
	to, err := asciiAddress(ls[0].To)
	if err != nil {
		return nil, fmt.Errorf("compose digest: recipient: %w", err)
	}
	key := incident.RecipientKey(ls[0].To)
	m := &Message{From: c.from, To: to, Date: at, ID: "digest." + key + "." + strconv.FormatInt(at.UnixMilli(), 36) + "@" + c.domain}
	newest := newestPerIncident(ls)
	if c.links.Unsubscribe != nil {
		m.Unsubscribe = c.links.Unsubscribe(ls[0].To, distinctApps(newest))
	}
	v := newDigestView(newest, at, m.Unsubscribe)
	m.Subject = v.Subject
	if err := c.renderParts(m, c.digestText, c.digestHTML, &v); err != nil {
		return nil, err
	}
	return m, nil
}

// newestPerIncident keeps the newest mail of each incident; the older ones are outdated.
func newestPerIncident(ls []*incident.Mail) []*incident.Mail {
	at := map[string]int{}
	var out []*incident.Mail
	for _, l := range ls {
		i, known := at[l.Incident]
		switch {
		case !known:
			at[l.Incident] = len(out)
			out = append(out, l)
		case l.N > out[i].N:
			out[i] = l
		}
	}
	return out
}

func distinctApps(ls []*incident.Mail) []partner.ClientID {
	var out []partner.ClientID
	for _, l := range ls {
		if !slices.Contains(out, l.ClientID) {
			out = append(out, l.ClientID)
		}
	}
	return out
}

func newDigestView(ls []*incident.Mail, at time.Time, unsubscribe string) digestView {
	loc := loadLocation(ls[0].TimeZone)
	apps, failing, well := len(distinctApps(ls)), 0, 0
	groups := map[string]*digestGroup{}
	for _, l := range ls {
		w := newTextRenderer(l, loc)
		switch {
		case isFailure(l.Kind):
			failing++
		case l.Kind == incident.KindRecovered:
			well++
		}
		order, title := w.digestHeading()
		what := ""
		if !l.Kind.EndsIncident() {
			what = adviceForMail(l)
		}
		key := title + "\x00" + what // the advice for one reason differs between kinds of endpoints
		g := groups[key]
		if g == nil {
			g = &digestGroup{Title: title, Advice: what, order: order}
			groups[key] = g
		}
		g.Lines = append(g.Lines, w.summaryLine())
	}
	v := digestView{
		Tone:     toneColor(KindDigest),
		Headline: fmt.Sprintf("News about %s of %s", formatCount(int64(len(ls)), "endpoint"), formatCount(int64(apps), "app")),
		Intro:    "Much happened in a short time, so this is one mail instead of many. It lists only the latest event of each incident.",
		Stop: "To stop mails about an endpoint, turn off its setting \"send error emails\" in the settings of its app. " +
			"To have them sent to another address, set the app's error emails.",
		StopURL: unsubscribe,
		Footer: fmt.Sprintf("Composed on %s from %s. This mail was sent automatically; replies to it are not read.",
			at.In(loc).Format(timeForm), formatCount(int64(len(ls)), "message")),
	}
	if well > 0 && failing == 0 {
		v.Tone = toneColor(incident.KindRecovered)
	}
	v.Subject = fmt.Sprintf("[Lamplighter] %s of %s (%s): %s", formatCount(int64(len(ls)), "endpoint"), formatCount(int64(apps), "app"),
		oneLine(string(ls[0].Environment), nameMax), formatTally(failing, well, len(ls)-failing-well))
	for _, g := range groups {
		slices.SortFunc(g.Lines, func(a, b digestLine) int {
			return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Text, b.Text), strings.Compare(a.Incident, b.Incident))
		})
		g.Title = fmt.Sprintf("%s (%d)", g.Title, len(g.Lines))
		v.Groups = append(v.Groups, *g)
	}
	slices.SortFunc(v.Groups, func(a, b digestGroup) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(len(b.Lines), len(a.Lines)), strings.Compare(a.Title, b.Title), strings.Compare(a.Advice, b.Advice))
	})
	return v
}

// formatTally counts the endpoints that fail, that recovered, and the others.
func formatTally(failing, well, other int) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{failing, "failing"}, {well, "recovered"}, {other, "other"}} {
		if p.n > 0 {
			parts = append(parts, strconv.Itoa(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}
