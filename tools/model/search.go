package main

import (
	"bytes"
	"hash/maphash"
	"strings"
	"time"
	"unsafe"
)

const chunk = 1 << 14

// store holds the states found, each once, in the order of their distance from the start.
type store struct {
	chunks [][]state
	parent []uint32
	table  []uint32
	seed   maphash.Seed
	n      int
}

func newStore() *store {
	return &store{table: make([]uint32, 1<<16), seed: maphash.MakeSeed()}
}

func (q *store) at(i int) *state { return &q.chunks[i/chunk][i%chunk] }

func (q *store) hash(s *state) uint64 {
	return maphash.Bytes(q.seed, unsafe.Slice((*byte)(unsafe.Pointer(s)), int(unsafe.Sizeof(*s))))
}

// find returns the index of s, adding it when it is new, and -1 when it is new and add is false.
func (q *store) find(s *state, parent int, add bool) int {
	mask := uint64(len(q.table) - 1)
	i := q.hash(s) & mask
	for q.table[i] != 0 {
		if *q.at(int(q.table[i] - 1)) == *s {
			return int(q.table[i] - 1)
		}
		i = (i + 1) & mask
	}
	if !add {
		return -1
	}
	if q.n%chunk == 0 {
		q.chunks = append(q.chunks, make([]state, chunk))
	}
	*q.at(q.n) = *s
	q.parent = append(q.parent, uint32(parent))
	q.n++
	q.table[i] = uint32(q.n)
	if q.n*2 > len(q.table) {
		q.grow()
	}
	return q.n - 1
}

func (q *store) grow() {
	q.table = make([]uint32, 2*len(q.table))
	mask := uint64(len(q.table) - 1)
	for k := range q.n {
		i := q.hash(q.at(k)) & mask
		for q.table[i] != 0 {
			i = (i + 1) & mask
		}
		q.table[i] = uint32(k + 1)
	}
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
	x := unsafe.Slice((*byte)(unsafe.Pointer(&a)), int(unsafe.Sizeof(a)))
	y := unsafe.Slice((*byte)(unsafe.Pointer(&b)), int(unsafe.Sizeof(b)))
	if bytes.Compare(x, y) >= 0 {
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

// result is what a search found.
type result struct {
	states, steps int
	// bad are the violations in the order they were found, path the way to the first.
	bad  []string
	path []string
	// ticks is how long everything takes to be told once faults end, -1 when it was not asked.
	ticks int
	took  time.Duration
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

// explore visits every state. progress is called now and then with the number of states found and
// of those that are still to be visited. A search that found a violation ends there.
func (m *model) explore(progress func(states, ahead int)) result {
	began := time.Now()
	q := newStore()
	init := start(m.tenants)
	q.find(&init, 0, true)
	res := result{ticks: -1}
	for i := 0; i < q.n && len(res.bad) == 0; i++ {
		if i%chunk == 0 {
			progress(q.n, q.n-i)
		}
		s := *q.at(i)
		if bad := m.stands(&s); bad != "" {
			res.bad, res.path = append(res.bad, bad), m.path(q, i)
			break
		}
		awake := m.awake(&s)
		m.next(&s, func(e step) {
			res.steps++
			m.normalize(&e.s)
			if e.bad == "" && !e.env && awake && !m.awake(&e.s) {
				e.bad = "a script leaves work without owner or wake-up"
			}
			if e.bad == "" && e.s.Stray > 0 {
				e.bad = "a wake-up task is left behind"
			}
			if e.bad == "" {
				q.find(&e.s, i, true)
				return
			}
			if len(res.bad) == 0 {
				m.words = true
				res.path = append(m.path(q, i), m.label(&s, &e.s))
				m.words = false
			}
			res.bad = append(res.bad, e.bad)
		})
	}
	res.states = q.n
	if m.live && len(res.bad) == 0 {
		var why string
		if res.ticks, why, res.path = m.recovery(q); why != "" {
			res.bad = append(res.bad, why)
		}
	}
	res.took = time.Since(began)
	return res
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

// awake: something waits, so the endpoint is off, somebody owns the mailbox, or a wake-up comes in time.
func (m *model) awake(s *state) bool {
	x := s.first()
	if x == absent || s.Off == 1 || s.OwnerLeft > 0 {
		return true
	}
	at := max(x, int8(s.Gate))
	return m.far(at) || m.armed(s, at)
}

// path tells the shortest way to a state.
func (m *model) path(q *store, i int) []string {
	m.words = true
	defer func() { m.words = false }()
	var lines []string
	for ; i != 0; i = int(q.parent[i]) {
		from := *q.at(int(q.parent[i]))
		to := *q.at(i)
		lines = append(lines, m.label(&from, &to))
	}
	for a, b := 0, len(lines)-1; a < b; a, b = a+1, b-1 {
		lines[a], lines[b] = lines[b], lines[a]
	}
	return lines
}

func (m *model) label(from, to *state) string {
	label := "?"
	m.next(from, func(e step) {
		m.normalize(&e.s)
		if label == "?" && e.s == *to {
			label = strings.TrimSpace(e.label)
		}
	})
	return label
}
