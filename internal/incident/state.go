package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// stateFormat is the version of the stored state.
const stateFormat = 1

// ErrUnreadable reports a stored state or mail in a format that this version cannot read.
var ErrUnreadable = errors.New("unreadable stored incident")

// State is all that is remembered about one endpoint. The zero State is a healthy endpoint.
type State struct {
	Format int `json:"v"`
	// FailingSince is when the unbroken failure began, zero when the endpoint as a whole does not fail.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// SeenSince is since when pushes or probes see it fail without a break, SeenAt is when they last
	// did; both are zero while only engines see it fail.
	SeenSince time.Time `json:"seen_since,omitzero"`
	SeenAt    time.Time `json:"seen_at,omitzero"`
	// Failures counts the failures recorded since then; of a burst of equal ones only some are recorded.
	Failures int64 `json:"failures,omitempty"`
	// Last is the newest failure of the endpoint.
	Last *Failure `json:"last,omitempty"`
	// ReportedAt is when engines last reported a failure, Reported is how many failed calls they
	// reported during this failure. Affected are the tenants that they named, at most maxAffected;
	// AffectedMore is set when there were more. AffectedCount is their number, as far as it is known.
	ReportedAt    time.Time   `json:"reported_at,omitzero"`
	Reported      int64       `json:"reported,omitempty"`
	Affected      []tenant.ID `json:"affected,omitempty"`
	AffectedMore  bool        `json:"affected_more,omitempty"`
	AffectedCount int64       `json:"affected_count,omitempty"`
	// Rejected are the tenants whose notifications the endpoint refuses.
	Rejected map[tenant.ID]RefusedNotification `json:"rejected,omitempty"`
	// LastRejection is the newest of those refusals, as a failure.
	LastRejection *Failure `json:"last_rejection,omitempty"`

	// ID names the open incident, empty when none is open.
	ID string `json:"id,omitempty"`
	// Since is when the incident's failure began, OpenedAt when the incident opened.
	Since    time.Time `json:"since,omitzero"`
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// RecoveringSince is when the endpoint became healthy, zero while it is not.
	RecoveringSince time.Time `json:"recovering_since,omitzero"`
	// N is the number of the incident's newest transition.
	N         int `json:"n,omitempty"`
	Reminders int `json:"reminders,omitempty"`
	// Flaps counts how often the endpoint failed again within RecoverAfter.
	Flaps int `json:"flaps,omitempty"`
	// Reopened counts the earlier incidents in a row, each of which ended within ReopenWithin of the next.
	Reopened int `json:"reopened,omitempty"`
	// Peak is the largest backlog seen during the incident.
	Peak Backlog `json:"peak,omitzero"`
	// Mailed holds, for each recipient's key, the transitions about which that recipient got a mail.
	Mailed map[string]MailedTransitions `json:"told,omitempty"`

	// OffSince is when the service switched the endpoint off, zero while it is on.
	OffSince time.Time `json:"off_since,omitzero"`
	// SwitchAt is the time of the newest switch that was applied.
	SwitchAt time.Time `json:"switch_at,omitzero"`
	// Muted is set when the incident ended although the endpoint is not healthy: no incident opens
	// until it was healthy once.
	Muted bool `json:"muted,omitempty"`
	// Previous is the incident that ended last; it is kept for ReopenWithin.
	Previous *PreviousIncident `json:"previous,omitempty"`
	// Warned are the certificates about which a warning was sent. Each is kept until its end.
	Warned []WarnedCertificate `json:"warned,omitempty"`
}

// RefusedNotification says since when a tenant's notification is refused, and when it last was.
type RefusedNotification struct {
	Since time.Time `json:"since"`
	At    time.Time `json:"at"`
}

// MailedTransitions is the first and the newest transition about which a recipient got a mail.
type MailedTransitions struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// WarnedCertificate is a certificate about whose end a warning was sent.
type WarnedCertificate struct {
	NotAfter time.Time `json:"not_after"`
	// Stage counts the warnings that are due by now, sent or skipped.
	Stage  int                          `json:"stage"`
	Mailed map[string]MailedTransitions `json:"told,omitempty"`
}

// PreviousIncident is an incident that ended a short while ago.
type PreviousIncident struct {
	ID       string    `json:"id"`
	EndedAt  time.Time `json:"ended_at"`
	Reopened int       `json:"reopened,omitempty"`
}

// Backlog is what is pending for an app.
type Backlog struct {
	Notifications int64 `json:"notifications,omitempty"`
	Tenants       int64 `json:"tenants,omitempty"`
	// Superseded counts the older changes that the pending ones replaced.
	Superseded int64 `json:"superseded,omitempty"`
}

func (b Backlog) max(o Backlog) Backlog {
	return Backlog{
		Notifications: max(b.Notifications, o.Notifications), Tenants: max(b.Tenants, o.Tenants),
		Superseded: max(b.Superseded, o.Superseded),
	}
}

// Phase is an endpoint's state in one word.
type Phase string

// The closed set of phases.
const (
	Healthy    Phase = "well"
	Failing    Phase = "failing"
	Open       Phase = "open"
	Recovering Phase = "recovering"
	Off        Phase = "off"
	Muted      Phase = "muted"
)

// Phase returns the endpoint's phase.
func (s *State) Phase() Phase {
	switch {
	case s.Muted:
		return Muted
	case !s.OffSince.IsZero():
		return Off
	case s.ID != "" && !s.RecoveringSince.IsZero():
		return Recovering
	case s.ID != "":
		return Open
	case !s.isHealthy():
		return Failing
	default:
		return Healthy
	}
}

// MailedBefore returns the transitions of a mail's thread about which the recipient got an earlier mail.
func (s *State) MailedBefore(m *Mail, recipientKey string) (MailedTransitions, bool) {
	if m.Kind == KindCertificate {
		for i := range s.Warned {
			if s.Warned[i].NotAfter.Equal(m.CertificateEnds) {
				t, ok := s.Warned[i].Mailed[recipientKey]
				return t, ok
			}
		}
		return MailedTransitions{}, false
	}
	if m.N == 1 {
		return MailedTransitions{}, false
	}
	t, ok := s.Mailed[recipientKey]
	return t, ok
}

// RecordMailed records that a recipient gets a mail, unless the mail's incident has ended.
func (s *State) RecordMailed(m *Mail, recipientKey string, before MailedTransitions) {
	told := &s.Mailed
	switch {
	case m.Kind == KindCertificate:
		i := slices.IndexFunc(s.Warned, func(w WarnedCertificate) bool { return w.NotAfter.Equal(m.CertificateEnds) })
		if i < 0 {
			return
		}
		told = &s.Warned[i].Mailed
	case s.ID != m.Incident:
		return
	}
	if before.First == 0 {
		before.First = m.N
	}
	before.Last = m.N
	if *told == nil {
		*told = make(map[string]MailedTransitions)
	}
	(*told)[recipientKey] = before
}

// IsOpen reports whether an incident is open.
func (s *State) IsOpen() bool { return s.ID != "" }

// SeenFailing is since when pushes or probes see the endpoint fail without a break, and when they last
// did; both are zero while only engines see it fail. A state of an older version has no such times:
// then it is when the failure began, and when the newest was recorded.
func (s *State) SeenFailing() (since, last time.Time) {
	if !s.isSeenFailing() {
		return time.Time{}, time.Time{}
	}
	since, last = s.SeenSince, s.SeenAt
	if since.IsZero() {
		since = s.FailingSince
	}
	if last.IsZero() && s.Last != nil {
		last = s.Last.At
	}
	return since, last
}

// isSeenFailing reports whether pushes or probes see the endpoint fail.
func (s *State) isSeenFailing() bool {
	return !s.SeenSince.IsZero() || !s.FailingSince.IsZero() && s.ReportedAt.IsZero()
}

// clearFailure forgets that the endpoint as a whole fails.
func (s *State) clearFailure() {
	s.FailingSince, s.SeenSince, s.SeenAt = time.Time{}, time.Time{}, time.Time{}
}

func (s *State) isHealthy() bool { return s.FailingSince.IsZero() && len(s.Rejected) == 0 }

// failureToShow is the failure that mails show: one that still lasts, the endpoint's before a tenant's;
// else the newest.
func (s *State) failureToShow() *Failure {
	switch {
	case s.LastRejection == nil, !s.FailingSince.IsZero() && s.Last != nil:
		return s.Last
	case s.Last == nil, len(s.Rejected) > 0, s.LastRejection.At.After(s.Last.At):
		return s.LastRejection
	default:
		return s.Last
	}
}

// Encode writes the state as it is stored; "" when there is nothing to remember.
func (s *State) Encode() string {
	c := *s
	c.Format = 0
	if isZero(&c) {
		return ""
	}
	c.Format = stateFormat
	b, err := json.Marshal(&c)
	if err != nil { // a struct of strings, numbers and times before the year 10000 always marshals
		panic("incident: marshal state: " + err.Error())
	}
	return string(b)
}

func isZero(s *State) bool {
	return s.FailingSince.IsZero() && s.Last == nil && len(s.Rejected) == 0 && s.LastRejection == nil && s.ID == "" &&
		s.OffSince.IsZero() && s.SwitchAt.IsZero() && !s.Muted && s.Previous == nil && len(s.Warned) == 0 && s.ReportedAt.IsZero()
}

// DecodeState reads what Encode wrote.
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
