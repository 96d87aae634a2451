package guard

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"
)

const (
	// dialTimeout and tlsTimeout leave room for an answer within the request
	// timeout of ten seconds.
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	keepAlive   = 30 * time.Second

	// defaultIdlePerHost is the number of requests that one app may have in
	// flight; net/http's 2 would close and reopen the others all the time.
	defaultIdlePerHost = 32
	// maxIdle bounds open sockets over all hosts.
	maxIdle = 4096
	// defaultIdleTimeout is below the 60 to 120 seconds after which load
	// balancers close idle connections, so that few requests meet a closed one.
	defaultIdleTimeout = 55 * time.Second
	// maxHeaderBytes is ample for an answer whose headers are not used.
	maxHeaderBytes = 64 << 10
	// tlsSessions lets a burst after a quiet time resume TLS sessions.
	tlsSessions = 1024
	// pingAfter and pingTimeout find HTTP/2 connections that died silently;
	// without them every request on one would wait for its own timeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// TransportOptions tune a Transport; zero values mean the defaults above.
type TransportOptions struct {
	// MaxIdleConnsPerHost should be the cap of requests in flight per app.
	MaxIdleConnsPerHost int
	// IdleConnTimeout closes connections that were not used for so long.
	IdleConnTimeout time.Duration
	// FreshTLS makes every connection with a full handshake, which shows the server's present certificate. A resumed
	// session shows the certificate of the session's beginning.
	FreshTLS bool
	// RootCAs replaces the system's certificate authorities, for tests and
	// closed networks.
	RootCAs *x509.CertPool
}

// Transport returns a transport whose every connection is checked by Control. It uses no proxy, because a proxy would
// connect in place of this process. It does not ask for compression, because a small compressed answer may expand to
// a huge one. Callers should use Client, which also checks each URL.
func (g *Guard) Transport(opts TransportOptions) *http.Transport {
	var sessions tls.ClientSessionCache
	if !opts.FreshTLS {
		sessions = tls.NewLRUClientSessionCache(tlsSessions)
	}
	return &http.Transport{
		Proxy:       nil,
		DialContext: g.Dialer().DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            opts.RootCAs,
			ClientSessionCache: sessions,
			VerifyConnection:   g.VerifyKeys,
		},
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    cmp.Or(opts.MaxIdleConnsPerHost, defaultIdlePerHost),
		IdleConnTimeout:        cmp.Or(opts.IdleConnTimeout, defaultIdleTimeout),
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
	}
}

// Client returns a client for calls to partners. It checks each request's URL against the present policy, and the
// address of each connection. A redirect is returned as the answer. timeout covers the whole call with its body; 0
// means that only the request's context bounds it. It keeps no cookies. The caller must limit what it reads of a
// body.
func (g *Guard) Client(timeout time.Duration, opts TransportOptions) *http.Client {
	return &http.Client{
		Transport: &checkedTransport{guard: g, next: g.Transport(opts)},
		Timeout:   timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// checkedTransport refuses URLs that the policy permitted when they were set and does not permit any more, such as
// plain http.
type checkedTransport struct {
	guard *Guard
	next  *http.Transport
}

// RoundTrip refuses with a *BlockedError, or does what the transport does.
func (t *checkedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	u := *req.URL
	if err := t.guard.checkParts(&u); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, t.guard.countBlocked(err)
	}
	if u.RawQuery != req.URL.RawQuery {
		copied := *req
		copied.URL = &u
		req = &copied
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections implements http.Client.CloseIdleConnections.
func (t *checkedTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }
