package tenant_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"Cust12345": true, "a": true, "0": true, "A_b-9": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "_a": false, "-a": false, "a.b": false, "a{b}": false,
		"a b": false, "a\n": false, "é": false, "a|b": false, "a\x00": false,
	} {
		id, err := tenant.ParseID(in)
		if (err == nil) != ok {
			t.Errorf("ParseID(%q) error = %v, want ok %v", in, err, ok)
		}
		if ok && id.String() != in {
			t.Errorf("ParseID(%q) = %q", in, id)
		}
		if !ok && !errors.Is(err, tenant.ErrInvalidID) {
			t.Errorf("ParseID(%q) error %v is not ErrInvalidID", in, err)
		}
	}
}

// The numbers and words are a wire contract; the table repeats them on purpose.
func TestChangeTypes(t *testing.T) {
	t.Parallel()
	type row struct {
		Number int
		Word   string
		Slot   string
		State  string
	}
	var got []row
	for _, c := range tenant.AllChangeTypes() {
		r := row{Number: int(c), Word: c.String(), Slot: c.Slot().String()}
		if s, ok := c.ResultingState(); ok {
			r.State = s.String()
		}
		got = append(got, r)
		back, err := tenant.ParseChangeType(c.String())
		if err != nil || back != c {
			t.Errorf("ParseChangeType(%q) = %v, %v", c, back, err)
		}
	}
	want := []row{
		{0, "upgrade", "status", "OfflineMaintenance"},
		{1, "backup_restored", "restore", ""},
		{2, "suspend", "status", "Suspended"},
		{3, "resume", "status", "Running"},
		{4, "delete", "status", "Deleted"},
		{5, "move", "move", ""},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "Suspend", "SUSPEND", "7", "moved"} {
		if _, err := tenant.ParseChangeType(bad); !errors.Is(err, tenant.ErrUnknownChangeType) {
			t.Errorf("ParseChangeType(%q) error = %v", bad, err)
		}
	}
	if tenant.ChangeType(6).IsValid() {
		t.Error("6 is no change type")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		Number  int
		Running bool
		Telling string
	}{
		"Unknown": {0, false, ""}, "Provisioning": {1, false, ""}, "Running": {2, true, "resume"},
		"Deleted": {3, false, "delete"}, "Suspended": {4, false, "suspend"},
		"OnlineMaintenance": {5, true, "resume"}, "OfflineMaintenance": {6, false, "upgrade"},
		"ProvisioningFailed": {8, false, ""}, "Deleting": {10, false, "delete"},
		"DeleteFailed": {11, false, ""}, "MigrationPending": {12, false, ""},
	}
	if len(tenant.AllStates()) != len(want) {
		t.Fatalf("%d states, want %d", len(tenant.AllStates()), len(want))
	}
	for _, s := range tenant.AllStates() {
		w, ok := want[s.String()]
		if !ok {
			t.Errorf("unexpected state %v", s)
			continue
		}
		telling := ""
		if c, ok := s.ResyncChangeType(); ok {
			telling = c.String()
		}
		if int(s) != w.Number || s.IsRunning() != w.Running || telling != w.Telling {
			t.Errorf("%v = %d running %v telling %q, want %+v", s, int(s), s.IsRunning(), telling, w)
		}
		if c, ok := s.ResyncChangeType(); ok { // what is told says what the pull shows, as far as a change type can
			effect, _ := c.ResultingState()
			near := s == tenant.OnlineMaintenance || s == tenant.Deleting
			if (effect == s) == near || effect.IsRunning() != s.IsRunning() {
				t.Errorf("%v is told as %v, which means %v", s, c, effect)
			}
		}
		if back, err := tenant.ParseState(s.String()); err != nil || back != s {
			t.Errorf("ParseState(%q) = %v, %v", s, back, err)
		}
	}
	if _, err := tenant.ParseState("running"); !errors.Is(err, tenant.ErrUnknownState) {
		t.Errorf("lower-case name accepted: %v", err)
	}
}

func TestChangeID(t *testing.T) {
	t.Parallel()
	id := tenant.FormatChangeID("Cust_1-2", 1795449600000)
	if id != "chg_Cust_1-2_1795449600000" {
		t.Fatal(id)
	}
	tn, seq, err := tenant.ParseChangeID(id)
	if err != nil || tn != "Cust_1-2" || seq != 1795449600000 {
		t.Errorf("ParseChangeID(%q) = %q, %d, %v", id, tn, seq, err)
	}
	for _, bad := range []string{"", "chg_", "chg_a", "chg_a_", "chg_a_x", "chg_a_-1", "chg_a_0", "chg_a_01", "chg__1", "x_a_1", "chg_a_99999999999999999999", "chg_{a}_1"} {
		if _, _, err := tenant.ParseChangeID(bad); !errors.Is(err, tenant.ErrInvalidChangeID) {
			t.Errorf("ParseChangeID(%q) error = %v", bad, err)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	st := tenant.Status{Tenant: "c1", State: tenant.Suspended, VersionName: "v", FileVersion: "1.2"}
	t.Run("NeverChangedStatusIsToldOnRequestOnly", func(t *testing.T) {
		t.Parallel()
		r := tenant.NewRecord(st, 0, [tenant.Slots]tenant.Head{})
		h := r.Heads[tenant.SlotStatus]
		if h.Sequence != tenant.NeverChanged || h.Change.Type != tenant.Suspend || h.Change.VersionName != "v" || h.Change.ID != "status_c1_0" {
			t.Errorf("head = %+v", h)
		}
	})
	head := func(ct tenant.ChangeType, version string) [tenant.Slots]tenant.Head {
		return [tenant.Slots]tenant.Head{{Sequence: 7, Change: tenant.Change{ID: "chg_c1_7", Tenant: "c1", Type: ct, VersionName: version, FileVersion: "1.2"}}}
	}
	t.Run("TheChangeThatBroughtIt", func(t *testing.T) {
		t.Parallel()
		heads := head(tenant.Suspend, "v")
		if d := cmp.Diff(tenant.Record{Tenant: "c1", Top: 7, Heads: heads}, tenant.NewRecord(st, 7, heads)); d != "" {
			t.Error(d)
		}
	})
	t.Run("AVersionSetSince", func(t *testing.T) {
		t.Parallel()
		r := tenant.NewRecord(st, 8, head(tenant.Suspend, "old"))
		want := head(tenant.Suspend, "v")[tenant.SlotStatus].Change
		if got, ok := r.ResyncChange(); !ok || !cmp.Equal(got, want) || r.Heads != head(tenant.Suspend, "old") {
			t.Errorf("%+v, want %+v", r, want)
		}
	})
	t.Run("EveryStateSetSinceEveryChange", func(t *testing.T) {
		t.Parallel()
		for _, ct := range []tenant.ChangeType{tenant.Upgrade, tenant.Suspend, tenant.Resume, tenant.Delete} {
			for _, state := range tenant.AllStates() {
				st := st
				st.State = state
				r := tenant.NewRecord(st, 9, head(ct, "v"))
				got, told := r.ResyncChange()
				want, can := state.ResyncChangeType()
				if told != can || told && (got.Type != want || got.VersionName != "v" || got.FileVersion != "1.2") {
					t.Errorf("%s set after %s is told by %+v, %v", state, ct, got, told)
				}
				if effect, _ := ct.ResultingState(); effect == state && (r.Unreported != nil || got.ID != "chg_c1_7") {
					t.Errorf("%s brought %s: %+v", ct, state, r)
				}
				if told && got.Type != ct && got.ID != "status_c1_9" {
					t.Errorf("%s set after %s bears the id %s", state, ct, got.ID)
				}
				if r.Heads != head(ct, "v") {
					t.Errorf("%s set after %s hides the change: %+v", state, ct, r.Heads)
				}
			}
		}
	})
	t.Run("AStateWithoutWordsIsNotTold", func(t *testing.T) {
		t.Parallel()
		r := tenant.NewRecord(tenant.Status{Tenant: "c1", State: tenant.Provisioning}, 0, [tenant.Slots]tenant.Head{})
		if _, told := r.ResyncChange(); told || r.Heads != ([tenant.Slots]tenant.Head{}) {
			t.Errorf("heads = %+v", r.Heads)
		}
	})
}
