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
)

// implicitTLSPort is where TLS comes before SMTP (RFC 8314).
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
	// HELO is this machine's name towards the server; its host name when empty.
	HELO string
	// TLSConfig adds a CA, for instance; nil trusts the system's. The server's name is filled in.
	TLSConfig *tls.Config
}

// SendError is a mail that a server did not accept. It never holds credentials or the mail.
type SendError struct {
	// Permanent: the server refused this mail or its recipient for good. Everything else, such as
	// a failed login or a broken connection, says nothing about the mail.
	Permanent bool
	// BadAddress: it was refused because there is no such mailbox, or it takes no mail. Set with
	// Permanent alone.
	BadAddress bool
	// Server: nothing was said about the mail; the server could not be reached, or would not talk.
	Server bool
	// Code is the server's, 0 when it gave none.
	Code int
	Err  error
}

// Error is the server's answer.
func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap leads to the cause.
func (e *SendError) Unwrap() error { return e.Err }

// SMTP hands mails to a server, each over a connection of its own. It is safe for concurrent use.
type SMTP struct {
	opts SMTPOptions
	base []gomail.Option
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
	s := &SMTP{opts: o}
	s.base = []gomail.Option{gomail.WithPort(o.Port), gomail.WithTimeout(o.Timeout), gomail.WithTLSConfig(tlsConfig)}
	switch {
	case o.Port == implicitTLSPort:
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
		// Mechanisms that show the password need TLS, or a server on this machine; go-mail refuses
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

// Send hands over one mail. nil means that the server accepted it; otherwise the error is a
// *SendError. It ends with ctx.
func (s *SMTP) Send(ctx context.Context, m *Message) error {
	msg, err := m.build()
	if err != nil {
		return &SendError{Permanent: true, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	client, err := gomail.NewClient(s.opts.Host, append(slices.Clip(s.base), gomail.WithDialContextFunc(s.dial(ctx)))...)
	if err != nil {
		return &SendError{Err: fmt.Errorf("smtp settings: %w", err)}
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return s.failed(fmt.Errorf("connect to mail server %s: %w", client.ServerAddr(), err))
	}
	err = client.SendWithSMTPClient(conn, msg)
	if err == nil || msg.IsDelivered() {
		// The farewell's answer changes nothing: the mail is the server's now.
		_ = client.CloseWithSMTPClient(conn)
		return nil
	}
	_ = conn.Close()
	return s.failed(err)
}

// dial connects so that the end of ctx ends the whole conversation: go-mail heeds it in the dial
// alone.
func (s *SMTP) dial(ctx context.Context) gomail.DialContextFunc {
	return func(dialCtx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if s.opts.Port != implicitTLSPort {
			return conn, nil
		}
		secure := tls.Client(conn, s.opts.TLSConfig)
		if err := secure.HandshakeContext(dialCtx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("start TLS: %w", err)
		}
		return secure, nil
	}
}

// failed judges an error. Only what a server said about this sender's mail or recipient, in a
// final way, is permanent.
func (s *SMTP) failed(err error) *SendError {
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
		out.Permanent = out.Code >= 500 && !aboutSender(out.Code)
	default:
		// MAIL FROM and what comes before it judge the sender's settings, which people correct.
	}
	return out
}

// aboutSender lists final answers that ask for a login or another order of commands (RFC 4954,
// RFC 5321), and so blame the settings rather than the mail.
func aboutSender(code int) bool {
	switch code {
	case 500, 501, 502, 503, 504, 530, 534, 535, 538:
		return true
	default:
		return false
	}
}

// build makes go-mail's form of the message.
func (m *Message) build() (*gomail.Msg, error) {
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
		if err := msg.SetListUnsubscribeOneClick(m.Unsubscribe); err != nil {
			return nil, fmt.Errorf("unsubscribe link: %w", err)
		}
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	// The same mail has the same boundary, so that a repeat is the same to the octet.
	msg.SetBoundary("lamplighter-" + strconv.FormatInt(m.Date.UnixMilli(), 36))
	return msg, nil
}
