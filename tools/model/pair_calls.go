package main

// Kinds of call.
const (
	cNone, cApprove, cDismiss, cResync, cRepair, cFanout, cAccept, cCompare, cAsk, cEnd, cPut = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
)

// Steps of calls. Those from pMatch on are shared by all that match the index, those from pRead on by
// all that bring the record.
const (
	pcDo = iota + 1 // what the call is for: admit, dismiss, mark with '*'
	pcIndex
	pcCount
	pcTop
	pcMatch
	pcLook
	pcApps
	pcRead
	pcDeposit
	pcSettle
	pcMark
	pcApprovers
	pcClear
	pcStrike
	pcList
	pcAccept
	pcAgain
	pcRaise
	pcLate
)

// calls enumerates the steps of calls under way, and those that begin.
func (m *pairs) calls(s *pair, emit func(stepOf[pair])) {
	for i := range s.C {
		if s.C[i].Kind == cNone {
			continue
		}
		v := &callSteps{pairs: m, s: s, i: i, c: s.C[i], emit: emit}
		if s.Spent.Crash < m.Crash && v.c.Kind != cAsk {
			n := *s
			n.Spent.Crash++
			n.C[i] = call{}
			emit(stepOf[pair]{s: n, label: m.text("%s CRASHES", callNames()[v.c.Kind])})
		}
		v.goesOn()
	}
}

func callNames() []string {
	return []string{"", "approve", "dismiss", "resync", "repair", "fan-out", "accept", "compare", "ask", "delete", "put"}
}

// callSteps are the steps of one call in one state.
type callSteps struct {
	*pairs

	s    *pair
	i    int
	c    call
	emit func(stepOf[pair])
}

// to continues at a step of the call, after f.
func (v *callSteps) to(pc uint8, what string, f func(n *pair, c *call)) {
	n := *v.s
	c := &n.C[v.i]
	c.PC = pc
	if f != nil {
		f(&n, c)
	}
	v.emit(stepOf[pair]{s: n, label: v.text("%s %s", callNames()[v.c.Kind], what), good: true})
}

// patient continues as to does, where a healed birth would make the wait unnecessary: no rule may depend on the healing alone.
func (v *callSteps) patient(pc uint8, what string, f func(n *pair, c *call)) {
	u := *v
	u.emit = func(e stepOf[pair]) {
		e.good = v.s.Cfg.Birth == 0 || v.s.Cfg.Birth >= v.s.Box.Birth
		v.emit(e)
	}
	u.to(pc, what, f)
}

// ends the call.
func (v *callSteps) ends(what string, f func(n *pair)) {
	n := *v.s
	if f != nil {
		f(&n)
	}
	n.C[v.i] = call{}
	v.emit(stepOf[pair]{s: n, label: v.text("%s %s", callNames()[v.c.Kind], what), good: true})
}

// guarded runs a script of the mailbox that writes. A newer life begins first, and the call is repeated.
func (v *callSteps) guarded(refused func(), f func()) {
	switch u := v.under(v.s, v.c.Life); {
	case u == gone && !v.lacks(noBirth):
		refused()
	case u == unborn:
		v.to(v.c.PC, v.text("begins life %d", v.c.Life), func(n *pair, _ *call) { v.life(n, v.c.Life, false) })
	default:
		f()
	}
}

func (v *callSteps) goesOn() {
	switch v.c.Kind {
	case cFanout:
		v.fanout()
	case cAccept:
		v.accept()
	case cCompare:
		v.compare()
	case cAsk:
		v.asks()
	case cEnd:
		v.ends(v.text("ends life before %d", v.c.Life), func(n *pair) { v.life(n, v.c.Life, true) })
	case cPut:
		v.put()
	default:
		v.approval()
	}
}

// approval: approve, dismiss, resync, and the repair of what they broke off.
func (v *callSteps) approval() {
	switch v.c.PC {
	case pcIndex: // approve
		v.to(pcCount, "adds itself to the index", func(n *pair, _ *call) { n.Ten.Index = 1 })
	case pcCount:
		v.to(pcTop, "reads the count of dismissals", func(_ *pair, c *call) { c.Stale = 0 })
	case pcTop:
		v.to(pcDo, v.text("reads top %d", v.s.Ten.Top), func(n *pair, c *call) { c.Top = n.Ten.Top })
	case pcDo:
		v.does()
	case pcMatch:
		v.to(pcLook, v.text("writes the index: %d", v.c.Approved), func(n *pair, c *call) { n.Ten.Index = c.Approved })
	case pcLook:
		v.looks()
	case pcApps:
		v.to(pcRead, "refreshes the apps", func(n *pair, c *call) {
			c.Life, c.Doc, c.Hears = n.Cfg.Birth, n.Cfg.Doc, n.Cfg.Hears
			if c.Life == 0 || c.Hears == 0 {
				c.PC = pcSettle
			}
		})
	case pcRead:
		v.to(pcDeposit, v.text("reads the record %d", v.s.Ten.Top), func(n *pair, c *call) { c.Top = n.Ten.Top })
	case pcDeposit:
		v.brings()
	case pcSettle:
		v.settles()
	}
}

func (v *callSteps) fails() { v.ends("is answered GONE, and fails", nil) }

func (v *callSteps) does() {
	refused := v.fails
	if v.lacks(noConsent) && v.c.Kind == cApprove {
		refused = func() {
			if v.s.Cfg.Birth == 0 {
				v.fails()
				return
			}
			v.to(pcCount, "is answered GONE, and refreshes the apps", func(n *pair, c *call) { c.Life = n.Cfg.Birth })
		}
	}
	v.guarded(refused, func() {
		switch {
		case v.c.Kind == cDismiss:
			v.to(pcMatch, "is applied", func(n *pair, c *call) {
				if n.Box.Approved == 1 {
					v.empty(n)
					dismissed(n)
					n.Granted = 0
				}
				c.Approved = 0
			})
		case v.c.Kind == cResync && v.s.Box.Approved == 0:
			v.ends("finds no approval", func(n *pair) { n.Owe.Notes &^= v.c.Note })
		case v.c.Kind == cResync:
			v.to(pcRead, "marks '*'", func(n *pair, c *call) {
				n.Box.Asked = 1
				v.ask(n)
				if c.Hears == 0 {
					c.PC = pcSettle
				}
			})
		case v.s.Box.Approved == 1:
			v.to(pcMatch, "finds it approved", func(_ *pair, c *call) { c.Approved = 1 })
		case v.c.Stale == 1:
			v.to(pcCount, "is refused: dismissed meanwhile", nil)
		default:
			v.to(pcMatch, v.text("admits at %d", v.c.Top), func(n *pair, c *call) {
				v.admit(n, c)
				c.Approved = 1
			})
		}
	})
}

// looks at the mailbox, and writes the index again where it does not match.
func (v *callSteps) looks() {
	if v.lacks(noLook) && v.c.Kind == cRepair && v.c.Clears != 0 {
		v.to(pcSettle, "does not look again", nil)
		return
	}
	is := v.s.Box.Approved
	if is != v.c.Approved {
		v.to(pcMatch, v.text("looks: %d", is), func(_ *pair, c *call) { c.Approved = is })
		return
	}
	next := uint8(pcSettle)
	switch {
	case is == 0:
	case v.c.Kind != cApprove:
		next = pcApps
	case v.c.Hears == 1:
		next = pcRead
	}
	v.to(next, v.text("looks: %d, as the index has it", is), nil)
}

// brings puts the record into the mailbox.
func (v *callSteps) brings() {
	refused := v.fails
	if v.c.Kind == cRepair {
		refused = func() { v.patient(pcApps, "is answered GONE", nil) }
	}
	v.guarded(refused, func() {
		v.to(pcSettle, v.text("deposits %d", v.c.Top), func(n *pair, _ *call) { v.deposit(n, v.c.Top) })
	})
}

func (v *callSteps) settles() {
	if v.c.Clears != 0 { // clear.lua checks no life: what it removes is named by its birth
		v.ends(v.text("strikes off former life %d", v.c.Clears), func(n *pair) {
			n.Box.Former &^= 1 << v.c.Clears
		})
		return
	}
	v.ends("settles", func(n *pair) { n.Owe.Notes &^= v.c.Note })
}

// free is a place for one more call, -1 for none.
func (m *pairs) free(s *pair) int {
	for i := range m.atOnce {
		if s.C[i].Kind == cNone {
			return i
		}
	}
	return -1
}

func (s *pair) runs(kind uint8) bool {
	for i := range s.C {
		if s.C[i].Kind == kind {
			return true
		}
	}
	return false
}

// begins starts a call.
func (m *pairs) begins(s *pair, c call, good bool, emit func(stepOf[pair]), spend func(n *pair), f string, a ...any) {
	i := m.free(s)
	if i < 0 {
		return
	}
	n := *s
	n.C[i] = c
	if spend != nil {
		spend(&n)
	}
	emit(stepOf[pair]{s: n, label: m.text(f, a...), good: good})
}

// starts begins the calls of callers.
func (m *pairs) starts(s *pair, emit func(stepOf[pair])) {
	app := call{Life: s.Cfg.Birth, Doc: s.Cfg.Doc, Hears: s.Cfg.Hears, Note: 1 << s.Spent.Call}
	noted := func(count func(n *pair)) func(n *pair) {
		return func(n *pair) {
			n.Owe.Notes |= 1 << n.Spent.Call
			n.Spent.Call++
			count(n)
		}
	}
	if s.Cfg.Birth != 0 && s.Spent.Approve < m.Approve {
		c := app
		c.Kind, c.PC = cApprove, pcIndex
		m.begins(s, c, false, emit, noted(func(n *pair) { n.Spent.Approve++ }), "approve begins in life %d", c.Life)
	}
	if s.Cfg.Birth != 0 && s.Spent.Dismiss < m.Dismiss {
		c := app
		c.Kind, c.PC = cDismiss, pcDo
		m.begins(s, c, false, emit, noted(func(n *pair) { n.Spent.Dismiss++ }), "dismiss begins in life %d", c.Life)
	}
	if s.Cfg.Birth != 0 && s.Spent.Resync < m.Resync {
		c := app
		c.Kind, c.PC = cResync, pcDo
		m.begins(s, c, false, emit, noted(func(n *pair) { n.Spent.Resync++ }), "resync begins in life %d", c.Life)
	}
	if s.Seqs < m.Change && !s.runs(cAccept) {
		m.begins(s, call{Kind: cAccept, PC: pcList}, false, emit, nil, "a change comes")
	}
	if s.Ten.Top > 0 && s.Spent.Ask < m.Ask && !s.runs(cAsk) {
		for q := uint8(1); q <= s.Ten.Top; q++ {
			c := call{Kind: cAsk, PC: pcApprovers, Life: q, Top: s.Ten.Top}
			m.begins(s, c, false, emit, func(n *pair) { n.Spent.Ask++ }, "ask whether all know of %d", q)
		}
	}
	m.startsWork(s, emit)
}

// startsWork begins the calls of the loops.
func (m *pairs) startsWork(s *pair, emit func(stepOf[pair])) {
	if s.Owe.Ticket != 0 && !s.runs(cFanout) || s.Spent.Fanout < m.Fanout {
		count := func(n *pair) {}
		if s.Owe.Ticket == 0 || s.runs(cFanout) {
			count = func(n *pair) { n.Spent.Fanout++ }
		}
		c := call{Kind: cFanout, PC: pcMark, Ticket: s.Owe.Ticket}
		waits := s.Ten.Mark == 0 && s.runs(cAccept) // for the accept that listed it
		m.begins(s, c, !waits, emit, count, "fan-out reads ticket %d", c.Ticket)
	}
	if notes := m.unsettled(s); notes != 0 && !s.runs(cRepair) {
		c := call{Kind: cRepair, PC: pcLook, Approved: 2, Note: notes}
		m.begins(s, c, true, emit, nil, "repair of what calls broke off")
	}
	for f := uint8(1); f < 8; f++ {
		if s.Box.Former&(1<<f) != 0 && !s.runs(cRepair) {
			c := call{Kind: cRepair, PC: pcLook, Approved: 2, Clears: f}
			if m.lacks(noLook) {
				c.PC, c.Approved = pcMatch, 0
			}
			m.begins(s, c, true, emit, nil, "clearing of the life before %d", f)
		}
	}
	if m.noCompare {
		return
	}
	idle := s.C == [nCalls]call{}
	if idle && m.gap(s) || s.Spent.Compare < m.Compare {
		b := &s.Box
		c := call{Kind: cCompare, PC: pcMark, Approved: b.Approved, Known: b.Known, Asked: b.Asked}
		count := func(*pair) {}
		if !idle || !m.gap(s) {
			count = func(n *pair) { n.Spent.Compare++ }
		}
		m.begins(s, c, true, emit, count, "comparison reads the mailbox")
	}
}

// unsettled are the notes that the repair settles: of calls that ended; where pairs are compared also
// of those that were frozen for long.
func (m *pairs) unsettled(s *pair) uint8 {
	notes := s.Owe.Notes
	if m.noCompare {
		for i := range s.C {
			notes &^= s.C[i].Note
		}
	}
	return notes
}
