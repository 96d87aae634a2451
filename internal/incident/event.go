package incident

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Event is what somebody observed about an endpoint: Failure, Rejection, Success, Withdrawn,
// Uncalled, Certificate, Switched, Closed or Tick.
type Event interface{ isEvent() }

// Source is who observed a failure. All sources of one endpoint share one incident.
type Source string

// The closed set of sources.
const (
	// SourcePush is an attempt to deliver a notification; the zero value means it too.
	SourcePush Source = "push"
	// SourceProbe is a probe, or a test that people asked for.
	SourceProbe Source = "probe"
	// SourceReport is an engine of the platform that called the endpoint itself. A success seen
	// by others counts only when engines have been silent for reportHold, and reportQuiet without a
	// report is taken for well.
	SourceReport Source = "report"
)

// AllSources lists the closed set.
func AllSources() []Source { return []Source{SourcePush, SourceProbe, SourceReport} }

// Failure is a failed attempt that counts against the endpoint. Excerpt and Detail must be
// redacted already; operators and admins alone are shown them.
type Failure struct {
	Reason  delivery.Reason
	Status  int
	Excerpt string
	Detail  string
	// At is set by the machine.
	At time.Time
	// OccurredAt is when an engine says that the call was made, zero where nobody said.
	OccurredAt time.Time
	// Immediate opens the incident at once: nothing will heal it but people (a URL that the settings forbid, a
	// wrong key). Ignored for rate_limited.
	Immediate bool
	// Source is who saw it; empty is SourcePush.
	Source Source
	// Count is how many failed calls this stands for, 0 for one of which a burst is noted sparsely.
	// With a count every event is noted, so whoever counts SHOULD gather for some seconds first.
	Count int64
	// Tenants are those whose calls failed, if known. The state remembers the first 50.
	Tenants []tenant.ID
	// Affected is how many tenants' calls failed since the trouble began, if that is known.
	Affected int64
}

// IsRefusal reports whether an endpoint that works refused a notification, so that it climbs the retry schedule; else it failed.
func (f *Failure) IsRefusal() bool { return isRefusal(f.Status) }

func isRefusal(status int) bool {
	return status != 0 && delivery.ClassifyStatus(status).Outcome == delivery.Rejected
}

// Rejection is one tenant's notification that did not get through while nothing is said against the endpoint: it was refused
// (ReasonClientError), or failed otherwise.
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
	// Source is who saw it; only an engine's word ends what engines complained of just before.
	Source Source
}

// DeliveriesWithdrawn says that nothing waits for these tenants any more, such as after an approval was
// taken back.
type DeliveriesWithdrawn struct{ Tenants []tenant.ID }

// EndpointUnused says that nobody calls the endpoint although it is on: its licence is gone, or, for
// mirroring, no tenant approves the app any more. It ends what is open without a mail, since nothing will heal or fail.
type EndpointUnused struct{}

// Certificate is the TLS certificate that a probe saw at the endpoint. Two mails warn of its end,
// 21 and 7 days ahead, or later for one that lives shorter than that suggests; they belong to no
// incident, since nothing fails yet.
type Certificate struct{ NotBefore, NotAfter time.Time }

// Switched says that the endpoint was just switched on or off.
type Switched struct{ Switch Switch }

// Closed says that a person closed the incident. No new one opens until the endpoint was well.
type Closed struct{ By string }

// Tick is the time passing. Without ticks nothing opens, reminds or recovers in the quiet.
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

// Switch is how an endpoint's toggle stands, and since when. Of two, the one with the later At
// holds, so a reader with an old view does no harm.
type Switch struct {
	On bool
	// Reason is set when the service switched it off.
	Reason partner.OffReason
	// At is when it was switched last, zero when it never was.
	At time.Time
}

// ReadSwitch reads an endpoint's toggle. An endpoint without a URL counts as switched off by people.
func ReadSwitch(e partner.Endpoint, env partner.Environment) Switch {
	sw := Switch{On: e.IsOn(env), At: e.SwitchedAt}
	if !e.Enabled {
		sw.Reason = e.OffReason
	}
	return sw
}

// EventFromResult reads a push's result; ok is false when it says nothing about the endpoint (the
// service's own fault). A 410 becomes a plain Failure: whoever switches the endpoint off says so
// with Switched, and that step owes the mail.
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

// storedFailure is a Failure as JSON: the reason by name, since its number is no contract.
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
