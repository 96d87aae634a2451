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

// Finding is what one probe, or one test that people asked for, found.
type Finding struct {
	Reason Reason
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Detail says it in a sentence for people. It holds nothing of the answer.
	Detail string
	// Excerpt is a redacted piece of the answer, for mails and operators.
	Excerpt string
	// CertificateFrom and CertificateEnds are the validity of the TLS certificate that was seen,
	// zero when none was.
	CertificateFrom, CertificateEnds time.Time
	Duration                         time.Duration
	// Blame is what an own fault is called once it counts against the endpoint.
	Blame Reason
}

// State is what is remembered of one endpoint between probes. The zero State is an endpoint that
// was never probed.
type State struct {
	Format int `json:"v"`
	// Target stands for the URL that was probed: what is known of another one says nothing.
	Target string `json:"target,omitempty"`
	// Reason, Status and Detail are those of the newest probe that learnt something.
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

// HashTarget stands for a URL in a State: enough to see that it changed, nothing of it can be read.
func HashTarget(url string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(url)) // it never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// Own faults count against the endpoint when they have lasted this long for it, while others were
// reached: a resolver that fails for one name alone is that name's fault.
const blameAfter = 5 * time.Minute

// CountsOwnFault reports whether one more own fault is the endpoint's after all.
func (s *State) CountsOwnFault(now time.Time, othersAnswer bool) bool {
	return othersAnswer && !s.OwnSince.IsZero() && now.Sub(s.OwnSince) >= blameAfter
}

// AddFinding is the state after a finding about a target. It leaves Due to the schedule.
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

// maxFailures keeps the counter in bounds; the backoff is at its longest long before.
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
