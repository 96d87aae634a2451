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

// AllStages lists them.
func AllStages() []Stage {
	return []Stage{StageConnect, StageGreeting, StageTLS, StageLogin, StageSender, StageRecipient, StageContent}
}

// StageResult is what came of a stage.
type StageResult struct {
	Stage Stage
	OK    bool
	// Detail says what happened, in one line without control characters. Advice says what to do about
	// a failure.
	Detail, Advice string
}

// SendWithSteps sends one mail over a connection of its own, as Send would, and tells each stage as it
// ends. The error is that of the stage that failed, which was told as well.
func (s *SMTP) SendWithSteps(ctx context.Context, m *Message, tell func(StageResult)) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	d := &smtpTranscript{opts: &s.opts, emit: tell, began: time.Now()}
	msg, err := m.buildMsg(s.opts.Signer)
	if err != nil {
		err = fmt.Errorf("compose: %w", err)
		tell(StageResult{Stage: StageContent, Detail: oneLine(err.Error(), detailMax), Advice: "The mail could not be written, so no server was asked. Check smtp.from, the recipient and the settings under smtp.dkim."})
		return err
	}
	l, err := s.dialServer(ctx, d)
	if err != nil {
		return d.reportFailure(err)
	}
	defer l.quitAndClose()
	stop := context.AfterFunc(ctx, func() { _ = l.raw.Close() })
	defer stop()
	if err := l.client.SendWithSMTPClient(l.conn, msg); err != nil && !msg.IsDelivered() {
		return d.reportFailure(err)
	}
	d.reportSuccess(StageContent, "the server took the mail: "+msg.ServerResponse())
	return nil
}

// smtpTranscript follows what go-mail and the server say to each other. A nil one listens to nothing.
type smtpTranscript struct {
	opts  *SMTPOptions
	emit  func(StageResult)
	began time.Time
	// lastCommand is our last command, told the stages that are over.
	lastCommand string
	reported    []Stage
	// noSTARTTLS is set when the server offers no STARTTLS.
	noSTARTTLS bool
}

var _ golog.Logger = (*smtpTranscript)(nil)

func (d *smtpTranscript) reportSuccess(s Stage, detail string) {
	if !slices.Contains(d.reported, s) {
		d.reported = append(d.reported, s)
		d.emit(StageResult{Stage: s, OK: true, Detail: oneLine(detail, detailMax)})
	}
}

// reportFailure tells the first stage that is not over, and its error.
func (d *smtpTranscript) reportFailure(err error) error {
	stages := AllStages()
	if d.opts.usesImplicitTLS() { // TLS comes before the greeting
		stages[1], stages[2] = stages[2], stages[1]
	}
	for _, s := range stages {
		if slices.Contains(d.reported, s) || s == StageLogin && d.opts.Username == "" {
			continue
		}
		d.emit(StageResult{Stage: s, Detail: secret.MakeExcerpt([]byte(err.Error()), detailMax), Advice: d.stageAdvice(s, err)})
		break
	}
	return err
}

func (d *smtpTranscript) reportConnected(conn net.Conn) {
	if d != nil {
		d.reportSuccess(StageConnect, fmt.Sprintf("connected to %s in %d ms", conn.RemoteAddr(), time.Since(d.began).Milliseconds()))
	}
}

// watchTLS adds to a configuration that the handshake is told.
func (d *smtpTranscript) watchTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf := cs.PeerCertificates[0]
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		d.reportSuccess(StageTLS, fmt.Sprintf("%s; the certificate for %s is trusted and ends on %s",
			tls.VersionName(cs.Version), strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.DateOnly)))
		return nil
	}
	return c
}

// Debugf implements go-mail's Logger: it gets each command, and each answer that is as expected.
func (d *smtpTranscript) Debugf(l golog.Log) {
	line := fmt.Sprintf(l.Format, l.Messages...)
	if l.Direction == golog.DirClientToServer {
		d.lastCommand = line
		if strings.HasPrefix(line, "MAIL FROM") && d.opts.Username == "" {
			d.reportSuccess(StageLogin, "none: smtp.username is not set")
		}
		return
	}
	switch verb, _, _ := strings.Cut(d.lastCommand, " "); {
	case verb == "EHLO", verb == "HELO":
		d.reportGreeting(line)
	case strings.HasPrefix(d.lastCommand, "MAIL FROM"):
		d.reportSuccess(StageSender, "the server takes mail from this sender: "+line)
	case strings.HasPrefix(d.lastCommand, "RCPT TO"):
		d.reportSuccess(StageRecipient, "the server takes mail to this recipient: "+line)
	case strings.HasPrefix(line, "235 "):
		d.reportSuccess(StageLogin, "logged in as "+d.opts.Username)
	}
}

// reportGreeting tells the server's name, and that there is no TLS where that is so.
func (d *smtpTranscript) reportGreeting(answer string) {
	lines := strings.Split(strings.TrimPrefix(answer, "250 "), "\n")
	d.reportSuccess(StageGreeting, lines[0]+" offers "+strings.Join(lines[1:], ", "))
	d.noSTARTTLS = !slices.Contains(d.reported, StageTLS) && !slices.Contains(lines[1:], "STARTTLS")
	switch {
	case d.opts.usesImplicitTLS():
	case d.opts.TLS == TLSNone:
		d.reportSuccess(StageTLS, "none: smtp.tls is none, so this mail can be read on its way")
	case d.opts.TLS == TLSOpportunistic && d.noSTARTTLS:
		d.reportSuccess(StageTLS, "none: the server offers no STARTTLS, so this mail can be read on its way")
	}
}

// Infof implements go-mail's Logger, as do the others; they are not used.
func (*smtpTranscript) Infof(golog.Log) {}

// Warnf does nothing.
func (*smtpTranscript) Warnf(golog.Log) {}

// Errorf does nothing.
func (*smtpTranscript) Errorf(golog.Log) {}

// stageAdvice says what to do about a failure.
func (d *smtpTranscript) stageAdvice(s Stage, err error) string {
	code := (&SMTP{}).classifyError(err).Code
	switch s {
	case StageConnect:
		return connectAdvice(err)
	case StageGreeting:
		return "Something answers on that port, but no mail server that wants to talk to us. Check smtp.port, whether it speaks TLS from the first byte (smtp.tls: implicit), and whether it lets this machine in."
	case StageTLS:
		return d.tlsAdvice(err)
	case StageLogin:
		if code == 535 || code == 534 || code == 454 {
			return "The server refuses this login: check smtp.username and smtp.password, and whether it wants a password made for programs."
		}
		return "The server offers no login that is safe here. Many do so after STARTTLS alone: check smtp.tls and smtp.port. Without smtp.username no login is tried."
	case StageSender:
		return "The server does not take mail from this sender: check smtp.from, and whether it wants a login (smtp.username) or this machine's address to be allowed."
	case StageRecipient:
		return recipientAdvice(err)
	default:
		return "The server took sender and recipient but not the mail itself: its answer says why. A spam filter, a limit or a full disk can be the cause."
	}
}

func connectAdvice(err error) string {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return "The name cannot be looked up: check smtp.host and this machine's DNS."
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "Nothing answers: check smtp.host and smtp.port. Many networks let nothing out on port 25; port 587 is meant for this."
	}
	return "Nothing takes connections there: check smtp.host, smtp.port, that the server is running and that a firewall lets this machine through."
}

func (d *smtpTranscript) tlsAdvice(err error) string {
	switch {
	case hasErrorType[x509.UnknownAuthorityError](err):
		return "The certificate is signed by an authority that this machine does not know: set smtp.ca to that authority's certificate."
	case hasErrorType[x509.HostnameError](err):
		return "The certificate is for another name: set smtp.host to a name that it holds."
	case hasErrorType[x509.CertificateInvalidError](err):
		return certificateDateAdvice(err)
	case d.noSTARTTLS && !d.opts.usesImplicitTLS():
		return "The server offers no STARTTLS on this port. Try port 587, or 465 for TLS from the first byte. Only smtp.tls: opportunistic or none sends without, where anybody on the way can read it."
	default:
		return "No secure connection could be made. If the server speaks TLS from the first byte, set smtp.tls: implicit; it must know TLS 1.2 or newer."
	}
}

// certificateDateAdvice tells which certificate is not valid now, and since when where it has ended.
func certificateDateAdvice(err error) string {
	e, _ := errors.AsType[x509.CertificateInvalidError](err)
	if e.Reason != x509.Expired || e.Cert == nil || time.Now().Before(e.Cert.NotBefore) {
		return "The certificate is not valid now: look at it on the server, and at this machine's clock."
	}
	return fmt.Sprintf("The certificate %.100q ended on %s: it has to be renewed on the server.", e.Cert.Subject, e.Cert.NotAfter.UTC().Format(time.RFC3339))
}

func hasErrorType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func recipientAdvice(err error) string {
	switch e := (&SMTP{}).classifyError(err); {
	case e.BadAddress:
		return "The server says that there is no such mailbox. The service would mark this address and skip it."
	case e.Permanent:
		return "The server does not pass mail to this recipient on. If it takes others, the recipient's server refuses us; else it may want a login (smtp.username)."
	default:
		return "The server asks to come back later, as greylisting does. The service would: after 1, 5 and 15 minutes, then more rarely, for 5 days."
	}
}
