package main

import "fmt"

// Runs against settings: one app whose endpoint is written while runs post to it. What waits in the
// mailbox, and in what order, is left to model; here there is always something to post.

// endpointOf is the slot {config}: the endpoint as it is set.
type endpointOf struct {
	Rev  uint8 // the app's revision
	Erev uint8 // the revision at which URL or switch last changed
	On   uint8
}

// gates is the slot {app}: the mailbox's switch, gate and owner.
type gates struct {
	Srev, Erev    uint8 // the newest revisions that the mailbox knows
	Off           uint8
	Gate          uint8 // the endpoint revision of the run that closed it, 0: open
	Epoch, Oepoch uint8 // openings; at which the owner began
	Owner         uint8 // the run that owns it: number + 1
}

// runOf is one run.
type runOf struct {
	PC     uint8
	Erev   uint8 // of the endpoint that it posts to
	Newest uint8 // the endpoint's revision that its claims may not fall behind
	Opened uint8 // the mailbox was opened, or got another endpoint, since the run began
	Rev    uint8 // of the app as it read it to switch it off, or of the switch-off
}

// told is a Switch on its way.
type told struct{ Rev, Erev, On uint8 }

const nTold = 2

// runState is a state.
type runState struct {
	Cfg endpointOf
	Box gates
	R   [2]runOf
	T   [nTold]told

	Saved  uint8
	Backup gates

	Spent runBudgets
}

// runBudgets count how often each thing happens.
type runBudgets struct {
	URL, Rename, Switch, Open, Fail, Gone, Lapse, Crash, Lose uint8
}

// Steps of a run.
const (
	rIdle, rEarly, rClaimed, rReady, rFailed, rGone, rOff, rGoneAgain = 0, 1, 2, 3, 4, 5, 6, 7
)

// runs is one world of runs under one set of rules.
type runs struct {
	runBudgets

	broken fault
	words  bool
}

func (m *runs) lacks(f fault) bool { return m.broken&f != 0 }

func (m *runs) text(f string, a ...any) string {
	if !m.words {
		return ""
	}
	return fmt.Sprintf(f, a...)
}

func (m *runs) say(on bool) { m.words = on }

func (m *runs) initial() runState {
	return runState{Cfg: endpointOf{Rev: 1, Erev: 1, On: 1}, Box: gates{Srev: 1, Erev: 1}}
}

func (m *runs) faulty(from, to *runState) bool { return from.Spent != to.Spent }

func (m *runs) crosses(*runState, *stepOf[runState]) string { return "" }

// normalize brings the epochs to what they are compared for, and the two runs, which are alike, in order.
func (m *runs) normalize(s *runState) {
	if s.Saved == 0 {
		old := s.Box.Oepoch != s.Box.Epoch
		s.Box.Epoch, s.Box.Oepoch = 1, bit(!old)
	}
	if s.Box.Owner == 0 {
		s.Box.Oepoch = s.Box.Epoch
	}
	if less(&s.R[0], &s.R[1]) {
		s.R[0], s.R[1] = s.R[1], s.R[0]
		if s.Box.Owner == 1 || s.Box.Owner == 2 {
			s.Box.Owner = 3 - s.Box.Owner
		}
		if s.Backup.Owner == 1 || s.Backup.Owner == 2 {
			s.Backup.Owner = 3 - s.Backup.Owner
		}
	}
	if less(&s.T[0], &s.T[1]) {
		s.T[0], s.T[1] = s.T[1], s.T[0]
	}
}

// The scripts.

func (m *runs) opened(s *runState) {
	s.Box.Epoch++
	s.Box.Gate = 0
	for i := range s.R {
		if s.R[i].PC >= rClaimed {
			s.R[i].Opened = 1
		}
	}
}

// tells is switch.lua; newer: only what is newer, as the sweep does.
func (m *runs) tells(s *runState, t told, newer bool) {
	b := &s.Box
	if t.Rev < b.Srev || newer && t.Rev == b.Srev {
		return
	}
	opens := t.Erev > b.Erev && !m.lacks(noErev) || b.Off == 1 || m.lacks(noDigest) && t.Rev > b.Srev
	b.Srev = t.Rev
	if t.On == 0 {
		b.Off = 1
	} else {
		b.Off = 0
		if opens {
			real := t.Erev > b.Erev || s.Box.Off == 1
			m.opened(s)
			if !real && m.lacks(noDigest) {
				for i := range s.R { // it should not have been
					s.R[i].Opened = 0
				}
			}
		}
	}
	b.Erev = max(b.Erev, t.Erev)
}

// next enumerates everything that can happen.
func (m *runs) next(s *runState, emit func(stepOf[runState])) {
	m.writes(s, emit)
	step := func(good bool, label string, f func(n *runState)) {
		n := *s
		f(&n)
		if n != *s {
			emit(stepOf[runState]{s: n, label: label, good: good})
		}
	}
	for i := range s.T {
		if t := s.T[i]; t.Rev != 0 {
			step(true, m.text("switch tells of revision %d", t.Rev), func(n *runState) {
				n.T[i] = told{}
				m.tells(n, t, false)
			})
			step(false, m.text("switch of revision %d is LOST", t.Rev), func(n *runState) { n.T[i] = told{} })
		}
	}
	step(true, m.text("sweep tells of revision %d", s.Cfg.Rev), func(n *runState) {
		m.tells(n, told{Rev: s.Cfg.Rev, Erev: s.Cfg.Erev, On: s.Cfg.On}, true)
	})
	if s.Box.Gate != 0 {
		step(false, m.text("the gate runs out"), func(n *runState) { n.Box.Gate = 0 })
	}
	if s.Box.Owner != 0 && (s.Box.Owner == 3 || s.Spent.Lapse < m.Lapse) {
		step(true, m.text("the owner's lease ends"), func(n *runState) {
			if s.Box.Owner != 3 {
				n.Spent.Lapse++
			}
			n.Box.Owner = 0
		})
	}
	for i := range s.R {
		m.run(s, i, emit)
	}
	if s.Saved == 0 && s.Spent.Lose < m.Lose {
		step(false, m.text("a replica has {app} as it is now"), func(n *runState) { n.Saved, n.Backup = 1, s.Box })
	} else if s.Saved == 1 {
		step(false, m.text("FAILOVER: {app} loses its last writes"), func(n *runState) {
			n.Spent.Lose++
			n.Box, n.Saved, n.Backup = s.Backup, 0, gates{}
			if o := n.Box.Owner; o != 0 && (o == 3 || n.R[o-1].PC == rIdle) {
				n.Box.Owner = 3 // a run that ended
			}
		})
	}
}

// writes: the app is written. Each write reaches the mailbox, or is lost on the way.
func (m *runs) writes(s *runState, emit func(stepOf[runState])) {
	write := func(what string, f func(n *runState)) {
		n := *s
		n.Cfg.Rev++
		f(&n)
		for i := range n.T {
			if n.T[i].Rev == 0 {
				n.T[i] = told{Rev: n.Cfg.Rev, Erev: n.Cfg.Erev, On: n.Cfg.On}
				break
			}
		}
		emit(stepOf[runState]{s: n, label: m.text("%s: revision %d", what, n.Cfg.Rev)})
	}
	if s.Spent.URL < m.URL {
		write("new URL", func(n *runState) {
			n.Spent.URL++
			n.Cfg.Erev = n.Cfg.Rev
		})
	}
	if s.Spent.Rename < m.Rename {
		write("renamed", func(n *runState) { n.Spent.Rename++ })
	}
	if s.Spent.Switch < m.Switch {
		write([]string{"switched on", "switched off"}[s.Cfg.On], func(n *runState) {
			n.Spent.Switch++
			n.Cfg.Erev, n.Cfg.On = n.Cfg.Rev, 1-n.Cfg.On
		})
	}
	if s.Spent.Open < m.Open {
		n := *s
		n.Spent.Open++
		m.opened(&n)
		emit(stepOf[runState]{s: n, label: m.text("resumed or tested: opened")})
	}
}

// run enumerates what run i does.
func (m *runs) run(s *runState, i int, emit func(stepOf[runState])) {
	r := s.R[i]
	step := func(good bool, bad, f string, do func(n *runState, r *runOf)) {
		n := *s
		do(&n, &n.R[i])
		emit(stepOf[runState]{s: n, label: m.text("R%d "+f, i+1), good: good, bad: bad})
	}
	if r.PC >= rClaimed && s.Spent.Crash < m.Crash {
		step(false, "", "CRASHES", func(n *runState, r *runOf) {
			n.Spent.Crash++
			n.leave(i, 3)
			*r = runOf{}
		})
	}
	switch r.PC {
	case rIdle:
		if i == 1 && s.R[0].PC == rIdle {
			return
		}
		if m.lacks(noReadAfter) {
			step(false, "", "reads the settings", func(n *runState, r *runOf) { r.PC, r.Erev = rEarly, n.Cfg.Erev })
			return
		}
		m.begins(s, i, rClaimed, emit)
	case rEarly:
		m.begins(s, i, rReady, emit)
		step(true, "", "leaves", func(_ *runState, r *runOf) { *r = runOf{} })
	case rClaimed:
		if s.Cfg.On == 0 {
			step(true, "", "finds it off and gives it back", func(n *runState, r *runOf) {
				n.leave(i, 0)
				*r = runOf{}
			})
			return
		}
		step(true, "", "reads the settings", func(n *runState, r *runOf) { r.PC, r.Erev = rReady, n.Cfg.Erev })
	case rReady:
		bad := ""
		if r.Erev < r.Newest {
			bad = "a run posts to an older URL than was written before it claimed"
		}
		step(true, bad, "posts, is answered and gives it back", func(n *runState, r *runOf) {
			if n.Box.Owner == uint8(i+1) && n.Box.Oepoch == n.Box.Epoch {
				n.Box.Gate = 0
			}
			n.leave(i, 0)
			*r = runOf{}
		})
		step(false, bad, "posts, is answered and claims again", func(n *runState, r *runOf) {
			if n.Box.Owner != uint8(i+1) || n.Box.Oepoch != n.Box.Epoch && !m.lacks(noClaimOutdated) || n.Box.Off == 1 {
				n.leave(i, 0)
				*r = runOf{}
				return
			}
			r.Newest = n.Box.Erev // the settings are not read again: what the mailbox was told counts
		})
		if s.Spent.Fail < m.Fail {
			step(false, bad, "fails", func(n *runState, r *runOf) {
				n.Spent.Fail++
				r.PC = rFailed
			})
		}
		if s.Spent.Gone < m.Gone {
			step(false, bad, "is answered 410", func(n *runState, r *runOf) {
				n.Spent.Gone++
				r.PC = rGone
			})
		}
	case rFailed:
		m.finishes(s, i, step)
	default:
		m.switchesOff(s, i, step)
	}
}

// leave gives the mailbox back: it has no owner, or one that is gone.
func (s *runState) leave(i int, to uint8) {
	if s.Box.Owner == uint8(i+1) {
		s.Box.Owner = to
	}
	if s.Backup.Owner == uint8(i+1) {
		s.Backup.Owner = 3
	}
}

func (m *runs) begins(s *runState, i int, pc uint8, emit func(stepOf[runState])) {
	if b := &s.Box; b.Off == 1 || b.Gate != 0 || b.Owner != 0 {
		return
	}
	n := *s
	n.Box.Owner, n.Box.Oepoch = uint8(i+1), n.Box.Epoch
	n.R[i].PC, n.R[i].Newest, n.R[i].Opened = pc, s.Cfg.Erev, 0
	emit(stepOf[runState]{s: n, label: m.text("R%d begins and claims", i+1)})
}

type runStep func(good bool, bad, f string, do func(n *runState, r *runOf))

// finishes closes the gate, unless the run is outdated.
func (m *runs) finishes(s *runState, i int, step runStep) {
	r, b := s.R[i], &s.Box
	mine := b.Owner == uint8(i+1)
	closes := mine && (b.Oepoch == b.Epoch || m.lacks(noOutdated))
	bad := ""
	switch {
	case closes && b.Off == 0 && (r.Erev < b.Erev || r.Opened == 1) && s.Spent.Lose == 0: // off, it opens when it is switched on
		bad = "a run of an older endpoint closes the gate"
	case mine && !closes && r.Opened == 0 && s.Spent.Lose == 0:
		bad = "a write that leaves the endpoint alone keeps its gate open"
	}
	step(true, bad, "finishes, and closes the gate where it may", func(n *runState, r *runOf) {
		if closes {
			n.Box.Gate = r.Erev
		}
		n.leave(i, 0)
		*r = runOf{}
	})
}

// switchesOff reads the app, writes it, and finishes.
func (m *runs) switchesOff(s *runState, i int, step runStep) {
	r, b := s.R[i], &s.Box
	switch r.PC {
	case rGone:
		if r.Erev != s.Cfg.Erev && !m.lacks(noOffErev) {
			step(true, "", "switches nothing off: the endpoint is another", func(n *runState, r *runOf) { r.PC = rFailed })
			return
		}
		step(true, "", "reads the app to switch it off", func(n *runState, r *runOf) { r.PC, r.Rev = rGoneAgain, n.Cfg.Rev })
	case rGoneAgain:
		if r.Rev != s.Cfg.Rev && (!m.lacks(noOffErev) || r.Erev == s.Cfg.Erev) {
			if m.lacks(noOffRepeat) {
				bad := ""
				if r.Erev == s.Cfg.Erev {
					bad = "a 410 is unheard because of a write that leaves the endpoint alone"
				}
				step(true, bad, "switches nothing off: the app is another", func(n *runState, r *runOf) { r.PC = rFailed })
				return
			}
			step(true, "", "reads the app again", func(n *runState, r *runOf) { r.PC, r.Rev = rGone, 0 })
			return
		}
		bad := ""
		if r.Erev != s.Cfg.Erev {
			bad = "an endpoint is switched off for the answer of another"
		}
		step(true, bad, "switches the app off", func(n *runState, r *runOf) {
			n.Cfg.Rev++
			n.Cfg.Erev, n.Cfg.On = n.Cfg.Rev, 0
			r.PC, r.Rev = rOff, n.Cfg.Rev
		})
	case rOff:
		step(true, "", "finishes, and switches the mailbox off where it may", func(n *runState, r *runOf) {
			if b.Owner == uint8(i+1) && (b.Oepoch == b.Epoch || m.lacks(noOutdated)) && r.Rev >= b.Srev {
				n.Box.Off, n.Box.Srev, n.Box.Erev = 1, r.Rev, max(n.Box.Erev, r.Rev)
			}
			n.leave(i, 0)
			*r = runOf{}
		})
	}
}

// quiet: no run is in progress and the mailbox knows the newest settings.
func (m *runs) quiet(s *runState) bool {
	return s.R == [2]runOf{} && s.T == [nTold]told{} && s.Box.Srev >= s.Cfg.Rev && s.Box.Owner == 0
}

// stands names what is wrong with a state in which nothing is left to do.
func (m *runs) stands(s *runState) string {
	b := &s.Box
	switch {
	case b.Gate != 0 && b.Gate < b.Erev && b.Off == 0 && b.Srev >= s.Cfg.Rev:
		return "the gate of a new endpoint is closed because of an older one"
	case m.quiet(s) && b.Off == s.Cfg.On:
		return "the mailbox's switch is not as it is set"
	}
	return ""
}
