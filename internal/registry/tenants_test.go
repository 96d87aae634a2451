package registry_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestPutStatus(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		host, version, file, none := "online3.example.com", `Release "10"`, "10.3", ""
		steps := []struct {
			req  registry.StatusRequest
			want tenant.Status
		}{
			{registry.StatusRequest{State: tenant.OnlineMaintenance}, tenant.Status{State: tenant.OnlineMaintenance}},
			{
				registry.StatusRequest{State: tenant.Running, PublicEndpoint: &host, VersionName: &version, FileVersion: &file},
				tenant.Status{State: tenant.Running, PublicEndpoint: host, VersionName: version, FileVersion: file},
			},
			{
				registry.StatusRequest{State: tenant.MigrationPending},
				tenant.Status{State: tenant.MigrationPending, PublicEndpoint: host, VersionName: version, FileVersion: file},
			},
			{
				registry.StatusRequest{State: tenant.Unknown, PublicEndpoint: &none, VersionName: &none},
				tenant.Status{State: tenant.Unknown, FileVersion: file},
			},
		}
		for i, st := range steps {
			st.req.Tenant, st.want.Tenant = "Cust1", "Cust1"
			view, err := s.PutStatus(ctx, st.req, kim)
			noErr(t, "put status", err)
			same(t, fmt.Sprint("view of step ", i), view, must[registry.TenantView](t)(s.Tenant(ctx, "Cust1")))
			got := view.Status
			same(t, fmt.Sprint("answer of step ", i), got, st.want, cmpopts.IgnoreFields(tenant.Status{}, "UpdatedAt"))
			same(t, fmt.Sprint("read after step ", i), must[tenant.Status](t)(s.Status(ctx, "Cust1")), got)
			if age := time.Since(got.UpdatedAt); age > time.Minute || age < -time.Minute {
				t.Errorf("updated at %v", got.UpdatedAt)
			}
		}
		audit, _, err := s.AuditEntries(ctx, registry.AuditQuery{Subject: "Cust1"})
		noErr(t, "audit", err)
		same(t, "audit entries", len(audit), len(steps))
		want := `{"state":"MigrationPending","public_endpoint":"online3.example.com","version_name":"Release \"10\"","file_version":"10.3"}`
		if audit[1].After != want || audit[0].Before != want || audit[3].Before != "" || audit[1].Action != "tenant.put_status" || audit[1].Actor != "kim" {
			t.Errorf("audited %+v", audit[1])
		}
	})
}

// TestPutStatusExpects: a write that names what it read fails where that is gone, and of many that
// read the same one wins.
func TestPutStatusExpects(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		put := func(st tenant.State, expect registry.TenantView) (registry.TenantView, error) {
			return s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: st, Expect: &expect}, kim)
		}
		none := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		first := must[registry.TenantView](t)(put(tenant.Running, none))
		_, err := put(tenant.Suspended, none)
		wantErr(t, "it exists by now", err, registry.ErrConflict)
		same(t, "untouched", must[registry.TenantView](t)(s.Tenant(ctx, "Cust1")), first)
		must[registry.TenantView](t)(put(tenant.Running, none)) // a repeat by the client library
		now := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		accept(t, s, change("Cust1", tenant.Move))
		_, err = put(tenant.Suspended, now)
		wantErr(t, "a change came", err, registry.ErrConflict)
		now = must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		states := []tenant.State{tenant.Suspended, tenant.OnlineMaintenance, tenant.Deleted, tenant.Deleting}
		var won atomic.Int64
		var work sync.WaitGroup
		for _, st := range states {
			work.Go(func() {
				_, err := put(st, now)
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, registry.ErrConflict):
					t.Error(err)
				}
			})
		}
		work.Wait()
		same(t, "winners", won.Load(), int64(1))
	})
}

// A status set silently is told to nobody and leaves what waits to be told alone.
func TestPutStatusIsSilent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		_, err := s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: tenant.OfflineMaintenance}, kim)
		noErr(t, "put status", err)
		v := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		if v.FanoutPending || v.Record.Top != 0 || v.Record.Heads[tenant.SlotStatus].Sequence != tenant.NeverChanged || heads(v) != "upgrade - -" {
			t.Errorf("a silent status gives the record %+v", v)
		}
		same(t, "owed", len(owed(t, s)), 0)
		accept(t, s, change("Cust1", tenant.Move))
		before := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		same(t, "state after a move", before.Status.State, tenant.OfflineMaintenance)
		accept(t, s, change("Cust1", tenant.Suspend))
		before = must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		_, err = s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: tenant.Running}, kim)
		noErr(t, "put status", err)
		after := must[registry.TenantView](t)(s.Tenant(ctx, "Cust1"))
		same(t, "top and newest changes", [2]any{after.Record.Top, after.Record.Heads}, [2]any{before.Record.Top, before.Record.Heads})
		told, _ := after.Record.ResyncChange()
		same(t, "told on request", told.Type, tenant.Resume)
		same(t, "state", after.Status.State, tenant.Running)
		same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(ctx, "Cust1", 0))), 2)
	})
}

func TestUnknownTenant(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		_, err := s.Status(ctx, "Nobody")
		wantErr(t, "status", err, registry.ErrNotFound)
		v := must[registry.TenantView](t)(s.Tenant(ctx, "Nobody"))
		same(t, "view", v, registry.TenantView{Status: tenant.Status{Tenant: "Nobody"}, Record: tenant.Record{Tenant: "Nobody"}})
		same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(ctx, "Nobody", 0))), 0)
		for _, id := range []string{"chg_Nobody_5", "", "chg_", "chg_a b_5", "5", "chg_Nobody_x"} {
			_, err := s.Change(ctx, id)
			wantErr(t, "change "+id, err, registry.ErrNotFound)
		}
		views := must[[]registry.TenantView](t)(s.Tenants(ctx, nil))
		same(t, "no views", len(views), 0)
	})
}

// Reading for the pull and for a fan-out costs one round trip.
func TestReadsTakeOneRoundTrip(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		accept(t, s, change("Cust1", tenant.Suspend), change("Cust2", tenant.Resume))
		ids := []tenant.ID{"Cust1", "Nobody", "Cust2"}
		for name, read := range map[string]func() error{
			"Status":      func() error { _, err := s.Status(ctx, "Cust1"); return err },
			"Tenant":      func() error { _, err := s.Tenant(ctx, "Cust1"); return err },
			"Tenants":     func() error { _, err := s.Tenants(ctx, ids); return err },
			"Approvers":   func() error { _, err := s.Approvers(ctx, "Cust1"); return err },
			"ApproversOf": func() error { _, err := s.ApproversOf(ctx, ids); return err },
			"Tickets":     func() error { _, err := s.ReadTickets(ctx, ids); return err },
		} {
			if n := s.cmds.during(func() { noErr(t, name, read()) }); n != 1 {
				t.Errorf("%s took %d round trips", name, n)
			}
		}
		views := must[[]registry.TenantView](t)(s.Tenants(ctx, ids))
		for i, id := range ids {
			same(t, "view of "+string(id), views[i], must[registry.TenantView](t)(s.Tenant(ctx, id)))
		}
	})
}

// A tenant whom thousands of apps serve is read page by page, beside others, each app once.
func TestApproversOfATenantWithManyApps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		want := make([]partner.ClientID, 5000)
		members := make([]any, len(want))
		for i := range want {
			want[i] = partner.ClientID(fmt.Sprintf("app%05d", i))
			members[i] = string(want[i])
		}
		noErr(t, "add", s.rdb.SAdd(ctx, s.keys.Tenant("Big", keys.TenantApprovals), members...).Err())
		noErr(t, "add", s.AddApprover(ctx, []tenant.ID{"Small"}, "b"))
		all := must[[][]partner.ClientID](t)(s.ApproversOf(ctx, []tenant.ID{"Nobody", "Big", "Small"}))
		same(t, "approvers", all, [][]partner.ClientID{nil, want, {"b"}})
	})
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		var ids []tenant.ID
		for i := range 1100 {
			ids = append(ids, tenant.ID(fmt.Sprint("Cust", i)))
		}
		for range 2 {
			noErr(t, "add", s.AddApprover(ctx, ids, "b"))
			noErr(t, "add", s.AddApprover(ctx, ids[:1], "a.1"))
		}
		all := must[[][]partner.ClientID](t)(s.ApproversOf(ctx, ids))
		same(t, "approvers of the first", all[0], []partner.ClientID{"a.1", "b"})
		same(t, "approvers of the last", all[1099], []partner.ClientID{"b"})
		for range 2 {
			noErr(t, "remove", s.RemoveApprover(ctx, ids[1:], "b"))
		}
		same(t, "approvers of the last", len(must[[]partner.ClientID](t)(s.Approvers(ctx, ids[1099]))), 0)
		same(t, "approvers of the first", len(must[[]partner.ClientID](t)(s.Approvers(ctx, ids[0]))), 2)
		noErr(t, "add to nobody", s.AddApprover(ctx, nil, "a"))
	})
}

func TestChangesAreListedAndTrimmed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		s := newFixture(t, rdb, registry.Options{ChangesKeep: time.Hour})
		list := s.keys.Tenant("Cust1", keys.TenantChanges)
		var want []int64
		for range 20 {
			want = append([]int64{accept(t, s, change("Cust1", tenant.Suspend))[0].Sequence}, want...)
		}
		var got []int64
		for _, c := range must[[]tenant.Change](t)(s.Changes(ctx, "Cust1", 0)) {
			got = append(got, c.Sequence)
		}
		same(t, "newest first", got, want)
		same(t, "limited", len(must[[]tenant.Change](t)(s.Changes(ctx, "Cust1", 3))), 3)
		if ttl := rdb.PTTL(ctx, list).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("the list is kept for %v after its last change, want 1 h", ttl)
		}
		old := time.Now().Add(-2 * time.Hour).UnixMilli()
		rdb.ZAdd(ctx, list, redis.Z{Score: float64(old), Member: "old"})
		accept(t, s, change("Cust1", tenant.Suspend))
		same(t, "after an old one", rdb.ZCount(ctx, list, "-inf", strconv.FormatInt(old, 10)).Val(), int64(0))
		many := make([]redis.Z, 1500)
		for i := range many {
			many[i] = redis.Z{Score: float64(time.Now().UnixMilli()), Member: fmt.Sprint("m", i)}
		}
		rdb.ZAdd(ctx, list, many...)
		last := accept(t, s, change("Cust1", tenant.Suspend))[0]
		same(t, "capped", rdb.ZCard(ctx, list).Val(), int64(1000))
		same(t, "newest kept", must[tenant.Change](t)(s.Change(ctx, last.ID)).Sequence, last.Sequence)
	})
}

// The newest change of a slot is found after the list forgot it: somebody may still wait for it.
func TestChangeOutlivesTheList(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		gone := accept(t, s, change("Cust1", tenant.Suspend))[0]
		kept := accept(t, s, change("Cust1", tenant.Resume))[0]
		want := must[tenant.Change](t)(s.Change(ctx, kept.ID))
		s.rdb.Del(ctx, s.keys.Tenant("Cust1", keys.TenantChanges))
		same(t, "the newest", must[tenant.Change](t)(s.Change(ctx, kept.ID)), want)
		_, err := s.Change(ctx, gone.ID)
		wantErr(t, "an older one", err, registry.ErrNotFound)
	})
}

func TestUnreadableTenants(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		record := s.keys.Tenant("Cust1", keys.TenantRecord)
		accept(t, s, change("Cust1", tenant.Suspend))
		good := s.rdb.HGetAll(ctx, record).Val()
		for name, tc := range map[string]struct {
			field, value string
			status       bool // the pull's read fails as well
		}{
			"NewerFormat": {"v", "2", true}, "NoFormat": {"v", "", true},
			"UnknownState": {"state", "Asleep", true}, "NoState": {"state", "", true},
			"NoTime": {"updated", "", true}, "BadTime": {"updated", "today", true},
			"BadTop": {"top", "x", false}, "NegativeTop": {"top", "-5", false},
			"EmptyHead": {"status", "", false}, "HeadWithoutChange": {"status", "5;", false},
			"HeadWithoutSequence": {"status", good["status"][strings.Index(good["status"], ";"):], false},
			"HeadOfNewerFormat":   {"move", `5;{"v":2,"i":"x","t":5}`, false},
			"HeadOfUnknownType":   {"restore", `5;{"v":1,"i":"x","t":9}`, false},
		} {
			s.rdb.Del(ctx, record)
			s.rdb.HSet(ctx, record, good)
			s.rdb.HSet(ctx, record, tc.field, tc.value)
			_, err := s.Tenant(ctx, "Cust1")
			wantErr(t, name+": Tenant", err, registry.ErrUnreadable)
			_, err = s.Tenants(ctx, []tenant.ID{"Cust2", "Cust1"})
			wantErr(t, name+": Tenants", err, registry.ErrUnreadable)
			_, err = s.Status(ctx, "Cust1")
			if tc.status {
				wantErr(t, name+": Status", err, registry.ErrUnreadable)
			} else {
				noErr(t, name+": Status", err)
			}
		}
		for _, v := range []string{"", "2"} {
			s.rdb.Del(ctx, record)
			s.rdb.HSet(ctx, record, "v", v, "state", "Running")
			_, err := s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: tenant.Suspended}, kim)
			wantErr(t, "PutStatus over format "+v, err, registry.ErrUnreadable)
			same(t, "state", s.rdb.HGet(ctx, record, "state").Val(), "Running")
		}
		s.rdb.Del(ctx, record)
		s.rdb.Set(ctx, record, "x", 0)
		_, err := s.Status(ctx, "Cust1")
		wantErr(t, "Status of another type", err, registry.ErrUnreadable)
		_, err = s.Tenant(ctx, "Cust1")
		wantErr(t, "Tenant of another type", err, registry.ErrUnreadable)
		_, err = s.Tenants(ctx, []tenant.ID{"Cust1"})
		wantErr(t, "Tenants of another type", err, registry.ErrUnreadable)
		_, err = s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1"}, kim)
		wantErr(t, "PutStatus over another type", err, registry.ErrUnreadable)
	})
}

func TestUnreadableChangesAndApprovals(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		list, index := s.keys.Tenant("Cust1", keys.TenantChanges), s.keys.Tenant("Cust1", keys.TenantApprovals)
		for _, v := range []string{"", "x", `{"v":2,"i":"chg_Cust1_5","t":1}`, `{"v":1,"i":"chg_Cust1_6","t":1}`, `{"v":1,"t":1}`} {
			s.rdb.Del(ctx, list)
			s.rdb.ZAdd(ctx, list, redis.Z{Score: 5, Member: v})
			_, err := s.Change(ctx, "chg_Cust1_5")
			wantErr(t, "Change "+v, err, registry.ErrUnreadable)
			_, err = s.Changes(ctx, "Cust1", 0)
			wantErr(t, "Changes "+v, err, registry.ErrUnreadable)
		}
		s.rdb.SAdd(ctx, index, "app1", "app{2}")
		_, err := s.Approvers(ctx, "Cust1")
		wantErr(t, "an approver that is no client id", err, registry.ErrUnreadable)
		s.rdb.Del(ctx, list, index)
		s.rdb.Set(ctx, list, "x", 0)
		s.rdb.Set(ctx, index, "x", 0)
		_, err = s.Changes(ctx, "Cust1", 0)
		wantErr(t, "changes of another type", err, registry.ErrUnreadable)
		_, err = s.Approvers(ctx, "Cust1")
		wantErr(t, "approvals of another type", err, registry.ErrUnreadable)
	})
}
