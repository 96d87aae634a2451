package httpapi

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Time limits of bodies. They bound each request, whatever its handler does.
const (
	// firstByteWithin is how long the first byte of a body may take, bodyWithin the whole.
	firstByteWithin = 2 * time.Second
	bodyWithin      = 10 * time.Second
	// lineWithin is how long the next bytes of lines may take to come, and how long writing an answer to them may take.
	lineWithin = 30 * time.Second
	// unreadWithin is how long an answer waits for the part of the body that its handler did not read.
	unreadWithin = time.Second
)

// limitBodies wraps all handlers. It bounds the time of bodies, and marks connections that keep the service waiting.
// It also bounds the rest of a body that a handler does not read: net/http reads that before it sends the answer, and
// again after it, so that the connection can be used again. Without a deadline, an unauthenticated client could hold a
// connection by announcing a body that it never sends.
func limitBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := connFromContext(r.Context())
		if conn != nil {
			conn.trusted = false
		}
		out := &answerWriter{ResponseWriter: w, conn: conn}
		if r.ContentLength == 0 {
			conn.markServed()
			next.ServeHTTP(out, r)
			return
		}
		if len(r.Header["Authorization"]) > 0 {
			conn.markServed() // until it is known whether the token is good, which is soon
		} else {
			conn.markSlow()
		}
		body := &timedBody{ReadCloser: r.Body, conn: conn, control: http.NewResponseController(w), whole: bodyWithin, next: firstByteWithin}
		out.body = body
		passed := *r // a copy, because net/http recognises its own body by its type
		passed.Body = body
		next.ServeHTTP(out, &passed)
		body.setUnreadDeadline() // the handler may have read on after it began to answer
	})
}

// timedBody is a request body with deadlines.
type timedBody struct {
	io.ReadCloser

	conn    *trackedConn
	control *http.ResponseController
	// whole is how long all of it may take, 0 for any time; next how long the next bytes may.
	whole, next time.Duration
	began, ends time.Time
	// came is true once a byte came. over is true once a read met the end, or failed for good.
	came, over bool
}

// Read sets the connection's deadline and reads.
func (b *timedBody) Read(p []byte) (int, error) {
	if err := b.setDeadline(time.Now()); err != nil {
		return 0, err
	}
	if !b.came && len(p) > 1 {
		p = p[:1] // net/http would wait for all of a chunk, or of what fits
	}
	n, err := b.ReadCloser.Read(p)
	b.came = b.came || n > 0
	if err != nil && !b.over {
		b.over = true
		if errors.Is(err, io.EOF) {
			// a deadline that is not cleared would cancel the request's context when it passes
			_ = b.control.SetReadDeadline(time.Time{})
			b.conn.markServed()
		}
	}
	return n, err
}

// setDeadline sets the deadline of the next read.
func (b *timedBody) setDeadline(now time.Time) error {
	if b.began.IsZero() {
		b.began = now
	}
	ends := now.Add(b.next)
	if b.whole > 0 {
		ends = b.began.Add(b.whole)
		if !b.came {
			ends = b.began.Add(b.next)
		}
	}
	if b.over || ends.Equal(b.ends) {
		return nil
	}
	b.ends = ends
	return ignoreUnsupported(b.control.SetReadDeadline(ends))
}

// limitBodyIdleTime removes the limit on a body's whole time, and bounds only the time between its bytes.
func limitBodyIdleTime(r *http.Request) {
	if b, ok := r.Body.(*timedBody); ok {
		b.whole, b.next = 0, lineWithin
	}
}

// setUnreadDeadline does not change the deadline after the body's end: net/http then watches the connection for its
// end, and would take a passed deadline for that.
func (b *timedBody) setUnreadDeadline() {
	if !b.over {
		_ = b.control.SetReadDeadline(time.Now().Add(unreadWithin))
	}
}

// answerWriter sets the deadline for the unread part of the body when the answer begins.
type answerWriter struct {
	http.ResponseWriter

	conn    *trackedConn
	body    *timedBody
	started bool
}

// WriteHeader begins the answer.
func (o *answerWriter) WriteHeader(status int) {
	o.startAnswer()
	o.ResponseWriter.WriteHeader(status)
}

// Write begins the answer.
func (o *answerWriter) Write(b []byte) (int, error) {
	o.startAnswer()
	return o.ResponseWriter.Write(b)
}

func (o *answerWriter) startAnswer() {
	if o.started {
		return
	}
	o.started = true
	if o.body != nil {
		o.body.setUnreadDeadline()
	}
	o.conn.markSlow()
}

// Unwrap lets http.ResponseController reach the connection.
func (o *answerWriter) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// ignoreUnsupported returns nil for an error that says that the writer does not support a call.
func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
