package main

func (m pairs) search(broken fault, progress func(states, ahead int)) result {
	m.broken = broken
	return explore(system[pair](&m), true, progress)
}

// pairOf is a world of an app that has a URL and a tenant that approved it, changed by f. No comparison runs: what it would heal
// must not happen.
func pairOf(f func(m *pairs)) pairs {
	m := pairs{app: true, approved: true, noCompare: true, atOnce: nCalls}
	f(&m)
	return m
}

// lossOf is such a world where one slot loses its last writes, and the comparison heals.
func lossOf(slot uint8, f func(m *pairs)) pairs {
	m := pairs{app: true, approved: true, lose: slot, atOnce: nCalls}
	m.Lose = 1
	f(&m)
	return m
}

func pairWorlds() []namedWorld {
	w := func(name string, f func(m *pairs)) namedWorld { return namedWorld{"pair: " + name, pairOf(f)} }
	loss := func(name string, slot uint8, f func(m *pairs)) namedWorld {
		return namedWorld{"loss: " + name, lossOf(slot, f)}
	}
	return []namedWorld{
		w("changes", func(m *pairs) { m.Change, m.Fail, m.Fanout = 3, 1, 1 }),
		w("approvals, crash", func(m *pairs) { m.approved = false; m.Change, m.Approve, m.Dismiss, m.Crash = 1, 1, 1, 1 }),
		w("approvals race", func(m *pairs) { m.approved = false; m.Change, m.Approve, m.Dismiss = 1, 2, 1 }),
		w("life", func(m *pairs) { m.Change, m.Approve, m.Make, m.Delete = 1, 1, 1, 1 }),
		w("life, crash", func(m *pairs) { m.Approve, m.Dismiss, m.Make, m.Delete, m.Crash = 1, 1, 1, 1, 1 }),
		w("lives", func(m *pairs) { m.approved = false; m.Approve, m.Make, m.Delete, m.Put = 2, 2, 2, 1 }),
		w("life, older version", func(m *pairs) { m.Approve, m.Make, m.Old, m.Delete, m.Crash = 1, 1, 1, 1, 1 }),
		w("resync", func(m *pairs) { m.Change, m.Fail, m.Resync, m.Delete, m.Make = 1, 1, 1, 1, 1 }),
		w("in step", func(m *pairs) { m.Change, m.Fail, m.Ask, m.Resync = 2, 1, 1, 1 }),
		w("in step, approvals", func(m *pairs) { m.Change, m.Ask, m.Approve, m.Dismiss = 1, 1, 1, 1 }),
		w("first URL", func(m *pairs) {
			m.noCompare, m.mute, m.approved = false, true, false
			m.Change, m.Approve, m.URL, m.Crash = 1, 1, 1, 1
		}),
		w("comparison", func(m *pairs) {
			m.noCompare = false
			m.Change, m.Approve, m.Dismiss, m.Compare, m.atOnce = 1, 1, 1, 1, 2
		}),
		loss("app", loseApp, func(m *pairs) { m.Change, m.Fail = 2, 1 }),
		loss("app, approvals", loseApp, func(m *pairs) { m.Change, m.Approve, m.Dismiss, m.atOnce = 1, 1, 1, 2 }),
		loss("app, life", loseApp, func(m *pairs) { m.Change, m.Approve, m.Delete, m.Make, m.atOnce = 1, 1, 1, 1, 2 }),
		loss("tenant", loseTenant, func(m *pairs) { m.Change, m.Ask = 2, 1 }),
		loss("tenant, approvals", loseTenant, func(m *pairs) { m.Change, m.Approve, m.Dismiss, m.atOnce = 1, 1, 1, 2 }),
		loss("owed", loseOwed, func(m *pairs) { m.Change, m.Crash = 2, 1 }),
		loss("owed, approvals", loseOwed, func(m *pairs) { m.Approve, m.Dismiss, m.Crash, m.atOnce = 1, 1, 1, 2 }),
		loss("config, life", loseConfig, func(m *pairs) { m.Change, m.Approve, m.Delete, m.Make, m.atOnce = 1, 1, 1, 1, 2 }),
		loss("config, first URL", loseConfig, func(m *pairs) { m.mute, m.approved = true, false; m.Change, m.Approve, m.URL = 1, 1, 1 }),
	}
}

// pairFaults are the rules of a pair.
func pairFaults() []seeded {
	w := func(f func(m *pairs)) world { return pairOf(f) }
	loss := func(slot uint8, f func(m *pairs)) world { return lossOf(slot, f) }
	lives := func(f func(m *pairs)) world {
		return w(func(m *pairs) {
			m.Delete, m.Make = 1, 1
			f(m)
		})
	}
	return []seeded{
		{bit: noBirth, name: "birth", what: "a call of a former life writes (finding 19)", world: lives(func(m *pairs) { m.approved = false; m.Approve = 1 }), finds: "outlives its app"},
		{bit: noConsent, name: "consent", what: "an approval that is answered GONE goes on in the new life", world: lives(func(m *pairs) { m.approved = false; m.Approve, m.Change = 1, 1 }), finds: "another's app"},
		{bit: noLook, name: "look", what: "clearing away a former life does not look again (finding 12)", world: lives(func(m *pairs) { m.Approve, m.Change = 1, 1 }), finds: "index"},
		{bit: noRefresh, name: "refresh", what: "a fan-out takes GONE for told", world: lives(func(m *pairs) { m.Approve, m.Change = 1, 1 }), finds: "not told"},
		{bit: noClaimLife, name: "claim-life", what: "a run posts what it claimed under a former life", world: lives(func(m *pairs) { m.Change = 1 }), finds: "another's app"},
		{bit: noComing, name: "coming", what: "making an app clears away whatever is there (finding 5)", world: w(func(m *pairs) { m.app, m.approved = false, false; m.Make, m.Put, m.Approve = 1, 1, 1 }), finds: "approval is lost"},
		{bit: noEndOnce, name: "end-once", what: "a repeated deletion has a mailbox of the same life expire", world: w(func(m *pairs) { m.approved = false; m.Approve, m.Old, m.Delete, m.Crash = 1, 1, 1, 1 }), finds: "approval is lost"},
		{bit: noFormerKept, name: "former-kept", what: "a mailbox expires with former lives to be cleared away", world: w(func(m *pairs) { m.Delete = 1 }), finds: "index"},
		{bit: noListAgain, name: "list-again", what: "a change whose answer is lost is not listed again (finding 14)", world: w(func(m *pairs) { m.Change = 2 }), finds: "listed nowhere"},
		{bit: noTicketFirst, name: "ticket", what: "a fan-out strikes its tenant off whatever ticket it has by then", world: w(func(m *pairs) { m.Change = 2 }), finds: "listed nowhere"},
		{bit: noMarkCompare, name: "marks", what: "nobody compares marks with the list (finding 14)", world: loss(loseOwed, func(m *pairs) { m.Change = 1 }), finds: "listed nowhere"},
		{bit: noIndexCompare, name: "index", what: "nobody compares the index", world: loss(loseTenant, func(m *pairs) { m.approved = false; m.Approve = 1 }), finds: "index"},
		{bit: noKnownCompare, name: "known", what: "nobody compares what is known with the top (finding 17)", world: loss(loseApp, func(m *pairs) { m.Change = 1 }), finds: "not told"},
		{bit: noStarCompare, name: "star", what: "nobody compares marks '*' with the entries (finding 11)", world: pairs{pairBudgets: pairBudgets{URL: 1, Change: 1, Approve: 1}, app: true, mute: true, atOnce: nCalls}, finds: "not told"},
		{bit: noRaise, name: "raise", what: "a record that lost its last change keeps its sequence", world: loss(loseTenant, func(m *pairs) { m.Change = 2 }), finds: "not told"},
		{bit: noVersionClock, name: "version-clock", what: "versions do not follow the clock", world: loss(loseApp, func(m *pairs) { m.Change = 2 }), finds: "not told"},
		{bit: noFreshBirth, name: "fresh-birth", what: "settings that lost a life get that of the mailbox", world: loss(loseConfig, func(m *pairs) { m.approved, m.atOnce = false, 1; m.Approve, m.Delete, m.Make, m.Change = 1, 1, 1, 1 }), finds: "another's app"},
		{bit: noWaitBelow, name: "in-step", what: "in_step looks at the change's own entry (finding 7)", world: w(func(m *pairs) { m.Change, m.Ask = 2, 1 }), finds: "in_step"},
	}
}
