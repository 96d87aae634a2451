package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Limits on an answer.
const (
	// maxHeader is ample, since headers are hardly used. Interim (1xx) answers count towards it.
	maxHeader = 64 << 10
	// maxBody is how much of a body is read, so that the connection can serve again after an
	// ordinary answer.
	maxBody = 64 << 10
	// bodyWithin is how long a body may take once the status is known. The body changes nothing any more, and a slow
	// one must not delay its caller.
	bodyWithin = time.Second
	// tlsWithin bounds a handshake.
	tlsWithin = 5 * time.Second
)

// Defaults of Options.
const (
	defaultIdlePerHost = 32
	// defaultIdle keeps open, unused sockets well below the limit of a process.
	defaultIdle = 4096
	// defaultIdleTimeout is below the 60 to 120 seconds after which load balancers close idle
	// connections, so that few requests meet a closed one.
	defaultIdleTimeout = 55 * time.Second
	// defaultMaxAge is how soon a host that moved by DNS is followed although the old address still answers.
	defaultMaxAge = time.Minute
	// tlsSessions lets a burst after a quiet time resume TLS sessions.
	tlsSessions = 1024
)

// Options of a Client; zero values mean the defaults above.
type Options struct {
	// Dial connects to host:port. It MUST refuse addresses that must not be called; this package does not check them.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// IdlePerHost should be the cap of requests in flight to one host.
	IdlePerHost int
	// Idle caps the connections kept over all hosts.
	Idle int
	// IdleTimeout closes connections that were not used for that long.
	IdleTimeout time.Duration
	// MaxAge is how long a connection is used, less up to a quarter of it. The next connection resolves the host's
	// name again.
	MaxAge time.Duration
	// RootCAs replaces the system's certificate authorities, for tests and closed networks.
	RootCAs *x509.CertPool
	// Verify, if set, checks a connection after its certificate was verified: its error ends the handshake.
	Verify func(tls.ConnectionState) error
	// Random returns numbers in [0, 1); nil for math/rand.
	Random func() float64
}

// Client keeps connections. It is safe for concurrent use.
type Client struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	tls    *tls.Config
	pool   *pool
	maxAge time.Duration
	random func() float64
}

// New returns a Client.
func New(opts Options) *Client {
	if opts.Random == nil {
		opts.Random = rand.Float64
	}
	return &Client{
		dial: opts.Dial, maxAge: cmp.Or(opts.MaxAge, defaultMaxAge), random: opts.Random,
		tls: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs, NextProtos: []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions), VerifyConnection: opts.Verify,
		},
		pool: newPool(cmp.Or(opts.IdlePerHost, defaultIdlePerHost), cmp.Or(opts.Idle, defaultIdle), cmp.Or(opts.IdleTimeout, defaultIdleTimeout)),
	}
}

// Request is one POST.
type Request struct {
	To *Destination
	// Header holds whole header lines, each with CR LF at its end, without Host and Content-Length.
	Header []byte
	Body   []byte
	// Deadline MUST be set. It bounds everything, from name resolution to the last byte of the body.
	Deadline time.Time
}

// AppendTo appends the request as it is sent.
func (r *Request) AppendTo(b []byte) []byte {
	b = append(b, r.To.head...)
	b = append(b, r.Header...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, r.Body...)
}

// Do makes one POST and passes the answer to read, which may read the body and must not keep it. The error is nil as
// soon as the header of an answer was read.
//
// A kept connection that the other side has closed is replaced by a new one, once, if no byte of an answer came. So a
// request may arrive twice, as after any lost answer. When ctx ends first, the error is the one that this causes; the
// caller must check ctx.
func (c *Client) Do(ctx context.Context, r *Request, read func(*http.Response)) error {
	if cn := c.pool.take(r.To.key); cn != nil {
		err := cn.roundTrip(ctx, r, read, c.pool)
		if err == nil || !cn.isUnanswered(err) || ctx.Err() != nil || !time.Now().Before(r.Deadline) {
			return err
		}
	}
	cn, err := c.openConn(ctx, r)
	if err != nil {
		return err
	}
	return cn.roundTrip(ctx, r, read, c.pool)
}

// Close closes the idle connections. Requests in flight go on.
func (c *Client) Close() { c.pool.close() }

func (c *Client) openConn(ctx context.Context, r *Request) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	plain, err := c.dial(ctx, "tcp", r.To.address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if !r.To.tls {
		return newConn(plain, plain, r.To.key, c.connExpiry(time.Now())), nil
	}
	cfg := c.tls.Clone()
	cfg.ServerName = r.To.serverName
	secure := tls.Client(plain, cfg)
	ctx, cancel = context.WithTimeout(ctx, tlsWithin)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return newConn(secure, plain, r.To.key, c.connExpiry(time.Now())), nil
}

// connExpiry is when a connection that is made now expires. Connections made together do not expire together.
func (c *Client) connExpiry(now time.Time) time.Time {
	return now.Add(c.maxAge - time.Duration(c.random()*float64(c.maxAge)/4))
}

// ErrNotHTTP reports an answer that violates HTTP (RFC 9112): in its status line, its header or the framing of its
// body.
var ErrNotHTTP = errors.New("the answer is not HTTP")

// errTooLarge reports a header larger than maxHeader.
var errTooLarge = errors.New("answer's header is too large")

// isClosedByPeer reports whether an error means that the other side had closed the connection.
func isClosedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isReset(err)
}

// longPast makes pending reads and writes fail at once.
func longPast() time.Time { return time.Unix(1, 0) }

// isTimeout reports an error of a deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
