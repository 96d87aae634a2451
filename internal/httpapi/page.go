package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	defaultLimit = 100
	maxLimit     = 500
	maxCursor    = 512
)

// pageRequest is a request for a page of a list.
type pageRequest struct {
	// of names the list with its filters, so that a cursor is valid only for that list.
	of      string
	cursors CursorSigner
	after   string
	limit   int
}

// CursorSigner signs cursors, so that a list accepts only those that it gave. A cursor's content is readable and holds no
// secret.
type CursorSigner interface {
	Sign(purpose string, message []byte) string
	Verify(purpose, text string) (message []byte, err error)
}

// newCursorSigner signs with a random key of this process.
func newCursorSigner(random io.Reader) CursorSigner {
	text, err := secret.GenerateKey(random)
	if err != nil {
		panic("httpapi: " + err.Error())
	}
	key, err := secret.ParseKey(text.Reveal())
	if err != nil { // a key that was just made is valid
		panic("httpapi: " + err.Error())
	}
	return secret.NewKeyring(key)
}

type pageAnswer[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty" doc:"The cursor of the same list's next page; absent on the last."`
}

// readPage reads ?limit= and ?cursor=, and refuses parameters other than these and those in extra.
func (c *call) readPage(of string, extra ...string) (pageRequest, error) {
	if err := c.allowParameters(append(extra, "cursor", "limit")...); err != nil {
		return pageRequest{}, err
	}
	query := c.r.URL.Query()
	p := pageRequest{of: cursorPurpose(of, query), limit: defaultLimit, cursors: c.cursors}
	if s := query.Get("limit"); query.Has("limit") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return p, invalidProblem(FieldError{Pointer: "/limit", Detail: fmt.Sprintf("must be a whole number from 1 to %d", maxLimit)})
		}
		p.limit = n
	}
	s := query.Get("cursor")
	if s == "" {
		return p, nil
	}
	if len(s) > maxCursor {
		return p, badCursorProblem()
	}
	after, err := c.cursors.Verify(p.of, s)
	if err != nil {
		return p, badCursorProblem()
	}
	p.after = string(after)
	return p, nil
}

// allowParameters refuses unknown parameters and repeated ones.
func (c *call) allowParameters(known ...string) error {
	f := &faults{}
	for name, values := range c.r.URL.Query() {
		switch {
		case !slices.Contains(known, name):
			f.add(memberPointer("", name), "is not a known parameter")
		case len(values) > 1:
			f.add(memberPointer("", name), "stands twice")
		}
	}
	return f.err()
}

// cursorPurpose names a list with the filters that it is asked with.
func cursorPurpose(of string, query url.Values) string {
	filters := url.Values{}
	for name, values := range query {
		if name != "limit" && name != "cursor" {
			filters[name] = values
		}
	}
	return "cursor/" + of + "?" + filters.Encode()
}

// badCursorProblem refuses a cursor that was forged, or that belongs to another list or other filters.
func badCursorProblem() *Problem {
	p := newProblem(http.StatusBadRequest, "cursor", "The cursor cannot be used",
		"This list, asked with these filters, did not give it: start again without a cursor.")
	p.Errors = []FieldError{{Pointer: "/cursor", Detail: "is not a cursor that this list gave"}}
	return p
}

// answerList answers with a page, under the ETag of its content. next is the position after it, empty on the last page.
func answerList[T any](c *call, p pageRequest, items []T, next string) error {
	body, err := encodeJSON(newPageAnswer(p, items, next))
	if err != nil {
		return err
	}
	return c.writeCacheable(body)
}

// newPageAnswer is a page of a list.
func newPageAnswer[T any](p pageRequest, items []T, next string) pageAnswer[T] {
	answer := pageAnswer[T]{Items: emptyIfNil(items)}
	if next != "" {
		answer.NextCursor = p.cursors.Sign(p.of, []byte(next))
	}
	return answer
}
