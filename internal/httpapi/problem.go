package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
)

// FieldError names one member that breaks a rule; it never repeats the value.
type FieldError = partner.FieldError

// Problem is an RFC 9457 problem document, and the error that handlers return to send one.
type Problem struct {
	Type   string       `json:"type" api:"ref=ProblemType"`
	Title  string       `json:"title"`
	Status int          `json:"status" api:"min=400,max=599"`
	Detail string       `json:"detail,omitempty"`
	Errors []FieldError `json:"errors,omitempty"`
	// Budget is the name of a Budget.
	Budget    string `json:"budget,omitempty" api:"ref=BudgetName"`
	RequestID string `json:"request_id,omitempty" doc:"What the log calls the request."`

	retryAfter time.Duration
	allow      string
	challenge  string
	closing    bool
}

// Error joins title and detail.
func (p *Problem) Error() string {
	parts := []string{p.Title, p.Detail}
	for _, e := range p.Errors {
		parts = append(parts, e.Pointer+" "+e.Detail)
	}
	return strings.Join(parts, "; ")
}

// problemType starts the type of every problem.
const problemType = "urn:lamplighter:problem:"

func newProblem(status int, slug, title, detail string) *Problem {
	return &Problem{Type: problemType + slug, Title: title, Status: status, Detail: detail}
}

func malformedProblem(detail string) *Problem {
	return newProblem(http.StatusBadRequest, "malformed", "The body cannot be read", detail)
}

func invalidProblem(errs ...FieldError) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, "invalid", "The request breaks a rule", "The members named in errors must be corrected.")
	p.Errors = errs
	return p
}

func forbiddenProblem(detail string, errs ...FieldError) *Problem {
	p := newProblem(http.StatusForbidden, "forbidden", "The token's role does not allow this", detail)
	p.Errors = errs
	return p
}

func notFoundProblem(what string) *Problem {
	return newProblem(http.StatusNotFound, "not-found", "Not found", "There is no such "+what+".")
}

func preconditionFailedProblem() *Problem {
	return newProblem(http.StatusPreconditionFailed, "stale", "It was changed in the meantime",
		"The ETag in the request's precondition is not the current one: read it again, decide again, send again.")
}

// noETagProblem refuses a precondition for an operation without ETags. Ignoring it would make a write that the caller
// wanted only under a condition.
func noETagProblem() *Problem {
	p := preconditionFailedProblem()
	p.Title, p.Detail = "There is no ETag to compare with", "This operation has none: send the request without If-Match and If-None-Match."
	return p
}

// overtakenProblem refuses a write of approvals that other calls withdrew repeatedly meanwhile.
func overtakenProblem() *Problem {
	p := newProblem(http.StatusConflict, "overtaken", "Others keep changing the same approvals",
		"Approvals of this app were withdrawn repeatedly meanwhile: the write may not be done. Repeat the request after the time in Retry-After.")
	p.retryAfter = retryStore
	return p
}

func keyReusedProblem() *Problem {
	return newProblem(http.StatusConflict, "idempotency-key-reused", "The idempotency key was used before",
		"This Idempotency-Key came with another body within the last day: use a new key for a new request.")
}

func tooLargeProblem(budget, detail string) *Problem {
	p := newProblem(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", detail)
	p.closing, p.Budget = true, budget
	return p
}

func tooSlowProblem() *Problem {
	p := newProblem(http.StatusRequestTimeout, "too-slow", "The body came too slowly", "Send the whole body at once.")
	p.closing = true
	return p
}

func tooManyRequestsProblem(budget, detail string, after time.Duration) *Problem {
	p := newProblem(http.StatusTooManyRequests, "too-many-requests", "Too many requests", detail)
	p.retryAfter, p.Budget = max(after, time.Second), budget
	return p
}

// retryStore is how long a caller should wait when the store does not answer.
const retryStore = 2 * time.Second

func unavailableProblem() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "unavailable", "The service cannot reach its store",
		"It is not known whether anything was written. Repeat the request after the time in Retry-After, a state change with its Idempotency-Key.")
	p.retryAfter = retryStore
	return p
}

// storeFullProblem refuses a partner's write, so that the platform's changes have what is left.
func storeFullProblem(percent int) *Problem {
	p := newProblem(http.StatusServiceUnavailable, "store-nearly-full", "The service's store is nearly full", fmt.Sprintf(
		"%d %% of its memory is used. What is left is for the platform's changes: partners' writes are accepted again when less than %d %% is used. Nothing was written; the service's operators know.",
		percent, PartnersStopAt))
	p.retryAfter = retryFull
	return p
}

const (
	// retryFull is how long a partner should wait when the store is nearly full: operators have to make room.
	retryFull = time.Minute
	// PartnersStopAt is how full the store is, in percent, when partners' writes are refused.
	PartnersStopAt = 90
)

// fewReplicas is an error of a store that made the write, but whose replicas did not confirm it in time.
type fewReplicas interface {
	error
	Replicas() (confirmed, asked int)
}

func notReplicatedProblem(e fewReplicas) *Problem {
	confirmed, asked := e.Replicas()
	p := newProblem(http.StatusServiceUnavailable, "not-replicated", "Too few replicas have it", fmt.Sprintf(
		"%d of the %d replicas asked for confirmed it in time, so a failover may lose what is written. "+
			"Repeat the request after the time in Retry-After, a state change with its Idempotency-Key.", confirmed, asked))
	p.retryAfter = retryStore
	return p
}

func internalErrorProblem() *Problem {
	return newProblem(http.StatusInternalServerError, "internal", "The service failed",
		"The fault is the service's. Its operators find the cause in the log by the request_id.")
}

// problemFromError turns every error into a problem. fault names why the store did not answer; it is nil where the store
// was not used. The second result says whether the cause is logged.
func problemFromError(err error, fault func(error) string) (p *Problem, unexpected bool) {
	var own *Problem
	var fields partner.ValidationError
	var size *http.MaxBytesError
	var few fewReplicas
	switch {
	case errors.As(err, &own):
		c := *own
		return &c, false
	case errors.As(err, &fields):
		return invalidProblem(fields...), false
	case errors.As(err, &size):
		return tooLargeProblem(budgetBody, "At most "+strconv.FormatInt(size.Limit, 10)+" bytes are accepted."), false
	case errors.Is(err, mailbox.ErrGone):
		return notFoundProblem("app"), false
	case errors.Is(err, registry.ErrNotFound):
		return notFoundProblem("thing"), false
	case errors.Is(err, registry.ErrConflict):
		return preconditionFailedProblem(), false
	case errors.Is(err, registry.ErrKeyReused):
		return keyReusedProblem(), false
	case errors.Is(err, registry.ErrOutOfOrder):
		return outOfOrderProblem(), false
	case errors.Is(err, registry.ErrUndecided):
		return undecidedChangeProblem(), false
	case errors.Is(err, mailbox.ErrDismissed):
		return overtakenProblem(), false
	case errors.As(err, &few):
		return notReplicatedProblem(few), true
	case errors.Is(err, storewatch.ErrChanged):
		return storeChangedProblem(), false
	case fault != nil && fault(err) != "":
		return unavailableProblem(), true
	default:
		return internalErrorProblem(), true
	}
}

// translateReadError is the problem of a body that could not be read to its end.
func translateReadError(err error) error {
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tooSlowProblem()
	default:
		p := malformedProblem("The body broke off before its end.")
		p.closing = true
		return p
	}
}

// write sends the problem.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Del("ETag")
	h.Del("Cache-Control")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if p.closing {
		h.Set("Connection", "close")
	}
	body, err := encodeJSON(p)
	if err != nil { // strings and integers always encode
		body = []byte("{}\n")
	}
	sendBody(w, p.Status, "application/problem+json", body)
}

func sendBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a disconnected caller is no error
}

func encodeJSON(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}
