package httpapi

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultLimit = 100
	maxLimit     = 500
	maxCursor    = 512
)

// page is what a request asked of a list.
type page struct {
	// of names the list, so that a cursor of one is no good for another.
	of    string
	after string
	limit int
}

type pageAnswer[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// page reads ?limit= and ?cursor= and refuses parameters that are neither those nor in extra.
func (c *call) page(of string, extra ...string) (page, error) {
	return c.query(of, maxLimit, append(extra, "cursor"))
}

// window reads ?limit= of a list that has one page.
func (c *call) window(most int, extra ...string) (page, error) { return c.query("", most, extra) }

func (c *call) query(of string, most int, known []string) (page, error) {
	p := page{of: of, limit: defaultLimit}
	f := &faults{}
	query := c.r.URL.Query()
	for name, values := range query {
		switch {
		case name != "limit" && !slices.Contains(known, name):
			f.add(member("", name), "is not a known parameter")
		case len(values) > 1:
			f.add(member("", name), "stands twice")
		}
	}
	if s := query.Get("limit"); query.Has("limit") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			f.add("/limit", fmt.Sprintf("must be a whole number from 1 to %d", most))
		}
		p.limit = n
	}
	if s := query.Get("cursor"); s != "" {
		after, ok := readCursor(of, s)
		if !ok {
			f.add("/cursor", "is not a cursor that this list gave")
		}
		p.after = after
	}
	return p, f.err()
}

// answerPage is a page of the list; next is the position behind it, empty on the last page.
func answerPage[T any](p page, items []T, next string) pageAnswer[T] {
	return pageAnswer[T]{Items: list(items), NextCursor: cursor(p.of, next)}
}

func cursor(of, after string) string {
	if after == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(of + "\n" + after))
}

func readCursor(of, s string) (string, bool) {
	if len(s) > maxCursor {
		return "", false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(string(b), of+"\n")
}
