package main

// next enumerates everything that can happen to a pair.
func (m *pairs) next(s *pair, emit func(stepOf[pair])) {
	m.calls(s, emit)
	m.starts(s, emit)
	m.settings(s, emit)
	m.sweep(s, emit)
	m.posts(s, emit)
	m.loses(s, emit)
}

// settings: the app is made, deleted, made again, and gets its first URL.
func (m *pairs) settings(s *pair, emit func(stepOf[pair])) {
	if s.Cfg.Birth == 0 {
		if s.Spent.Make < m.Make {
			n := *s
			n.Spent.Make++
			m.make(&n)
			emit(stepOf[pair]{s: n, label: m.text("app made: life %d", n.Cfg.Birth)})
		}
		if s.Cfg.Gone != 0 && s.Spent.Old < m.Old {
			n := *s
			n.Spent.Old++
			n.Revs++
			n.Cfg = settings{Birth: s.Cfg.Gone, Doc: n.Revs, Rev: n.Revs, Hears: 1}
			emit(stepOf[pair]{s: n, label: m.text("app made by an older version: life %d", n.Cfg.Birth)})
		}
		if s.Spent.Put < m.Put {
			m.begins(s, call{Kind: cPut, PC: pcLate}, false, emit, func(n *pair) { n.Spent.Put++ }, "put finds no app")
		}
		return
	}
	if s.Spent.Delete < m.Delete {
		n := *s
		n.Spent.Delete++
		n.Revs++
		n.Was = s.Cfg.Birth
		n.Cfg = settings{Gone: n.Revs, Rev: n.Revs}
		n.Granted = 0
		emit(stepOf[pair]{s: n, label: m.text("app deleted: %d, and the process dies", n.Cfg.Gone)})
		m.begins(&n, call{Kind: cEnd, Life: n.Cfg.Gone}, false, emit, nil, "app deleted: %d", n.Cfg.Gone)
	}
	if s.Cfg.Hears == 0 && s.Spent.URL < m.URL {
		n := *s
		n.Spent.URL++
		n.Cfg.Hears = 1
		emit(stepOf[pair]{s: n, label: m.text("the app gets its first URL, its resync is LOST")})
		c := call{Kind: cResync, PC: pcDo, Life: s.Cfg.Birth, Doc: s.Cfg.Doc, Hears: 1}
		m.begins(&n, c, false, emit, nil, "the app gets its first URL, and a resync")
	}
}

func (m *pairs) make(s *pair) {
	s.Revs++
	s.Cfg = settings{Birth: s.Revs, Doc: s.Revs, Rev: s.Revs, Hears: 1}
}

// put is a slow one that found no app.
func (v *callSteps) put() {
	if v.c.PC == pcLate && v.lacks(noComing) {
		v.to(pcAccept, "clears away whatever is there", func(n *pair, _ *call) {
			v.empty(n)
			dismissed(n)
			n.Ten.Index = 0
		})
		return
	}
	v.ends("writes the app", func(n *pair) {
		if n.Cfg.Birth == 0 {
			v.make(n)
		}
	})
}

// sweep: the loop "arm" gives each mailbox its app's life, and the comparison heals lives.
func (m *pairs) sweep(s *pair, emit func(stepOf[pair])) {
	n := *s
	switch c, b := &s.Cfg, &s.Box; {
	case c.Birth > b.Birth:
		m.life(&n, c.Birth, false)
		emit(stepOf[pair]{s: n, label: m.text("sweep begins life %d", c.Birth), good: true})
	case c.Birth == 0 && c.Gone > b.Birth && b.Approved+b.Wait > 0:
		m.life(&n, c.Gone, true)
		emit(stepOf[pair]{s: n, label: m.text("sweep ends life before %d", c.Gone), good: true})
	case c.Birth != 0 && c.Birth < b.Birth && !m.noCompare:
		n.Revs++
		n.Cfg.Birth, n.Cfg.Rev = n.Revs, n.Revs
		if m.lacks(noFreshBirth) {
			n.Cfg.Birth = b.Birth
		}
		emit(stepOf[pair]{s: n, label: m.text("comparison heals the birth: life %d", n.Cfg.Birth), good: true})
	}
	if s.Box.Ending == 1 && s.Saved == 0 && (s.Box.Former == 0 || m.lacks(noFormerKept)) && s.C == [nCalls]call{} && s.P == [nPosts]post{} {
		n := *s
		n.Box = box{Ver: s.Box.Ver, Approved: s.Box.Approved, Consent: s.Box.Consent, Known: s.Box.Known, Asked: s.Box.Asked, Wait: s.Box.Wait, WaitVer: s.Box.WaitVer}
		emit(stepOf[pair]{s: n, label: m.text("the mailbox expires")})
	}
}

// posts: claims, and what becomes of them. A run reads the settings after its claim.
func (m *pairs) posts(s *pair, emit func(stepOf[pair])) {
	b := &s.Box
	held := false
	for i := range s.P {
		p := s.P[i]
		held = held || p.PC != pNone && p.Holds == 1
		step := func(good bool, what string, f func(n *pair, p *post)) {
			n := *s
			bad := ""
			f(&n, &n.P[i])
			if what == "arrives" {
				bad = m.hears(&n, &n.P[i])
			}
			emit(stepOf[pair]{s: n, label: m.text("post of %d under life %d %s", p.Seq, p.Life, what), good: good, bad: bad})
		}
		switch p.PC {
		case pClaimed:
			if s.Cfg.Birth == 0 || s.Cfg.Hears == 0 || s.Cfg.Birth != p.Life && !m.lacks(noClaimLife) {
				step(true, "is not sent: the app is another", func(_ *pair, p *post) { *p = post{} })
				continue
			}
			step(true, "is sent", func(n *pair, p *post) { p.PC, p.To = pOut, n.Cfg.Doc })
		case pOut:
			step(true, "arrives", func(_ *pair, p *post) { p.PC = pTaken })
			if s.Spent.Fail < m.Fail {
				step(false, "fails", func(n *pair, p *post) {
					n.Spent.Fail++
					m.lands(n, p, false)
				})
			}
		case pTaken:
			step(true, "is acknowledged", func(n *pair, p *post) { m.lands(n, p, true) })
			if s.Spent.Fail < m.Fail {
				step(false, "loses its answer", func(n *pair, p *post) {
					n.Spent.Fail++
					m.lands(n, p, false)
				})
			}
		}
	}
	if b.Flight == 1 && !held {
		n := *s
		n.Box.Flight = 0
		emit(stepOf[pair]{s: n, label: m.text("a claim's lease ends"), good: true})
	}
	known := b.Birth == s.Cfg.Birth || b.Birth == s.Was
	if b.Wait == 0 || b.Flight == 1 || !known {
		return
	}
	for i := range s.P {
		if s.P[i].PC == pNone {
			n := *s
			n.Box.Flight = 1
			n.P[i] = post{PC: pClaimed, Seq: b.Wait, Ver: b.WaitVer, Life: b.Birth, Consent: b.Consent, Holds: 1, Old: s.Behind}
			emit(stepOf[pair]{s: n, label: m.text("claim of %d under life %d", b.Wait, b.Birth), good: b.Birth == s.Cfg.Birth && s.Cfg.Hears == 1})
			return
		}
	}
}

// lands hands in the result of a post.
func (m *pairs) lands(s *pair, p *post, told bool) {
	if m.under(s, p.Life) == ok {
		if told && s.Box.Wait != 0 && s.Box.WaitVer == p.Ver {
			s.Box.Wait, s.Box.WaitVer = 0, 0
		}
		if p.Holds == 1 {
			s.Box.Flight = 0
		}
	}
	*p = post{}
}

// hears: the owner of a document gets a post.
func (m *pairs) hears(s *pair, p *post) string {
	if p.To != p.Consent {
		return "an owner hears of a tenant that approved another's app"
	}
	if p.To < s.Owner && m.lose != loseConfig {
		return "" // a former owner
	}
	if p.To != s.Owner {
		s.Owner, s.Heard = p.To, 0
	}
	if p.Seq < s.Heard && p.Old == 0 && s.Behind == 0 {
		return "what is told goes backwards"
	}
	s.Heard = max(s.Heard, p.Seq)
	if p.Before == 0 && p.To == s.Box.Consent {
		s.Need = 0
	}
	return ""
}

// loses: one slot goes back to an earlier state of itself.
func (m *pairs) loses(s *pair, emit func(stepOf[pair])) {
	if m.lose == loseNone {
		return
	}
	n := *s
	if s.Saved == 0 && s.Spent.Lose < m.Lose {
		n.Saved = 1
		switch m.lose {
		case loseConfig:
			n.Backup.Cfg = s.Cfg
		case loseTenant:
			n.Backup.Ten = s.Ten
		case loseOwed:
			n.Backup.Owe = s.Owe
		case loseApp:
			n.Backup.Box = s.Box
		}
		emit(stepOf[pair]{s: n, label: m.text("a replica has %s as it is now", loseNames()[m.lose])})
		return
	}
	if s.Saved == 0 {
		return
	}
	n.Spent.Lose++
	n.Saved, n.Backup = 0, backup{}
	switch m.lose {
	case loseConfig:
		n.Cfg = s.Backup.Cfg
	case loseTenant:
		n.Ten = s.Backup.Ten
	case loseOwed:
		n.Owe = s.Backup.Owe
	case loseApp:
		n.Box = s.Backup.Box
		n.Need, n.Behind = 0, 1
		for i := range n.P {
			if p := &n.P[i]; p.PC != pNone {
				p.Old, p.Holds = 1, 0
			}
		}
	}
	emit(stepOf[pair]{s: n, label: m.text("FAILOVER: %s loses its last writes", loseNames()[m.lose])})
}

// quiet: nothing is left to do.
func (m *pairs) quiet(s *pair) bool {
	c, b := &s.Cfg, &s.Box
	orphan := m.lose == loseConfig && c.Birth == 0 && b.Birth > c.Gone // its making is lost: it waits to be made again
	off := c.Birth != 0 && c.Hears == 0                                // its URL is lost: what waits stays
	return s.C == [nCalls]call{} && s.P == [nPosts]post{} && (b.Wait == 0 || orphan || off) && b.Flight == 0 && b.Former == 0 &&
		s.Owe.Ticket == 0 && s.Owe.Notes == 0 &&
		c.Birth <= b.Birth && (c.Birth != 0 || c.Gone <= b.Birth || b.Approved == 0) &&
		(m.noCompare || !m.gap(s) && (c.Birth == 0 || c.Birth == b.Birth))
}

// stands names what is wrong with a state in which nothing is left to do.
func (m *pairs) stands(s *pair) string {
	if !m.quiet(s) {
		return ""
	}
	c, b, t := &s.Cfg, &s.Box, &s.Ten
	switch {
	case c.Birth == 0 && b.Approved == 1 && m.lose != loseConfig:
		return "an approval outlives its app"
	case b.Approved != t.Index:
		return "the index is not as the mailbox"
	case s.Granted != 0 && s.Granted == c.Birth && b.Approved == 0 && m.lose != loseApp && m.lose != loseConfig: // it goes with its slot, or its life
		return "an approval is lost"
	case t.Mark == 1:
		return "owed, and listed nowhere"
	case b.Approved == 0 || c.Birth == 0 || c.Hears == 0 || t.Top == 0:
		return ""
	case s.Owner != c.Doc || s.Heard != t.Top:
		return "the newest is not told"
	case s.Need == 1:
		return "what was asked for again is not told"
	}
	return ""
}
