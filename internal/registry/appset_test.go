package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func entryOf(id partner.ClientID, revision int64) *Entry {
	return &Entry{Rec: AppRecord{App: partner.App{ClientID: id}, Revision: revision}}
}

// A set made from another one is as one made of all its entries, and leaves the other as it was.
func TestAppSet(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	set, model := &appSet{}, map[partner.ClientID]*Entry{}
	for round := range 300 {
		var entries []*Entry
		var removed []partner.ClientID
		before := slices.Clone(set.sorted)
		for _, n := range r.Perm(60)[:r.IntN(1+round%40)] {
			id := partner.ClientID(fmt.Sprintf("app%d", n))
			if r.IntN(3) == 0 {
				removed = append(removed, id)
				delete(model, id)
				continue
			}
			e := entryOf(id, int64(round))
			entries, model[id] = append(entries, e), e
		}
		next := set.withChanges(entries, removed)
		if !slices.Equal(set.sorted, before) {
			t.Fatal("the older set was changed")
		}
		set = next
		if len(set.sorted) != len(model) || !slices.IsSortedFunc(set.sorted, func(a, b *Entry) int {
			return compareIDs(a.Rec.App.ClientID, b.Rec.App.ClientID)
		}) {
			t.Fatalf("round %d: %d of %d apps, or not in order", round, len(set.sorted), len(model))
		}
		for n := range 60 {
			id := partner.ClientID(fmt.Sprintf("app%d", n))
			if e, ok := set.findEntry(id); ok != (model[id] != nil) || e != model[id] {
				t.Fatalf("round %d: %s is %v, %v", round, id, e, ok)
			}
		}
		for _, e := range set.sorted {
			if model[e.Rec.App.ClientID] != e {
				t.Fatalf("round %d: the list has another entry of %s", round, e.Rec.App.ClientID)
			}
		}
	}
}

func BenchmarkAppSet(b *testing.B) {
	all := make([]*Entry, 10_000)
	for i := range all {
		all[i] = entryOf(partner.ClientID(fmt.Sprintf("0123456789abcdef0123456789%06d", i)), 1)
	}
	set := (&appSet{}).withChanges(all, nil)
	b.Run("OneOf10000", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			set = set.withChanges([]*Entry{entryOf(all[n%len(all)].Rec.App.ClientID, int64(n))}, nil)
		}
	})
	b.Run("Find", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			if _, ok := set.findEntry(all[n%len(all)].Rec.App.ClientID); !ok {
				b.Fatal("missing")
			}
		}
	})
}
