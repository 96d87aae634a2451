package main

// drains enumerates the steps of drainer d.
func (m *model) drains(s *state, d int, emit func(step)) {
	v := &drainerSteps{model: m, s: s, d: d, me: uint8(d + 1), emit: emit}
	D := &s.D[d]
	if D.Phase == dIdle {
		if d == 1 && s.D[0].Phase == dIdle {
			return // the drainers are alike: the first idle one starts
		}
		v.starts()
		return
	}
	if s.Spent.Crash < m.Crash {
		n := *s
		n.Spent.Crash++
		end(&n, d)
		v.env(n, "CRASHES")
	}
	busy, results := v.posts()
	switch D.Phase {
	case dBeginAgain:
		m.begin(*s, d, taskStray, func(a state, did string, owner bool) {
			v.begun(&a, owner)
			v.out(a, true, "begin again%s", did)
		})
	case dExchangeAgain:
		a, mine, got := m.exchange(*s, d, true, true, false)
		v.exchanged(a, mine, true, got, m.text(" again"))
	case dRun:
		if D.Lost == 0 || results {
			v.exchanges(results)
		}
		if s.Owner == v.me && s.Spent.Recall < m.Recall {
			n := *s
			n.Spent.Recall++
			m.recall(&n)
			v.out(n, false, "recalls what failed")
		}
		if busy {
			return
		}
		if D.Lost == 1 {
			n := *s
			end(&n, d)
			v.out(n, true, "leaves")
			return
		}
		v.finishes()
	case dFinishAgain:
		v.finishesAgain()
	}
}

// drainerSteps are the steps of one drainer in one state.
type drainerSteps struct {
	*model

	s    *state
	d    int
	me   uint8
	emit func(step)
}

func (v *drainerSteps) out(n state, good bool, f string, a ...any) {
	v.emit(step{s: n, label: v.text("D%d ", v.me) + v.text(f, a...), good: good})
}

func (v *drainerSteps) env(n state, f string, a ...any) {
	v.emit(step{s: n, label: v.text("D%d ", v.me) + v.text(f, a...), env: true})
}

func (v *drainerSteps) starts() {
	for task, name := range []string{"now", "soon", "stray"} {
		good := false
		switch task {
		case taskNow:
			if s := v.s; s.NowLeft == 0 || s.NowTask == 0 {
				continue
			}
			good = true
		case taskSoon:
			if s := v.s; s.SoonLeft == 0 || s.SoonTask == 0 || v.noStray && s.SoonAt > 0 {
				continue
			}
			good = v.s.SoonAt == 0
		case taskStray:
			if v.noStray {
				continue
			}
		}
		v.begin(*v.s, v.d, task, func(b state, did string, owner bool) {
			a := b
			v.begun(&a, owner)
			v.out(a, good, "begin(%s)%s", name, did)
			if b.Spent.Lost < v.Lost {
				b.Spent.Lost++
				b.D[v.d].Phase = dBeginAgain
				unheard(&b, v.me)
				v.out(b, false, "begin(%s)%s, ANSWER LOST", name, did)
			}
		})
	}
}

func (v *drainerSteps) begun(s *state, owner bool) {
	if owner {
		s.D[v.d].Phase = dRun
	} else {
		end(s, v.d)
	}
}

// posts lets each job go on. busy: a claim is held; results: one of them has a result.
func (v *drainerSteps) posts() (busy, results bool) {
	for i, j := range v.s.D[v.d].Jobs {
		busy, results = busy || j.Phase != jFree, results || j.Phase >= jOK
		switch j.Phase {
		case jClaimed:
			v.startsPost(i, j)
		case jPosting:
			v.arrives(i, j)
		case jTaken:
			n := *v.s
			n.D[v.d].Jobs[i].Phase = jOK
			v.emit(step{s: n, label: v.text("D%d gets 2xx for t%d %s %d", v.me, j.Tenant, slotNames()[j.Slot], j.Seq), good: true, env: true})
			v.fails(i, j, "the answer is lost for")
		}
	}
	return busy, results
}

func (v *drainerSteps) startsPost(i int, j job) {
	n := *v.s
	p := &n.D[v.d].Jobs[i]
	if int8(j.Age)+v.timeout >= v.entryLease && !v.lacks(noStartBy) {
		p.Phase = jRelease
		v.out(n, true, "will release t%d %s %d", j.Tenant, slotNames()[j.Slot], j.Seq)
		return
	}
	p.Phase, p.PostAge, p.Began = jPosting, 0, v.s.Asked[j.Tenant]
	tenants, mine := 0, 0
	for e := range n.D {
		for _, q := range n.D[e].Jobs {
			if q.Phase != jPosting && q.Phase != jTaken {
				continue
			}
			if q.Tenant == j.Tenant {
				tenants++
			}
			if e == v.d {
				mine++
			}
		}
	}
	bad := ""
	switch {
	case tenants > 1:
		bad = "two posts of one tenant in flight"
	case mine > v.probes && n.D[v.d].Probing == 1:
		bad = "an unproved endpoint gets more posts than its round"
	}
	v.emit(step{s: n, label: v.text("D%d posts t%d %s %d", v.me, j.Tenant, slotNames()[j.Slot], j.Seq), good: true, bad: bad})
}

// arrives: the app takes the post, or refuses it, or fails.
func (v *drainerSteps) arrives(i int, j job) {
	n := *v.s
	t := j.Tenant
	n.D[v.d].Jobs[i].Phase = jTaken
	bad := ""
	if v.Delete == 0 || j.Began == n.Asked[t] { // the app of an earlier life is another app
		switch {
		case j.Seq < n.Heard[t][j.Slot]:
			bad = "order within a slot goes backwards"
		case j.Seq < n.Highest[t]:
			bad = "order across slots goes backwards"
		}
		n.Heard[t][j.Slot] = j.Seq
		n.Highest[t] = max(n.Highest[t], j.Seq)
		if j.Slot == sStatus && j.Began == n.Asked[t] {
			n.Need[t] = 0
		}
	}
	v.emit(step{s: n, label: v.text("  the app takes t%d %s %d", t, slotNames()[j.Slot], j.Seq), good: true, bad: bad, env: true})
	v.fails(i, j, "fails:")
	if v.s.Spent.Refuse < v.Refuse {
		n := *v.s
		n.Spent.Refuse++
		n.D[v.d].Jobs[i].Phase = jRefused
		v.env(n, "is refused t%d %s %d", t, slotNames()[j.Slot], j.Seq)
	}
}

func (v *drainerSteps) fails(i int, j job, how string) {
	if v.s.Spent.Fail < v.Fail {
		n := *v.s
		n.Spent.Fail++
		n.D[v.d].Jobs[i].Phase = jFail
		v.env(n, "%s t%d %s %d", how, j.Tenant, slotNames()[j.Slot], j.Seq)
	}
}

// exchanges hands in what there is, and claims or not.
func (v *drainerSteps) exchanges(results bool) {
	a, mine, got := v.exchange(*v.s, v.d, false, true, false)
	v.exchanged(a, mine, results, got, "")
	if v.s.Spent.Lost < v.Lost && (results || got > 0) {
		b, _, got := v.exchange(*v.s, v.d, false, true, true)
		b.Spent.Lost++
		b.D[v.d].Phase = dExchangeAgain
		for i := range b.D[v.d].Jobs {
			if j := &b.D[v.d].Jobs[i]; j.Sent == 2 {
				j.Sent = 1
			}
		}
		v.out(b, false, "exchange, claims %d, ANSWER LOST", got)
	}
	if v.s.Spent.Late < v.Late && results && v.s.LateT == 0 {
		v.copies(a, mine)
	}
	if v.s.D[v.d].Lost == 1 {
		return
	}
	if !results {
		b, _ := v.beat(*v.s, v.d)
		v.out(b, false, "beat")
		return
	}
	b, mine, _ := v.exchange(*v.s, v.d, false, false, false)
	v.exchanged(b, mine, true, 0, v.text(", claims nothing"))
}

func (v *drainerSteps) exchanged(a state, mine, results bool, got int, how string) {
	settled(&a, v.d)
	if mine {
		a.D[v.d].Phase = dRun
		bad := ""
		if got > 0 && a.Off == 1 {
			bad = "an endpoint that is off is claimed for"
		}
		if v.probes > 1 && a.D[v.d].Probing == 1 && v.claimsBeside(&a) {
			bad = "a round of probes is of two exchanges"
		}
		v.emit(step{s: a, label: v.text("D%d exchange%s, claims %d", v.me, how, got), good: results || got > 0, bad: bad})
		return
	}
	a.D[v.d].Lost = 1
	left := false
	for _, j := range a.D[v.d].Jobs {
		left = left || j.Phase != jFree
	}
	if left {
		a.D[v.d].Phase = dRun
	} else {
		end(&a, v.d)
	}
	v.out(a, results || !left, "exchange%s: not the owner", how)
}

// claimsBeside reports whether an exchange claimed while another claim had no result yet.
func (v *drainerSteps) claimsBeside(after *state) bool {
	held, claimed := false, false
	for i, j := range v.s.D[v.d].Jobs {
		out := j.Phase == jClaimed || j.Phase == jPosting || j.Phase == jTaken
		held = held || out
		claimed = claimed || !out && after.D[v.d].Jobs[i].Phase == jClaimed
	}
	return held && claimed
}

// copies leaves a copy of an exchange on the wire.
func (v *drainerSteps) copies(a state, mine bool) {
	for _, j := range v.s.D[v.d].Jobs {
		if j.Phase != jOK && j.Phase != jFail {
			continue
		}
		a.Spent.Late++
		a.LateT, a.LateSlot, a.LateSeq, a.LateAsked, a.LatePhase, a.LateBy = j.Tenant+1, j.Slot, j.Seq, j.Asked, j.Phase, v.me
		settled(&a, v.d)
		if !mine {
			a.D[v.d].Lost = 1
		}
		v.out(a, false, "exchange, a copy of it stays on the wire")
		return
	}
}

// finishes gives the mailbox back, by force or not, and closes the gate or not.
func (v *drainerSteps) finishes() {
	for _, how := range []string{"", " forced", " gate", " pause"} {
		if how == " gate" && v.s.Spent.Gate >= v.Gate || how == " pause" && (!v.pause || v.s.Spent.Gate >= v.Gate) {
			continue
		}
		n := *v.s
		if n.Owner != v.me {
			end(&n, v.d)
			v.out(n, true, "finish: not the owner")
			return
		}
		if n.first() == 0 && how == "" && n.Off == 0 && !v.lacks(noFinishArms) {
			n.D[v.d].Phase = dRun
			if n != *v.s {
				v.out(n, true, "finish: go on")
			}
			continue
		}
		n.Owner, n.OwnerLeft = 0, 0
		if how == " gate" {
			n.Spent.Gate++
			n.Gate, n.Gated, n.Proved = uint8(v.limits.gate), 1, 0
		}
		if how == " pause" { // the endpoint asked for it: nothing is to be proved
			n.Spent.Gate++
			n.Gate, n.Gated = uint8(v.limits.gate), 0
		}
		if v.lacks(noFinishArms) && n.first() == 0 && n.Gate == 0 {
			v.finished(n, how, "")
			continue
		}
		v.wake(n, v.me, func(b state, did string) { v.finished(b, how, did) })
	}
}

func (v *drainerSteps) finished(b state, how, did string) {
	a := b
	end(&a, v.d)
	v.out(a, how == "", "finish%s%s", how, did)
	if v.s.D[v.d].Phase == dRun && b.Spent.Lost < v.Lost {
		b.Spent.Lost++
		b.D[v.d].Phase = dFinishAgain
		unheard(&b, v.me)
		v.out(b, false, "finish%s%s, ANSWER LOST", how, did)
	}
}

func (v *drainerSteps) finishesAgain() {
	n := *v.s
	switch {
	case n.Owner == v.me:
		v.finishes()
	case n.LastBy == v.me:
		v.wake(n, v.me, func(b state, did string) {
			end(&b, v.d)
			v.out(b, true, "finish again%s", did)
		})
	default:
		end(&n, v.d)
		v.out(n, true, "finish again: not the owner")
	}
}
