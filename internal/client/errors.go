package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ErrUnexpectedAnswer reports an answer that Lamplighter does not give.
var ErrUnexpectedAnswer = errors.New("this is not how Lamplighter answers: is the URL right?")

// NoAnswer says that no answer came, so that it is unknown whether the request was carried out.
type NoAnswer struct{ Err error }

// Error says why.
func (e *NoAnswer) Error() string { return "no answer: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *NoAnswer) Unwrap() error { return e.Err }

func newNoAnswer(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &NoAnswer{Err: err}
}

// FieldError names one member that breaks a rule.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Refusal is an answer that is not a success: a problem document of RFC 9457.
type Refusal struct {
	Status int
	// Type is the problem's type without its prefix, such as "stale"; empty when there was none.
	Type, Title, Detail string
	Errors              []FieldError
	// RequestID is the request's id in the service's log, Path is the request's path.
	RequestID, Path string
	// Attempt counts from 1. Above 1, an earlier attempt of the same request may have been carried out.
	Attempt int
	// RetryAfter is how long the service asks to wait, 0 when it does not.
	RetryAfter time.Duration
}

const problemPrefix = "urn:lamplighter:problem:"

// parseRefusal reads an answer that is not a success.
func parseRefusal(resp *http.Response, text []byte) error {
	var doc struct {
		Type      string       `json:"type"`
		Title     string       `json:"title"`
		Detail    string       `json:"detail"`
		Errors    []FieldError `json:"errors"`
		RequestID string       `json:"request_id"`
	}
	r := &Refusal{Status: resp.StatusCode, RetryAfter: parseRetryAfter(resp.Header)}
	if resp.Request != nil {
		r.Path = resp.Request.URL.Path
	}
	if err := json.Unmarshal(text, &doc); err == nil && doc.Title != "" {
		r.Type = strings.TrimPrefix(doc.Type, problemPrefix)
		r.Title, r.Detail, r.Errors, r.RequestID = doc.Title, doc.Detail, doc.Errors, doc.RequestID
	}
	return r
}

// Error describes the refusal, without control characters.
func (r *Refusal) Error() string {
	status := strconv.Itoa(r.Status) + " " + http.StatusText(r.Status)
	if r.Title == "" {
		return "the service answered " + strings.TrimSpace(status) + " without saying why: is --server right?"
	}
	var b strings.Builder
	b.WriteString("refused with " + status)
	if !strings.EqualFold(r.Title, http.StatusText(r.Status)) { // the status text says it already
		b.WriteString(": " + DropUnprintable(r.Title))
	}
	if r.Detail != "" {
		b.WriteString(": " + DropUnprintable(r.Detail))
	}
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", DropUnprintable(cmp.Or(e.Pointer, "(body)")), DropUnprintable(e.Detail))
	}
	if r.RetryAfter > 0 {
		fmt.Fprintf(&b, "\n  try again in %d s", int(r.RetryAfter/time.Second))
	}
	if r.Status >= http.StatusInternalServerError && r.RequestID != "" {
		b.WriteString("\n  the request's id in the service's log: " + DropUnprintable(r.RequestID))
	}
	return b.String()
}

// RefusalStatus is the status of the refusal in err, 0 when there is none.
func RefusalStatus(err error) int {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Status
	}
	return 0
}

// DropUnprintable drops control characters.
func DropUnprintable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
