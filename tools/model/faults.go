package main

import "slices"

// fault is a rule taken away.
type fault uint64

// The rules that can be taken away, one bit each.
const (
	noFence fault = 1 << iota
	noVersion
	noFloor
	noApprovals
	noFlightKept
	noEpoch
	noPersist
	noMemory
	noRepeat
	noConsumed
	noForward
	noFresh
	noHandsOff
	noSame
	noVanished
	noLateAck
	noOtherSlots
	noFinishArms
	noStartBy
	noOwnerRule
	noOffFlag
	noOwnSlots
	noSecondSlot
	noTop
	noWell
	noProbe
	noRound
	noFlightLeft
	noSweep

	// those of what lies around the mailbox
	noBirth
	noConsent
	noLook
	noTicketFirst
	noRefresh
	noClaimLife
	noComing
	noEndOnce
	noFormerKept
	noListAgain
	noIndexCompare
	noKnownCompare
	noStarCompare
	noMarkCompare
	noRaise
	noVersionClock
	noFreshBirth
	noWaitBelow
	noErev
	noDigest
	noReadAfter
	noClaimOutdated
	noOutdated
	noOffErev
	noOffRepeat
	noHalt
	noAnswerKept
)

// seeded is a fault with the world that shows it and a part of the violation's name.
type seeded struct {
	bit        fault
	name, what string
	world      world
	finds      string
	// slower: nothing breaks, but it takes longer until everything is told.
	slower bool
}

// seededFaults lists what -break takes.
func seededFaults() []seeded {
	w := func(f func(l *limits)) limits { return mailbox(f) }
	plain := w(func(*limits) {})
	return append(slices.Concat(doorFaults(), pairFaults(), runFaults()), []seeded{
		{bit: noFence, name: "fence", what: "a result moves its tenant although another claim stands", world: w(func(l *limits) { l.Late = 1 }), finds: "without owner or wake-up"},
		{bit: noVersion, name: "version", what: "an acknowledgement compares sequences, not versions", world: w(func(l *limits) { l.Resync = 1 }), finds: "did not post again"},
		{bit: noFloor, name: "floor", what: "an approval remembers no top", world: w(func(l *limits) { l.Dismiss, l.Repeat = 1, 1 }), finds: "backwards"},
		{bit: noApprovals, name: "approvals", what: "the mailbox takes deposits for tenants that are not approved", world: w(func(l *limits) { l.Dismiss, l.Repeat = 1, 1 }), finds: "not approved"},
		{bit: noFlightKept, name: "flight", what: "a dismissal forgets what is in flight", world: w(func(l *limits) { l.Dismiss = 1 }), finds: "two posts"},
		{bit: noEpoch, name: "epoch", what: "an approval admits with a top read before a dismissal", world: w(func(l *limits) { l.Dismiss, l.Approve, l.noStray = 1, 1, true }), finds: "backwards"},
		{bit: noPersist, name: "persist", what: "the keys of a deleted app expire although it is back", world: w(func(l *limits) { l.Delete, l.Crash, l.noStray = 1, 1, true; l.changes[0] = 1 }), finds: "nobody will ever look for"},
		{bit: noMemory, name: "memory", what: "the mailbox remembers nothing that was delivered", world: plain, finds: "backwards"},
		{bit: noRepeat, name: "repeat", what: "a repeated call does not get the wake-up that its first run armed", world: w(func(l *limits) {
			slow(l)
			l.grace = 4
			l.Gate, l.Lost, l.Fail, l.live = 1, 1, 1, true
			l.changes[0] = 1
		}), slower: true},
		{bit: noConsumed, name: "consumed", what: "a repeat is answered with a wake-up that was consumed", world: w(func(l *limits) { l.Lost, l.Resync, l.noStray = 1, 1, true; l.changes[0] = 1 }), finds: "without owner or wake-up"},
		{bit: noForward, name: "forward", what: "a deposit leaves its tenant in back-off", world: w(func(l *limits) { slow(l); l.Fail, l.noStray = 1, true }), finds: "newer truth"},
		{bit: noFresh, name: "fresh", what: "the failure of a replaced entry puts the newer one in back-off", world: w(func(l *limits) { slow(l); l.Fail, l.noStray = 1, true }), finds: "newer truth"},
		{bit: noHandsOff, name: "hands-off", what: "a deposit makes a tenant due that is in flight", world: plain, finds: "two posts"},
		{bit: noSame, name: "same", what: "an acknowledgement removes whatever waits", world: plain, finds: "settled"},
		{bit: noVanished, name: "vanished", what: "a result whose entry is gone frees nobody", world: w(func(l *limits) { slow(l); l.kinds[0] = three(); l.noStray, l.live = true, true }), slower: true},
		{bit: noLateAck, name: "late-ack", what: "a late acknowledgement leaves its empty tenant due", world: w(func(l *limits) { l.Late = 1; l.changes[0] = 1 }), finds: "due without entries"},
		{bit: noOtherSlots, name: "other-slots", what: "an acknowledgement frees the tenant although another slot waits", world: w(func(l *limits) { l.kinds[0] = three() }), finds: "nobody will ever look for"},
		{bit: noFinishArms, name: "finish", what: "finish leaves due work without arming", world: plain, finds: "without owner or wake-up"},
		{bit: noStartBy, name: "start-by", what: "a post starts however old its claim is", world: plain, finds: "two posts"},
		{bit: noOwnerRule, name: "stranger", what: "a result of a non-owner makes its tenant due", world: w(func(l *limits) { l.kinds[0] = three() }), finds: "without owner or wake-up"},
		{bit: noOffFlag, name: "off", what: "a mailbox that is off is claimed from", world: w(func(l *limits) { l.Off, l.noStray, l.live = 1, true, true; l.changes[0] = 1 }), finds: "off"},
		{bit: noOwnSlots, name: "own-wake-ups", what: "begin clears wake-ups that are not its own", world: w(func(l *limits) {
			l.tenants = 2
			l.changes = [nTenants]int{1, 1}
			l.Fail, l.noStray, l.countStray = 1, true, true
		}), finds: "left behind"},
		{bit: noSecondSlot, name: "two-wake-ups", what: "there is one slot for wake-ups", world: w(func(l *limits) {
			l.tenants = 2
			l.changes = [nTenants]int{1, 1}
			l.Fail, l.noStray, l.countStray = 1, true, true
		}), finds: "left behind"},
		{bit: noTop, name: "top", what: "a status told again bears its old sequence", world: w(func(l *limits) { l.kinds[0] = three(); l.Resync, l.noStray = 1, true }), finds: "backwards"},
		{bit: noWell, name: "well", what: "only a delivery proves the endpoint", world: w(func(l *limits) { l.Gate, l.Refuse, l.noStray = 1, 1, true; l.changes[0] = 1 }), finds: "keeps its gate"},
		{bit: noProbe, name: "probe", what: "an unproved endpoint gets several posts", world: w(func(l *limits) {
			l.tenants, l.jobs = 2, 2
			l.changes = [nTenants]int{1, 1}
			l.Gate, l.noStray = 1, true
		}), finds: "unproved"},
		{bit: noRound, name: "round", what: "a round of probes is claimed for while it is out", world: w(func(l *limits) {
			l.tenants, l.jobs, l.probes = 2, 2, 2
			l.changes = [nTenants]int{1, 1}
			l.Gate, l.noStray = 1, true
		}), finds: "of two exchanges"},
		{bit: noFlightLeft, name: "recall", what: "a recall makes a tenant due that is in flight", world: w(func(l *limits) { slow(l); l.Gate, l.Recall, l.noStray = 1, 1, true; l.changes[0] = 1 }), finds: "without owner or wake-up"},
		{bit: noSweep, name: "sweep", what: "nobody sweeps", world: w(func(l *limits) { l.changes[0] = 1; l.Task, l.noStray, l.live = 1, true, true }), finds: "work is left"},
	}...)
}
