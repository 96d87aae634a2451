package main

import (
	"hash/maphash"
	"strings"
	"time"
	"unsafe"
)

// system is what a search explores: rules over states S, which have bytes only.
type system[S comparable] interface {
	initial() S
	// next enumerates everything that can happen in a state.
	next(s *S, emit func(stepOf[S]))
	// normalize forgets what no longer matters, so that equal situations are equal states.
	normalize(s *S)
	// stands names what is wrong with a state, whatever led there; crosses, with a step.
	stands(s *S) string
	crosses(from *S, e *stepOf[S]) string
	// quiet: nothing is left to do.
	quiet(s *S) bool
	// faulty: a step between these states uses up the budget of a fault.
	faulty(from, to *S) bool
	// say has the labels of steps formatted: only while a path is printed, for the search needs none.
	say(on bool)
}

// stepOf is one thing that can happen.
type stepOf[S comparable] struct {
	s     S
	label string
	good  bool // happens sooner or later when nothing fails
	tick  bool
	env   bool   // the world's doing, not a script's: it may leave work without a wake-up
	bad   string // what it violates
}

const chunk = 1 << 14

// store holds the states found, each once, in the order of their distance from the start.
type store[S comparable] struct {
	chunks [][]S
	parent []uint32
	table  []uint32
	seed   maphash.Seed
	n      int
}

func newStore[S comparable]() *store[S] {
	return &store[S]{table: make([]uint32, 1<<16), seed: maphash.MakeSeed()}
}

func (q *store[S]) at(i int) *S { return &q.chunks[i/chunk][i%chunk] }

func (q *store[S]) hash(s *S) uint64 {
	return maphash.Bytes(q.seed, unsafe.Slice((*byte)(unsafe.Pointer(s)), int(unsafe.Sizeof(*s))))
}

// find returns the index of s, adding it when it is new, and -1 when it is new and add is false.
func (q *store[S]) find(s *S, parent int, add bool) int {
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
		q.chunks = append(q.chunks, make([]S, chunk))
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

func (q *store[S]) grow() {
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

// result is what a search found.
type result struct {
	states, steps int
	// bad are the violations in the order they were found, path the way to the first.
	bad  []string
	path []string
	// ticks is how long it takes until everything is delivered once faults end, -1 when it was not measured.
	ticks int
	took  time.Duration
}

// explore visits every state of a system. progress is called now and then with the number of states found and of those that are
// still to be visited. A search that found a violation ends there. live also checks that everything is delivered once faults end.
func explore[S comparable](m system[S], live bool, progress func(states, ahead int)) result {
	began := time.Now()
	q := newStore[S]()
	init := m.initial()
	q.find(&init, 0, true)
	res := result{ticks: -1}
	for i := 0; i < q.n && len(res.bad) == 0; i++ {
		if i%chunk == 0 {
			progress(q.n, q.n-i)
		}
		s := *q.at(i)
		if bad := m.stands(&s); bad != "" {
			res.bad, res.path = append(res.bad, bad), pathTo(m, q, i)
			break
		}
		m.next(&s, func(e stepOf[S]) {
			res.steps++
			m.normalize(&e.s)
			if e.bad == "" {
				e.bad = m.crosses(&s, &e)
			}
			if e.bad == "" {
				q.find(&e.s, i, true)
				return
			}
			if len(res.bad) == 0 {
				res.path = append(pathTo(m, q, i), labelOf(m, &s, &e.s))
			}
			res.bad = append(res.bad, e.bad)
		})
	}
	res.states = q.n
	if live && len(res.bad) == 0 {
		var why string
		if res.ticks, why, res.path = recovery(m, q); why != "" {
			res.bad = append(res.bad, why)
		}
	}
	res.took = time.Since(began)
	return res
}

// pathTo tells the shortest way to a state.
func pathTo[S comparable](m system[S], q *store[S], i int) []string {
	var lines []string
	for ; i != 0; i = int(q.parent[i]) {
		from := *q.at(int(q.parent[i]))
		to := *q.at(i)
		lines = append(lines, labelOf(m, &from, &to))
	}
	for a, b := 0, len(lines)-1; a < b; a, b = a+1, b-1 {
		lines[a], lines[b] = lines[b], lines[a]
	}
	return lines
}

func labelOf[S comparable](m system[S], from, to *S) string {
	m.say(true)
	defer m.say(false)
	label := "?"
	m.next(from, func(e stepOf[S]) {
		m.normalize(&e.s)
		if label == "?" && e.s == *to {
			label = strings.TrimSpace(e.label)
		}
	})
	return label
}
