package main

// step is one thing that can happen to a mailbox.
type step = stepOf[state]

// next enumerates everything that can happen in a state.
func (m *model) next(s *state, emit func(step)) {
	out := func(n state, good bool, f string, a ...any) { emit(step{s: n, label: m.text(f, a...), good: good}) }
	for t := range m.tenants {
		m.accepts(s, t, out)
		m.fansOut(s, t, out)
		m.approves(s, t, out)
		m.resyncs(s, t, out)
	}
	m.repeats(s, out)
	m.deletes(s, out)
	m.switches(s, out)
	m.opens(s, out)
	m.sweeps(s, out)
	m.lateCopy(s, out)
	for d := range nDrainers {
		m.drains(s, d, emit)
	}
	m.ticks(s, emit)
}

type outFunc func(n state, good bool, f string, a ...any)

func (m *model) accepts(s *state, t int, out outFunc) {
	if int(s.Top[t]) >= m.changes[t] {
		return
	}
	for _, k := range m.kinds[t] {
		n := *s
		n.Kind[t][n.Top[t]] = k
		n.Fan[t] |= 1 << n.Top[t]
		n.Top[t]++
		out(n, false, "accept t%d %d (%s)", t, n.Top[t], kindNames()[k])
	}
}

// fansOut deposits a snapshot read at any time since its change, for the change that owes it or late.
func (m *model) fansOut(s *state, t int, out outFunc) {
	for q := uint8(1); q <= s.Top[t]; q++ {
		if s.Fan[t]&(1<<(q-1)) != 0 {
			n := *s
			n.Fan[t] &^= 1 << (q - 1)
			for v := q; v <= s.Top[t]; v++ {
				m.deposits(n, t, v, v == s.Top[t], "fan-out deposits", out)
			}
		}
		if s.Spent.Repeat < m.Repeat && (s.Approved[t] == 1 || m.Dismiss > 0) {
			n := *s
			n.Spent.Repeat++
			m.deposits(n, t, q, false, "late or repeated fan-out deposits", out)
		}
	}
}

func (m *model) deposits(s state, t int, n uint8, good bool, what string, out outFunc) {
	m.deposit(s, t, n, 0, func(b state, did string) { out(b, good, "%s t%d %d%s", what, t, n, did) })
	if s.Spent.Lost >= m.Lost || s.RepeatT != 0 {
		return
	}
	s.Spent.Lost++
	m.deposit(s, t, n, byDeposit, func(b state, did string) {
		b.RepeatT, b.RepeatTop = uint8(t+1), n
		out(b, false, "%s t%d %d%s, and will again", what, t, n, did)
		unheard(&b, byDeposit)
		out(b, false, "%s t%d %d%s, ANSWER LOST", what, t, n, did)
	})
}

// repeats sends the deposit again whose answer was lost.
func (m *model) repeats(s *state, out outFunc) {
	if s.RepeatT == 0 {
		return
	}
	n := *s
	t, top := int(s.RepeatT-1), s.RepeatTop
	n.RepeatT, n.RepeatTop = 0, 0
	m.deposit(n, t, top, byDeposit, func(b state, did string) {
		if b.LastBy == byDeposit {
			b.LastBy = 0
		}
		out(b, true, "the deposit t%d %d again%s", t, top, did)
	})
}

// approves reads the top in one step and admits in another: changes, fan-outs and dismissals may
// come between. Then the record is read and deposited, which is a fan-out like any other.
func (m *model) approves(s *state, t int, out outFunc) {
	if s.Approved[t] == 1 && s.Spent.Dismiss < m.Dismiss {
		n := *s
		n.Spent.Dismiss++
		m.dismiss(&n, t)
		out(n, false, "dismiss t%d", t)
	}
	if s.AdmitT == 0 && (s.Approved[t] == 0 || s.Spent.Approve < m.Approve) {
		n := *s
		if s.Approved[t] == 1 {
			n.Spent.Approve++
		}
		n.AdmitT, n.AdmitTop, n.AdmitStale = uint8(t+1), n.Top[t], 0
		out(n, false, "approve t%d reads top %d", t, n.Top[t])
	}
	if int(s.AdmitT) != t+1 {
		return
	}
	n := *s
	n.AdmitT, n.AdmitTop, n.AdmitStale = 0, 0, 0
	switch {
	case s.Approved[t] == 1:
		out(n, true, "approve t%d: approved already", t)
	case s.AdmitStale == 1 && !m.lacks(noEpoch):
		n.AdmitT, n.AdmitTop = s.AdmitT, s.Top[t]
		out(n, true, "approve t%d: dismissed meanwhile, reads top %d anew", t, n.AdmitTop)
	default:
		m.admit(&n, t, s.AdmitTop)
		out(n, true, "approve t%d admits at %d", t, s.AdmitTop)
	}
}

func (m *model) dismiss(s *state, t int) {
	s.Approved[t], s.Known[t], s.Again[t], s.Need[t] = 0, 0, 0, 0
	s.Wait[t] = [nSlots]uint8{}
	if s.Flying[t] == 0 || m.lacks(noFlightKept) {
		s.leave(t)
	}
	if int(s.AdmitT) == t+1 { // the mailbox knows the tenants of the last dismissals; without that knowledge it refuses more
		s.AdmitStale = 1
	}
}

func (m *model) admit(s *state, t int, top uint8) {
	s.Approved[t], s.Again[t] = 1, 1
	if !m.lacks(noFloor) {
		s.Known[t] = top
	} else {
		s.Again[t] = 0
	}
	if !m.lacks(noPersist) {
		s.Life = 0
	}
	m.ask(s, t)
}

// ask: the status must be delivered by a post that starts from now on.
func (m *model) ask(s *state, t int) {
	s.Asked[t]++
	if s.Top[t] == 0 {
		return
	}
	if s.heads(t, s.Top[t])[sStatus] != 0 {
		s.Need[t] = 1
	}
	s.Fan[t] |= 1 << (s.Top[t] - 1)
}

func (m *model) resyncs(s *state, t int, out outFunc) {
	if s.Spent.Resync >= m.Resync || s.Approved[t] == 0 || s.heads(t, s.Top[t])[sStatus] == 0 {
		return
	}
	n := *s
	n.Spent.Resync++
	n.Again[t] = 1
	m.ask(&n, t)
	out(n, false, "resync t%d at %d", t, n.Top[t])
}

// deletes drops the app: its claims and counters outlive it for a while, and stay if it comes back.
func (m *model) deletes(s *state, out outFunc) {
	if s.Spent.Delete >= m.Delete {
		return
	}
	n := *s
	n.Spent.Delete++
	n.Life = uint8(m.entryLease) + 2
	for t := range m.tenants {
		m.dismiss(&n, t)
		n.Heard[t], n.Highest[t] = [nSlots]uint8{}, 0 // an app that is made later is another app
		n.Asked[t]++
	}
	out(n, false, "app deleted")
}

func (m *model) switches(s *state, out outFunc) {
	n := *s
	if s.Off == 0 {
		if s.Spent.Off < m.Off {
			n.Spent.Off++
			n.Off = 1
			out(n, false, "switched off")
		}
		return
	}
	n.Off, n.Gate = 0, 0
	m.recall(&n)
	m.wake(n, 0, func(b state, did string) { out(b, true, "switched on%s", did) })
}

// opens ends the cool-down of a closed gate at once: a test saw the endpoint answer.
func (m *model) opens(s *state, out outFunc) {
	if s.Gate == 0 || s.Spent.Open >= m.Open {
		return
	}
	n := *s
	n.Spent.Open++
	n.Gate = 0
	m.recall(&n)
	m.wake(n, 0, func(b state, did string) { out(b, false, "gate opened%s", did) })
}

func (m *model) sweeps(s *state, out outFunc) {
	if m.lacks(noSweep) {
		return
	}
	m.wake(*s, 0, func(b state, did string) {
		if b != *s {
			out(b, true, "sweep%s", did)
		}
	})
}

// lateCopy lets a copy of an exchange arrive that was on its way for long.
func (m *model) lateCopy(s *state, out outFunc) {
	if s.LateT == 0 {
		return
	}
	n := *s
	t, mine := int(s.LateT-1), s.Owner == s.LateBy
	n.LateT, n.LateSlot, n.LateSeq, n.LateAsked, n.LatePhase, n.LateBy = 0, 0, 0, 0, 0, 0
	m.result(&n, t, int(s.LateSlot), s.LateSeq, s.LateAsked, s.LatePhase, mine, false)
	if s.LatePhase == jOK {
		m.prove(&n, mine)
	}
	out(n, true, "LATE COPY of a result t%d %s %d", t, slotNames()[s.LateSlot], s.LateSeq)
}

// ticks lets time pass, but never past a post's timeout.
func (m *model) ticks(s *state, emit func(step)) {
	for d := range s.D {
		for _, j := range s.D[d].Jobs {
			if (j.Phase == jPosting || j.Phase == jTaken) && int8(j.PostAge) >= m.timeout {
				return
			}
		}
	}
	n := *s
	for t := range n.Due {
		if n.Due[t] > 0 {
			n.Due[t]--
		}
	}
	for _, p := range []*uint8{&n.OwnerLeft, &n.Gate, &n.NowLeft, &n.SoonLeft, &n.SoonAt} {
		if *p > 0 {
			*p--
		}
	}
	if n.NowLeft == 0 {
		n.NowTask = 0 // its task, should it still come, is a stray one
	}
	if n.SoonLeft == 0 {
		n.SoonAt, n.SoonTask = 0, 0
	}
	if n.Life > 0 {
		if n.Life--; n.Life == 0 {
			expire(&n)
		}
	}
	for d := range n.D {
		for i := range n.D[d].Jobs {
			j := &n.D[d].Jobs[i]
			if j.Phase != jFree && int8(j.Age) <= m.entryLease {
				j.Age++
			}
			if (j.Phase == jPosting || j.Phase == jTaken) && int8(j.PostAge) < m.timeout {
				j.PostAge++
			}
		}
	}
	emit(step{s: n, label: m.text("tick"), tick: true, env: true})
}

// expire removes the claims and counters of a deleted app.
func expire(s *state) {
	for t := range s.Flying {
		if s.Flying[t] == 1 {
			s.leave(t)
		}
	}
	s.Owner, s.OwnerLeft, s.Gate, s.Gated = 0, 0, 0, 0
	s.NowLeft, s.NowTask, s.SoonLeft, s.SoonAt, s.SoonTask, s.LastBy, s.LastSlot = 0, 0, 0, 0, 0, 0, 0
}
