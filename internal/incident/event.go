package incident

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Event is an observation about an endpoint: Failure, Rejection, Success, DeliveriesWithdrawn,
// EndpointUnused, Certificate, Switched, Closed or Tick.
type Event interface{ isEvent() }

// Source is where a failure was observed. All sources of one endpoint share one incident.
type Source string

// The closed set of sources.
const (
	// SourcePush is an attempt to deliver a notification; the zero value means it too.
	SourcePush Source = "push"
	// SourceProbe is a probe, or a test that a caller of the API requested.
	SourceProbe Source = "probe"
	// SourceReport is an engine of the platform that called the endpoint itself. A success that a push
	// or probe saw ends the failure only after reportHold without a report. The failure also ends after
	// reportQuiet without a report.
	SourceReport Source = "report"
)

// AllSources lists the closed set.
func AllSources() []Source { return []Source{SourcePush, SourceProbe, SourceReport} }

// Failure is a failed attempt that counts against the endpoint. Excerpt and Detail must already be
// redacted; only operators and admins may read them.
type Failure struct {
	Reason  delivery.Reason
	Status  int
	Excerpt string
	Detail  string
	// At is set by the machine.
	At time.Time
	// OccurredAt is when the call was made, if an engine reported that; else zero.
	OccurredAt time.Time
	// Immediate opens the incident at once: only a change of settings can repair the endpoint (a URL
	// that the settings forbid, a wrong key). It is ignored for rate_limited.
	Immediate bool
	// Source is where it was observed; empty is SourcePush.
	Source Source
	// Count is how many failed calls this stands for. With 0 it is one call, and of a burst of equal
	// ones only one per noteEvery is recorded. With a count every event is recorded, so the caller
	// SHOULD gather calls for some seconds.
	Count int64
	// Tenants are those whose calls failed, if known. The state remembers the first 50.
	Tenants []tenant.ID
	// Affected is how many tenants' calls failed since the failure began, if that is known.
	Affected int64
}

// IsRefusal reports whether a working endpoint refused a notification, which then takes the next step of
// the retry schedule. Otherwise the endpoint failed.
func (f *Failure) IsRefusal() bool { return isRefusal(f.Status) }

func isRefusal(status int) bool {
	return status != 0 && delivery.ClassifyStatus(status).Outcome == delivery.Rejected
}

// Rejection is one tenant's notification that was not delivered while the endpoint counts as healthy: it
// was refused (ReasonClientError), or failed otherwise.
type Rejection struct {
	Tenant  tenant.ID
	Reason  delivery.Reason
	Status  int
	Excerpt string
	Detail  string
}

// Success is a delivered notification, or a healthy probe (then without a tenant).
type Success struct {
	Tenant tenant.ID
	// Source is where it was observed. Within reportHold of a report, only an engine's success ends the failure.
	Source Source
}

// DeliveriesWithdrawn says that nothing is pending for these tenants any more, for instance after an
// approval was withdrawn.
type DeliveriesWithdrawn struct{ Tenants []tenant.ID }

// EndpointUnused says that the endpoint is not called although it is on: its licence is missing, or, for
// mirroring, no tenant approves the app any more. It ends the incident without a mail.
type EndpointUnused struct{}

// Certificate is the TLS certificate that a probe saw at the endpoint. Two mails warn of its end, 21 and
// 7 days ahead, or later for a short-lived certificate. They belong to no incident, since nothing fails
// yet.
type Certificate struct{ NotBefore, NotAfter time.Time }

// Switched says that the endpoint was just switched on or off.
type Switched struct{ Switch Switch }

// Closed says that a person closed the incident. No new one opens until the endpoint was healthy once.
type Closed struct{ By string }

// Tick lets time pass. Without ticks and other events, no incident opens or recovers, and no reminder is sent.
type Tick struct{}

func (Failure) isEvent()             {}
func (Rejection) isEvent()           {}
func (Success) isEvent()             {}
func (DeliveriesWithdrawn) isEvent() {}
func (EndpointUnused) isEvent()      {}
func (Certificate) isEvent()         {}
func (Switched) isEvent()            {}
func (Closed) isEvent()              {}
func (Tick) isEvent()                {}

// Switch is an endpoint's toggle, and when it last changed. The one with the later At wins, so a caller
// with a stale one does no harm.
type Switch struct {
	On bool
	// Reason is set when the service switched it off.
	Reason partner.OffReason
	// At is when it last changed, zero when it never did.
	At time.Time
}

// ReadSwitch reads an endpoint's toggle. An endpoint without a URL counts as switched off by a caller.
func ReadSwitch(e partner.Endpoint, env partner.Environment) Switch {
	sw := Switch{On: e.IsOn(env), At: e.SwitchedAt}
	if !e.Enabled {
		sw.Reason = e.OffReason
	}
	return sw
}

// EventFromResult turns a push's result into an event; ok is false when it says nothing about the endpoint
// (the service's own fault). A 410 becomes a plain Failure: the mail belongs to the Switched event of the
// switch-off.
func EventFromResult(r delivery.Result, t tenant.ID) (e Event, ok bool) {
	switch {
	case r.Outcome == delivery.Delivered:
		return Success{Tenant: t}, true
	case r.Outcome == delivery.Aborted, r.Fault == delivery.FaultOwn:
		return nil, false
	case r.Outcome == delivery.Rejected:
		return Rejection{Tenant: t, Reason: r.Reason, Status: r.Status, Excerpt: r.Excerpt, Detail: r.Detail}, true
	default:
		return Failure{
			Reason: r.Reason, Status: r.Status, Excerpt: r.Excerpt, Detail: r.Detail,
			Immediate: r.Outcome == delivery.Blocked,
		}, true
	}
}

// storedFailure is a Failure as JSON. It has the reason's name, since the number may change.
type storedFailure struct {
	Reason  string    `json:"reason"`
	Status  int       `json:"status,omitempty"`
	Excerpt string    `json:"excerpt,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Source  Source    `json:"source,omitempty"`

	OccurredAt time.Time `json:"occurred_at,omitzero"`
}

// MarshalJSON names the reason.
func (f Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedFailure{f.Reason.String(), f.Status, f.Excerpt, f.Detail, f.At, f.Source, f.OccurredAt})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Failure) UnmarshalJSON(b []byte) error {
	var s storedFailure
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read failure: %w", err)
	}
	r, ok := delivery.ParseReason(s.Reason)
	if !ok {
		return fmt.Errorf("%w: unknown reason", ErrUnreadable)
	}
	*f = Failure{Reason: r, Status: s.Status, Excerpt: s.Excerpt, Detail: s.Detail, At: s.At, Source: s.Source, OccurredAt: s.OccurredAt}
	return nil
}
