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

// conn is a connection with the state for its next request. One goroutine uses it at a time.
type conn struct {
	net.Conn // TLS where there is TLS

	plain     net.Conn
	host      string
	in        limitedReader
	answers   *bufio.Reader
	out       []byte
	idleSince time.Time
	// expires is when it is not used any more. failures counts the server's errors (5xx) since its last other answer.
	expires  time.Time
	failures int
	place    *list.Element // among the idle ones
}

// limitedReader reads up to a limit, and records whether anything came.
type limitedReader struct {
	from io.Reader
	left int
	came bool
	// ended says that the connection returned an error or its end.
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

// readBuffer has room for an ordinary answer.
const readBuffer = 2 << 10

func newConn(c, plain net.Conn, host string, expires time.Time) *conn {
	cn := &conn{Conn: c, plain: plain, host: host, expires: expires}
	cn.in.from = c
	cn.answers = bufio.NewReaderSize(&cn.in, readBuffer)
	return cn
}

// roundTrip sends a request and reads its answer; then it puts the connection into the pool, or closes it.
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
	if ctx.Err() != nil { // the request may have set its own deadline just before
		return fmt.Errorf("send: %w", context.Cause(ctx))
	}
	if err := cn.sendRequest(r); err != nil {
		return err
	}
	resp, err := cn.readAnswer() //nolint:bodyclose // closing would read the body to its end; the connection is kept or closed instead
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
	return nil // the other side may have answered although it closed before it read everything
}

// readAnswer reads the header of the final answer.
func (cn *conn) readAnswer() (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(cn.answers, nil)
		if err != nil && cn.in.left <= 0 {
			err = errTooLarge // a line that is cut off reads as malformed
		}
		if err != nil {
			if !cn.in.ended { // the answer is malformed; the connection is intact
				err = fmt.Errorf("%w: %w", ErrNotHTTP, err)
			}
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// maxFailures is how many server errors in a row a connection is kept for.
const maxFailures = 1

// isReusable reports whether the connection is worth keeping after an answer. It is not when it has expired, or leads
// to a gateway or backend that does not work: a new one may lead elsewhere.
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

// readBody passes the body to read and drains the rest. It reports whether the connection can be used again. The body
// is never closed, because that would read on to its end.
func (cn *conn) readBody(resp *http.Response, deadline time.Time, read func(*http.Response)) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols { // the rest is not a body
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

// checkAfter is how long a connection may be idle before it is checked. In a burst, the check would cost more than
// the rare closed connection.
const checkAfter = 20 * time.Millisecond

// looksOpen reports whether the other side seems to keep the connection open. Data on an idle connection is a final
// message such as a 408 or a TLS alert, or an unsolicited answer. It must not be taken for the next answer. A late
// session ticket costs a handshake.
func (cn *conn) looksOpen() bool {
	waits, ended := peekConn(cn.plain)
	return !ended && !waits
}
