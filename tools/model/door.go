package main

import "fmt"

// The door takes changes of one tenant, several to a request. The caller sends one request at a time and
// repeats it under its key until each of its changes is answered. Without a key it does not repeat.

const (
	nLines    = 4
	nRequests = 2
)

// request is a request under way: the caller may have given it up.
type request struct {
	Batch  uint8 // number + 1, 0: none
	Line   uint8 // the change that is next
	Halt   uint8 // an earlier change of the tenant is undecided
	Failed uint8 // not every change was accepted
	Given  uint8 // the caller waits for it no more
}

// doorState is a state.
type doorState struct {
	Log     [2 * nLines]uint8 // the changes in the order in which they were accepted
	N       uint8
	Answers uint8 // bit per change whose answer is kept under its key
	Last    uint8 // the change whose call the record remembers
	Batch   uint8 // which the caller is at
	R       [nRequests]request
	Wire    uint8 // a copy of this change is still on its way
	Spent   doorBudgets
}

// doorBudgets count faults: a change refused for a moment, an answer lost, a copy late, a caller who
// gives up, a process that dies.
type doorBudgets struct{ Refuse, Lost, Late, GiveUp, Crash uint8 }

// door is one world of the door under one set of rules.
type door struct {
	doorBudgets

	batches []uint8 // how many changes each request has
	keyless bool    // the caller gives no keys
	broken  fault
	words   bool
}

func (m *door) lacks(f fault) bool { return m.broken&f != 0 }

func (m *door) text(f string, a ...any) string {
	if !m.words {
		return ""
	}
	return fmt.Sprintf(f, a...)
}

func (m *door) say(on bool) { m.words = on }

func (m *door) initial() doorState { return doorState{} }

func (m *door) faulty(from, to *doorState) bool { return from.Spent != to.Spent }

func (m *door) crosses(*doorState, *stepOf[doorState]) string { return "" }

func (m *door) normalize(s *doorState) {
	if less(&s.R[0], &s.R[1]) {
		s.R[0], s.R[1] = s.R[1], s.R[0]
	}
}

// first is the first change of a request.
func (m *door) first(batch uint8) (line uint8) {
	line = 1
	for _, n := range m.batches[:batch] {
		line += n
	}
	return line
}

// accept is accept.lua.
func (m *door) accept(s *doorState, line uint8) {
	kept := s.Answers&(1<<line) != 0
	if m.lacks(noAnswerKept) && m.keyless {
		kept = s.Last == line
	}
	if kept {
		return
	}
	if int(s.N) < len(s.Log) {
		s.Log[s.N] = line
		s.N++
	}
	s.Answers |= 1 << line
	s.Last = line
}

func (m *door) next(s *doorState, emit func(stepOf[doorState])) {
	step := func(good bool, label string, f func(n *doorState)) {
		n := *s
		f(&n)
		emit(stepOf[doorState]{s: n, label: label, good: good})
	}
	waits := false
	for i := range s.R {
		if s.R[i].Batch != 0 {
			waits = waits || s.R[i].Given == 0
			m.request(s, i, step)
		}
	}
	if s.Wire != 0 {
		step(true, m.text("LATE COPY of change %d", s.Wire), func(n *doorState) {
			n.Wire = 0
			m.accept(n, s.Wire)
		})
	}
	if waits || int(s.Batch) == len(m.batches) {
		return
	}
	for i := range s.R {
		if s.R[i].Batch == 0 {
			step(true, m.text("the caller sends request %d", s.Batch+1), func(n *doorState) {
				n.R[i] = request{Batch: s.Batch + 1, Line: m.first(s.Batch)}
			})
			return
		}
	}
}

// request enumerates what becomes of a request.
func (m *door) request(s *doorState, i int, step func(good bool, label string, f func(n *doorState))) {
	r := s.R[i]
	if s.Spent.Crash < m.Crash {
		step(false, m.text("request %d: its process DIES", r.Batch), func(n *doorState) {
			n.Spent.Crash++
			n.R[i] = request{}
		})
	}
	applied := s.Answers&(1<<r.Line) != 0
	if r.Given == 0 && s.Spent.GiveUp < m.GiveUp && (!m.keyless || applied) {
		step(false, m.text("request %d: the caller waits no more", r.Batch), func(n *doorState) {
			n.Spent.GiveUp++
			n.R[i].Given = 1
			if m.keyless {
				n.Batch++
			}
		})
	}
	if r.Line == m.first(r.Batch) { // the one behind the last
		step(true, m.text("request %d is answered, failed: %d", r.Batch, r.Failed), func(n *doorState) {
			n.R[i] = request{}
			if r.Given == 0 && (r.Failed == 0 || m.keyless) {
				n.Batch++
			}
		})
		return
	}
	on := func(n *doorState, failed bool) {
		q := &n.R[i]
		q.Line++
		if failed {
			q.Halt, q.Failed = 1, 1
		}
	}
	if r.Halt == 1 && !m.lacks(noHalt) {
		step(true, m.text("request %d: change %d is refused behind one that is undecided", r.Batch, r.Line), func(n *doorState) { on(n, true) })
		return
	}
	step(true, m.text("request %d: change %d is accepted", r.Batch, r.Line), func(n *doorState) {
		m.accept(n, r.Line)
		on(n, false)
	})
	if s.Spent.Refuse < m.Refuse {
		step(false, m.text("request %d: change %d meets an error", r.Batch, r.Line), func(n *doorState) {
			n.Spent.Refuse++
			on(n, true)
		})
		if s.Wire == 0 && s.Spent.Late < m.Late && !m.keyless {
			step(false, m.text("request %d: change %d times out, a copy of it stays on the wire", r.Batch, r.Line), func(n *doorState) {
				n.Spent.Refuse++
				n.Spent.Late++
				n.Wire = r.Line
				on(n, true)
			})
		}
	}
	if s.Spent.Lost < m.Lost {
		step(false, m.text("request %d: change %d is accepted, ANSWER LOST", r.Batch, r.Line), func(n *doorState) {
			n.Spent.Lost++
			m.accept(n, r.Line)
			on(n, true)
		})
		step(false, m.text("request %d: change %d is accepted, ANSWER LOST, and is sent again", r.Batch, r.Line), func(n *doorState) {
			n.Spent.Lost++
			m.accept(n, r.Line)
		})
	}
}

func (m *door) quiet(s *doorState) bool {
	return s.R == [nRequests]request{} && s.Wire == 0 && int(s.Batch) == len(m.batches)
}

// stands: changes are accepted once, in the caller's order.
func (m *door) stands(s *doorState) string {
	for i := 1; i < int(s.N); i++ {
		if s.Log[i] <= s.Log[i-1] {
			return "an older change is accepted behind a newer one"
		}
	}
	if m.quiet(s) && !m.keyless && s.N != m.first(uint8(len(m.batches)))-1 {
		return "a change is lost"
	}
	return ""
}

func (m door) search(broken fault, progress func(states, ahead int)) result {
	m.broken = broken
	return explore(system[doorState](&m), true, progress)
}

func doorWorlds() []namedWorld {
	all := doorBudgets{Refuse: 2, Lost: 2, Late: 1, GiveUp: 1, Crash: 1}
	return []namedWorld{
		{"door: a batch and a change", door{doorBudgets: all, batches: []uint8{3, 1}}},
		{"door: two batches", door{doorBudgets: all, batches: []uint8{2, 2}}},
		{"door: without keys", door{doorBudgets: all, batches: []uint8{1, 1, 1}, keyless: true}},
	}
}

// doorFaults are the door's rules.
func doorFaults() []seeded {
	return []seeded{
		{bit: noHalt, name: "door-order", what: "a change is taken behind one of its request that is undecided", world: door{doorBudgets: doorBudgets{Refuse: 1}, batches: []uint8{2}}, finds: "behind a newer"},
		{bit: noAnswerKept, name: "door-answer", what: "the record remembers one call, for changes without a key", world: door{doorBudgets: doorBudgets{Lost: 1, GiveUp: 1}, batches: []uint8{1, 1}, keyless: true}, finds: "behind a newer"},
	}
}
