package push

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/wire"
)

func newEndpointFault(r delivery.Reason) delivery.Result {
	return delivery.Result{Outcome: delivery.Retryable, Reason: r, Fault: delivery.FaultEndpoint}
}

// classifyError reads the error of a request that got no answer. A lack on this machine (sockets, a route, a
// resolver) is the service's own fault; everything else is the endpoint's.
func classifyError(err error) delivery.Result {
	var blocked *guard.BlockedError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &blocked) && blocked.Reason.IsAboutText():
		return delivery.Result{Outcome: delivery.Blocked, Reason: delivery.ReasonBlockedAddress, Fault: delivery.FaultEndpoint}
	case errors.As(err, &blocked):
		// From here on it is treated like a name that does not exist. A different retry time or mail would tell the
		// partner which of the two it is.
		return newEndpointFault(delivery.ReasonBlockedAddress)
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return newEndpointFault(delivery.ReasonDNS)
		}
		return newServiceFault("")
	case isErrno(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.ENETDOWN):
		return newServiceFault("")
	case isErrno(err, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.EHOSTDOWN):
		return newEndpointFault(delivery.ReasonRefused)
	case isTLS(err):
		return newEndpointFault(delivery.ReasonTLS)
	case errors.Is(err, os.ErrDeadlineExceeded), isErrno(err, syscall.ETIMEDOUT), errors.As(err, &timeout) && timeout.Timeout():
		return newEndpointFault(delivery.ReasonTimeout)
	case errors.Is(err, wire.ErrNotHTTP):
		return newEndpointFault(delivery.ReasonBadAnswer)
	default: // reset, or closed early
		return newEndpointFault(delivery.ReasonReset)
	}
}

// ClassifyError reads the error of a request that got no answer, as Post does.
func (p *Pusher) ClassifyError(err error) delivery.Result { return classifyError(err) }

// reasonForHost is the reason of an own fault that counts against the host: the name was not resolved, or no
// connection was made.
func reasonForHost(err error) delivery.Reason {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return delivery.ReasonDNS
	}
	return delivery.ReasonRefused
}

func isErrno(err error, codes ...syscall.Errno) bool {
	for _, c := range codes {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var short *guard.ShortKeyError
	// over TCP, an alert is wrapped in an operation's error, whose own type is not exported
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return true
	}
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &short) ||
		errors.Is(err, http.ErrSchemeMismatch)
}
