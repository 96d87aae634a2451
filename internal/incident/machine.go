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
	// Switch is the endpoint's toggle as the caller knows it; an old view does no harm.
	Switch Switch
	// Paused is set while people hold deliveries back: nothing opens or reminds meanwhile.
	Paused bool
	// Backlog is what waits for the app, zero when nobody looked.
	Backlog Backlog
	// NextTryAt is when the endpoint is tried next: when its gate opens, or when it is probed. It is
	// zero when nobody looked, and when notifications are tried now or nothing probes it.
	NextTryAt time.Time
	// CommonCause is the newest common cause: while it holds nothing opens or reminds because of the connection.
	CommonCause CommonCause
}

// Decision is what a step comes to.
type Decision struct {
	State State
	// Mails holds at most one.
	Mails []Mail
	// Ended is set when the step ended an incident.
	Ended *EndedIncident
}

// step is a decision in the making.
type step struct {
	Machine
	now   time.Time
	s     State
	mails []Mail
	ended *EndedIncident
	// immediate is set by an event that opens without waiting.
	immediate bool
}

// Next takes one step. Times are kept in milliseconds. s is not altered.
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
		st.recordFailure(f) // the answer for which the service has just switched it off
	}
	st.applySwitch(m.Switch)
	st.applyEvent(e)
	st.updateRecovery()
	if _, warning := e.(Certificate); !warning { // one mail a step: the next tick evaluates
		st.takeDueTransition()
	}
	st.forgetExpired()
	st.forgetEndedCertificates()
	return Decision{State: st.s, Mails: st.mails, Ended: st.ended}
}

// applySwitch brings the toggle into account, unless a later one already is.
func (t *step) applySwitch(sw Switch) {
	s := &t.s
	if !sw.At.After(s.SwitchAt) && (sw.On || !s.SwitchAt.IsZero()) {
		return
	}
	switch {
	case !sw.On && sw.Reason == "":
		// People did it: they need no mail, and nothing is owed to a switched-off endpoint.
		t.endAndResetState(EndSwitchedOff, sw.At)
	case !sw.On:
		t.recordSwitchOff(sw)
	case !s.OffSince.IsZero():
		s.OffSince, s.SwitchAt = time.Time{}, sw.At
		s.Muted = false
		seen := s.isSeenFailing()
		s.clearFailure()
		if s.ID != "" {
			s.FailingSince = t.now // people begin anew; only a success says that it is well
			if seen {
				s.SeenSince = t.now
			}
		}
	}
}

// endAndResetState ends what is open of an endpoint that nobody calls any more, and forgets the trouble.
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

// applyEvent writes down what was observed.
func (t *step) applyEvent(e Event) {
	s := &t.s
	_, closing := e.(Closed)
	off := !s.OffSince.IsZero() || !t.Switch.On && t.Switch.Reason == "" && !t.Switch.At.Before(s.SwitchAt)
	if off && !closing {
		return // late answers to what was sent before
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

// closeByHand ends the incident on a person's word; who that was, the history and the audit log say, not
// the mail: it is the name of a token, and nothing to the app's contacts. Whoever was told that it
// opened is told of this too, unless this very step already tells them more. What the service has
// switched off stays so.
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

// recordReport counts what engines report.
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

// reportedRecently reports whether engines complained so recently that another's success proves nothing.
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

// updateRecovery keeps the marks of recovery in step with what was observed.
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

// excusedByCommonCause reports whether what is wrong is put down to a common cause for now.
func (t *step) excusedByCommonCause() bool {
	return t.mayBeCommonCause() && t.CommonCause.DelaysMails(t.now)
}

// mayBeCommonCause reports whether a common cause may be behind it. A URL that the settings forbid, which is told at once, fails for itself.
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

// hasOnlyFewReports reports whether all that is wrong is a call or two of which engines reported: nobody else
// saw the endpoint fail, and the reports did not go on.
func (t *step) hasOnlyFewReports() bool {
	s := &t.s
	return len(s.Rejected) == 0 && !s.isSeenFailing() && s.Reported < reportBurst && s.ReportedAt.Sub(s.FailingSince) < reportLasting
}

// unhealthySince is when what is not well now began, zero when all is well.
func (t *step) unhealthySince() time.Time {
	at := t.s.FailingSince
	for _, r := range t.s.Rejected {
		if at.IsZero() || r.Since.Before(at) {
			at = r.Since
		}
	}
	return at
}

// isAbandoned reports whether nothing was heard of the endpoint for very long.
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
	if due > t.s.Reminders { // one mail, however many were missed
		t.s.Reminders = due
		t.addMail(KindReminder)
	}
}

// openIncident opens an incident without saying so yet. Its id is made of the moment it opens, later than
// the previous one's even if the clock stands still or went back.
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

// forgetExpired drops what was kept for a while only.
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
