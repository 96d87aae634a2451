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
	// Held is set while people hold deliveries back: nothing opens or reminds meanwhile.
	Held bool
	// Backlog is what waits for the app, zero when nobody looked.
	Backlog Backlog
	// GateUntil is when the endpoint is tried next: when its gate opens, or when it is probed. It is
	// zero when nobody looked, and when notifications are tried now or nothing probes it.
	GateUntil time.Time
	// Common is the newest common cause: while it holds nothing opens or reminds because of the connection.
	Common Common
}

// Decision is what a step comes to.
type Decision struct {
	State State
	// Mails holds at most one.
	Mails []Mail
	// Ended is set when the step ended an incident.
	Ended *Ended
}

// step is a decision in the making.
type step struct {
	Machine
	now   time.Time
	s     State
	mails []Mail
	ended *Ended
	// immediate is set by an event that opens without waiting.
	immediate bool
}

// Next takes one step. Times are kept in milliseconds. s is not altered.
func (m Machine) Next(s State, e Event, now time.Time) Decision {
	st := &step{Machine: m, now: now.UTC().Truncate(time.Millisecond), s: s}
	st.s.Format = stateFormat
	st.s.Rejected = maps.Clone(s.Rejected)
	st.s.Told = maps.Clone(s.Told)
	st.s.Affected = slices.Clone(s.Affected)
	st.s.Warned = cloneWarned(s.Warned)
	if sw, ok := e.(Switched); ok {
		st.reconcile(sw.Switch)
	}
	if f, ok := e.(Failure); ok && s.OffSince.IsZero() && !m.Switch.On && m.Switch.Reason != "" {
		st.failure(f) // the answer for which the service has just switched it off
	}
	st.reconcile(m.Switch)
	st.apply(e)
	st.settle()
	if _, warning := e.(Certificate); !warning { // one mail a step: the next tick evaluates
		st.evaluate()
	}
	st.forget()
	st.forgetCertificates()
	return Decision{State: st.s, Mails: st.mails, Ended: st.ended}
}

// reconcile brings the toggle into account, unless a later one already is.
func (t *step) reconcile(sw Switch) {
	s := &t.s
	if !sw.At.After(s.SwitchAt) && (sw.On || !s.SwitchAt.IsZero()) {
		return
	}
	switch {
	case !sw.On && sw.Reason == "":
		// People did it: they need no mail, and nothing is owed to a switched-off endpoint.
		t.rest(EndSwitchedOff, sw.At)
	case !sw.On:
		t.switchOff(sw)
	case !s.OffSince.IsZero():
		s.OffSince, s.SwitchAt = time.Time{}, sw.At
		s.Muted = false
		seen := s.seen()
		s.well()
		if s.ID != "" {
			s.FailingSince = t.now // people begin anew; only a success says that it is well
			if seen {
				s.SeenSince = t.now
			}
		}
	}
}

// rest ends what is open of an endpoint that nobody calls any more, and forgets the trouble.
func (t *step) rest(how Ending, switchAt time.Time) {
	s := &t.s
	if s.ID != "" {
		t.end(how, "")
	}
	if !isZero(s) {
		*s = State{Format: stateFormat, Previous: s.Previous, SwitchAt: switchAt, Warned: s.Warned}
	}
}

func (t *step) switchOff(sw Switch) {
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
		t.begin(t.since())
	}
	t.mail(KindSwitchedOff).OffReason = sw.Reason
}

// apply writes down what was observed.
func (t *step) apply(e Event) {
	s := &t.s
	_, closing := e.(Closed)
	off := !s.OffSince.IsZero() || !t.Switch.On && t.Switch.Reason == "" && !t.Switch.At.Before(s.SwitchAt)
	if off && !closing {
		return // late answers to what was sent before
	}
	switch e := e.(type) {
	case Failure:
		t.failure(e)
	case Rejection:
		t.rejection(e)
	case Success:
		if e.Source == SourceReport || !t.held() {
			s.well()
		}
		s.SeenSince, s.SeenAt = time.Time{}, time.Time{}
		delete(s.Rejected, e.Tenant)
	case Withdrawn:
		for _, id := range e.Tenants {
			delete(s.Rejected, id)
		}
	case Certificate:
		t.certificate(e)
	case Closed:
		t.close(e)
	case Uncalled:
		t.rest(EndUncalled, s.SwitchAt)
	case Tick:
		if s.Last != nil && s.Last.Source == SourceReport && t.now.Sub(s.ReportedAt) >= reportQuiet {
			s.well()
		}
		for id, r := range s.Rejected {
			if s.FailingSince.IsZero() && t.now.Sub(r.At) > rejectionStale {
				delete(s.Rejected, id)
			}
		}
	}
}

// close ends the incident on a person's word; who that was, the history and the audit log say, not
// the mail: it is the name of a token, and nothing to the app's contacts. Whoever was told that it
// opened is told of this too, unless this very step already tells them more. What the service has
// switched off stays so.
func (t *step) close(c Closed) {
	if t.s.ID == "" {
		return
	}
	if len(t.mails) == 0 {
		if m := t.mail(KindClosed); !t.s.OffSince.IsZero() {
			m.OffReason = cmp.Or(t.Switch.Reason, partner.OffFailing) // an old view of the app does not know why
		}
	}
	t.end(EndClosed, c.By)
}

func (t *step) failure(f Failure) {
	s := &t.s
	if f.Reason == delivery.ReasonOwnFault || f.Reason == delivery.ReasonNone {
		return
	}
	t.immediate = f.Immediate && f.Reason != delivery.ReasonRateLimited
	fresh := s.FailingSince.IsZero()
	if fresh {
		s.FailingSince, s.Failures = t.now, 0
	}
	if !fresh && s.seen() && s.SeenSince.IsZero() { // written by an older version
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
		t.reported(f)
	} else {
		s.SeenAt = t.now
	}
	s.Failures += f.Count
	f.At, f.Immediate, f.Count, f.Tenants, f.Affected = t.now, false, 0, nil, 0
	s.Last = &f
}

// reported counts what engines report.
func (t *step) reported(f Failure) {
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

// held reports whether engines complained so recently that another's success proves nothing.
func (t *step) held() bool {
	return !t.s.ReportedAt.IsZero() && t.now.Sub(t.s.ReportedAt) < reportHold
}

func (t *step) rejection(r Rejection) {
	s := &t.s
	s.well()
	old, known := s.Rejected[r.Tenant]
	if known && t.now.Sub(old.At) < noteEvery || !known && len(s.Rejected) >= maxRejected {
		return
	}
	if s.Rejected == nil {
		s.Rejected = make(map[tenant.ID]Refused)
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

// settle keeps the marks of recovery in step with what was observed.
func (t *step) settle() {
	s := &t.s
	if s.ID != "" {
		s.Peak = s.Peak.max(t.Backlog)
	}
	switch good := s.good(); {
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

// evaluate takes the transition that is due, if any.
func (t *step) evaluate() {
	s := &t.s
	switch {
	case t.ended != nil:
	case s.ID == "":
		if since := t.since(); !s.Muted && s.OffSince.IsZero() && !t.Held && t.openDue(since) {
			t.begin(since)
			t.mail(KindOpened)
		}
	case !s.RecoveringSince.IsZero():
		if t.now.Sub(s.RecoveringSince) >= t.Settings.RecoverAfter {
			m := t.mail(KindRecovered)
			m.EndedAt, m.Backlog = s.RecoveringSince, s.Peak
			t.end(EndRecovered, "")
		}
	case t.abandoned():
		t.end(EndAbandoned, "")
	case s.OffSince.IsZero() && !t.Held && len(t.mails) == 0 && !t.excused():
		t.remind()
	}
}

// excused reports whether what is wrong is put down to a common cause for now.
func (t *step) excused() bool { return t.unreached() && t.Common.Holds(t.now) }

// unreached reports whether a common cause may be behind it. A URL that the settings forbid, which is told at once, fails for itself.
func (t *step) unreached() bool {
	return t.s.unreached() && (!t.immediate || t.s.Last.Reason != delivery.ReasonBlockedAddress)
}

func (t *step) openDue(since time.Time) bool {
	if t.excused() {
		return false
	}
	if t.unreached() {
		since = t.Common.from(since)
	}
	return !since.IsZero() && (t.immediate || t.now.Sub(since) >= t.Settings.OpenAfter && !t.isolated())
}

// isolated reports whether all that is wrong is a call or two of which engines reported: nobody else
// saw the endpoint fail, and the reports did not go on.
func (t *step) isolated() bool {
	s := &t.s
	return len(s.Rejected) == 0 && !s.seen() && s.Reported < reportBurst && s.ReportedAt.Sub(s.FailingSince) < reportLasting
}

// since is when what is not well now began, zero when all is well.
func (t *step) since() time.Time {
	at := t.s.FailingSince
	for _, r := range t.s.Rejected {
		if at.IsZero() || r.Since.Before(at) {
			at = r.Since
		}
	}
	return at
}

// abandoned reports whether nothing was heard of the endpoint for very long.
func (t *step) abandoned() bool {
	return t.Settings.AbandonAfter > 0 && t.now.Sub(t.lastNews()) > t.Settings.AbandonAfter
}

func (t *step) lastNews() time.Time {
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

func (t *step) remind() {
	due := 0
	for _, after := range t.Settings.RemindAfter {
		if t.now.Sub(t.s.OpenedAt) >= after {
			due++
		}
	}
	if due > t.s.Reminders { // one mail, however many were missed
		t.s.Reminders = due
		t.mail(KindReminder)
	}
}

// begin opens an incident without saying so yet. Its id is made of the moment it opens, later than
// the previous one's even if the clock stands still or went back.
func (t *step) begin(since time.Time) {
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
	s.Peak, s.Told = t.Backlog, nil
}

// mail adds the mail of a new transition.
func (t *step) mail(k Kind) *Mail {
	s := &t.s
	s.N++
	m := Mail{
		Kind: k, Incident: s.ID, Endpoint: t.Endpoint, N: s.N, At: t.now, Since: s.Since, Backlog: t.Backlog,
		Flaps: s.Flaps, Reopened: s.Reopened,
		Reported: s.Reported, Affected: slices.Sorted(slices.Values(s.Affected)), AffectedMore: s.AffectedMore, AffectedCount: s.AffectedCount,
	}
	if f := s.cause(); f != nil {
		m.Failure = f.known()
	}
	if t.Common.Lasts() && t.unreached() {
		m.CommonSince = t.Common.Since.UTC().Truncate(time.Millisecond)
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
		if m.Failure != nil && (t.Endpoint != partner.StateChange && !t.GateUntil.IsZero() || t.GateUntil.Sub(t.now) > longPause) {
			m.NextTry = t.GateUntil.UTC().Truncate(time.Millisecond)
		}
	}
	t.mails = append(t.mails, m)
	return &t.mails[len(t.mails)-1]
}

// end closes the incident and keeps what must outlive it.
func (t *step) end(how Ending, by string) {
	s := &t.s
	t.ended = &Ended{
		Format: stateFormat, ID: s.ID, ClientID: t.ClientID, Endpoint: t.Endpoint, Since: s.Since, OpenedAt: s.OpenedAt,
		EndedAt: t.now, Ending: how, By: by, Failure: s.cause(), Flaps: s.Flaps, Reopened: s.Reopened, Peak: s.Peak,
		Transitions: s.N,
	}
	next := State{Format: stateFormat, SwitchAt: s.SwitchAt, OffSince: s.OffSince, Warned: s.Warned}
	next.Previous = &Previous{ID: s.ID, EndedAt: t.now, Reopened: s.Reopened}
	if how == EndClosed || how == EndAbandoned {
		next.Muted = !s.good() || !s.OffSince.IsZero()
		next.FailingSince, next.Last, next.Failures = s.FailingSince, s.Last, s.Failures
		next.SeenSince, next.SeenAt = s.SeenSince, s.SeenAt
		next.Rejected, next.LastRejection = s.Rejected, s.LastRejection
		next.ReportedAt, next.Reported, next.Affected, next.AffectedMore = s.ReportedAt, s.Reported, s.Affected, s.AffectedMore
		next.AffectedCount = s.AffectedCount
	}
	*s = next
}

// forget drops what was kept for a while only.
func (t *step) forget() {
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
	if s.Muted && s.Last != nil && t.abandoned() {
		*s = State{Format: stateFormat, Warned: s.Warned}
	}
}
