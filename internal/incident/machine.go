package incident

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Machine decides for one endpoint of one app.
type Machine struct {
	Settings Settings
	ClientID partner.ClientID
	Endpoint partner.EndpointKind
	// Switch is the endpoint's toggle as the caller read it. A stale one does no harm.
	Switch Switch
	// Paused is set while the app is paused: no incident opens, and no reminder is sent.
	Paused bool
	// Backlog is what is pending for the app, zero when it was not read.
	Backlog Backlog
	// NextTryAt is when the next attempt or probe is made. It is zero when it was not read, when
	// attempts are made now, and when nothing probes the endpoint.
	NextTryAt time.Time
	// CommonCause is the newest common cause. While it lasts, connection failures open no incident
	// and cause no reminder.
	CommonCause CommonCause
}

// Decision is the result of a step.
type Decision struct {
	State State
	// Mails holds at most one of Next. The caller replaces it by one for each recipient.
	Mails []Mail
	// Ended is set when the step ended an incident.
	Ended *EndedIncident
}

// step is one call of Next: the state that it changes, and what it decides.
type step struct {
	Machine
	now   time.Time
	s     State
	mails []Mail
	ended *EndedIncident
	// immediate is set by an event that opens an incident without waiting for OpenAfter.
	immediate bool
}

// Next applies one event. It truncates times to milliseconds and does not change s.
func (m Machine) Next(s State, e Event, now time.Time) Decision {
	st := &step{Machine: m, now: now.UTC().Truncate(time.Millisecond), s: s}
	st.s.Format = stateFormat
	st.s.Rejected = maps.Clone(s.Rejected)
	st.s.Mailed = maps.Clone(s.Mailed)
	st.s.Affected = slices.Clone(s.Affected)
	st.s.Warned = cloneWarned(s.Warned)
	if sw, ok := e.(Switched); ok {
		st.applySwitch(sw.Switch)
	}
	if f, ok := e.(Failure); ok && s.OffSince.IsZero() && !m.Switch.On && m.Switch.Reason != "" {
		st.recordFailure(f) // the failure for which the service has just switched it off
	}
	st.applySwitch(m.Switch)
	st.applyEvent(e)
	st.updateRecovery()
	if _, warning := e.(Certificate); !warning { // at most one mail a step; the next tick takes the transition
		st.takeDueTransition()
	}
	st.forgetExpired()
	st.forgetEndedCertificates()
	return Decision{State: st.s, Mails: st.mails, Ended: st.ended}
}

// applySwitch applies the toggle, unless a later one was applied before.
func (t *step) applySwitch(sw Switch) {
	s := &t.s
	if !sw.At.After(s.SwitchAt) && (sw.On || !s.SwitchAt.IsZero()) {
		return
	}
	switch {
	case !sw.On && sw.Reason == "":
		// A caller switched it off, so no mail is needed.
		t.endAndResetState(EndSwitchedOff, sw.At)
	case !sw.On:
		t.recordSwitchOff(sw)
	case !s.OffSince.IsZero():
		s.OffSince, s.SwitchAt = time.Time{}, sw.At
		s.Muted = false
		seen := s.isSeenFailing()
		s.clearFailure()
		if s.ID != "" {
			s.FailingSince = t.now // the failure's time starts anew; only a success ends it
			if seen {
				s.SeenSince = t.now
			}
		}
	}
}

// endAndResetState ends the open incident of an endpoint that is not called any more, and forgets its failures.
func (t *step) endAndResetState(how Ending, switchAt time.Time) {
	s := &t.s
	if s.ID != "" {
		t.endIncident(how, "")
	}
	if !isZero(s) {
		*s = State{Format: stateFormat, Previous: s.Previous, SwitchAt: switchAt, Warned: s.Warned}
	}
}

func (t *step) recordSwitchOff(sw Switch) {
	s := &t.s
	s.OffSince, s.SwitchAt = t.now, sw.At
	if s.SwitchAt.IsZero() {
		s.SwitchAt = t.now
	}
	s.RecoveringSince = time.Time{}
	s.Muted = false
	if s.FailingSince.IsZero() {
		s.FailingSince = t.now
	}
	if s.ID == "" {
		t.openIncident(t.unhealthySince())
	}
	t.addMail(KindSwitchedOff).OffReason = sw.Reason
}

// applyEvent records an event in the state.
func (t *step) applyEvent(e Event) {
	s := &t.s
	_, closing := e.(Closed)
	off := !s.OffSince.IsZero() || !t.Switch.On && t.Switch.Reason == "" && !t.Switch.At.Before(s.SwitchAt)
	if off && !closing {
		return // a late result of an attempt from before the switch-off
	}
	switch e := e.(type) {
	case Failure:
		t.recordFailure(e)
	case Rejection:
		t.recordRejection(e)
	case Success:
		if e.Source == SourceReport || !t.reportedRecently() {
			s.clearFailure()
		}
		s.SeenSince, s.SeenAt = time.Time{}, time.Time{}
		delete(s.Rejected, e.Tenant)
	case DeliveriesWithdrawn:
		for _, id := range e.Tenants {
			delete(s.Rejected, id)
		}
	case Certificate:
		t.warnOfCertificate(e)
	case Closed:
		t.closeByHand(e)
	case EndpointUnused:
		t.endAndResetState(EndUnused, s.SwitchAt)
	case Tick:
		if s.Last != nil && s.Last.Source == SourceReport && t.now.Sub(s.ReportedAt) >= reportQuiet {
			s.clearFailure()
		}
		for id, r := range s.Rejected {
			if s.FailingSince.IsZero() && t.now.Sub(r.At) > rejectionStale {
				delete(s.Rejected, id)
			}
		}
	}
}

// closeByHand ends the incident for a person. The history and the audit log name that person. The mail
// does not, because it is the name of a token, which the app's contacts need not know. Recipients of
// the opening get a mail, unless this step already has one. An endpoint that the service switched off
// stays off.
func (t *step) closeByHand(c Closed) {
	if t.s.ID == "" {
		return
	}
	if len(t.mails) == 0 {
		if m := t.addMail(KindClosed); !t.s.OffSince.IsZero() {
			m.OffReason = cmp.Or(t.Switch.Reason, partner.OffFailing) // an old view of the app does not know why
		}
	}
	t.endIncident(EndClosed, c.By)
}

func (t *step) recordFailure(f Failure) {
	s := &t.s
	if f.Reason == delivery.ReasonOwnFault || f.Reason == delivery.ReasonNone {
		return
	}
	t.immediate = f.Immediate && f.Reason != delivery.ReasonRateLimited
	fresh := s.FailingSince.IsZero()
	if fresh {
		s.FailingSince, s.Failures = t.now, 0
	}
	if !fresh && s.isSeenFailing() && s.SeenSince.IsZero() { // written by an older version
		s.SeenSince, s.SeenAt = s.SeenFailing()
	}
	if f.Source != SourceReport && s.SeenSince.IsZero() {
		s.SeenSince = t.now
	}
	l := s.Last
	if f.Count <= 0 && !fresh && l != nil && l.Reason == f.Reason && l.Status == f.Status && l.Source == f.Source && t.now.Sub(l.At) < noteEvery {
		return
	}
	f.Count = max(f.Count, 1)
	if f.Source == SourceReport {
		t.recordReport(f)
	} else {
		s.SeenAt = t.now
	}
	s.Failures += f.Count
	f.At, f.Immediate, f.Count, f.Tenants, f.Affected = t.now, false, 0, nil, 0
	s.Last = &f
}

// recordReport counts the failures that engines report.
func (t *step) recordReport(f Failure) {
	s := &t.s
	s.ReportedAt = t.now
	s.Reported += f.Count
	defer func() { s.AffectedCount = max(s.AffectedCount, f.Affected, int64(len(s.Affected))) }()
	for _, id := range f.Tenants {
		switch {
		case slices.Contains(s.Affected, id):
		case len(s.Affected) >= maxAffected:
			s.AffectedMore = true
			return
		default:
			s.Affected = append(s.Affected, id)
		}
	}
}

// reportedRecently reports whether engines reported a failure within reportHold. Then a success that a
// push or probe saw does not end the failure.
func (t *step) reportedRecently() bool {
	return !t.s.ReportedAt.IsZero() && t.now.Sub(t.s.ReportedAt) < reportHold
}

func (t *step) recordRejection(r Rejection) {
	s := &t.s
	s.clearFailure()
	old, known := s.Rejected[r.Tenant]
	if known && t.now.Sub(old.At) < noteEvery || !known && len(s.Rejected) >= maxRejected {
		return
	}
	if s.Rejected == nil {
		s.Rejected = make(map[tenant.ID]RefusedNotification)
	}
	if !known {
		old.Since = t.now
	}
	old.At = t.now
	s.Rejected[r.Tenant] = old
	s.LastRejection = &Failure{
		Reason: cmp.Or(r.Reason, delivery.ReasonClientError), Status: r.Status, Excerpt: r.Excerpt, Detail: r.Detail, At: t.now,
	}
}

// updateRecovery updates RecoveringSince and Flaps after an event.
func (t *step) updateRecovery() {
	s := &t.s
	if s.ID != "" {
		s.Peak = s.Peak.max(t.Backlog)
	}
	switch good := s.isHealthy(); {
	case s.ID == "" && good:
		s.Muted = s.Muted && !s.OffSince.IsZero()
		s.Last, s.LastRejection, s.Failures = nil, nil, 0
		s.ReportedAt, s.Reported, s.Affected, s.AffectedMore, s.AffectedCount = time.Time{}, 0, nil, false, 0
	case s.ID == "" || !s.OffSince.IsZero():
	case good && s.RecoveringSince.IsZero():
		s.RecoveringSince = t.now
	case !good && !s.RecoveringSince.IsZero():
		s.RecoveringSince = time.Time{}
		s.Flaps++
	}
	if len(s.Rejected) == 0 {
		s.Rejected = nil
	}
}

// takeDueTransition takes the transition that is due, if any.
func (t *step) takeDueTransition() {
	s := &t.s
	switch {
	case t.ended != nil:
	case s.ID == "":
		if since := t.unhealthySince(); !s.Muted && s.OffSince.IsZero() && !t.Paused && t.isOpeningDue(since) {
			t.openIncident(since)
			t.addMail(KindOpened)
		}
	case !s.RecoveringSince.IsZero():
		if t.now.Sub(s.RecoveringSince) >= t.Settings.RecoverAfter {
			m := t.addMail(KindRecovered)
			m.EndedAt, m.Backlog = s.RecoveringSince, s.Peak
			t.endIncident(EndRecovered, "")
		}
	case t.isAbandoned():
		t.endIncident(EndAbandoned, "")
	case s.OffSince.IsZero() && !t.Paused && len(t.mails) == 0 && !t.excusedByCommonCause():
		t.addDueReminder()
	}
}

// excusedByCommonCause reports whether a common cause currently delays the mails about this failure.
func (t *step) excusedByCommonCause() bool {
	return t.mayBeCommonCause() && t.CommonCause.DelaysMails(t.now)
}

// mayBeCommonCause reports whether the failure may have a common cause. A URL that the settings forbid
// cannot: it opens an incident at once.
func (t *step) mayBeCommonCause() bool {
	return t.s.failsToConnect() && (!t.immediate || t.s.Last.Reason != delivery.ReasonBlockedAddress)
}

func (t *step) isOpeningDue(since time.Time) bool {
	if t.excusedByCommonCause() {
		return false
	}
	if t.mayBeCommonCause() {
		since = t.CommonCause.failureCountsFrom(since)
	}
	return !since.IsZero() && (t.immediate || t.now.Sub(since) >= t.Settings.OpenAfter && !t.hasOnlyFewReports())
}

// hasOnlyFewReports reports whether only engines saw the endpoint fail, with fewer than reportBurst calls
// over less than reportLasting.
func (t *step) hasOnlyFewReports() bool {
	s := &t.s
	return len(s.Rejected) == 0 && !s.isSeenFailing() && s.Reported < reportBurst && s.ReportedAt.Sub(s.FailingSince) < reportLasting
}

// unhealthySince is when the oldest failure or refusal that still lasts began, zero when the endpoint is healthy.
func (t *step) unhealthySince() time.Time {
	at := t.s.FailingSince
	for _, r := range t.s.Rejected {
		if at.IsZero() || r.Since.Before(at) {
			at = r.Since
		}
	}
	return at
}

// isAbandoned reports whether nothing was observed about the endpoint for more than AbandonAfter.
func (t *step) isAbandoned() bool {
	return t.Settings.AbandonAfter > 0 && t.now.Sub(t.lastObservedAt()) > t.Settings.AbandonAfter
}

func (t *step) lastObservedAt() time.Time {
	s := &t.s
	at := s.OpenedAt
	for _, o := range []time.Time{s.OffSince, s.SwitchAt} {
		if o.After(at) {
			at = o
		}
	}
	for _, f := range []*Failure{s.Last, s.LastRejection} {
		if f != nil && f.At.After(at) {
			at = f.At
		}
	}
	return at
}

func (t *step) addDueReminder() {
	due := 0
	for _, after := range t.Settings.RemindAfter {
		if t.now.Sub(t.s.OpenedAt) >= after {
			due++
		}
	}
	if due > t.s.Reminders { // one mail, however many reminders were missed
		t.s.Reminders = due
		t.addMail(KindReminder)
	}
}

// openIncident opens an incident; the caller adds the mail. Its id holds the opening time, which is later
// than the previous incident's even if the clock stands still or went back.
func (t *step) openIncident(since time.Time) {
	s := &t.s
	at := t.now
	reopened := 0
	if p := s.Previous; p != nil {
		if _, _, before, err := ParseID(p.ID); err == nil && !at.After(before) {
			at = before.Add(time.Millisecond)
		}
		if t.now.Sub(p.EndedAt) <= t.Settings.ReopenWithin {
			reopened = p.Reopened + 1
		}
	}
	s.ID = NewID(t.ClientID, t.Endpoint, at)
	s.Since, s.OpenedAt = since, t.now
	s.RecoveringSince = time.Time{}
	s.N, s.Reminders, s.Flaps, s.Reopened = 0, 0, 0, reopened
	s.Peak, s.Mailed = t.Backlog, nil
}

// addMail adds the mail of a new transition.
func (t *step) addMail(k Kind) *Mail {
	s := &t.s
	s.N++
	m := Mail{
		Kind: k, Incident: s.ID, Endpoint: t.Endpoint, N: s.N, At: t.now, Since: s.Since, Backlog: t.Backlog,
		Flaps: s.Flaps, Reopened: s.Reopened,
		Reported: s.Reported, Affected: slices.Sorted(slices.Values(s.Affected)), AffectedMore: s.AffectedMore, AffectedCount: s.AffectedCount,
	}
	if f := s.failureToShow(); f != nil {
		m.Failure = f.publicFailure()
	}
	if t.CommonCause.IsOngoing() && t.mayBeCommonCause() {
		m.CommonSince = t.CommonCause.Since.UTC().Truncate(time.Millisecond)
	}
	if s.FailingSince.IsZero() {
		m.Tenants = slices.Sorted(maps.Keys(s.Rejected))
	}
	if s.Reopened > 0 && s.Previous != nil {
		m.Previous = s.Previous.ID
	}
	if s.OffSince.IsZero() {
		since, _ := s.SeenFailing()
		m.SwitchOffAt = t.Settings.SwitchOffAt(since, t.Switch.At)
		if m.Failure != nil && (t.Endpoint != partner.StateChange && !t.NextTryAt.IsZero() || t.NextTryAt.Sub(t.now) > longPause) {
			m.NextTry = t.NextTryAt.UTC().Truncate(time.Millisecond)
		}
	}
	t.mails = append(t.mails, m)
	return &t.mails[len(t.mails)-1]
}

// endIncident closes the incident and keeps what must outlive it.
func (t *step) endIncident(how Ending, by string) {
	s := &t.s
	t.ended = &EndedIncident{
		Format: stateFormat, ID: s.ID, ClientID: t.ClientID, Endpoint: t.Endpoint, Since: s.Since, OpenedAt: s.OpenedAt,
		EndedAt: t.now, Ending: how, By: by, Failure: s.failureToShow(), Flaps: s.Flaps, Reopened: s.Reopened, Peak: s.Peak,
		Transitions: s.N,
	}
	next := State{Format: stateFormat, SwitchAt: s.SwitchAt, OffSince: s.OffSince, Warned: s.Warned}
	next.Previous = &PreviousIncident{ID: s.ID, EndedAt: t.now, Reopened: s.Reopened}
	if how == EndClosed || how == EndAbandoned {
		next.Muted = !s.isHealthy() || !s.OffSince.IsZero()
		next.FailingSince, next.Last, next.Failures = s.FailingSince, s.Last, s.Failures
		next.SeenSince, next.SeenAt = s.SeenSince, s.SeenAt
		next.Rejected, next.LastRejection = s.Rejected, s.LastRejection
		next.ReportedAt, next.Reported, next.Affected, next.AffectedMore = s.ReportedAt, s.Reported, s.Affected, s.AffectedMore
		next.AffectedCount = s.AffectedCount
	}
	*s = next
}

// forgetExpired drops what is kept for a limited time.
func (t *step) forgetExpired() {
	s := &t.s
	if s.Previous != nil && t.now.Sub(s.Previous.EndedAt) > t.Settings.ReopenWithin {
		s.Previous = nil
	}
	if s.ID != "" || !s.OffSince.IsZero() {
		return
	}
	if t.now.Sub(s.SwitchAt) > t.Settings.ReopenWithin {
		s.SwitchAt = time.Time{}
	}
	if s.Muted && s.Last != nil && t.isAbandoned() {
		*s = State{Format: stateFormat, Warned: s.Warned}
	}
}
