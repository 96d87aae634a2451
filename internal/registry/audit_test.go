package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func TestAuditOfApps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		put(t, s, testApp("app1"))
		app := testApp("app1")
		app.Name = "Renamed"
		put(t, s, app)
		_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, registry.Actor{Name: "root", Role: "admin", RequestID: "req-2"})
		noErr(t, "delete", err)
		got, next, err := s.AuditEntries(ctx, registry.AuditQuery{Subject: "app1"})
		noErr(t, "audit", err)
		if next != "" || len(got) != 3 {
			t.Fatalf("%d entries, next %q, want 3 and none", len(got), next)
		}
		want := []registry.AuditEntry{
			{Actor: "root", Role: "admin", RequestID: "req-2", Action: "app.delete", Subject: "app1"},
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "app.put", Subject: "app1"},
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "app.put", Subject: "app1"},
		}
		same(t, "entries", got, want, cmpopts.IgnoreFields(registry.AuditEntry{}, "ID", "At", "Before", "After"))
		del, second, first := got[0], got[1], got[2]
		same(t, "what differs", []string{second.Before, second.After}, []string{`{"name":"App app1"}`, `{"name":"Renamed"}`})
		if first.Before != "" || del.After != "" || del.Before != strings.Replace(first.After, "App app1", "Renamed", 1) {
			t.Errorf("before and after do not tell the story: %+v", got)
		}
		if age := time.Since(first.At); age < -time.Minute || age > time.Minute {
			t.Errorf("the entry is of %v", first.At)
		}
	})
}

// What a write audits beside itself comes in the same step, and not without it.
func TestAuditNotesOfAWrite(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		notes := []registry.AuditNote{{Action: "endpoint.switched_on", Before: `{"a":1}`, After: `{"a":2}`}, {Action: "endpoint.switched_off"}}
		_, _, err := s.PutApp(t.Context(), testApp("app1"), registry.NoRevision, nil, kim, "app.put", notes...)
		noErr(t, "write", err)
		_, _, err = s.PutApp(t.Context(), testApp("app1"), registry.NoRevision, nil, kim, "app.put", notes...)
		wantErr(t, "a stale write", err, registry.ErrConflict)
		got, _, err := s.AuditEntries(t.Context(), registry.AuditQuery{Subject: "app1", Actions: []string{"endpoint."}})
		noErr(t, "audit", err)
		want := []registry.AuditEntry{
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "endpoint.switched_off", Subject: "app1"},
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "endpoint.switched_on", Subject: "app1", Before: `{"a":1}`, After: `{"a":2}`},
		}
		same(t, "entries", got, want, cmpopts.IgnoreFields(registry.AuditEntry{}, "ID", "At"))
	})
}

func TestAuditPagesAndFilters(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		noErr(t, "append nothing", s.AppendAudit(ctx))
		var entries []registry.AuditEntry
		for i := range 1203 {
			e := registry.AuditEntry{Actor: "kim", Role: "admin", Action: "tenant.put_status", Subject: fmt.Sprint("Cust", i), After: "{}"}
			if i%100 == 0 {
				e.Subject, e.Action = "app1", "app.put"
			}
			if i == 700 {
				e.Action = "tenant.put_status" // a tenant that bears an app's name
			}
			entries = append(entries, e)
		}
		noErr(t, "append", s.AppendAudit(ctx, entries...))

		read := func(q registry.AuditQuery) (subjects []string) {
			t.Helper()
			for {
				page, next, err := s.AuditEntries(ctx, q)
				noErr(t, "audit", err)
				for _, e := range page {
					subjects = append(subjects, e.Subject+" "+e.Action)
				}
				if q.After = next; next == "" {
					return subjects
				}
			}
		}
		var all []string
		for _, e := range slices.Backward(entries) {
			all = append(all, e.Subject+" "+e.Action)
		}
		same(t, "all", read(registry.AuditQuery{}), all)
		same(t, "all in pages of 7", read(registry.AuditQuery{Limit: 7}), all)
		for _, limit := range []int{1, 5, 500} {
			same(t, "of app1", len(read(registry.AuditQuery{Subject: "app1", Limit: limit})), 13)
			same(t, "of the app app1", len(read(registry.AuditQuery{Subject: "app1", Actions: []string{"endpoint.", "app."}, Limit: limit})), 12)
		}
		same(t, "of nobody", read(registry.AuditQuery{Subject: "nobody"}), []string(nil))
	})
}

// A filter that matches nothing gives up after a while and says where to go on.
func TestAuditScanIsBounded(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	entries := make([]registry.AuditEntry, 10600)
	for i := range entries {
		entries[i] = registry.AuditEntry{Subject: "other"}
	}
	entries[0].Subject = "app1"
	noErr(t, "append", s.AppendAudit(t.Context(), entries...))
	got, next, err := s.AuditEntries(t.Context(), registry.AuditQuery{Subject: "app1"})
	if err != nil || len(got) != 0 || next == "" {
		t.Fatalf("first scan: %v, %q, %v, want nothing and a cursor", got, next, err)
	}
	got, next, err = s.AuditEntries(t.Context(), registry.AuditQuery{Subject: "app1", After: next})
	if err != nil || len(got) != 1 || next != "" {
		t.Errorf("second scan: %v, %q, %v, want the entry and no cursor", got, next, err)
	}
}

func TestAuditIsCapped(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newFixture(t, rdb, registry.Options{AuditKeep: 100})
		for range 10 {
			noErr(t, "append", s.AppendAudit(t.Context(), make([]registry.AuditEntry, 50)...))
		}
		for range 100 {
			put(t, s, testApp("app1"))
		}
		// Redis trims whole nodes of a hundred entries.
		if n := rdb.XLen(t.Context(), s.keys.Config(keys.ConfigAudit)).Val(); n < 100 || n > 250 {
			t.Errorf("%d entries are kept, want about 100", n)
		}
	})
}

func TestUnreadableAudit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		stream := s.keys.Config(keys.ConfigAudit)
		s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: []string{"v", "2", "who", "kim"}})
		_, _, err := s.AuditEntries(t.Context(), registry.AuditQuery{})
		wantErr(t, "an entry of another format", err, registry.ErrUnreadable)
		s.rdb.Del(t.Context(), stream)
		s.rdb.Set(t.Context(), stream, "x", 0)
		_, _, err = s.AuditEntries(t.Context(), registry.AuditQuery{})
		wantErr(t, "a key of another type", err, registry.ErrUnreadable)
		wantErr(t, "append to a key of another type", s.AppendAudit(t.Context(), registry.AuditEntry{}), registry.ErrUnreadable)
	})
}

// TestAuditOfChanges: accepted changes have a stream of their own, which pushes nothing else out.
func TestAuditOfChanges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		noErr(t, "audit", s.AppendAudit(ctx,
			registry.AuditEntry{Actor: "kim", Action: "app.put", Subject: "Cust1"},
			registry.AuditEntry{Actor: "platform", Action: registry.ActionChange, Subject: "Cust1", After: `{"id":"chg_Cust1_5"}`},
			registry.AuditEntry{Actor: "platform", Action: registry.ActionChange, Subject: "Cust2"},
		))
		for _, row := range []struct {
			q    registry.AuditQuery
			want []string
		}{
			{registry.AuditQuery{}, []string{"app.put Cust1"}},
			{registry.AuditQuery{Changes: true}, []string{"change.accept Cust2", "change.accept Cust1"}},
			{registry.AuditQuery{Changes: true, Subject: "Cust1"}, []string{"change.accept Cust1"}},
		} {
			list, _, err := s.AuditEntries(ctx, row.q)
			noErr(t, "read", err)
			var got []string
			for _, e := range list {
				got = append(got, e.Action+" "+e.Subject)
			}
			same(t, "entries", got, row.want)
		}
	})
}
