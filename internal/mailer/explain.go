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

// StageResult is the result of a stage.
type StageResult struct {
	Stage Stage
	OK    bool
	// Detail says what happened, in one line without control characters. Advice says what to do about
	// a failure.
	Detail, Advice string
}

// SendWithSteps sends one mail over a connection of its own, as Send would, and calls tell for each stage
// when it ends. The error is that of the stage that failed, for which tell was called, too.
func (s *SMTP) SendWithSteps(ctx context.Context, m *Message, tell func(StageResult)) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	d := &smtpTranscript{opts: &s.opts, emit: tell, began: time.Now()}
	msg, err := m.buildMsg(s.opts.Signer)
	if err != nil {
		err = fmt.Errorf("compose: %w", err)
		tell(StageResult{Stage: StageContent, Detail: oneLine(err.Error(), detailMax), Advice: "The mail could not be composed, so no server was contacted. Check smtp.from, the recipient and the settings under smtp.dkim."})
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
	d.reportSuccess(StageContent, "the server accepted the mail: "+msg.ServerResponse())
	return nil
}

// smtpTranscript follows the commands of go-mail and the answers of the server. A nil one follows nothing.
type smtpTranscript struct {
	opts  *SMTPOptions
	emit  func(StageResult)
	began time.Time
	// lastCommand is the last command to the server.
	lastCommand string
	// reported are the stages that have ended.
	reported []Stage
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

// reportFailure reports the error for the first stage that has not ended.
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

// watchTLS returns the configuration with a hook that reports the handshake.
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

// Debugf implements go-mail's Logger: it gets each command, and each expected answer.
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
		d.reportSuccess(StageSender, "the server accepts mail from this sender: "+line)
	case strings.HasPrefix(d.lastCommand, "RCPT TO"):
		d.reportSuccess(StageRecipient, "the server accepts mail to this recipient: "+line)
	case strings.HasPrefix(line, "235 "):
		d.reportSuccess(StageLogin, "logged in as "+d.opts.Username)
	}
}

// reportGreeting reports the server's name, and, if there is no TLS, that.
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
		return "Something answers on that port, but it does not greet like a mail server. Check smtp.port, whether it speaks TLS from the first byte (smtp.tls: implicit), and whether it accepts connections from this machine."
	case StageTLS:
		return d.tlsAdvice(err)
	case StageLogin:
		if code == 535 || code == 534 || code == 454 {
			return "The server refuses this login: check smtp.username and smtp.password, and whether it requires a password for programs."
		}
		return "The server offers no safe login on this connection. Many servers do so only after STARTTLS: check smtp.tls and smtp.port. Without smtp.username no login is tried."
	case StageSender:
		return "The server does not accept mail from this sender: check smtp.from, and whether it requires a login (smtp.username) or must allow this machine's address."
	case StageRecipient:
		return recipientAdvice(err)
	default:
		return "The server accepted sender and recipient but not the mail itself: its answer says why. A spam filter, a limit or a full disk can be the cause."
	}
}

func connectAdvice(err error) string {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return "The name cannot be looked up: check smtp.host and this machine's DNS."
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "Nothing answers: check smtp.host and smtp.port. Many networks block port 25; port 587 is meant for this."
	}
	return "Nothing takes connections there: check smtp.host, smtp.port, that the server is running and that a firewall lets this machine through."
}

func (d *smtpTranscript) tlsAdvice(err error) string {
	switch {
	case hasErrorType[x509.UnknownAuthorityError](err):
		return "The certificate is signed by an authority that this machine does not know: set smtp.ca to that authority's certificate."
	case hasErrorType[x509.HostnameError](err):
		return "The certificate is for another name: set smtp.host to a name in the certificate."
	case hasErrorType[x509.CertificateInvalidError](err):
		return certificateDateAdvice(err)
	case d.noSTARTTLS && !d.opts.usesImplicitTLS():
		return "The server offers no STARTTLS on this port. Try port 587, or 465 for TLS from the first byte. Only smtp.tls: opportunistic or none sends without TLS, and then mail can be read on its way."
	default:
		return "No secure connection could be made. If the server speaks TLS from the first byte, set smtp.tls: implicit; it must know TLS 1.2 or newer."
	}
}

// certificateDateAdvice names the certificate that is not valid now, and when it ended, if it did.
func certificateDateAdvice(err error) string {
	e, _ := errors.AsType[x509.CertificateInvalidError](err)
	if e.Reason != x509.Expired || e.Cert == nil || time.Now().Before(e.Cert.NotBefore) {
		return "The certificate is not valid now: check it on the server, and check this machine's clock."
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
		return "The server says that there is no such mailbox. The service would mark this address as bounced and skip it."
	case e.Permanent:
		return "The server does not accept mail to this recipient. If it accepts mail to others, the recipient's server refuses it; else the server may require a login (smtp.username)."
	default:
		return "The server asks for a later attempt, as greylisting does. The service would try again after 1, 5 and 15 minutes, then more rarely, for 5 days."
	}
}
