package wire

import (
	"bufio"
	"container/list"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// conn is a connection and what it needs to serve again. One goroutine uses it at a time.
type conn struct {
	net.Conn // TLS where there is TLS

	plain     net.Conn
	host      string
	in        limitedReader
	answers   *bufio.Reader
	out       []byte
	idleSince time.Time
	// expires is when it serves no more. failures counts the server's errors (5xx) since its last other answer.
	expires  time.Time
	failures int
	place    *list.Element // among the idle ones
}

// limitedReader reads at most so much; it also tells whether anything came.
type limitedReader struct {
	from io.Reader
	left int
	came bool
	// ended: the connection gave no more.
	ended bool
}

// Read implements io.Reader.
func (a *limitedReader) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errTooLarge
	}
	n, err := a.from.Read(p[:min(len(p), a.left)])
	a.left -= n
	a.came, a.ended = a.came || n > 0, a.ended || err != nil
	return n, err
}

// readBuffer holds an ordinary answer whole.
const readBuffer = 2 << 10

func newConn(c, plain net.Conn, host string, expires time.Time) *conn {
	cn := &conn{Conn: c, plain: plain, host: host, expires: expires}
	cn.in.from = c
	cn.answers = bufio.NewReaderSize(&cn.in, readBuffer)
	return cn
}

// roundTrip sends a request and reads its answer; then it gives the connection to keep, or closes it.
func (cn *conn) roundTrip(ctx context.Context, r *Request, read func(*http.Response), keep *pool) (err error) {
	cn.in.left, cn.in.came = maxHeader, false
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { _ = cn.SetDeadline(longPast()) })
	}
	again := false
	defer func() {
		if !stop() || !again {
			_ = cn.Close()
			return
		}
		_ = cn.SetDeadline(time.Time{})
		keep.put(cn)
	}()
	if err := cn.SetDeadline(r.Deadline); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if ctx.Err() != nil { // it may have set its own deadline just before
		return fmt.Errorf("send: %w", context.Cause(ctx))
	}
	if err := cn.sendRequest(r); err != nil {
		return err
	}
	resp, err := cn.readAnswer() //nolint:bodyclose // closing would read to the body's end; the connection is kept or closed instead
	if err != nil {
		return err
	}
	again = cn.readBody(resp, r.Deadline, read) && cn.isReusable(resp.StatusCode, time.Now())
	return nil
}

func (cn *conn) sendRequest(r *Request) error {
	cn.out = r.AppendTo(cn.out[:0])
	if _, err := cn.Write(cn.out); err != nil && !isClosedByPeer(err) {
		return fmt.Errorf("send: %w", err)
	}
	return nil // whoever closes before it has read all may have answered all the same
}

// readAnswer reads the header of the final answer.
func (cn *conn) readAnswer() (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(cn.answers, nil)
		if err != nil && cn.in.left <= 0 {
			err = errTooLarge // a line that was cut there reads as malformed
		}
		if err != nil {
			if !cn.in.ended { // what came breaks the rules: the connection did not
				err = fmt.Errorf("%w: %w", ErrNotHTTP, err)
			}
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// maxFailures is how many errors of a server in a row a connection outlives.
const maxFailures = 1

// isReusable reports whether the connection is worth another request after an answer. One that is too old, or leads to
// a gateway or backend that does not work, is left: the next one may lead elsewhere.
func (cn *conn) isReusable(status int, now time.Time) bool {
	if status < http.StatusInternalServerError {
		cn.failures = 0
		return status != http.StatusMisdirectedRequest && now.Before(cn.expires)
	}
	cn.failures++
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	default:
		return cn.failures <= maxFailures && now.Before(cn.expires)
	}
}

// readBody lets read have the body and drains the rest. It reports whether the connection can serve
// again. The body is never closed: that would read on to its end.
func (cn *conn) readBody(resp *http.Response, deadline time.Time, read func(*http.Response)) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols { // the rest is no body
		resp.Body = http.NoBody
		read(resp)
		return false
	}
	buffered := int64(cn.answers.Buffered())
	if resp.ContentLength < 0 || resp.ContentLength > buffered {
		cn.in.left = maxBody
		if soon := time.Now().Add(bodyWithin); soon.Before(deadline) {
			_ = cn.SetReadDeadline(soon)
		}
	}
	read(resp)
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	return err == nil && n < maxBody && !resp.Close && cn.answers.Buffered() == 0
}

// isUnanswered reports that a request failed because the other side had closed the connection before:
// no byte of an answer came.
func (cn *conn) isUnanswered(err error) bool {
	return !cn.in.came && !isTimeout(err) && isClosedByPeer(err)
}

// checkAfter is how long a connection may lie idle before it is looked at: in a burst the look
// would cost more than the rare connection that was closed.
const checkAfter = 20 * time.Millisecond

// looksOpen reports whether the other side seems to keep the connection open. Something to read on an idle
// connection is a farewell, such as a 408 or a TLS alert, or an answer that nobody asked for, and must
// not be taken for the next one. A session ticket that comes late costs a handshake.
func (cn *conn) looksOpen() bool {
	waits, ended := peekConn(cn.plain)
	return !ended && !waits
}
