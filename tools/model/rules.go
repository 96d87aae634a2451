package main

// The mailbox's rules as a system to explore.

func (m *model) initial() state { return start(m.tenants) }

func (m *model) say(on bool) { m.words = on }

func (m *model) quiet(s *state) bool { return s.quiet() }

func (m *model) faulty(from, to *state) bool { return from.Spent != to.Spent }

func (m *model) crosses(from *state, e *step) string {
	switch {
	case !e.env && !m.awake(&e.s) && m.awake(from):
		return "a script leaves work without owner or wake-up"
	case e.s.Stray > 0:
		return "a wake-up task is left behind"
	}
	return ""
}

// normalize forgets what no longer matters, so that equal situations are equal states.
func (m *model) normalize(s *state) {
	if s.LastBy >= 1 && s.LastBy <= nDrainers {
		if p := s.D[s.LastBy-1].Phase; p != dBeginAgain && p != dFinishAgain {
			s.LastBy = 0
		}
	}
	if s.LastBy == byDeposit && s.RepeatT == 0 {
		s.LastBy = 0
	}
	gone := s.LastSlot == 1 && s.NowLeft == 0 || s.LastSlot == 2 && s.SoonLeft == 0
	if s.LastBy == 0 || gone && !m.lacks(noConsumed) { // a wake-up answers repeats only while it is armed
		s.LastBy, s.LastSlot = 0, 0
	}
	if s.Owner >= 1 && s.Owner <= nDrainers && s.D[s.Owner-1].Phase == dIdle {
		s.Owner = byCrashed
	}
	if s.Owner == byCrashed && s.OwnerLeft == 0 {
		s.Owner = 0
	}
	for t := range s.Due {
		if s.Due[t] == absent {
			s.Holder[t], s.Flying[t] = 0, 0
		}
		if h := s.Holder[t]; h != 0 && s.D[int(h-1)/nJobs].Jobs[int(h-1)%nJobs].Phase == jFree {
			s.Holder[t] = 0
		}
	}
	mirror(s)
}

// mirror swaps the two drainers, which are alike, when that gives the smaller state.
func mirror(s *state) {
	a, b := s.D[0], s.D[1]
	if !less(&a, &b) {
		return
	}
	s.D[0], s.D[1] = b, a
	for _, p := range []*uint8{&s.Owner, &s.LastBy, &s.LateBy} {
		if *p == 1 || *p == 2 {
			*p = 3 - *p
		}
	}
	for t := range s.Holder {
		if h := s.Holder[t]; h > nJobs {
			s.Holder[t] = h - nJobs
		} else if h > 0 {
			s.Holder[t] = h + nJobs
		}
	}
}

func start(tenants int) state {
	var s state
	for t := range s.Due {
		s.Due[t] = absent
		if t < tenants {
			s.Approved[t] = 1
		}
	}
	return s
}

// stands names what is wrong with a state, whatever led there.
func (m *model) stands(s *state) string {
	for t := range m.tenants {
		switch {
		case !s.vacant(t) && s.Due[t] == absent:
			return "an entry that nobody will ever look for"
		case s.vacant(t) && s.Due[t] != absent && s.Flying[t] == 0:
			return "a tenant is due without entries"
		case s.Due[t] > 0 && s.Flying[t] == 0 && s.Wait[t][lowest(s.Wait[t])]&tried == 0:
			return "back-off hides newer truth"
		case s.Approved[t] == 0 && !s.vacant(t):
			return "something waits for a tenant that is not approved"
		}
	}
	if s.Gated == 1 && s.Proved == 1 {
		return "an endpoint that answered keeps its gate"
	}
	if s.quiet() {
		return m.final(s)
	}
	return ""
}

// final names what is wrong with a state in which nothing is left to do.
func (m *model) final(s *state) string {
	for t := range m.tenants {
		if s.Approved[t] == 0 {
			continue
		}
		h := s.heads(t, s.Top[t])
		if s.Heard[t][sStatus] < h[sStatus] { // a status told again bears a later sequence
			return "settled on a wrong status"
		}
		for _, o := range []int{sMove, sRestore} {
			if h[o] != 0 && s.Heard[t][o] != h[o] && s.Spent.Dismiss+s.Spent.Delete == 0 {
				return "settled without telling a " + slotNames()[o]
			}
		}
		if s.Need[t] == 1 {
			return "a resync or an approval did not post again"
		}
	}
	return ""
}

// awake: something is pending, so the endpoint is off, a drainer owns the mailbox, or a wake-up comes in time.
func (m *model) awake(s *state) bool {
	x := s.first()
	if x == absent || s.Off == 1 || s.OwnerLeft > 0 {
		return true
	}
	at := max(x, int8(s.Gate))
	return m.far(at) || m.armed(s, at)
}
