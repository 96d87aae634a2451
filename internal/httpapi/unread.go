package httpapi

import (
	"io"
	"net/http"
	"time"
)

// unreadWithin is how long an answer waits for what its handler did not read of the request's body.
const unreadWithin = time.Second

// hurryUnread bounds the wait for bodies that nobody reads. Before net/http sends an answer, and again
// after it, it reads what is left of the body, so that the connection can be used again, and waits for
// that as long as the server's ReadTimeout lets it: who promises a body and sends none would keep a
// place among the connections, even one who has no token. It sets the deadline anew for the next request.
func hurryUnread(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body := &unread{ReadCloser: r.Body}
		hurried := *r // net/http knows its own body by its type
		hurried.Body = body
		answer := &hurrying{ResponseWriter: w, body: body}
		next.ServeHTTP(answer, &hurried)
		answer.hurry() // the handler may have read on, with a deadline of its own
	})
}

// unread is a body that knows whether there may be more of it.
type unread struct {
	io.ReadCloser

	// over is true once a read met the end, or failed as the next would.
	over bool
}

// Read remembers the end.
func (u *unread) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.over = u.over || err != nil
	return n, err
}

// hurrying begins an answer with little time left for the body. A handler that reads on must set
// a deadline before it does.
type hurrying struct {
	http.ResponseWriter

	body  *unread
	begun bool
}

// WriteHeader begins the answer.
func (h *hurrying) WriteHeader(status int) {
	h.begin()
	h.ResponseWriter.WriteHeader(status)
}

// Write begins the answer.
func (h *hurrying) Write(b []byte) (int, error) {
	h.begin()
	return h.ResponseWriter.Write(b)
}

func (h *hurrying) begin() {
	if !h.begun {
		h.begun = true
		h.hurry()
	}
}

// hurry leaves the deadline of a body that is over alone: net/http then watches the connection for its
// end, and would take a deadline that passes for that.
func (h *hurrying) hurry() {
	if !h.body.over {
		_ = http.NewResponseController(h.ResponseWriter).SetReadDeadline(time.Now().Add(unreadWithin))
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (h *hurrying) Unwrap() http.ResponseWriter { return h.ResponseWriter }
