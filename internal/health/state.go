package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"
)

// stateFormat is the version of the stored state.
const stateFormat = 1

// ErrUnreadable reports a stored state of a format that this version cannot read.
var ErrUnreadable = errors.New("unreadable stored probe state")

// Finding is the result of one probe, or of one test that a caller of the API requested.
type Finding struct {
	Reason Reason
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Detail says it in a sentence for operators. It holds nothing of the answer.
	Detail string
	// Excerpt is a redacted part of the answer, for operators and admins.
	Excerpt string
	// CertificateFrom and CertificateEnds are the validity of the TLS certificate that was seen,
	// zero when none was.
	CertificateFrom, CertificateEnds time.Time
	Duration                         time.Duration
	// Blame is the reason of an own fault once it counts against the endpoint.
	Blame Reason
}

// State is what is kept of one endpoint between probes. The zero State is an endpoint that was never
// probed.
type State struct {
	Format int `json:"v"`
	// Target is the HashTarget of the probed URL; the rest of the state is about that URL only.
	Target string `json:"target,omitempty"`
	// Reason, Status and Detail are those of the newest probe without an own fault.
	Reason Reason `json:"reason,omitempty"`
	Status int    `json:"status,omitempty"`
	Detail string `json:"detail,omitempty"`
	// CheckedAt is when that was, zero for never.
	CheckedAt time.Time `json:"checked_at,omitzero"`
	// FailingSince is when the unbroken failure began, Failures counts the probes since.
	FailingSince time.Time `json:"failing_since,omitzero"`
	Failures     int       `json:"failures,omitempty"`
	// OwnSince is when the unbroken run of own faults began.
	OwnSince time.Time `json:"own_since,omitzero"`
	// CertificateEnds is when the newest certificate seen ends.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
	// Due is when it is probed next; it is stored beside the rest.
	Due time.Time `json:"-"`
}

// HashTarget is a hash of a URL for State.Target: it shows that the URL changed, and not what it is.
func HashTarget(url string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(url)) // it never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// blameAfter is how long own faults must last before they count against the endpoint, while other
// endpoints answer. A resolver that fails for one name only is that name's fault.
const blameAfter = 5 * time.Minute

// CountsOwnFault reports whether a further own fault counts against the endpoint.
func (s *State) CountsOwnFault(now time.Time, othersAnswer bool) bool {
	return othersAnswer && !s.OwnSince.IsZero() && now.Sub(s.OwnSince) >= blameAfter
}

// AddFinding returns the state after a finding about a target. It does not set Due, which the schedule does.
func (s State) AddFinding(f Finding, target string, now time.Time) State {
	now = now.UTC().Truncate(time.Millisecond)
	if s.Target != target {
		s = State{Target: target}
	}
	if f.Reason == OwnFault {
		if s.OwnSince.IsZero() {
			s.OwnSince = now
		}
		return s
	}
	s.OwnSince = time.Time{}
	s.Reason, s.Status, s.Detail, s.CheckedAt = f.Reason, f.Status, f.Detail, now
	if !f.CertificateEnds.IsZero() {
		s.CertificateEnds = f.CertificateEnds.UTC().Truncate(time.Second)
	}
	if !f.Reason.IsFailing() {
		s.FailingSince, s.Failures = time.Time{}, 0
		return s
	}
	if s.FailingSince.IsZero() {
		s.FailingSince = now
	}
	s.Failures = min(s.Failures+1, maxFailures)
	return s
}

// maxFailures bounds the counter; the back-off reaches its maximum long before.
const maxFailures = 1_000_000

// Encode writes the state as it is stored.
func (s State) Encode() string {
	s.Format = stateFormat
	b, err := json.Marshal(&s)
	if err != nil { // a struct of strings, numbers and times before the year 10000 always marshals
		panic("health: marshal state: " + err.Error())
	}
	return string(b)
}

// DecodeState reads what Encode wrote; "" is the zero State.
func DecodeState(text string) (State, error) {
	if text == "" {
		return State{}, nil
	}
	var s State
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if s.Format != stateFormat {
		return State{}, fmt.Errorf("%w: format %d, this version reads %d", ErrUnreadable, s.Format, stateFormat)
	}
	return s, nil
}
