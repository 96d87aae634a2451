package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestComparisonIsKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		at := time.UnixMilli(1_800_000_000_123).UTC()
		want := registry.Comparison{
			Cursor: "apps|app1|7", Started: at, Compared: 5, Closed: 2, Pairs: 9, Fast: true, Serving: 3, Served: 1,
			Completed: at.Add(-time.Hour), Took: time.Minute, Gaps: 4, Indexed: at.Add(-time.Minute), Primaries: "one",
		}
		if err := s.SaveComparison(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		asked, err := s.RequestFastRound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want.Asked = asked
		got, err := s.Comparison(t.Context())
		if err != nil || !got.WantsFastRound() {
			t.Fatalf("%+v, %v", got, err)
		}
		same(t, "comparison", got, want)
		again, err := s.RequestFastRound(t.Context())
		if err != nil || again <= asked {
			t.Errorf("asked at %d after %d, %v", again, asked, err)
		}
		s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigComparison), "compared", "many", "started", "-7")
		s.rdb.Set(t.Context(), s.keys.Config(keys.ConfigFastRound), "soon", 0)
		if got, err = s.Comparison(t.Context()); err != nil || got.Compared != 0 || !got.Started.IsZero() || got.Asked != 0 {
			t.Errorf("%+v, %v: what cannot be read is not there", got, err)
		}
	})
}

func TestRaise(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		known := accept(t, s, registry.ChangeRequest{Tenant: "a", Type: tenant.Suspend}, registry.ChangeRequest{Tenant: "a", Type: tenant.Move, PublicEndpoint: "x.example"})[1].Sequence + 1_000_000
		view := func() registry.TenantView {
			v, err := s.Tenant(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		before := view()
		if err := s.CompleteFanouts(t.Context(), []registry.CompletedFanout{{Tenant: "a", Top: before.Record.Top}}); err != nil {
			t.Fatal(err)
		}
		raise := func(v registry.TenantView, known int64, want bool) {
			t.Helper()
			if did, err := s.RaiseSequence(t.Context(), v, known); err != nil || did != want {
				t.Errorf("raised %v, %v, want %v", did, err, want)
			}
		}
		raise(before, before.Record.Top, false)                                                                          // knows as much
		raise(registry.TenantView{Record: tenant.Record{Tenant: "b"}}, known, false)                                     // nobody ever reported it
		raise(registry.TenantView{Known: true, Status: before.Status, Record: tenant.Record{Tenant: "b"}}, known, false) // it is gone since
		other := before
		other.Status.State = tenant.Running
		raise(other, known, false) // written since
		if got := view(); got.Record.Top != before.Record.Top || got.FanoutPending {
			t.Fatalf("written: %+v", got)
		}
		raise(before, known, true)
		after := view()
		if after.Record.Top != known+2 || !after.FanoutPending {
			t.Errorf("top %d, owed %v, want %d", after.Record.Top, after.FanoutPending, known+2)
		}
		same(t, "status", after.Status, before.Status)
		for slot, want := range map[tenant.Slot]int64{tenant.SlotStatus: known + 1, tenant.SlotMove: known + 2} {
			h := after.Record.Heads[slot]
			if h.Sequence != want || h.Change.ID != tenant.FormatChangeID("a", want) {
				t.Errorf("%v: %+v, want sequence %d", slot, h, want)
			}
			was := before.Record.Heads[slot].Change
			was.ID, was.Sequence = h.Change.ID, h.Change.Sequence
			same(t, "change", h.Change, was)
			if c, err := s.Change(t.Context(), h.Change.ID); err != nil || c.Sequence != want {
				t.Errorf("change %s: %+v, %v", h.Change.ID, c, err)
			}
		}
		if owed, err := s.ListPendingFanouts(t.Context(), 0, registry.PendingFanout{}, 10); err != nil || !slices.ContainsFunc(owed, func(o registry.PendingFanout) bool { return o.Tenant == "a" }) {
			t.Errorf("listed: %v, %v", owed, err)
		}
		raise(before, known, false) // a repeat
		s.rdb.Del(t.Context(), s.keys.Tenant("a", keys.TenantRecord))
		s.rdb.Set(t.Context(), s.keys.Tenant("a", keys.TenantRecord), "foreign", 0)
		if _, err := s.RaiseSequence(t.Context(), before, known); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("error %v", err)
		}
	})
}

func TestPeek(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		seq := accept(t, s, registry.ChangeRequest{Tenant: "a", Type: tenant.Suspend})[0].Sequence
		if err := s.AddApprover(t.Context(), []tenant.ID{"a", "b"}, "app1"); err != nil {
			t.Fatal(err)
		}
		s.rdb.HSet(t.Context(), s.keys.Tenant("newer", keys.TenantRecord), "v", "2", "top", "7")
		s.rdb.HSet(t.Context(), s.keys.Tenant("odd", keys.TenantRecord), "v", "1", "top", "many")
		s.rdb.Set(t.Context(), s.keys.Tenant("foreign", keys.TenantRecord), "x", 0)
		got, now, err := s.ReadTenantSides(t.Context(), "app1", []tenant.ID{"a", "b", "c", "newer", "odd", "foreign"})
		if err != nil || now.IsZero() {
			t.Fatal(now, err)
		}
		same(t, "peeks", got, []registry.TenantSide{
			{Known: true, Top: seq, FanoutPending: true, Indexed: true},
			{Indexed: true},
			{},
			{Known: true, Top: 7, Unreadable: true},
			{Known: true, Unreadable: true},
			{Unreadable: true},
		})
	})
}

// The index is walked to its end, in a Cluster too.
func TestIndexPage(t *testing.T) {
	t.Parallel()
	walk := func(t *testing.T, s fixture) {
		t.Helper()
		var want []string
		for i := range 300 {
			id := fmt.Sprintf("t%03d", i)
			want = append(want, id)
			if err := s.AddApprover(t.Context(), []tenant.ID{tenant.ID(id)}, "app1"); err != nil {
				t.Fatal(err)
			}
			s.rdb.Set(t.Context(), s.keys.Tenant(tenant.ID(id), keys.TenantRecord), "x", 0)
		}
		seen := map[string]bool{}
		cursor := ""
		for {
			ids, next, err := s.ReadIndexPage(t.Context(), cursor, 20)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				seen[string(id)] = true
			}
			if cursor = next; next == "" {
				break
			}
		}
		for _, id := range want {
			if !seen[id] {
				t.Errorf("%s was not seen", id)
			}
		}
		if len(seen) != len(want) {
			t.Errorf("%d seen, want %d", len(seen), len(want))
		}
	}
	each(t, walk)
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		rdb, prefix := redistest.Clustered(t)
		space := keys.New(prefix)
		walk(t, fixture{Store: registry.New(rdb, registry.Options{Keys: space, Keyring: testKeyring(t)}), rdb: rdb, keys: space})
	})
}
