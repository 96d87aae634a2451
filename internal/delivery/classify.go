package delivery

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter caps what an endpoint may ask for in Retry-After.
const MaxRetryAfter = time.Hour

// Result is the result of one attempt.
type Result struct {
	Outcome Outcome
	Reason  Reason
	Fault   Fault
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// RetryAfter is the pause that the endpoint asked for, at most MaxRetryAfter; 0 when it asked for none.
	RetryAfter time.Duration
	// Wait is set for 429 and 503: the endpoint as a whole has to wait.
	Wait     bool
	Duration time.Duration
	// Excerpt is a redacted part of the answer, for operators and admins.
	Excerpt string
	// Detail says what went wrong in protocol terms, redacted, empty on success.
	Detail string
}

// ClassifyStatus reads an answer's status (RFC 9110 section 15).
//
// 2xx delivers; 410 switches the endpoint off; 429 and 503 make it wait; 401, 403, 404, 405, 3xx
// and other 5xx are the endpoint's fault; every other 4xx is this notification's.
func ClassifyStatus(status int) Result {
	r := Result{Status: status}
	switch {
	case status >= 200 && status < 300:
		r.Outcome, r.Reason, r.Fault = Delivered, ReasonNone, FaultNone
	case status == http.StatusGone:
		r.Outcome, r.Reason, r.Fault = Gone, ReasonGone, FaultEndpoint
	case status == http.StatusTooManyRequests:
		r.Outcome, r.Reason, r.Fault, r.Wait = Retryable, ReasonRateLimited, FaultNone, true
	case status == http.StatusServiceUnavailable:
		r.Outcome, r.Reason, r.Fault, r.Wait = Retryable, ReasonServerError, FaultEndpoint, true
	case status >= 300 && status < 400:
		r.Outcome, r.Reason, r.Fault = Retryable, ReasonRedirect, FaultEndpoint
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r.Outcome, r.Reason, r.Fault = Retryable, ReasonAuthError, FaultEndpoint
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		r.Outcome, r.Reason, r.Fault = Retryable, ReasonClientError, FaultEndpoint
	case status >= 400 && status < 500:
		r.Outcome, r.Reason, r.Fault = Rejected, ReasonClientError, FaultNotification
	default: // 5xx, and numbers that no HTTP status has
		r.Outcome, r.Reason, r.Fault = Retryable, ReasonServerError, FaultEndpoint
	}
	return r
}

// ParseRetryAfter reads the header (RFC 9110 section 10.2.3): seconds or an HTTP date. Anything else,
// and what lies in the past, is 0; the result is capped at MaxRetryAfter.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if strings.Trim(header, "0123456789") == "" {
		n, err := strconv.ParseInt(header, 10, 64)
		if err != nil || n > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
