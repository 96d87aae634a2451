package main

func (m runs) search(broken fault, progress func(states, ahead int)) result {
	m.broken = broken
	return explore(system[runState](&m), true, progress)
}

func runWorlds() []namedWorld {
	w := func(name string, b runBudgets) namedWorld { return namedWorld{"runs: " + name, runs{runBudgets: b}} }
	return []namedWorld{
		w("new URL", runBudgets{URL: 2, Fail: 2, Lapse: 1, Crash: 1, Rename: 1}),
		w("opened", runBudgets{URL: 1, Open: 2, Fail: 2, Lapse: 1}),
		w("switched off", runBudgets{URL: 1, Switch: 2, Rename: 1, Fail: 1, Gone: 1}),
		w("renamed", runBudgets{Rename: 3, Fail: 2, Gone: 1, Switch: 1}),
		w("slot lost", runBudgets{URL: 1, Open: 1, Switch: 1, Fail: 1, Gone: 1, Lose: 1}),
	}
}

// runFaults are the rules of runs against settings.
func runFaults() []seeded {
	w := func(b runBudgets) world { return runs{runBudgets: b} }
	return []seeded{
		{bit: noOutdated, name: "outdated", what: "a run that began before an opening closes the gate (finding 6)", world: w(runBudgets{URL: 1, Fail: 1}), finds: "older endpoint closes"},
		{bit: noErev, name: "endpoint-revision", what: "switch opens no gate for a new URL", world: w(runBudgets{URL: 1, Fail: 1}), finds: "older"},
		{bit: noDigest, name: "digest", what: "each write of the app is an opening", world: w(runBudgets{Rename: 1, Fail: 1}), finds: "keeps its gate open"},
		{bit: noReadAfter, name: "read-after", what: "settings are read before the claim", world: w(runBudgets{URL: 1}), finds: "older URL"},
		{bit: noClaimOutdated, name: "claim-outdated", what: "a run that is outdated claims again", world: w(runBudgets{URL: 1}), finds: "older URL"},
		{bit: noOffErev, name: "off-endpoint", what: "a 410 switches off whatever endpoint there is", world: w(runBudgets{URL: 1, Gone: 1}), finds: "answer of another"},
		{bit: noOffRepeat, name: "off-repeat", what: "a 410 is dropped where somebody wrote the app meanwhile", world: w(runBudgets{Rename: 1, Gone: 1}), finds: "unheard"},
	}
}
