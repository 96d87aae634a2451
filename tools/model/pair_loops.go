package main

// accept: list, accept, list again.
func (v *callSteps) accept() {
	switch v.c.PC {
	case pcList:
		v.to(pcAccept, "lists the tenant", func(n *pair, _ *call) { v.listed(n) })
	case pcAccept:
		change := func(n *pair) {
			n.Seqs++
			n.Ten.Top, n.Ten.Mark = n.Seqs, 1
		}
		if v.lacks(noListAgain) {
			v.ends(v.text("takes change %d, ANSWER LOST", v.s.Seqs+1), change)
			return
		}
		v.to(pcAgain, v.text("takes change %d", v.s.Seqs+1), func(n *pair, _ *call) { change(n) })
	case pcAgain:
		v.ends("lists the tenant again", func(n *pair) { v.listed(n) })
	}
}

// fanout reads ticket, record and approvers, in this order, deposits, and clears mark and ticket.
func (v *callSteps) fanout() {
	s := v.s
	switch v.c.PC {
	case pcMark:
		switch {
		case s.Ten.Mark == 1:
			v.to(pcApprovers, v.text("reads record %d", s.Ten.Top), func(n *pair, c *call) { c.Top = n.Ten.Top })
		case s.runs(cAccept): // the ticket is not old enough
			v.ends("finds nothing owed", nil)
		default:
			v.to(pcStrike, "finds nothing owed", nil)
		}
	case pcApprovers:
		if s.Ten.Index == 0 {
			v.to(pcClear, "finds no approver", nil)
			return
		}
		v.refresh("finds the app")
		if s.Was != 0 && s.Was != s.Cfg.Birth {
			v.to(pcDeposit, v.text("finds the app with old settings, life %d", s.Was), func(n *pair, c *call) { c.Life = n.Was })
		}
	case pcDeposit:
		refused := func() { v.refresh("is answered GONE: refreshes,") }
		if v.lacks(noRefresh) {
			refused = func() { v.to(pcClear, "is answered GONE: takes it for told", nil) }
		}
		v.guarded(refused, func() {
			v.to(pcClear, v.text("deposits %d", v.c.Top), func(n *pair, _ *call) { v.deposit(n, v.c.Top) })
		})
	case pcClear:
		if s.Ten.Top != v.c.Top {
			v.ends("finds a newer change", nil)
			return
		}
		v.to(pcStrike, "clears the mark", func(n *pair, _ *call) { n.Ten.Mark = 0 })
	case pcStrike:
		v.ends(v.text("strikes off ticket %d", v.c.Ticket), func(n *pair) {
			if v.c.Ticket != 0 && n.Owe.Ticket == v.c.Ticket || v.lacks(noTicketFirst) {
				n.Owe.Ticket = 0
			}
		})
	}
}

func (v *callSteps) refresh(what string) {
	if v.s.Cfg.Birth == 0 || v.s.Cfg.Hears == 0 {
		v.to(pcClear, what+" which hears nothing", nil)
		return
	}
	v.patient(pcDeposit, v.text("%s life %d", what, v.s.Cfg.Birth), func(n *pair, c *call) { c.Life = n.Cfg.Birth })
}

// gap: the comparison has something to repair.
func (m *pairs) gap(s *pair) bool {
	b, t := &s.Box, &s.Ten
	hears := b.Approved == 1 && s.Cfg.Birth != 0 && s.Cfg.Hears == 1
	return !m.lacks(noIndexCompare) && b.Approved != t.Index ||
		hears && !m.lacks(noKnownCompare) && b.Known < t.Top ||
		hears && !m.lacks(noStarCompare) && b.Asked == 1 && b.Known <= t.Top || // nothing is deposited for a record that was lost
		hears && !m.lacks(noRaise) && b.Known > t.Top && t.Top > 0 ||
		!m.lacks(noMarkCompare) && t.Mark == 1 && s.Owe.Ticket == 0
}

// compare read the mailbox when it began: now it reads the record and the index, and repairs.
func (v *callSteps) compare() {
	c, t := v.c, v.s.Ten
	hears := c.Approved == 1 && v.s.Cfg.Birth != 0 && v.s.Cfg.Hears == 1
	switch c.PC {
	case pcMark:
		switch {
		case c.Approved != t.Index && !v.lacks(noIndexCompare):
			v.to(pcLook, "finds a gap in the index", func(_ *pair, c *call) { *c = call{Kind: cRepair, PC: pcLook, Approved: 2} })
		case hears && c.Known > t.Top && t.Top > 0 && !v.lacks(noRaise):
			v.to(pcList, v.text("finds known %d above top %d", c.Known, t.Top), nil)
		case hears && (c.Known < t.Top && !v.lacks(noKnownCompare) || c.Asked == 1 && c.Known <= t.Top && !v.lacks(noStarCompare)):
			v.to(pcApps, "finds that something is not told", func(_ *pair, c *call) { *c = call{Kind: cRepair, PC: pcApps} })
		case t.Mark == 1 && !v.lacks(noMarkCompare):
			v.to(pcStrike, "finds a mark", nil)
		default:
			v.ends("finds no gap", nil)
		}
	case pcStrike:
		if v.s.Owe.Ticket != 0 {
			v.ends("finds it listed", nil)
			return
		}
		v.ends("lists it", func(n *pair) { v.listed(n) })
	case pcList:
		v.to(pcRaise, "lists the tenant", func(n *pair, _ *call) { v.listed(n) })
	case pcRaise:
		v.ends(v.text("raises the record above %d", c.Known), func(n *pair) {
			if n.Ten.Top < c.Known {
				n.Seqs++
				n.Ten.Top, n.Ten.Mark = n.Seqs, 1
			}
		})
	}
}

// asks answers in_step for change c.Life: the record was read, then the approvers are, then the mailbox.
func (v *callSteps) asks() {
	b := &v.s.Box
	if v.c.PC == pcApprovers {
		if v.s.Ten.Index == 0 {
			v.ends("finds no approver", nil)
			return
		}
		v.to(pcLook, "finds the app", nil)
		return
	}
	n := *v.s
	n.C[v.i] = call{}
	q := v.c.Life
	told := b.Known >= max(q, v.c.Top) && b.Wait == 0 && b.Asked == 0
	if v.lacks(noWaitBelow) {
		told = b.Known >= q && b.Wait != q && (b.Asked == 0 || b.Wait != 0 || q != v.c.Top)
	}
	bad := ""
	if told && b.Approved == 1 && v.s.Cfg.Hears == 1 && (v.s.Owner != b.Consent || v.s.Heard < q) {
		bad = "in_step is true and the app was not told"
	}
	v.emit(stepOf[pair]{s: n, label: v.text("ask: in_step of %d is %v", q, told), good: true, bad: bad})
}
