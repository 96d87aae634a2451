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

// Limits on what an answer may cost.
const (
	// maxHeader is ample for an answer whose headers are not used. Interim (1xx) answers, however many,
	// count into it.
	maxHeader = 64 << 10
	// maxBody is how much of a body is read, so that the connection can serve again after an
	// ordinary answer.
	maxBody = 64 << 10
	// bodyWithin is how long a body may take once the status is known: it decides nothing any
	// more, and one that trickles must not hold its sender up.
	bodyWithin = time.Second
	// tlsWithin bounds a handshake.
	tlsWithin = 5 * time.Second
)

// Defaults of Options.
const (
	defaultIdlePerHost = 32
	// defaultIdle bounds open, unused sockets well below what a process may open.
	defaultIdle = 4096
	// defaultIdleTimeout is below the 60 to 120 seconds after which load balancers close idle
	// connections, so that few requests meet a closed one.
	defaultIdleTimeout = 55 * time.Second
	// defaultMaxAge is how soon a host that moved by DNS is followed although the old address still answers.
	defaultMaxAge = time.Minute
	// tlsSessions lets a burst after a quiet night resume TLS sessions.
	tlsSessions = 1024
)

// Options of a Client; zero values mean the defaults above.
type Options struct {
	// Dial connects to host:port. It MUST refuse addresses that must not be called: nothing here
	// does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// IdlePerHost should be the cap of requests in flight to one host.
	IdlePerHost int
	// Idle caps the connections kept over all hosts.
	Idle int
	// IdleTimeout closes connections that were not used for so long.
	IdleTimeout time.Duration
	// MaxAge is how long a connection serves, less up to a quarter: the names of hosts are looked up anew with
	// the next one.
	MaxAge time.Duration
	// RootCAs replaces the system's certificate authorities, for tests and closed networks.
	RootCAs *x509.CertPool
	// Verify judges a connection whose certificate was found good, unless nil: its error ends the handshake.
	Verify func(tls.ConnectionState) error
	// Random returns numbers in [0, 1); nil for those of math/rand.
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
	// Header holds whole header lines, each ended by CR LF, without Host and Content-Length.
	Header []byte
	Body   []byte
	// Deadline MUST be set: it ends everything, from the name's resolution to the body's last byte.
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

// Do posts once and hands the answer to read, which may read the body as far as it likes and must
// not keep it. The error is nil as soon as an answer's header was read.
//
// A kept connection that the other side had closed meanwhile is replaced by a new one, once, if not
// a byte of an answer came; so a request may arrive twice, as after any lost answer. When ctx ends
// first, the error is whatever that broke; the caller looks at ctx.
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

// Close closes the connections that are kept. Requests under way go on.
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

// connExpiry is until when a connection serves that is made now. Those that were made together do not end together.
func (c *Client) connExpiry(now time.Time) time.Time {
	return now.Add(c.maxAge - time.Duration(c.random()*float64(c.maxAge)/4))
}

// ErrNotHTTP reports an answer that breaks the rules of HTTP (RFC 9112): its status line, its header, or how its body is framed.
var ErrNotHTTP = errors.New("the answer is not HTTP")

// errTooLarge ends the reading of an answer.
var errTooLarge = errors.New("answer's header is too large")

// isClosedByPeer reports whether an error is what a connection gives that the other side had closed.
func isClosedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isReset(err)
}

// longPast makes pending reads and writes fail at once.
func longPast() time.Time { return time.Unix(1, 0) }

// isTimeout reports an error of a deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
