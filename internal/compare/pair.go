package compare

import "slices"

// Kind is a kind of gap.
type Kind string

// The closed set of kinds.
const (
	// Index: an approval without an entry in the tenant's index, or an entry without an approval.
	Index Kind = "index"
	// Behind: the mailbox knows less than the record, and no fan-out is pending.
	Behind Kind = "behind"
	// Ahead: the mailbox knows a sequence above the record's.
	Ahead Kind = "ahead"
	// Retell: the status is to be deposited again, and no job does so.
	Retell Kind = "retell"
	// Listing: the record bears the mark of a fan-out, and the list of pending fan-outs lacks the tenant.
	Listing Kind = "listing"
	// Settings: the mailbox knows a revision, or a life, of the app that is newer than the settings.
	Settings Kind = "settings"
)

// Kinds lists the closed set.
func Kinds() []Kind { return []Kind{Index, Behind, Ahead, Retell, Listing, Settings} }

// PairSnapshot is what was read of a pair.
type PairSnapshot struct {
	// Approved: the mailbox holds the approval; the mailbox is authoritative. Indexed: the tenant's index holds the app.
	Approved, Indexed bool
	// Known is the highest sequence deposited, Again that the status is to be deposited again.
	Known int64
	Again bool
	// Reported: the tenant has a record. Top is its highest sequence, FanoutPending its mark of a fan-out. Listed: the list of
	// pending fan-outs holds the tenant.
	Reported              bool
	Top                   int64
	FanoutPending, Listed bool
	// HasURL: the app has had a URL, so deposits are made. Fresh: a job deposits the status of all its tenants, or is about to.
	HasURL, Fresh bool
	// Unreadable: mark or record is of another version.
	Unreadable bool
}

// Gaps lists what is wrong with a pair in this snapshot.
//
// The index must match the approval. A mark must be listed, otherwise no sweep finds it. The other gaps need an approval. If the
// mailbox knows more than the record, the record has lost writes, even while a fan-out is pending. If the mailbox knows less, a
// pending fan-out brings it; without one it is lost. An approval that read a record which Redis then lost waits for the
// tenant's next change: there is no status that could be deposited.
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
	case s.Known > s.Top: // the record was lost
	case s.Again && !s.Fresh:
		gaps = append(gaps, Retell)
	case s.Known < s.Top && !s.Again:
		gaps = append(gaps, Behind)
	}
	return gaps
}

// FindPersisting lists the gaps of a pair that are the same in all its snapshots, which are given in the order in which they were
// taken. A gap that changed in between is work in progress.
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

// isSameGap reports whether the gap in two snapshots is the same: nothing that would close it has changed.
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
