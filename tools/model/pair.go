package main

import "fmt"

// A pair is one app and one tenant with all that surrounds the app's mailbox: the four slots of Redis, the calls in progress, and
// what the app got. The mailbox itself is simpler here than in model: one slot, and no owners, gates or wake-ups.

// settings is the slot {config}: what it holds of the app.
type settings struct {
	Birth uint8 // revision of the write that made the app, 0: there is none
	Doc   uint8 // whose document it is: the revision at which its owner made it
	Gone  uint8 // revision of the deletion, 0: none that is remembered
	Rev   uint8 // the last revision given out
	Hears uint8 // the app has or had a URL
}

// truth is the slot {tenant}.
type truth struct {
	Top   uint8 // the highest sequence given out
	Mark  uint8 // a fan-out is pending
	Index uint8 // the app is in the index of approvals
}

// list is the slot {owed}: the pending fan-outs.
type list struct {
	Ticket, Last uint8 // the tenant's ticket, 0: not listed; the last one given out
	Notes        uint8 // bit per call that changes the approval and has not finished it
}

// box is the slot {app}.
type box struct {
	Birth, Ending   uint8 // the life it belongs to; it expires unless it comes back
	Approved, Asked uint8 // Asked: the mark's '*'
	Known           uint8
	Consent         uint8 // to whose document the approval was given; the program knows it as the life
	Wait, WaitVer   uint8 // the entry: its sequence and version
	Ver, Flight     uint8 // the last version; the tenant is in flight
	Former          uint8 // bit per birth whose approvals are still to be removed
}

// call is a call under way, in one of the processes.
type call struct {
	Kind, PC   uint8
	Life, Doc  uint8 // the app as the call read it
	Hears      uint8
	Top, Known uint8 // of the record, of the mailbox, as read
	Approved   uint8 // by the mailbox, as last looked
	Stale      uint8 // approvals were withdrawn since it counted dismissals
	Asked      uint8 // the mailbox's mark had a '*', as compared
	Ticket     uint8
	Note       uint8 // the notes that it settles
	Clears     uint8 // the former life that it clears away
}

// post is a notification on its way.
type post struct {
	PC, Seq, Ver uint8
	Life         uint8 // under which it was claimed
	Consent      uint8 // to whose document consent was given
	To           uint8 // whose URL it goes to
	Holds        uint8 // its claim is the tenant's
	Before       uint8 // it began before the status was requested again
	Old          uint8 // it was in progress when the mailbox lost its last writes, or claimed from what was left
}

const (
	nCalls = 3
	nPosts = 2
)

// pair is a state.
type pair struct {
	Cfg settings
	Ten truth
	Owe list
	Box box

	// what no failover takes back: the clocks, by which no sequence or revision is given out twice
	Seqs, Revs, Vers uint8

	C [nCalls]call
	P [nPosts]post

	// Was is a birth that a process with old settings still knows.
	Was uint8

	// what the owner of document Owner got, and what must still be delivered
	Owner, Heard, Need uint8
	// Behind: the mailbox lost its last writes and knows less than was delivered.
	Behind uint8
	// Granted is the life to which the customer's consent stands, 0 for none.
	Granted uint8

	// an earlier state of one slot
	Saved  uint8
	Backup backup

	Spent pairBudgets
}

// backup is the earlier state of a slot; the others stay empty.
type backup struct {
	Cfg settings
	Ten truth
	Owe list
	Box box
}

// The slots that may lose their last writes.
const (
	loseNone, loseConfig, loseTenant, loseOwed, loseApp = 0, 1, 2, 3, 4
)

func loseNames() []string { return []string{"", "{config}", "{tenant}", "{owed}", "{app}"} }

// pairBudgets count how often each thing happens.
type pairBudgets struct {
	Change, Approve, Dismiss, Resync, Make, Delete, Old, Put, URL, Crash, Fail, Fanout, Compare, Ask, Lose, Call uint8
}

// Phases of a post.
const (
	pNone, pClaimed, pOut, pTaken = 0, 1, 2, 3
)

// pairs is one world of a pair under one set of rules.
type pairs struct {
	pairBudgets // how often each may happen

	broken fault
	words  bool
	// lose is the slot that loses its last writes.
	lose uint8
	// app, approved: what there is at the start; mute: without a URL.
	app, approved, mute bool
	// noCompare: no comparison runs.
	noCompare bool
	// atOnce is how many calls may be under way.
	atOnce int
}

func (m *pairs) lacks(f fault) bool { return m.broken&f != 0 }

func (m *pairs) text(f string, a ...any) string {
	if !m.words {
		return ""
	}
	return fmt.Sprintf(f, a...)
}

func (m *pairs) say(on bool) { m.words = on }

func (m *pairs) initial() (s pair) {
	if m.app {
		s.Cfg = settings{Birth: 1, Doc: 1, Rev: 1, Hears: 1}
		s.Revs, s.Box.Birth = 1, 1
		if m.mute {
			s.Cfg.Hears = 0
		}
	}
	if m.approved {
		s.Box.Approved, s.Box.Consent, s.Ten.Index, s.Granted = 1, 1, 1, 1
	}
	return s
}

func (m *pairs) faulty(from, to *pair) bool { return from.Spent != to.Spent }

func (m *pairs) crosses(*pair, *stepOf[pair]) string { return "" }

// normalize forgets what no longer matters.
func (m *pairs) normalize(s *pair) {
	if m.lose != loseApp {
		v := s.Box.WaitVer
		for i := range s.P {
			if p := &s.P[i]; p.PC != pNone {
				p.Ver = bit(s.Box.Wait != 0 && p.Ver == v)
			}
		}
		s.Box.WaitVer = bit(s.Box.Wait != 0)
		s.Box.Ver, s.Vers = 1, 1
	}
	if m.lose != loseOwed {
		for i := range s.C {
			if c := &s.C[i]; c.Ticket != 0 && c.Ticket == s.Owe.Ticket {
				c.Ticket = 1
			} else if c.Ticket != 0 {
				c.Ticket = 7
			}
		}
		s.Owe.Ticket, s.Owe.Last = bit(s.Owe.Ticket != 0), 1
	}
	if s.Box.Approved == 0 {
		s.Need = 0
	}
	if s.Behind == 1 {
		caughtUp(s)
	}
	for i := 1; i < nCalls; i++ {
		for j := i; j > 0 && less(&s.C[j-1], &s.C[j]); j-- {
			s.C[j-1], s.C[j] = s.C[j], s.C[j-1]
		}
	}
	if less(&s.P[0], &s.P[1]) {
		s.P[0], s.P[1] = s.P[1], s.P[0]
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// The mailbox's scripts.

// Answers to a call under a birth.
const (
	ok, gone, unborn = 0, 1, 2
)

// under is how the mailbox answers a caller of that life.
func (m *pairs) under(s *pair, life uint8) int {
	switch {
	case life < s.Box.Birth:
		return gone
	case life > s.Box.Birth:
		return unborn
	}
	return ok
}

// life puts the mailbox's life aside where a newer one began or ended.
func (m *pairs) life(s *pair, birth uint8, ends bool) {
	if birth <= s.Box.Birth && !(ends && m.lacks(noEndOnce) && birth == s.Box.Birth) {
		return
	}
	if birth > s.Box.Birth {
		if s.Box.Approved == 1 {
			s.Box.Former |= 1 << birth
			dismissed(s)
		}
		m.empty(s)
	}
	s.Box.Birth, s.Box.Ending = birth, bit(ends)
}

// empty takes the approval and what waits; what is in flight stays so.
func (m *pairs) empty(s *pair) {
	b := &s.Box
	b.Approved, b.Asked, b.Known, b.Consent, b.Wait, b.WaitVer = 0, 0, 0, 0, 0, 0
}

// dismissed counts that an approval was withdrawn.
func dismissed(s *pair) {
	for i := range s.C {
		if c := &s.C[i]; c.Kind == cApprove {
			c.Stale = 1
		}
	}
}

func (m *pairs) admit(s *pair, c *call) {
	s.Box.Approved, s.Box.Asked, s.Box.Known, s.Box.Consent, s.Box.Ending = 1, 1, c.Top, c.Doc, 0
	s.Granted = c.Life
	m.ask(s)
}

// ask: the status must be delivered by a post that starts from now on.
func (m *pairs) ask(s *pair) {
	if s.Ten.Top == 0 {
		return
	}
	s.Need = 1
	for i := range s.P {
		if p := &s.P[i]; p.PC != pNone && p.PC != pClaimed {
			p.Before = 1
		}
	}
}

// deposit puts the record as of change top into the mailbox.
func (m *pairs) deposit(s *pair, top uint8) {
	b := &s.Box
	if b.Approved == 0 || top < b.Known || top == b.Known && b.Asked == 0 {
		return
	}
	b.Known, b.Asked = top, 0
	if top == 0 {
		return
	}
	b.Ver++
	if !m.lacks(noVersionClock) {
		b.Ver = max(b.Ver, s.Vers+1)
	}
	s.Vers = max(s.Vers, b.Ver)
	b.Wait, b.WaitVer = top, b.Ver
}

// caughtUp ends that what the app gets may go back: no post from before the loss is in progress, and the mailbox knows all that
// was delivered.
func caughtUp(s *pair) {
	for i := range s.P {
		if p := &s.P[i]; p.Old == 1 && p.PC != pTaken {
			return
		}
	}
	if b := &s.Box; b.Known >= s.Heard && (b.Wait == 0 || b.Wait >= s.Heard) {
		s.Behind = 0
	}
}

func (m *pairs) listed(s *pair) {
	s.Owe.Last++
	s.Owe.Ticket = s.Owe.Last
}
