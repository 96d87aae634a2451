package probe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/soap"
)

// requestTrace records how far a request got: the meaning of an error depends on it, and errors do not contain it.
type requestTrace struct {
	mu sync.Mutex
	// resolving is true while the host name is looked up.
	resolving bool
	// dialled is the address that was dialled last.
	dialled   netip.Addr
	connected bool
	// handshake is the error of the TLS handshake.
	handshake error
	secured   bool
	sent      bool
	answering bool
	leaf      *x509.Certificate
}

func (w *requestTrace) withLock(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *requestTrace) clientTrace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { w.withLock(func() { w.resolving = true }) },
		DNSDone:  func(httptrace.DNSDoneInfo) { w.withLock(func() { w.resolving = false }) },
		ConnectStart: func(_, address string) {
			if to, err := netip.ParseAddrPort(address); err == nil {
				w.withLock(func() { w.dialled = to.Addr() })
			}
		},
		ConnectDone: func(_, _ string, err error) { w.withLock(func() { w.connected = w.connected || err == nil }) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			w.withLock(func() {
				w.handshake, w.secured = err, err == nil
				if len(s.PeerCertificates) > 0 {
					w.leaf = s.PeerCertificates[0]
				}
				if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(failed.UnverifiedCertificates) > 0 {
					w.leaf = failed.UnverifiedCertificates[0]
				}
			})
		},
		WroteRequest:         func(i httptrace.WroteRequestInfo) { w.withLock(func() { w.sent = i.Err == nil }) },
		GotFirstResponseByte: func() { w.withLock(func() { w.answering = true }) },
	}
}

// lastAddress is the address that was dialled last, zero when there was none.
func (w *requestTrace) lastAddress() netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialled
}

// certificateValidity is the validity of the server's certificate, zero when none was seen.
func (w *requestTrace) certificateValidity() (from, ends time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leaf == nil {
		return time.Time{}, time.Time{}
	}
	return w.leaf.NotBefore, w.leaf.NotAfter
}

// classifyError reads the error of a request that got no answer. late says that the probe's time was over; canceled,
// that its caller gave up. A lack on this machine is the service's own fault, and so is a resolver that does not
// answer. A name that does not exist is the endpoint's fault.
func classifyError(err error, w *requestTrace, late, canceled bool) (r health.Reason, note string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if blocked, ok := errors.AsType[*guard.BlockedError](err); ok {
		return health.BlockedAddress, blocked.Error()
	}
	if late && w.resolving {
		return health.OwnFault, "the resolver did not say in time where it is"
	}
	if late {
		return w.timeoutReason()
	}
	if canceled {
		return health.OwnFault, "the service is shutting down"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return health.DNS, ""
		}
		return health.OwnFault, "its host name could not be looked up"
	}
	switch timeout, ok := errors.AsType[net.Error](err); {
	case isErrno(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.ENETDOWN):
		return health.OwnFault, "no connection could be made from here"
	case isErrno(err, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.EHOSTDOWN):
		return health.Refused, ""
	case errors.Is(err, os.ErrDeadlineExceeded), isErrno(err, syscall.ETIMEDOUT), ok && timeout.Timeout():
		return w.timeoutReason()
	}
	if r, note := w.tlsReason(err); r != "" {
		return r, note
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return health.HalfClosed, ""
	case isErrno(err, syscall.ECONNRESET, syscall.EPIPE), !w.answering:
		return health.Reset, ""
	default:
		return health.NotHTTP, ""
	}
}

// timeoutReason names the step at which the time was over. w.mu is held.
func (w *requestTrace) timeoutReason() (health.Reason, string) {
	switch {
	case w.answering:
		return health.Trickling, ""
	case w.sent:
		return health.Timeout, "the call was sent, no answer came"
	case w.secured:
		return health.Timeout, "the call could not be sent"
	case w.connected:
		return health.Timeout, "connected, but neither a TLS handshake nor an answer came about"
	default:
		return health.Timeout, "no connection came about"
	}
}

// tlsReason reads a TLS error; "" for any other error. w.mu is held.
func (w *requestTrace) tlsReason(err error) (health.Reason, string) {
	if w.handshake != nil {
		err = w.handshake
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason != x509.Expired {
			return health.TLSUnknownAuthority, "its chain of certificates breaks a rule"
		}
		note := ""
		if c := invalid.Cert; c != nil {
			note = "it is valid from " + c.NotBefore.UTC().Format(time.DateTime) + " to " + c.NotAfter.UTC().Format(time.DateTime) + " UTC"
		}
		return health.TLSExpired, note
	}
	if _, ok := errors.AsType[*guard.ShortKeyError](err); ok {
		return health.TLSWeakKey, ""
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return health.TLSUnknownAuthority, ""
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return health.TLSWrongHost, ""
	}
	// over TCP, an alert is wrapped in an operation's error, whose own type is not exported
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		if wantsCertificate(op.Err) {
			return health.TLSClientCertificate, ""
		}
		return health.TLSRefused, ""
	} else if ok && op.Op == "local error" && strings.Contains(op.Err.Error(), "no renegotiation") {
		return health.TLSClientCertificate, "it asked to renegotiate TLS after the handshake, as IIS does to ask for one"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) || w.handshake != nil {
		return health.TLSProtocol, ""
	}
	return "", ""
}

// wantsCertificate recognizes the alert by which a server demands a client certificate (RFC 8446, section 6.2). The
// alert's type is not exported, so its text is compared.
func wantsCertificate(alert error) bool {
	return strings.Contains(alert.Error(), "certificate required")
}

// reasonForEndpoint is the reason of an own fault that counts against the endpoint.
func (w *requestTrace) reasonForEndpoint(err error) health.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := errors.AsType[*net.DNSError](err); ok || w.resolving {
		return health.DNS
	}
	return health.Refused
}

func isErrno(err error, codes ...syscall.Errno) bool {
	for _, c := range codes {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

// answer is the received part of an answer.
type answer struct {
	status int
	// contentType is the header's; compressed says that the body is compressed, although that was not requested.
	contentType string
	compressed  bool
	body        []byte
	// err is why the body is incomplete; late says that the time was over.
	err  error
	late bool
}

// classifyAnswer reads an answer of a SOAP 1.1 service; Healthy when it is one. SOAP counts whatever its status. For
// anything else, the status comes first.
func (a *answer) classifyAnswer() (m soap.Answer, r health.Reason) {
	switch {
	case a.err != nil:
		r = a.incompleteReason()
	case a.compressed:
		r = health.Unreadable
	default:
		var err error
		if m, err = soap.ReadAnswer(a.contentType, a.body); err == nil {
			return m, health.Healthy
		}
		r = unreadableReason(err)
	}
	if r == health.UnsafeXML || r == health.SOAP12 { // these are reported as they are
		return m, r
	}
	if r == health.Unreadable && a.status == http.StatusInternalServerError && a.isXML() { // it may be a Fault
		return m, r
	}
	if byStatus := statusReason(a.status); byStatus != "" {
		return m, byStatus
	}
	return m, r
}

// isXML reports whether the header declares a content type that SOAP uses.
func (a *answer) isXML() bool {
	kind, _, _ := strings.Cut(strings.ToLower(a.contentType), ";")
	kind = strings.TrimSpace(kind)
	return strings.HasSuffix(kind, "/xml") || strings.HasSuffix(kind, "+xml") || kind == "multipart/related"
}

func unreadableReason(err error) health.Reason {
	switch {
	case errors.Is(err, soap.ErrTooLarge):
		return health.TooLarge
	case errors.Is(err, soap.ErrHTML):
		return health.HTML
	case errors.Is(err, soap.ErrSOAP12):
		return health.SOAP12
	case errors.Is(err, soap.ErrUnsafe):
		return health.UnsafeXML
	case errors.Is(err, soap.ErrUnreadable):
		return health.Unreadable
	default:
		return health.NotSOAP
	}
}

// incompleteReason says why an answer is incomplete.
func (a *answer) incompleteReason() health.Reason {
	switch {
	case a.late:
		return health.Trickling
	case len(a.body) > soap.MaxAnswer:
		return health.TooLarge
	case isErrno(a.err, syscall.ECONNRESET):
		return health.Reset
	case errors.Is(a.err, io.ErrUnexpectedEOF), errors.Is(a.err, io.EOF):
		return health.HalfClosed
	default:
		return health.Reset
	}
}

// statusReason is what a status means when no SOAP came with it; "" for 2xx, which says nothing.
func statusReason(status int) health.Reason {
	switch {
	case status >= 200 && status < 300:
		return ""
	case status == http.StatusNotFound:
		return health.NotFound
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return health.GETOnly
	case status == http.StatusGone:
		return health.Gone
	case status == http.StatusTooManyRequests:
		return health.RateLimited
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return health.AuthError
	case status >= 300 && status < 400:
		return health.Redirect
	case status >= 400 && status < 500:
		return health.ClientError
	case status >= 500:
		return health.ServerError
	default: // 101, and numbers that no HTTP status has
		return health.NotSOAP
	}
}

func formatMinutes(d time.Duration) string {
	return strconv.FormatInt(int64(d.Round(time.Minute)/time.Minute), 10) + " min"
}
