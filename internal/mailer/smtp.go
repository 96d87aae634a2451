package mailer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	gomail "github.com/wneessen/go-mail"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// TLSMode says how the connection to the mail server is protected.
type TLSMode string

// The closed set of TLS modes. On port 465 TLS is implicit, whatever the mode.
const (
	// TLSMandatory sends nothing unless STARTTLS succeeded with a valid certificate.
	TLSMandatory TLSMode = "mandatory"
	// TLSOpportunistic uses STARTTLS where it is offered; the certificate must be valid then.
	TLSOpportunistic TLSMode = "opportunistic"
	// TLSNone never uses it.
	TLSNone TLSMode = "none"
	// TLSImplicit speaks TLS from the first byte.
	TLSImplicit TLSMode = "implicit"
)

// implicitTLSPort is the port on which TLS starts before SMTP (RFC 8314).
const implicitTLSPort = 465

// DefaultTimeout bounds one mail, from the dial to the server's last answer.
const DefaultTimeout = 30 * time.Second

// SMTPOptions say how to reach the mail server.
type SMTPOptions struct {
	Host     string
	Port     int
	Username string
	Password secret.Text
	TLS      TLSMode
	// Timeout bounds one mail; 0 is DefaultTimeout.
	Timeout time.Duration
	// HELO is the name that this machine gives the server; its host name when empty.
	HELO string
	// TLSConfig adds a CA, for instance; nil trusts the system's. The server's name is filled in.
	TLSConfig *tls.Config
	// Signer adds a DKIM signature; nil adds none.
	Signer *Signer
	// Metrics may be nil.
	Metrics *Metrics
}

// SendError says why a server did not accept a mail. It never holds credentials or the mail.
type SendError struct {
	// Permanent: the server permanently refused this mail or its recipient. Everything else, such as a
	// failed login or a broken connection, says nothing about the mail.
	Permanent bool
	// BadAddress: it was refused because there is no such mailbox, or the mailbox accepts no mail. It is
	// set only with Permanent.
	BadAddress bool
	// Server: the fault is the server's or the settings', and says nothing about the mail. The server could
	// not be reached, or refused the login or the sender.
	Server bool
	// Code is the server's, 0 when it gave none.
	Code int
	Err  error
}

// Error is the server's answer.
func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// SMTP hands mails to a server. It keeps idle connections for idleFor, so that a burst uses few. After
// breakerFailures without an answer it does not call the server for breakerOpenFor. It is safe for
// concurrent use.
type SMTP struct {
	opts    SMTPOptions
	base    []gomail.Option
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	pool    connPool
}

// NewSMTP checks the options; it dials nothing.
func NewSMTP(o SMTPOptions) (*SMTP, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLSConfig != nil {
		tlsConfig = o.TLSConfig.Clone()
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = o.Host
	}
	o.TLSConfig = tlsConfig
	s := &SMTP{opts: o, breaker: newBreaker(o.Metrics)}
	s.base = []gomail.Option{gomail.WithPort(o.Port), gomail.WithTimeout(o.Timeout), gomail.WithTLSConfig(tlsConfig)}
	switch {
	case o.usesImplicitTLS():
		s.base = append(s.base, gomail.WithSSL())
	case o.TLS == TLSMandatory:
		s.base = append(s.base, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case o.TLS == TLSOpportunistic:
		s.base = append(s.base, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	case o.TLS == TLSNone:
		s.base = append(s.base, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("smtp.tls is %q: must be mandatory, opportunistic or none", o.TLS)
	}
	if o.HELO != "" {
		s.base = append(s.base, gomail.WithHELO(o.HELO))
	}
	if o.Username != "" {
		// Mechanisms that send the password itself need TLS, or a server on this machine; go-mail refuses
		// them otherwise.
		s.base = append(s.base, gomail.WithOpportunisticSMTPAuth(
			gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthCramMD5,
		), gomail.WithUsername(o.Username), gomail.WithPassword(o.Password.Reveal()))
	}
	if _, err := gomail.NewClient(o.Host, s.base...); err != nil {
		return nil, fmt.Errorf("smtp settings: %w", err)
	}
	return s, nil
}

// Send hands over one mail. It returns nil when the server accepted it; otherwise the error is a *SendError.
// It ends with ctx.
func (s *SMTP) Send(ctx context.Context, m *Message) error {
	msg, err := m.buildMsg(s.opts.Signer)
	if err != nil {
		return &SendError{Permanent: true, Err: err}
	}
	done, err := s.breaker.Allow()
	if err != nil {
		return &SendError{Server: true, Err: fmt.Errorf("mail server %s did not answer, and is not called for some seconds: %w", s.opts.Host, err)}
	}
	failure, answered := s.sendMessage(ctx, msg)
	if ctx.Err() != nil && !answered {
		done(nil) // the end of ctx says nothing about the server
	} else {
		done(errorUnlessAnswered(answered))
	}
	if failure != nil {
		return failure
	}
	return nil
}

var errNoAnswer = errors.New("the mail server does not answer")

func errorUnlessAnswered(answered bool) error {
	if answered {
		return nil
	}
	return errNoAnswer
}

// sendMessage hands over one mail, on an idle connection or a new one. answered is true when the server accepted
// the mail or answered a command about it.
func (s *SMTP) sendMessage(ctx context.Context, msg *gomail.Msg) (failure *SendError, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	l := s.pool.take()
	for {
		if l == nil {
			var err error
			if l, err = s.dialServer(ctx, nil); err != nil {
				out := s.classifyError(fmt.Errorf("connect to mail server %s: %w", s.opts.Host, err))
				out.Server = true
				return out, false
			}
		}
		stop := context.AfterFunc(ctx, func() { _ = l.raw.Close() })
		err := l.client.SendWithSMTPClient(l.conn, msg)
		usable := stop()
		if err == nil || msg.IsDelivered() {
			// A failure after the acceptance changes nothing: the server has the mail.
			s.keepOrClose(l, err == nil && usable)
			return nil, true
		}
		failure = s.classifyError(err)
		if se := (*gomail.SendError)(nil); errors.As(err, &se) && se.Reason == gomail.ErrConnCheck && l.used > 0 {
			_ = l.raw.Close() // the server closed the idle connection: nothing was sent
			l = nil
			continue
		}
		talks := failure.Code != 0 && failure.Code != codeClosing
		s.keepOrClose(l, talks && usable)
		return failure, talks
	}
}

// keepOrClose keeps a connection that is usable for another mail, and closes any other.
func (s *SMTP) keepOrClose(l *smtpConn, usable bool) {
	if l.used++; usable && s.pool.put(l) {
		return
	}
	l.quitAndClose()
}

// Close closes the idle connections. It does not interrupt mails that are being sent.
func (s *SMTP) Close() { s.pool.closeAll() }

// dialServer connects, greets and logs in. The end of ctx closes the connection, because go-mail observes ctx only
// while it dials. watch may be nil.
func (s *SMTP) dialServer(ctx context.Context, watch *smtpTranscript) (*smtpConn, error) {
	l := &smtpConn{}
	stop := func() bool { return true }
	tlsConfig := s.opts.TLSConfig
	options := slices.Clip(s.base)
	if watch != nil {
		tlsConfig = watch.watchTLS(tlsConfig)
		options = append(options, gomail.WithTLSConfig(tlsConfig), gomail.WithLogger(watch), gomail.WithDebugLog())
	}
	dial := func(dialCtx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		l.raw = conn
		watch.reportConnected(conn)
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		if !s.opts.usesImplicitTLS() {
			return conn, nil
		}
		secure := tls.Client(conn, tlsConfig)
		if err := secure.HandshakeContext(dialCtx); err != nil {
			return nil, fmt.Errorf("start TLS: %w", err)
		}
		return secure, nil
	}
	client, err := gomail.NewClient(s.opts.Host, append(options, gomail.WithDialContextFunc(dial))...)
	if err != nil {
		return nil, fmt.Errorf("smtp settings: %w", err)
	}
	l.client = client
	l.conn, err = client.DialToSMTPClientWithContext(ctx)
	stop()
	s.opts.Metrics.countConnection(err == nil)
	if err != nil {
		if l.raw != nil {
			_ = l.raw.Close()
		}
		return nil, err
	}
	return l, nil
}

func (o *SMTPOptions) usesImplicitTLS() bool {
	return o.TLS == TLSImplicit || o.Port == implicitTLSPort
}

// codeClosing is the answer of a server that is about to close the connection.
const codeClosing = 421

// classifyError classifies an error. Only a final answer about the mail or its recipient is permanent.
func (s *SMTP) classifyError(err error) *SendError {
	out := &SendError{Err: err}
	if told, ok := errors.AsType[*textproto.Error](err); ok {
		out.Code = told.Code
	}
	var se *gomail.SendError
	if !errors.As(err, &se) {
		return out
	}
	if out.Code == 0 {
		out.Code = se.ErrorCode()
	}
	switch se.Reason {
	case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
		out.Permanent = out.Code >= 500 && !blamesSender(out.Code)
		out.BadAddress = out.Permanent && se.Reason == gomail.ErrSMTPRcptTo && isUnknownMailbox(out.Code, se.EnhancedStatusCode())
	default:
		// MAIL FROM and the commands before it depend on the service's settings, which an operator can correct.
		out.Server = true
	}
	return out
}

// blamesSender lists final answers that require a login or another order of commands (RFC 4954, RFC 5321). They are
// a fault of the settings, not of the mail.
func blamesSender(code int) bool {
	switch code {
	case 500, 501, 502, 503, 504, 530, 534, 535, 538:
		return true
	default:
		return false
	}
}

// isUnknownMailbox reports whether an answer to RCPT TO says that the address accepts no mail (RFC 3463, with
// RFC 7505 and 7504). A refusal by policy (5.7) is about the sending service rather than the address.
func isUnknownMailbox(code int, enhanced string) bool {
	switch enhanced {
	case "5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1":
		return true
	case "":
		return code == 550 || code == 551 || code == 553
	default:
		return false
	}
}

// buildMsg makes go-mail's form of the message, signed if there is a signer.
func (m *Message) buildMsg(signer *Signer) (*gomail.Msg, error) {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(&m.From)
	if err := msg.To(m.To); err != nil {
		return nil, fmt.Errorf("recipient's address: %w", err)
	}
	msg.Subject(m.Subject)
	msg.SetDateWithValue(m.Date)
	msg.SetMessageIDWithValue(m.ID)
	if m.InReplyTo != "" {
		msg.SetGenHeader(gomail.HeaderInReplyTo, "<"+m.InReplyTo+">")
	}
	if len(m.References) > 0 {
		msg.SetGenHeader(gomail.HeaderReferences, "<"+strings.Join(m.References, "> <")+">")
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	if m.Unsubscribe != "" {
		msg.SetGenHeader(gomail.HeaderListUnsubscribe, "<"+m.Unsubscribe+">")
		if strings.HasPrefix(m.Unsubscribe, "https://") { // RFC 8058 allows no other scheme
			msg.SetGenHeader(gomail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
		}
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	signer.signMessage(msg, m.Date)
	// The same mail has the same boundary, so that a repeat is identical, octet by octet.
	msg.SetBoundary("lamplighter-" + strconv.FormatInt(m.Date.UnixMilli(), 36))
	return msg, nil
}
