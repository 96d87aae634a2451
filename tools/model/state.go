package main

// Sizes of the largest world.
const (
	nTenants  = 2
	nDrainers = 2
	nJobs     = 2 // posts a drainer may hold
	nChanges  = 4 // changes of a tenant
	absent    = int8(-1)
)

// Kinds of change. A delete is a status that empties the other slots.
const (
	kStatus, kMove, kRestore, kDelete = 1, 2, 3, 4
)

// Slots.
const (
	sStatus, sMove, sRestore = 0, 1, 2
	nSlots                   = 3
)

func kindNames() []string { return []string{"", "status", "move", "restore", "delete"} }
func slotNames() []string { return []string{"status", "move", "restore"} }

func slotOf(kind uint8) int {
	switch kind {
	case kMove:
		return sMove
	case kRestore:
		return sRestore
	default:
		return sStatus
	}
}

// Phases of a claim: those from jOK on are results.
const (
	jFree, jClaimed, jPosting, jTaken, jOK, jFail, jRefused, jRelease = 0, 1, 2, 3, 4, 5, 6, 7
)

// job is a claim that a drainer holds.
type job struct {
	Tenant, Slot, Seq, Asked uint8 // Seq and Asked are the entry's version
	Began                    uint8 // how often the state had been requested when the post started
	Phase, Age, PostAge      uint8
	Sent                     uint8 // 1: in an exchange whose answer was lost, 2: settled
}

// Phases of a drainer; the later ones repeat a call whose answer was lost.
const (
	dIdle, dBeginAgain, dRun, dExchangeAgain, dFinishAgain = 0, 1, 2, 3, 4
)

type drainer struct {
	Phase, Lost, Probing uint8
	Jobs                 [nJobs]job
}

// Names of callers in LastBy and Owner besides the drainers 1 and 2.
const (
	byCrashed = 3 // an owner that ended without giving the mailbox back
	byNobody  = 8 // a late copy's drainer whose token can own nothing any more
	byDeposit = 9 // the deposit whose answer was lost
)

// state is a world at one moment. It has bytes only, so that it can be hashed as they lie.
type state struct {
	// the registry
	Top  [nTenants]uint8
	Kind [nTenants][nChanges]uint8
	Fan  [nTenants]uint8 // bit n: the pending fan-out of change n+1 has not deposited yet

	// an approval in progress: it read the top and the mailbox's count of dismissals, and will admit unless its tenant was
	// dismissed since
	AdmitT, AdmitTop, AdmitStale uint8

	// the mailbox
	Approved, Known, Again   [nTenants]uint8
	Wait                     [nTenants][nSlots]uint8 // sequence | tried | asked<<4; 0 for none
	Due                      [nTenants]int8          // ticks until due or until the claim's lease ends
	Holder, Flying           [nTenants]uint8         // whose claim: job number + 1
	Owner, OwnerLeft         uint8
	Gate, Gated, Proved, Off uint8 // Gate: ticks it stays closed; Gated until an answer proves the endpoint
	NowLeft, NowTask         uint8 // the wake-up for now: ticks until it counts as lost, its task exists
	SoonLeft, SoonAt         uint8
	SoonTask                 uint8
	LastBy, LastSlot         uint8 // to whom the last wake-up was given, and in which slot it is
	Life                     uint8 // ticks until the keys of a deleted app expire, 0: they do not

	// a deposit whose answer was lost, to be repeated
	RepeatT, RepeatTop uint8

	D [nDrainers]drainer

	// a copy of an exchange that is still to arrive
	LateT, LateSlot, LateSeq, LateAsked, LatePhase, LateBy uint8

	// the app: what it got last, and what it must still get
	Heard   [nTenants][nSlots]uint8
	Highest [nTenants]uint8
	Need    [nTenants]uint8 // a resync or an approval asked for a status post that starts after it
	Asked   [nTenants]uint8 // how often the state was requested again: the version beside the sequence

	Stray uint8 // wake-up tasks left behind
	Spent budgets
}

// budgets count how often each fault happens.
type budgets struct {
	Crash, Lost, Repeat, Fail, Refuse, Gate, Open, Recall, Off, Dismiss, Approve, Resync, Delete, Task, Late uint8
}

// tried marks an entry that failed.
const tried = 8

func entry(seq, asked uint8) uint8 { return seq | asked<<4 }
func seqOf(w uint8) uint8          { return w & 7 }

func (s *state) vacant(t int) bool { return s.Wait[t] == [nSlots]uint8{} }

// leave takes a tenant out of due and flight.
func (s *state) leave(t int) { s.Due[t], s.Holder[t], s.Flying[t] = absent, 0, 0 }

// put makes a tenant due in so many ticks.
func (s *state) put(t int, at int8) { s.Due[t], s.Holder[t], s.Flying[t] = at, 0, 0 }

// first is when the first tenant is due or its claim runs out, absent for none.
func (s *state) first() int8 {
	x := absent
	for t := range s.Due {
		if s.Due[t] != absent && (x == absent || s.Due[t] < x) {
			x = s.Due[t]
		}
	}
	return x
}

// heads are the newest changes of each slot as of change n.
func (s *state) heads(t int, n uint8) (h [nSlots]uint8) {
	for q := uint8(1); q <= n; q++ {
		k := s.Kind[t][q-1]
		if k == kDelete {
			h = [nSlots]uint8{}
		}
		h[slotOf(k)] = q
	}
	return h
}

// quiet: nothing is left to do.
func (s *state) quiet() bool {
	if s.RepeatT != 0 || s.LateT != 0 || s.AdmitT != 0 || s.Off == 1 {
		return false
	}
	for t := range s.Wait {
		if !s.vacant(t) || s.Fan[t] != 0 {
			return false
		}
	}
	for d := range s.D {
		for _, j := range s.D[d].Jobs {
			if j.Phase != jFree {
				return false
			}
		}
	}
	return true
}
