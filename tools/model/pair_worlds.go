package main

func (m pairs) search(broken fault, progress func(states, ahead int)) result {
	m.broken = broken
	return explore(system[pair](&m), true, progress)
}

// pairOf is a world of an app that hears and a tenant that approved it, changed by f.
func pairOf(f func(m *pairs)) pairs {
	m := pairs{app: true, approved: true, noCompare: true}
	f(&m)
	return m
}

func pairWorlds() []namedWorld {
	w := func(name string, f func(m *pairs)) namedWorld { return namedWorld{"pair: " + name, pairOf(f)} }
	return []namedWorld{
		w("changes", func(m *pairs) { m.Change, m.Fail, m.Fanout = 2, 1, 1 }),
		w("approvals", func(m *pairs) { m.approved = false; m.Change, m.Approve, m.Dismiss, m.Crash = 1, 1, 1, 1 }),
		w("approvals race", func(m *pairs) { m.Change, m.Approve, m.Dismiss, m.Crash = 1, 2, 1, 1 }),
		w("life", func(m *pairs) { m.Change, m.Approve, m.Make, m.Delete = 1, 1, 1, 1 }),
	}
}

// pairFaults are the rules of a pair.
func pairFaults() []seeded {
	return nil
}
