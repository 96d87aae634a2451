package main

import "fmt"

// model is one world under one set of rules.
type model struct {
	limits

	broken fault
	// words are formatted only while a path is printed: the search needs none.
	words bool
}

func (m *model) lacks(f fault) bool { return m.broken&f != 0 }

func (m *model) text(f string, a ...any) string {
	if !m.words {
		return ""
	}
	return fmt.Sprintf(f, a...)
}

// then takes the state after a script, and what it did in words.
type then func(s state, did string)

func (m *model) armed(s *state, at int8) bool {
	return s.NowLeft > 0 && at >= 0 || s.SoonLeft > 0 && int8(s.SoonAt) <= at
}

// far: so late that the sweep arms it when it comes near.
func (m *model) far(at int8) bool { return m.horizon > 0 && at > m.horizon }

// wake is the end of every script that makes a tenant due or gives up ownership.
func (m *model) wake(s state, by uint8, out then) {
	repeat := by != 0 && s.LastBy == by && !m.lacks(noRepeat)
	answer := func(did string) {
		if repeat {
			requeue(&s)
			did = m.text(" same wake-up")
		}
		out(s, did)
	}
	if repeat && m.lacks(noConsumed) {
		answer("")
		return
	}
	x := s.first()
	if x == absent || s.Off == 1 || s.OwnerLeft > 0 {
		answer("")
		return
	}
	at := max(x, int8(s.Gate))
	if m.armed(&s, at) || m.far(at) {
		answer(m.text(" armed"))
		return
	}
	m.arm(s, at, by, out)
}

// arm issues a wake-up: its task reaches the queue, or is lost.
func (m *model) arm(s state, at int8, by uint8, out then) {
	soon := at > 0 || m.lacks(noSecondSlot)
	if m.countStray && soon && s.SoonLeft > 0 && s.SoonTask == 1 && s.SoonAt > 0 {
		s.Stray = min(s.Stray+1, 3)
	}
	if soon {
		s.SoonAt, s.SoonLeft, s.SoonTask, s.LastSlot = uint8(max(at, 0)), uint8(max(at, 0)+m.grace), 1, 2
	} else {
		s.NowLeft, s.NowTask, s.LastSlot = uint8(m.grace), 1, 1
	}
	s.LastBy = by
	out(s, m.text(" -> wake-up in %d", at))
	if s.Spent.Task < m.Task {
		s.Spent.Task++
		unheard(&s, by)
		out(s, m.text(" -> wake-up in %d, its task LOST", at))
	}
}

// unheard: the caller of this wake-up never got the answer, so it enqueues nothing.
func unheard(s *state, by uint8) {
	if s.LastBy == by && s.LastSlot == 1 {
		s.NowTask = 0
	}
	if s.LastBy == by && s.LastSlot == 2 {
		s.SoonTask = 0
	}
}

// requeue: the caller of the last wake-up enqueues it, perhaps again: a conflict is success.
func requeue(s *state) {
	if s.LastSlot == 1 && s.NowLeft > 0 {
		s.NowTask = 1
	}
	if s.LastSlot == 2 && s.SoonLeft > 0 {
		s.SoonTask = 1
	}
}

// deposit puts tenant t's snapshot as of change n into the mailbox.
func (m *model) deposit(s state, t int, n, by uint8, out then) {
	if s.Approved[t] == 0 && !m.lacks(noApprovals) {
		m.wake(s, by, func(b state, did string) { out(b, m.text(" ignored: not approved")+did) })
		return
	}
	known, again := s.Known[t], s.Again[t] == 1
	if m.lacks(noMemory) {
		known = 0
		for _, w := range s.Wait[t] {
			known = max(known, seqOf(w))
		}
	}
	if n > known || again && n == known {
		wrote := m.fold(&s, t, n, known, again)
		s.Known[t], s.Again[t] = n, 0
		switch {
		case s.vacant(t):
			if s.Flying[t] == 0 {
				s.leave(t)
			}
		case !wrote:
		case m.lacks(noHandsOff), s.Due[t] == absent, s.Flying[t] == 0 && !m.lacks(noForward):
			s.put(t, 0)
		}
	}
	m.wake(s, by, out)
}

func (m *model) fold(s *state, t int, n, known uint8, again bool) (wrote bool) {
	for o, q := range s.heads(t, n) {
		retold := again && o == sStatus
		switch {
		case q == 0:
			s.Wait[t][o] = 0
		case q > known, retold && m.lacks(noTop):
			s.Wait[t][o], wrote = entry(q, s.Asked[t]), true
		case retold: // true as of n, and newer than all that was told since
			s.Wait[t][o], wrote = entry(n, s.Asked[t]), true
		}
	}
	return wrote
}

// Which task brings a drainer: that of a wake-up, or one that nobody armed.
const (
	taskNow, taskSoon, taskStray = 0, 1, 2
)

// begin lets drainer d take the mailbox.
func (m *model) begin(s state, d, task int, out func(s state, did string, owner bool)) {
	me := uint8(d + 1)
	if task == taskNow || m.lacks(noOwnSlots) {
		s.NowLeft, s.NowTask = 0, 0
	}
	if task == taskSoon || m.lacks(noOwnSlots) {
		if m.countStray && task != taskSoon && s.SoonLeft > 0 && s.SoonTask == 1 && s.SoonAt > 0 {
			s.Stray = min(s.Stray+1, 3)
		}
		s.SoonLeft, s.SoonAt, s.SoonTask = 0, 0, 0
	}
	switch {
	case s.Off == 1 && !m.lacks(noOffFlag):
		out(s, m.text(" off"), false)
	case s.Owner != 0 && s.OwnerLeft > 0 && s.Owner != me:
		out(s, m.text(" busy"), false)
	case s.Gate > 0:
		m.wake(s, me, func(a state, did string) { out(a, m.text(" gated")+did, false) })
	default:
		if s.Owner != me && s.LateBy != 0 && s.LateBy == s.Owner {
			s.LateBy = byNobody // its token owns nothing any more
		}
		s.Owner, s.OwnerLeft = me, uint8(m.ownerLease)
		s.D[d].Probing = s.Gated
		out(s, m.text(" owner"), true)
	}
}

// result settles one claim as the exchange script does. mine: the caller owns the mailbox;
// holder: the claim is the tenant's current one.
func (m *model) result(s *state, t, slot int, seq, asked, phase uint8, mine, holder bool) {
	w := s.Wait[t][slot]
	same := w != 0 && (m.lacks(noSame) || seqOf(w) == seq && (w>>4 == asked || m.lacks(noVersion)))
	if phase == jOK && same {
		s.Wait[t][slot] = 0
		if m.lacks(noOtherSlots) {
			s.leave(t)
			return
		}
		if s.vacant(t) && s.Due[t] != absent && s.Flying[t] == 0 && !m.lacks(noLateAck) {
			s.leave(t)
		}
	}
	if m.lacks(noFence) && s.Due[t] != absent {
		holder = true
	}
	switch {
	case !holder || w == 0 && m.lacks(noVanished):
	case s.vacant(t):
		s.leave(t)
	case mine || m.lacks(noOwnerRule):
		at := int8(0)
		if phase == jFail || phase == jRefused {
			if same {
				s.Wait[t][slot] |= tried
			}
			if same || m.lacks(noFresh) {
				at = m.backoff
			}
		}
		s.put(t, at)
	}
}

// exchange settles drainer d's results (only those marked sent when it is a repeat), makes due what leases ran out of, then
// claims. With lost set the answer never arrives: what it claimed stays claimed until its lease ends.
func (m *model) exchange(s state, d int, again, claim, lost bool) (after state, mine bool, got int) {
	me := uint8(d + 1)
	mine = s.Owner == me
	well := false
	for i := range s.D[d].Jobs {
		j := &s.D[d].Jobs[i]
		if j.Phase < jOK || again && j.Sent == 0 {
			continue
		}
		well = well || j.Phase == jOK || j.Phase == jRefused
		m.result(&s, int(j.Tenant), int(j.Slot), j.Seq, j.Asked, j.Phase, mine, s.Holder[j.Tenant] == jobNumber(d, i))
		if j.Phase == jOK || j.Phase == jRefused && !m.lacks(noWell) {
			m.prove(&s, mine)
		}
		j.Sent = 2
	}
	if !mine {
		return s, false, 0
	}
	if well {
		s.Proved, s.D[d].Probing = 1, 0
	}
	s.OwnerLeft = uint8(m.ownerLease)
	if s.Off == 1 && !m.lacks(noOffFlag) {
		return s, true, 0
	}
	got = m.runOut(&s)
	if claim {
		got += m.claim(&s, d, lost)
	}
	return s, true, got
}

// runOut takes out of flight the tenants whose claim's lease ended, and counts those without entries.
func (m *model) runOut(s *state) (gone int) {
	for t := range m.tenants {
		switch {
		case s.Due[t] != 0 || s.Flying[t] == 0:
		case s.vacant(t):
			s.leave(t)
			gone++
		default:
			s.put(t, 0)
		}
	}
	return gone
}

// beat renews the owner's lease.
func (m *model) beat(s state, d int) (after state, mine bool) {
	if mine = s.Owner == uint8(d+1); mine {
		s.OwnerLeft = uint8(m.ownerLease)
	}
	return s, mine
}

// prove forgets the gate of an endpoint that answered.
func (m *model) prove(s *state, mine bool) {
	if mine {
		s.Gate, s.Gated = 0, 0
	}
}

func jobNumber(d, i int) uint8 { return uint8(d*nJobs + i + 1) }

// room is how many claims drainer d asks for: an unproved endpoint gets a round of posts, all of one exchange.
func (m *model) room(s *state, d int) int {
	room, busy := 0, false
	for i := range m.jobs {
		j := &s.D[d].Jobs[i]
		if j.Phase == jFree || j.Sent == 2 {
			room++
		} else {
			busy = true
		}
	}
	switch {
	case s.D[d].Probing == 0 || m.lacks(noProbe):
		return room
	case busy && !m.lacks(noRound):
		return 0
	default:
		return min(room, m.probes)
	}
}

// recall makes due what failed and is pending, with or without those whose post is in progress.
func (m *model) recall(s *state) {
	for t := range m.tenants {
		if !s.vacant(t) && s.Due[t] > 0 && (s.Flying[t] == 0 || m.lacks(noFlightLeft)) {
			s.put(t, 0)
		}
	}
}

func (m *model) claim(s *state, d int, lost bool) (got int) {
	room := m.room(s, d)
	for t := range m.tenants {
		if s.Due[t] != 0 || room == 0 {
			continue
		}
		room--
		got++
		i := freeJob(s, d, m.jobs)
		if lost || i < 0 {
			s.Due[t], s.Flying[t], s.Holder[t] = m.entryLease, 1, 0
			continue
		}
		slot := lowest(s.Wait[t])
		w := s.Wait[t][slot]
		release(s, jobNumber(d, i))
		s.D[d].Jobs[i] = job{Tenant: uint8(t), Slot: uint8(slot), Seq: seqOf(w), Asked: w >> 4, Phase: jClaimed}
		s.Due[t], s.Flying[t], s.Holder[t] = m.entryLease, 1, jobNumber(d, i)
	}
	return got
}

func freeJob(s *state, d, jobs int) int {
	for i := range jobs {
		if j := &s.D[d].Jobs[i]; j.Phase == jFree || j.Sent == 2 {
			return i
		}
	}
	return -1
}

// lowest is the slot whose entry has the lowest sequence.
func lowest(w [nSlots]uint8) int {
	best := -1
	for o, e := range w {
		if e != 0 && (best < 0 || seqOf(e) < seqOf(w[best])) {
			best = o
		}
	}
	return best
}

// release forgets that a job holds a claim.
func release(s *state, number uint8) {
	for t := range s.Holder {
		if s.Holder[t] == number {
			s.Holder[t] = 0
		}
	}
}

// settled frees the jobs whose result was taken and answered.
func settled(s *state, d int) {
	for i := range s.D[d].Jobs {
		if s.D[d].Jobs[i].Sent == 2 {
			release(s, jobNumber(d, i))
			s.D[d].Jobs[i] = job{}
		}
	}
}

// end forgets a drainer: it left, or crashed.
func end(s *state, d int) {
	me := uint8(d + 1)
	s.D[d] = drainer{}
	for t := range s.Holder {
		if s.Holder[t] != 0 && int(s.Holder[t]-1)/nJobs == d {
			s.Holder[t] = 0
		}
	}
	if s.Owner == me {
		s.Owner = byCrashed
	}
	if s.LastBy == me {
		s.LastBy = 0
	}
	if s.LateBy == me {
		s.LateBy = byNobody
	}
}
