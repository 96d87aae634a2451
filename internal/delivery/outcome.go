package delivery

import (
	"strconv"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Outcome is the kind of an attempt's result, a metric label. Adding one means: the constants,
// outcomeNames, ClassifyStatus, the dashboards and the API document.
type Outcome uint8

// The closed set of outcomes.
const (
	// Delivered: answered 2xx.
	Delivered Outcome = iota
	// Retryable: the endpoint's fault, or it asked for a pause (429, 503).
	Retryable
	// Rejected: the endpoint works and refuses this notification (other 4xx).
	Rejected
	// Gone: answered 410; the endpoint is switched off.
	Gone
	// Blocked: the guard refused the address.
	Blocked
	// Aborted: the service's own fault; it counts against no endpoint.
	Aborted
)

var outcomeNames = [...]string{"delivered", "retryable", "rejected", "gone", "blocked", "aborted"}

// AllOutcomes lists the closed set.
func AllOutcomes() []Outcome {
	return []Outcome{Delivered, Retryable, Rejected, Gone, Blocked, Aborted}
}

// String is the metric label.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "outcome(" + strconv.Itoa(int(o)) + ")"
}

// Reason is why an attempt failed, a metric label. CONTRIBUTING.md says how to add one.
type Reason uint8

// The closed set of reasons.
const (
	ReasonNone Reason = iota
	ReasonTimeout
	ReasonDNS
	ReasonRefused
	ReasonReset
	ReasonTLS
	ReasonRedirect
	ReasonBlockedAddress
	ReasonAuthError
	ReasonClientError
	ReasonRateLimited
	ReasonServerError
	ReasonGone
	ReasonOwnFault
	// ReasonWrongKey is found by probes only.
	ReasonWrongKey
	// ReasonBadAnswer: the answer is not what a probe expects, or is not valid HTTP.
	ReasonBadAnswer
)

var reasonNames = [...]string{
	"none", "timeout", "dns", "refused", "reset", "tls", "redirect", "blocked_address", "auth_error",
	"client_error", "rate_limited", "server_error", "gone", "own_fault", "wrong_key", "bad_answer",
}

// AllReasons lists the closed set.
func AllReasons() []Reason {
	out := make([]Reason, len(reasonNames))
	for i := range out {
		out[i] = Reason(i)
	}
	return out
}

// ParseReason reads a label.
func ParseReason(s string) (Reason, bool) {
	for i, n := range reasonNames {
		if n == s {
			return Reason(i), true
		}
	}
	return ReasonNone, false
}

// String is the metric label.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "reason(" + strconv.Itoa(int(r)) + ")"
}

// Cause is the reason's row in the table of package told.
func (r Reason) Cause() told.Cause { return told.FindCause(r.String()) }

// Description describes the reason of a failed attempt to operators; it calls the endpoint "it". Partners and
// recipients of mail are shown Cause().PublicReason().
func (r Reason) Description() string { return r.Cause().Description(partner.StateChange) }

// Fault says against whom an attempt counts.
type Fault uint8

// The closed set of faults.
const (
	// FaultNone: there is no fault; the attempt succeeded, or only has to wait.
	FaultNone Fault = iota
	// FaultEndpoint: the endpoint's fault; it counts towards opening the circuit.
	FaultEndpoint
	// FaultNotification: this notification's fault; it takes the next step of the retry schedule.
	FaultNotification
	// FaultOwn: the service's own fault; it counts against no endpoint.
	FaultOwn
)
