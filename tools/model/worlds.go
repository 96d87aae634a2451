package main

import "slices"

// limits size a world: how much there is of everything, and how often each fault may happen.
type limits struct {
	budgets

	tenants, jobs int
	changes       [nTenants]int
	kinds         [nTenants][]uint8
	// in ticks: claim's lease, request timeout, owner's lease, a wake-up's grace, back-off, gate
	entryLease, timeout, ownerLease, grace, backoff, gate int8
	// horizon: no wake-up is armed further ahead; 0 for any
	horizon int8
	// noStray leaves out tasks without a wake-up
	noStray bool
	// countStray reports wake-up tasks that are left behind
	countStray bool
	// probes is how many posts an unproved endpoint gets at once, pause whether its gate may close because the endpoint asked for
	// a pause
	probes int
	pause  bool
	// live also checks that everything is delivered once faults end
	live bool
}

func status() []uint8 { return []uint8{kStatus} }
func three() []uint8  { return []uint8{kStatus, kMove, kDelete} }
func four() []uint8   { return []uint8{kStatus, kMove, kRestore, kDelete} }

// world is what can be searched, with all rules or without some.
type world interface {
	search(broken fault, progress func(states, ahead int)) result
}

func (l limits) search(broken fault, progress func(states, ahead int)) result {
	m := &model{limits: l, broken: broken}
	return explore(system[state](m), l.live, progress)
}

// mailbox is one tenant with two changes of its status and the shortest times, changed by f.
func mailbox(f func(l *limits)) limits {
	l := limits{
		tenants: 1, jobs: 1, changes: [nTenants]int{2, 0}, kinds: [nTenants][]uint8{status(), status()},
		entryLease: 2, timeout: 1, ownerLease: 1, grace: 1, backoff: 1, gate: 1, probes: 1,
	}
	f(&l)
	return l
}

// slow gives the leases more ticks, so that more fits between them.
func slow(l *limits) { l.entryLease, l.ownerLease, l.grace, l.backoff, l.gate = 3, 2, 2, 2, 2 }

// namedWorld is one of those that `make model` explores to the end.
type namedWorld struct {
	name string
	world
}

func worlds() []namedWorld {
	w := func(name string, f func(l *limits)) namedWorld { return namedWorld{name, mailbox(f)} }
	return append([]namedWorld{
		w("statuses", func(l *limits) { l.changes[0] = 3; l.Crash, l.Task, l.Fail, l.live = 1, 1, 1, true }),
		w("kinds, repeats", func(l *limits) { l.kinds[0] = four(); l.Repeat, l.live = 1, true }),
		w("kinds, crash", func(l *limits) { l.changes[0] = 3; l.kinds[0] = three(); l.Crash, l.noStray, l.live = 1, true, true }),
		w("two posts", func(l *limits) { l.jobs = 2; l.Crash, l.noStray, l.live = 1, true, true }),
		w("resync", func(l *limits) { l.kinds[0] = three(); l.Resync, l.Crash, l.noStray, l.live = 1, 1, true, true }),
		w("dismissal", func(l *limits) { l.Dismiss, l.Repeat, l.live = 1, 1, true }),
		w("approval and dismissal race", func(l *limits) {
			l.Dismiss, l.Approve, l.Repeat, l.noStray, l.live = 1, 1, 1, true, true
		}),
		w("approvals and dismissals", func(l *limits) {
			l.changes[0] = 1
			l.Dismiss, l.Approve, l.Resync, l.noStray, l.live = 2, 2, 1, true, true
		}),
		w("approval, another dismissed", func(l *limits) {
			l.tenants = 2
			l.changes = [nTenants]int{1, 1}
			l.Dismiss, l.Approve, l.noStray = 1, 1, true
		}),
		w("app deleted, back", func(l *limits) { l.Delete, l.Repeat, l.Crash, l.noStray, l.live = 1, 1, 1, true, true }),
		w("late copy", func(l *limits) { l.changes[0] = 3; l.Late, l.Fail, l.noStray, l.live = 1, 1, true, true }),
		w("answers lost", func(l *limits) { l.Lost, l.Crash, l.Task, l.live = 2, 1, 1, true }),
		w("resync, answers lost", func(l *limits) { l.Lost, l.Resync, l.noStray, l.live = 2, 1, true, true }),
		w("gate, answers lost", func(l *limits) { l.Gate, l.Lost, l.Fail, l.Task, l.live = 2, 1, 1, 1, true }),
		w("gate, refusals", func(l *limits) { l.Gate, l.Refuse, l.Fail, l.Crash, l.live = 2, 2, 1, 1, true }),
		w("gate opened", func(l *limits) { l.Gate, l.Open, l.Fail, l.Crash, l.live = 2, 1, 1, 1, true }),
		w("off and on", func(l *limits) { l.Off, l.Crash, l.Gate, l.live = 2, 1, 1, true }),
		w("slow clock", func(l *limits) { slow(l); l.Crash, l.Task, l.Fail, l.live = 1, 1, 1, true }),
		w("horizon", func(l *limits) { slow(l); l.horizon = 1; l.Crash, l.Fail, l.Task, l.Gate, l.live = 1, 1, 1, 1, true }),
		w("two tenants", func(l *limits) {
			l.tenants = 2
			l.changes = [nTenants]int{2, 1}
			l.Crash, l.noStray, l.live = 1, true, true
		}),
		w("two tenants, gate, two posts", func(l *limits) {
			l.tenants, l.jobs = 2, 2
			l.changes = [nTenants]int{1, 1}
			l.Gate, l.noStray, l.live = 1, true, true
		}),
		w("two tenants, rounds of two", func(l *limits) {
			l.tenants, l.jobs, l.probes = 2, 2, 2
			l.changes = [nTenants]int{1, 1}
			l.Gate, l.Fail, l.noStray, l.live = 1, 1, true, true
		}),
		w("pauses", func(l *limits) { l.pause = true; l.Gate, l.Fail, l.Lost, l.Task, l.live = 2, 1, 1, 1, true }),
		w("recalls", func(l *limits) { slow(l); l.Gate, l.Open, l.Recall, l.Fail, l.noStray, l.live = 1, 1, 2, 2, true, true }),
		w("two tenants, answers lost", func(l *limits) {
			l.tenants = 2
			l.changes = [nTenants]int{1, 1}
			l.Lost, l.noStray, l.live = 1, true, true
		}),
	}, slices.Concat(doorWorlds(), pairWorlds(), runWorlds())...)
}
