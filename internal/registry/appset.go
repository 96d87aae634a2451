package registry

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// appShards is the number of maps into which a set of apps is split. A set that is made from another one copies only the maps
// that differ.
const appShards = 256

// appSeed distributes apps over the maps; it stays the same while the process runs.
var appSeed = maphash.MakeSeed() //nolint:gochecknoglobals // never changed

// appSet is an immutable set of apps. Making a changed set costs as much as the difference, plus the copy of one list of
// pointers.
type appSet struct {
	shards [appShards]map[partner.ClientID]*Entry
	// sorted lists apps by client id.
	sorted []*Entry
}

func shardIndex(id partner.ClientID) int {
	return int(maphash.String(appSeed, string(id)) % appShards)
}

func (s *appSet) findEntry(id partner.ClientID) (*Entry, bool) {
	e, ok := s.shards[shardIndex(id)][id]
	return e, ok
}

// withChanges returns the set without the removed apps, and with entries added or replaced. No app may be both in entries and in
// removed, or twice in entries.
func (s *appSet) withChanges(entries []*Entry, removed []partner.ClientID) *appSet {
	next := &appSet{shards: s.shards}
	copied := [appShards]bool{}
	own := func(id partner.ClientID) map[partner.ClientID]*Entry {
		n := shardIndex(id)
		if !copied[n] {
			copied[n] = true
			m := make(map[partner.ClientID]*Entry, len(s.shards[n])+1)
			maps.Copy(m, s.shards[n])
			next.shards[n] = m
		}
		return next.shards[n]
	}
	edits := make([]listEdit, 0, len(entries)+len(removed))
	for _, id := range removed {
		if _, ok := s.findEntry(id); ok {
			delete(own(id), id)
			edits = append(edits, listEdit{id: id})
		}
	}
	for _, e := range entries {
		id := e.Rec.App.ClientID
		own(id)[id] = e
		edits = append(edits, listEdit{id: id, entry: e})
	}
	next.sorted = mergeEdits(s.sorted, edits)
	return next
}

// listEdit puts an entry into a sorted list, or removes its app if entry is nil.
type listEdit struct {
	id    partner.ClientID
	entry *Entry
}

// mergeEdits returns a sorted list with edits of distinct apps applied; it does not alter the given list.
func mergeEdits(sorted []*Entry, edits []listEdit) []*Entry {
	if len(edits) == 0 {
		return sorted
	}
	slices.SortFunc(edits, func(a, b listEdit) int { return compareIDs(a.id, b.id) })
	out := make([]*Entry, 0, len(sorted)+len(edits))
	for _, d := range edits {
		n, found := slices.BinarySearchFunc(sorted, d.id, func(e *Entry, id partner.ClientID) int {
			return compareIDs(e.Rec.App.ClientID, id)
		})
		out = append(out, sorted[:n]...)
		if found {
			n++
		}
		sorted = sorted[n:]
		if d.entry != nil {
			out = append(out, d.entry)
		}
	}
	return append(out, sorted...)
}

func compareIDs(a, b partner.ClientID) int { return strings.Compare(string(a), string(b)) }
