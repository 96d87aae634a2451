package main

// frame is a state on the way of recovery's depth-first walk.
type frame struct {
	i    int
	next []int
	tick bool // the only step is that time passes
	k    int
	best int16
}

// recovery follows only what happens when nothing fails, from every state found: time passes when nothing else is left to do. It
// returns the most ticks until everything is delivered, or why that never happens, with the way to the state where it does not.
func recovery[S comparable](m system[S], q *store[S]) (ticks int, why string, path []string) {
	depth := make([]int16, q.n) // 0 unknown, -1 on the stack, else ticks + 1
	most := int16(0)
	for root := range q.n {
		if depth[root] != 0 {
			continue
		}
		f, why := calm(m, q, root)
		if why != "" {
			return -1, why, pathTo(m, q, root)
		}
		depth[root] = -1
		stack := []frame{f}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.k == len(top.next) {
				depth[top.i] = max(top.best, 1)
				most = max(most, depth[top.i])
				stack = stack[:len(stack)-1]
				continue
			}
			j := top.next[top.k]
			switch {
			case depth[j] == -1:
				return -1, "a cycle without faults that never settles", pathTo(m, q, j)
			case depth[j] == 0:
				g, why := calm(m, q, j)
				if why != "" {
					return -1, why, pathTo(m, q, j)
				}
				depth[j] = -1
				stack = append(stack, g)
			default:
				d := depth[j]
				if top.tick {
					d++
				}
				top.best = max(top.best, d)
				top.k++
			}
		}
	}
	return int(most) - 1, "", nil
}

// calm lists what can happen in a state when nothing fails.
func calm[S comparable](m system[S], q *store[S], i int) (f frame, why string) {
	s := *q.at(i)
	f = frame{i: i}
	tick := -1
	m.next(&s, func(e stepOf[S]) {
		m.normalize(&e.s)
		if e.tick {
			tick = q.find(&e.s, 0, false)
			return
		}
		if !e.good || e.s == s || m.faulty(&s, &e.s) {
			return
		}
		if j := q.find(&e.s, 0, false); j >= 0 {
			f.next = append(f.next, j)
		} else {
			why = "a step leaves the states that were found: " + e.label
		}
	})
	switch {
	case why != "" || len(f.next) > 0:
		return f, why
	case m.quiet(&s):
		f.best = 1
		return f, ""
	case tick < 0:
		return f, "nothing can happen and work is left"
	case tick == i:
		return f, "only time passes and work is left"
	}
	f.next, f.tick = []int{tick}, true
	return f, ""
}
