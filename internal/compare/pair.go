package compare

import "slices"

// Kind is a kind of gap.
type Kind string

// The closed set of kinds.
const (
	// Index: an approval without an entry in the tenant's index, or an entry without an approval.
	Index Kind = "index"
	// Behind: the mailbox knows less than the record, and no fan-out is owed.
	Behind Kind = "behind"
	// Ahead: the mailbox knows a sequence that the record does not.
	Ahead Kind = "ahead"
	// Retell: the status is to be told again, and nobody does.
	Retell Kind = "retell"
	// Listing: the record bears the mark of a fan-out, and the list of owed fan-outs lacks the tenant.
	Listing Kind = "listing"
	// Settings: the mailbox was told settings, or a life, of the app that the settings do not know.
	Settings Kind = "settings"
)

// Kinds lists the closed set.
func Kinds() []Kind { return []Kind{Index, Behind, Ahead, Retell, Listing, Settings} }

// PairSnapshot is what was read of a pair.
type PairSnapshot struct {
	// Approved: the mailbox holds the approval, which decides. Indexed: the tenant's index holds the app.
	Approved, Indexed bool
	// Known is the highest sequence deposited, Again that the status is to be told again.
	Known int64
	Again bool
	// Reported: the tenant has a record. Top is its highest sequence, Owed its mark of a fan-out, Listed that the list
	// of owed fan-outs holds the tenant.
	Reported              bool
	Top                   int64
	FanoutPending, Listed bool
	// HasURL: the app ever had a URL, so that deposits are made. Fresh: a job tells it of all its tenants, or is about to.
	HasURL, Fresh bool
	// Unreadable: mark or record is of another version.
	Unreadable bool
}

// Gaps lists what is wrong with a pair as it was seen.
//
// The index must match the approval. A mark must be listed, else no sweep finds it. Of an approval: what the record
// does not know it lost, whatever is owed. What the mailbox does not know a fan-out brings while one is owed; else
// it is lost.
func (s PairSnapshot) Gaps() []Kind {
	var gaps []Kind
	if s.Unreadable {
		return nil
	}
	if s.Approved != s.Indexed {
		gaps = append(gaps, Index)
	}
	if s.FanoutPending && !s.Listed {
		gaps = append(gaps, Listing)
	}
	switch {
	case !s.Approved:
	case s.Reported && s.Known > s.Top:
		gaps = append(gaps, Ahead)
	case s.FanoutPending || !s.HasURL:
	case s.Again && !s.Fresh:
		gaps = append(gaps, Retell)
	case s.Known < s.Top && !s.Again:
		gaps = append(gaps, Behind)
	}
	return gaps
}

// FindPersisting lists the gaps of a pair that stood still over all sights of it, in the order in which they were
// seen: a gap that moved on meanwhile is somebody's work under way.
func FindPersisting(first PairSnapshot, later ...PairSnapshot) []Kind {
	gaps := first.Gaps()
	for _, s := range later {
		var still []Kind
		for _, k := range s.Gaps() {
			if slices.Contains(gaps, k) && isSameGap(k, first, s) {
				still = append(still, k)
			}
		}
		gaps = still
	}
	return gaps
}

// isSameGap reports whether a gap seen twice is one and the same: nothing that would close it has moved.
func isSameGap(k Kind, a, b PairSnapshot) bool {
	switch k {
	case Index:
		return a.Approved == b.Approved
	case Listing:
		return a.Top == b.Top
	default:
		return a.Known == b.Known
	}
}
