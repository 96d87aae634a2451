package mailer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base32"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net/mail"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"

	"golang.org/x/net/idna"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// messageIDBytes is how many bytes of a hash a Message-ID holds: enough to avoid collisions, and a multiple of 5,
// so that base32 needs no padding.
const messageIDBytes = 15

//go:embed templates/*.txt templates/*.html
var templates embed.FS

// Message is a composed mail.
type Message struct {
	From mail.Address
	// To is one bare address; its domain is ASCII.
	To      string
	Subject string
	Date    time.Time
	// ID, InReplyTo and References are Message-IDs without their angle brackets.
	ID         string
	InReplyTo  string
	References []string
	// Unsubscribe is an https URL that takes one-click unsubscription (RFC 8058), or empty.
	Unsubscribe string
	Text, HTML  string
}

// LinkMaker makes the links in mails. One that is nil is left out.
type LinkMaker struct {
	// Unsubscribe unsubscribes a recipient from mail about the apps; "" when they do not fit in one link.
	Unsubscribe func(to string, apps []partner.ClientID) string
	// Confirm confirms that a recipient wants an app's mail.
	Confirm func(l *incident.Mail) string
	// BlockConfirmations ends all confirmations to a recipient.
	BlockConfirmations func(to string) string
}

// Composer composes messages. The same mail always becomes the same message.
type Composer struct {
	from   mail.Address
	domain string
	links  LinkMaker
	text   *texttemplate.Template
	html   *htmltemplate.Template

	digestText *texttemplate.Template
	digestHTML *htmltemplate.Template
}

// NewComposer returns a Composer that sends from an address, given as "a@b" or "Name <a@b>".
func NewComposer(from string, links LinkMaker) (*Composer, error) {
	a, err := mail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("smtp.from is no mail address such as lamplighter@example.com: %w", err)
	}
	address, err := asciiAddress(a.Address)
	if err != nil {
		return nil, fmt.Errorf("smtp.from: %w", err)
	}
	c := &Composer{
		from: mail.Address{Name: oneLine(a.Name, nameMax), Address: address}, domain: address[strings.LastIndexByte(address, '@')+1:], links: links,
	}
	for name, into := range map[string]**texttemplate.Template{"mail": &c.text, "digest": &c.digestText} {
		if *into, err = texttemplate.ParseFS(templates, "templates/"+name+".txt"); err != nil {
			return nil, fmt.Errorf("read text template: %w", err)
		}
	}
	for name, into := range map[string]**htmltemplate.Template{"mail": &c.html, "digest": &c.digestHTML} {
		if *into, err = htmltemplate.ParseFS(templates, "templates/"+name+".html", "templates/page.html"); err != nil {
			return nil, fmt.Errorf("read HTML template: %w", err)
		}
	}
	return c, nil
}

// asciiAddress writes an address's domain in ASCII (RFC 5891), which every server accepts.
func asciiAddress(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '<' || r == '>' }) {
		return "", errors.New("not one mail address")
	}
	domain, err := idna.Lookup.ToASCII(address[i+1:])
	if err != nil {
		return "", fmt.Errorf("its domain is no domain name: %w", err)
	}
	return address[:i+1] + domain, nil
}

// Compose composes the message. An error means that this mail can never be sent.
func (c *Composer) Compose(l *incident.Mail) (*Message, error) {
	return c.ComposeReply(l, nil)
}

// ComposeReply composes the message of a mail. digests holds, by incident, the Message-ID of the digest that was the
// recipient's first message about it. The message then replies to that digest, since the single mail was never sent.
func (c *Composer) ComposeReply(l *incident.Mail, digests map[string]string) (*Message, error) {
	to, err := asciiAddress(l.To)
	if err != nil {
		return nil, fmt.Errorf("compose mail %s: recipient: %w", l.ID(), err)
	}
	m := &Message{From: c.from, To: to, Date: l.At, ID: c.messageID(l, l.Incident, l.N)}
	if l.First != 0 && l.First != l.N {
		m.InReplyTo = cmp.Or(digests[l.Incident], c.messageID(l, l.Incident, l.First))
	}
	if l.Previous != "" {
		// The opening of the incident before is where mail programs should file this one.
		m.References = append(m.References, cmp.Or(digests[l.Previous], c.messageID(l, l.Previous, 1)))
	}
	if m.InReplyTo != "" {
		m.References = append(m.References, m.InReplyTo)
	}
	action := ""
	question := l.Kind == incident.KindConfirm
	if question && c.links.Confirm != nil {
		action = c.links.Confirm(l)
	}
	switch {
	case question && c.links.BlockConfirmations != nil:
		m.Unsubscribe = c.links.BlockConfirmations(l.To)
	case !question && c.links.Unsubscribe != nil:
		m.Unsubscribe = c.links.Unsubscribe(l.To, []partner.ClientID{l.ClientID})
	}
	v := newView(l, m.Unsubscribe)
	v.Action = action
	m.Subject = v.Subject
	if err := c.renderParts(m, c.text, c.html, &v); err != nil {
		return nil, err
	}
	return m, nil
}

// ComposeTest composes a test mail.
func (c *Composer) ComposeTest(to string, env partner.Environment, at time.Time) (*Message, error) {
	address, err := asciiAddress(to)
	if err != nil {
		return nil, fmt.Errorf("compose test mail: recipient: %w", err)
	}
	at = at.UTC().Truncate(time.Second)
	m := &Message{From: c.from, To: address, Date: at, ID: "test." + strconv.FormatInt(at.UnixMilli(), 36) + "." + incident.RecipientKey(to) + "@" + c.domain}
	v := mailView{
		Tone:     toneColor(""),
		Subject:  "[Lamplighter] Test mail (" + string(env) + ")",
		Headline: "This is a test mail",
		Intro:    "If you read this, Lamplighter's mail reaches you. When an app's endpoint fails, its technical contact gets a mail that looks like this one.",
		Facts:    []detailRow{{"Environment", string(env)}, {"Sent by", c.from.Address}, {"Sent to", oneLine(to, nameMax)}, {"Sent on", at.Format(timeForm)}},
		Footer:   "It was sent by the command lamplighter mail test. Nothing needs to be done.",
	}
	m.Subject = v.Subject
	if err := c.renderParts(m, c.text, c.html, &v); err != nil {
		return nil, err
	}
	return m, nil
}

// renderParts fills a message's two parts.
func (*Composer) renderParts(m *Message, plain *texttemplate.Template, rich *htmltemplate.Template, v any) error {
	var text, html bytes.Buffer
	if err := plain.Execute(&text, v); err != nil {
		return fmt.Errorf("compose text of mail %s: %w", m.ID, err)
	}
	if err := rich.Execute(&html, v); err != nil {
		return fmt.Errorf("compose HTML of mail %s: %w", m.ID, err)
	}
	m.Text, m.HTML = text.String(), html.String()
	return nil
}

// messageID follows from the transition and the recipient only, so a mail that is sent twice has the same one. It
// is a hash, because client ids are long: a Message-ID that does not fit into one line of the header is folded,
// which not every mail program reads.
func (c *Composer) messageID(l *incident.Mail, id string, n int) string {
	sum := sha256.Sum256([]byte(id + "|" + incident.RecipientKey(l.To)))
	return strings.ToLower(base32.HexEncoding.EncodeToString(sum[:messageIDBytes])) + "." + strconv.Itoa(n) + "@" + c.domain
}
