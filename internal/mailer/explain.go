package mailer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	golog "github.com/wneessen/go-mail/log"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// Stage is a part of handing a mail to a server.
type Stage string

// The stages, in their order.
const (
	StageConnect   Stage = "connect"
	StageGreeting  Stage = "greeting"
	StageTLS       Stage = "tls"
	StageLogin     Stage = "login"
	StageSender    Stage = "sender"
	StageRecipient Stage = "recipient"
	StageContent   Stage = "content"
)

// Stages lists them.
func Stages() []Stage {
	return []Stage{StageConnect, StageGreeting, StageTLS, StageLogin, StageSender, StageRecipient, StageContent}
}

// Step is what came of a stage.
type Step struct {
	Stage Stage
	OK    bool
	// Detail says what happened, in one line without control characters. Advice says what to do about
	// a failure.
	Detail, Advice string
}

// Explain sends one mail over a connection of its own, as Send would, and tells each stage as it
// ends. The error is that of the stage that failed, which was told as well.
func (s *SMTP) Explain(ctx context.Context, m *Message, tell func(Step)) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	d := &dialogue{opts: &s.opts, tell: tell, began: time.Now()}
	msg, err := m.build(s.opts.Signer)
	if err != nil {
		err = fmt.Errorf("compose: %w", err)
		tell(Step{Stage: StageContent, Detail: oneLine(err.Error(), detailMax), Advice: "The mail could not be written, so no server was asked. Check smtp.from, the recipient and the settings under smtp.dkim."})
		return err
	}
	l, err := s.dial(ctx, d)
	if err != nil {
		return d.fail(err)
	}
	defer l.end()
	stop := context.AfterFunc(ctx, func() { _ = l.raw.Close() })
	defer stop()
	if err := l.client.SendWithSMTPClient(l.conn, msg); err != nil && !msg.IsDelivered() {
		return d.fail(err)
	}
	d.good(StageContent, "the server took the mail: "+msg.ServerResponse())
	return nil
}

// dialogue follows what go-mail and the server say to each other. A nil one listens to nothing.
type dialogue struct {
	opts  *SMTPOptions
	tell  func(Step)
	began time.Time
	// said is our last command, told the stages that are over.
	said string
	told []Stage
	// plain is set when the server offers no STARTTLS.
	plain bool
}

var _ golog.Logger = (*dialogue)(nil)

func (d *dialogue) good(s Stage, detail string) {
	if !slices.Contains(d.told, s) {
		d.told = append(d.told, s)
		d.tell(Step{Stage: s, OK: true, Detail: oneLine(detail, detailMax)})
	}
}

// fail tells the first stage that is not over, and its error.
func (d *dialogue) fail(err error) error {
	stages := Stages()
	if d.opts.implicit() { // TLS comes before the greeting
		stages[1], stages[2] = stages[2], stages[1]
	}
	for _, s := range stages {
		if slices.Contains(d.told, s) || s == StageLogin && d.opts.Username == "" {
			continue
		}
		d.tell(Step{Stage: s, Detail: secret.Excerpt([]byte(err.Error()), detailMax), Advice: d.remedy(s, err)})
		break
	}
	return err
}

func (d *dialogue) connected(conn net.Conn) {
	if d != nil {
		d.good(StageConnect, fmt.Sprintf("connected to %s in %d ms", conn.RemoteAddr(), time.Since(d.began).Milliseconds()))
	}
}

// secured adds to a configuration that the handshake is told.
func (d *dialogue) secured(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf := cs.PeerCertificates[0]
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		d.good(StageTLS, fmt.Sprintf("%s; the certificate for %s is trusted and ends on %s",
			tls.VersionName(cs.Version), strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.DateOnly)))
		return nil
	}
	return c
}

// Debugf implements go-mail's Logger: it gets each command, and each answer that is as expected.
func (d *dialogue) Debugf(l golog.Log) {
	line := fmt.Sprintf(l.Format, l.Messages...)
	if l.Direction == golog.DirClientToServer {
		d.said = line
		if strings.HasPrefix(line, "MAIL FROM") && d.opts.Username == "" {
			d.good(StageLogin, "none: smtp.username is not set")
		}
		return
	}
	switch verb, _, _ := strings.Cut(d.said, " "); {
	case verb == "EHLO", verb == "HELO":
		d.greeted(line)
	case strings.HasPrefix(d.said, "MAIL FROM"):
		d.good(StageSender, "the server takes mail from this sender: "+line)
	case strings.HasPrefix(d.said, "RCPT TO"):
		d.good(StageRecipient, "the server takes mail to this recipient: "+line)
	case strings.HasPrefix(line, "235 "):
		d.good(StageLogin, "logged in as "+d.opts.Username)
	}
}

// greeted tells the server's name, and that there is no TLS where that is so.
func (d *dialogue) greeted(answer string) {
	lines := strings.Split(strings.TrimPrefix(answer, "250 "), "\n")
	d.good(StageGreeting, lines[0]+" offers "+strings.Join(lines[1:], ", "))
	d.plain = !slices.Contains(d.told, StageTLS) && !slices.Contains(lines[1:], "STARTTLS")
	switch {
	case d.opts.implicit():
	case d.opts.TLS == TLSNone:
		d.good(StageTLS, "none: smtp.tls is none, so this mail can be read on its way")
	case d.opts.TLS == TLSOpportunistic && d.plain:
		d.good(StageTLS, "none: the server offers no STARTTLS, so this mail can be read on its way")
	}
}

// Infof implements go-mail's Logger, as do the others; they are not used.
func (*dialogue) Infof(golog.Log) {}

// Warnf does nothing.
func (*dialogue) Warnf(golog.Log) {}

// Errorf does nothing.
func (*dialogue) Errorf(golog.Log) {}

// remedy says what to do about a failure.
func (d *dialogue) remedy(s Stage, err error) string {
	code := (&SMTP{}).failed(err).Code
	switch s {
	case StageConnect:
		return remedyConnect(err)
	case StageGreeting:
		return "Something answers on that port, but no mail server that wants to talk to us. Check smtp.port, whether it speaks TLS from the first byte (smtp.tls: implicit), and whether it lets this machine in."
	case StageTLS:
		return d.remedyTLS(err)
	case StageLogin:
		if code == 535 || code == 534 || code == 454 {
			return "The server refuses this login: check smtp.username and smtp.password, and whether it wants a password made for programs."
		}
		return "The server offers no login that is safe here. Many do so after STARTTLS alone: check smtp.tls and smtp.port. Without smtp.username no login is tried."
	case StageSender:
		return "The server does not take mail from this sender: check smtp.from, and whether it wants a login (smtp.username) or this machine's address to be allowed."
	case StageRecipient:
		return remedyRecipient(err)
	default:
		return "The server took sender and recipient but not the mail itself: its answer says why. A spam filter, a limit or a full disk can be the cause."
	}
}

func remedyConnect(err error) string {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return "The name cannot be looked up: check smtp.host and this machine's DNS."
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "Nothing answers: check smtp.host and smtp.port. Many networks let nothing out on port 25; port 587 is meant for this."
	}
	return "Nothing takes connections there: check smtp.host, smtp.port, that the server is running and that a firewall lets this machine through."
}

func (d *dialogue) remedyTLS(err error) string {
	switch {
	case isCertificate[x509.UnknownAuthorityError](err):
		return "The certificate is signed by an authority that this machine does not know: set smtp.ca to that authority's certificate."
	case isCertificate[x509.HostnameError](err):
		return "The certificate is for another name: set smtp.host to a name that it holds."
	case isCertificate[x509.CertificateInvalidError](err):
		return lapsed(err)
	case d.plain && !d.opts.implicit():
		return "The server offers no STARTTLS on this port. Try port 587, or 465 for TLS from the first byte. Only smtp.tls: opportunistic or none sends without, where anybody on the way can read it."
	default:
		return "No secure connection could be made. If the server speaks TLS from the first byte, set smtp.tls: implicit; it must know TLS 1.2 or newer."
	}
}

// lapsed tells which certificate is not valid now, and since when where it has ended.
func lapsed(err error) string {
	e, _ := errors.AsType[x509.CertificateInvalidError](err)
	if e.Reason != x509.Expired || e.Cert == nil || time.Now().Before(e.Cert.NotBefore) {
		return "The certificate is not valid now: look at it on the server, and at this machine's clock."
	}
	return fmt.Sprintf("The certificate %.100q ended on %s: it has to be renewed on the server.", e.Cert.Subject, e.Cert.NotAfter.UTC().Format(time.RFC3339))
}

func isCertificate[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func remedyRecipient(err error) string {
	switch e := (&SMTP{}).failed(err); {
	case e.BadAddress:
		return "The server says that there is no such mailbox. The service would mark this address and skip it."
	case e.Permanent:
		return "The server does not pass mail to this recipient on. If it takes others, the recipient's server refuses us; else it may want a login (smtp.username)."
	default:
		return "The server asks to come back later, as greylisting does. The service would: after 1, 5 and 15 minutes, then more rarely, for 5 days."
	}
}
