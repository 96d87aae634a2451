package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func change(id tenant.ID, typ tenant.ChangeType) registry.ChangeRequest {
	r := registry.ChangeRequest{Tenant: id, Type: typ}
	if typ == tenant.Move {
		r.PublicEndpoint = "online9.example.com"
	}
	return r
}

func accept(t testing.TB, s fixture, reqs ...registry.ChangeRequest) []registry.Accepted {
	t.Helper()
	results, err := s.Accept(t.Context(), reqs)
	noErr(t, "accept", err)
	out := make([]registry.Accepted, len(results))
	for i, r := range results {
		noErr(t, fmt.Sprint("accept ", i), r.Err)
		out[i] = r.Accepted
	}
	return out
}

// heads shows a record's slots as "<type>" or "-".
func heads(v registry.TenantView) string {
	var out []string
	for _, h := range v.Record.Heads {
		if h.Sequence == 0 {
			out = append(out, "-")
		} else {
			out = append(out, h.Change.Type.String())
		}
	}
	return strings.Join(out, " ")
}

func TestAcceptEffects(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		for i, tc := range []struct {
			changes []tenant.ChangeType
			state   tenant.State
			heads   string
		}{
			{[]tenant.ChangeType{tenant.Upgrade}, tenant.OfflineMaintenance, "upgrade - -"},
			{[]tenant.ChangeType{tenant.BackupRestored}, tenant.Running, "resume - backup_restored"},
			{[]tenant.ChangeType{tenant.Suspend}, tenant.Suspended, "suspend - -"},
			{[]tenant.ChangeType{tenant.Resume}, tenant.Running, "resume - -"},
			{[]tenant.ChangeType{tenant.Delete}, tenant.Deleted, "delete - -"},
			{[]tenant.ChangeType{tenant.Move}, tenant.Running, "resume move -"},
			{[]tenant.ChangeType{tenant.Suspend, tenant.Move, tenant.BackupRestored}, tenant.Suspended, "suspend move backup_restored"},
			{[]tenant.ChangeType{tenant.Move, tenant.BackupRestored, tenant.Delete}, tenant.Deleted, "delete - -"},
			{[]tenant.ChangeType{tenant.Delete, tenant.Move}, tenant.Deleted, "delete move -"},
			{[]tenant.ChangeType{tenant.Suspend, tenant.Resume, tenant.Upgrade}, tenant.OfflineMaintenance, "upgrade - -"},
		} {
			id := tenant.ID(fmt.Sprint("Cust", i))
			var last registry.Accepted
			for _, c := range tc.changes {
				last = accept(t, s, change(id, c))[0]
			}
			v := must[registry.TenantView](t)(s.Tenant(t.Context(), id))
			if v.Status.State != tc.state || heads(v) != tc.heads || v.Record.Top != last.Sequence || !v.FanoutPending || !v.Known {
				t.Errorf("%v: state %v, heads %q, top %d, owed %v; want %v, %q, %d, true",
					tc.changes, v.Status.State, heads(v), v.Record.Top, v.FanoutPending, tc.state, tc.heads, last.Sequence)
			}
		}
	})
}

// What the script writes must be what the rest of the service reads.
func TestAcceptStoresTheChange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		texts := []string{
			"", "Release 8.4 R08", `quo"te \back/slash`, "ünï→日本語🎉", "tab\tnew\nline\x01\x7f", "<&>\u2028", "=", "null", "0;1;2",
			strings.Repeat("x", 2000),
		}
		for i, text := range texts {
			id := tenant.ID(fmt.Sprint("Cust", i))
			req := registry.ChangeRequest{
				Tenant: id, Type: tenant.Move, VersionName: &text, FileVersion: &texts[len(texts)-1-i],
				PublicEndpoint: "h" + strconv.Itoa(i) + ".example.com", OccurredAt: t0.Add(-time.Hour),
			}
			before := time.Now().Add(-time.Second)
			a := accept(t, s, req)[0]
			v := must[registry.TenantView](t)(s.Tenant(ctx, id))
			want := tenant.Change{
				ID: tenant.FormatChangeID(id, a.Sequence), Tenant: id, Type: tenant.Move, Sequence: a.Sequence, VersionName: text,
				FileVersion: *req.FileVersion, PublicEndpoint: req.PublicEndpoint, OccurredAt: req.OccurredAt,
			}
			got := v.Record.Heads[tenant.SlotMove]
			same(t, "head", got, tenant.Head{Sequence: a.Sequence, Change: want}, cmpopts.IgnoreFields(tenant.Change{}, "AcceptedAt"))
			if at := got.Change.AcceptedAt; at.Before(before) || at.After(time.Now().Add(time.Second)) || at.UnixMilli() > a.Sequence {
				t.Errorf("accepted at %v", at)
			}
			listed := must[tenant.Change](t)(s.Change(ctx, a.ID))
			same(t, "listed change", listed, got.Change)
			same(t, "status", v.Status, tenant.Status{
				Tenant: id, State: tenant.Running, PublicEndpoint: req.PublicEndpoint, VersionName: text,
				FileVersion: *req.FileVersion, UpdatedAt: got.Change.AcceptedAt,
			})
			again, err := delivery.DecodeChange(delivery.EncodeChange(got.Change), id, a.Sequence)
			noErr(t, "decode", err)
			same(t, "encoded by delivery", again, got.Change)
		}
	})
}

func TestAcceptVersionsDefaultToTheLastKnown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		v1, v2, none := "Release 1", "1.0", ""
		steps := []struct {
			version, file *string
			want          string
		}{
			{nil, nil, "|"},
			{&v1, nil, "Release 1|"},
			{nil, &v2, "Release 1|1.0"},
			{nil, nil, "Release 1|1.0"},
			{&none, nil, "|1.0"},
			{nil, &none, "|"},
		}
		for i, st := range steps {
			a := accept(t, s, registry.ChangeRequest{Tenant: "Cust1", Type: tenant.Suspend, VersionName: st.version, FileVersion: st.file})[0]
			c := must[tenant.Change](t)(s.Change(t.Context(), a.ID))
			status := must[tenant.Status](t)(s.Status(t.Context(), "Cust1"))
			if got := c.VersionName + "|" + c.FileVersion; got != st.want {
				t.Errorf("step %d: change has %q, want %q", i, got, st.want)
			}
			if got := status.VersionName + "|" + status.FileVersion; got != st.want {
				t.Errorf("step %d: status has %q, want %q", i, got, st.want)
			}
		}
	})
}

func TestAcceptAnswers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1"}, "app1"))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1"}, "app2"))
		results, err := s.Accept(ctx, nil)
		if err != nil || len(results) != 0 {
			t.Errorf("nothing: %v, %v", results, err)
		}
		got := accept(t, s,
			change("Cust1", tenant.Suspend), change("Cust2", tenant.Suspend), change("Cust1", tenant.Resume),
			change("Cust1", tenant.Move), change("Cust3", tenant.Delete), change("Cust2", tenant.Resume))
		var who []string
		for _, a := range got {
			who = append(who, fmt.Sprint(a.Tenant, " ", a.Apps, " ", a.Replayed))
			if a.ID != tenant.FormatChangeID(a.Tenant, a.Sequence) {
				t.Errorf("id %q of %q at %d", a.ID, a.Tenant, a.Sequence)
			}
			if d := time.Since(time.UnixMilli(a.Sequence)); d > time.Minute || d < -time.Minute {
				t.Errorf("sequence %d is far from the clock", a.Sequence)
			}
		}
		same(t, "answers", who, []string{
			"Cust1 2 false", "Cust2 0 false", "Cust1 2 false", "Cust1 2 false", "Cust3 0 false", "Cust2 0 false",
		})
		if got[0].Sequence >= got[2].Sequence || got[2].Sequence >= got[3].Sequence || got[1].Sequence >= got[5].Sequence {
			t.Errorf("the changes of one tenant are not in the order given: %v", got)
		}
		same(t, "state", must[tenant.Status](t)(s.Status(ctx, "Cust2")).State, tenant.Running)
	})
}

// The sequence never goes back, even if the clock does or Redis lost its last seconds.
func TestAcceptSequenceNeverGoesBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		first := accept(t, s, change("Cust1", tenant.Suspend))[0].Sequence
		ahead := time.Now().Add(time.Hour).UnixMilli()
		s.rdb.HSet(ctx, s.keys.Tenant("Cust1", keys.TenantRecord), "top", ahead)
		for i := range int64(5) {
			if got := accept(t, s, change("Cust1", tenant.Resume))[0].Sequence; got != ahead+1+i {
				t.Errorf("sequence %d behind a top ahead of the clock, want %d", got, ahead+1+i)
			}
		}
		same(t, "listed", len(must[[]tenant.Change](t)(s.Changes(ctx, "Cust1", 0))), 6)
		s.rdb.FlushDB(ctx)
		if got := accept(t, s, change("Cust1", tenant.Suspend))[0].Sequence; got < first {
			t.Errorf("sequence %d after all was lost, %d before", got, first)
		}
	})
}

func TestAcceptConcurrently(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		const writers, each = 50, 4
		var mu sync.Mutex
		seen := map[int64]bool{}
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				last := int64(0)
				for range each {
					results, err := s.Accept(t.Context(), []registry.ChangeRequest{change("Cust1", tenant.Suspend), change("Cust1", tenant.Resume)})
					if err != nil {
						t.Error(err)
						return
					}
					for _, r := range results {
						if r.Err != nil || r.Accepted.Sequence <= last {
							t.Errorf("sequence %d after %d, error %v", r.Accepted.Sequence, last, r.Err)
						}
						last = r.Accepted.Sequence
						mu.Lock()
						if seen[last] {
							t.Errorf("sequence %d was given out twice", last)
						}
						seen[last] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(t.Context(), "Cust1", 500))), writers*each*2)
	})
}

// An idempotent call may be repeated whole: after success, or after a crash between binding and
// accepting.
func TestAcceptIsIdempotent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		keyed := func(key string, line int, id tenant.ID, typ tenant.ChangeType) registry.ChangeRequest {
			r := change(id, typ)
			r.IdempotencyKey, r.Line = key, line
			return r
		}
		bind := func(key string, lines map[int]string, want ...int) {
			t.Helper()
			conflicts, err := s.BindIdempotencyKey(ctx, key, lines)
			noErr(t, "bind", err)
			same(t, "conflicts of "+key, conflicts, want)
		}
		lines := map[int]string{1: "hash1", 2: "hash2"}
		bind("k1", lines)
		// A crash here: nothing is accepted, the repeat binds the same.
		bind("k1", lines)
		reqs := []registry.ChangeRequest{keyed("k1", 1, "Cust1", tenant.Suspend), keyed("k1", 2, "Cust1", tenant.Resume)}
		first := accept(t, s, reqs...)
		bind("k1", lines)
		accept(t, s, change("Cust1", tenant.Upgrade))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1"}, "app1"))
		again := accept(t, s, reqs...)
		for i := range first {
			first[i].Replayed = true
		}
		same(t, "repeated answers", again, first)
		same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(ctx, "Cust1", 0))), 3)
		same(t, "state", must[tenant.Status](t)(s.Status(ctx, "Cust1")).State, tenant.OfflineMaintenance)

		bind("k1", map[int]string{1: "hash1", 2: "other", 3: "hash3", 10: "hash10"}, 2)
		bind("k1", map[int]string{1: "x", 2: "hash2", 3: "x", 10: "x"}, 1, 3, 10)
		bind("k2", map[int]string{1: "x", 2: "x"})
		bind("k2", nil)
		for _, other := range []registry.ChangeRequest{
			keyed("k2", 1, "Cust1", tenant.Suspend), keyed("k1", 3, "Cust1", tenant.Suspend), keyed("k1", 1, "Cust2", tenant.Suspend),
		} {
			if a := accept(t, s, other)[0]; a.Replayed {
				t.Errorf("%s line %d of %s was taken for a repeat", other.IdempotencyKey, other.Line, other.Tenant)
			}
		}
	})
}

func TestIdempotencyExpires(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		if _, err := s.BindIdempotencyKey(ctx, "key with spaces {and braces}", map[int]string{1: "h"}); err != nil {
			t.Fatal(err)
		}
		r := change("Cust1", tenant.Suspend)
		r.IdempotencyKey = "key with spaces {and braces}"
		accept(t, s, r)
		var answer, binding time.Duration
		for _, k := range s.rdb.Keys(ctx, "*").Val() {
			ttl := s.rdb.PTTL(ctx, k).Val()
			switch {
			case strings.Contains(k, ":answer:"):
				answer = ttl
			case strings.Contains(k, ":idempotency:"):
				binding = ttl
			}
			if strings.Contains(k, "braces") {
				t.Errorf("the caller's text is part of the key %q", k)
			}
		}
		if answer <= 23*time.Hour || answer > 24*time.Hour {
			t.Errorf("an answer is kept for %v, want 24 h", answer)
		}
		if binding <= answer {
			t.Errorf("a binding is kept for %v, less than its answer", binding)
		}
	})
}

func TestBindKeyOfManyLines(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		lines := map[int]string{}
		for i := range 1300 {
			lines[i] = fmt.Sprint("hash", i)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if conflicts, err := s.BindIdempotencyKey(t.Context(), "k", lines); err != nil || len(conflicts) != 0 {
					t.Errorf("the same lines: %v, %v", conflicts, err)
				}
			})
		}
		wg.Wait()
		lines[0], lines[1299] = "x", "x"
		conflicts, err := s.BindIdempotencyKey(t.Context(), "k", lines)
		noErr(t, "bind", err)
		same(t, "conflicts", conflicts, []int{0, 1299})
	})
}

// Lines lie in pieces of 500, the first of which is where an older version binds all. What it bound holds, and the
// other way round for the first piece.
func TestLinesBoundByAnotherVersion(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		bind := func(lines map[int]string, want ...int) {
			t.Helper()
			conflicts, err := s.BindIdempotencyKey(ctx, "k", lines)
			noErr(t, "bind", err)
			same(t, "conflicts", conflicts, want)
		}
		bind(map[int]string{1: "a", 499: "a", 500: "a", 999: "a", 1000: "a"})
		pieces := s.rdb.Keys(ctx, "*:idempotency:*").Val()
		same(t, "pieces", len(pieces), 3)
		older := slices.MinFunc(pieces, func(a, b string) int { return len(a) - len(b) })
		same(t, "where an older version looks", s.rdb.HGetAll(ctx, older).Val(), map[string]string{"1": "a", "499": "a"})
		noErr(t, "bind as an older version", s.rdb.HSet(ctx, older, "2", "o", "501", "o", "1001", "o").Err())
		bind(map[int]string{1: "x", 2: "x", 3: "a", 500: "x", 501: "x", 502: "a", 1000: "a", 1001: "o"}, 1, 2, 500, 501)
		bind(map[int]string{2: "o", 501: "o", 502: "x", 1001: "x"}, 502, 1001)
		for _, p := range s.rdb.Keys(ctx, "*:idempotency:*").Val() {
			if ttl := s.rdb.TTL(ctx, p).Val(); ttl < 24*time.Hour {
				t.Errorf("%s is kept for %v", p, ttl)
			}
		}
	})
}

// Changes that Redis cannot read are refused one by one, without a trace, and the others accepted.
func TestAcceptRefusesUnreadableRecords(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		record := func(id tenant.ID) string { return s.keys.Tenant(id, keys.TenantRecord) }
		s.rdb.HSet(ctx, record("Newer"), "v", "2", "top", "5", "state", "Running")
		s.rdb.HSet(ctx, record("Older"), "top", "5")
		s.rdb.HSet(ctx, record("BadTop"), "v", "1", "top", "x", "state", "Running")
		s.rdb.Set(ctx, record("Text"), "x", 0)
		s.rdb.Set(ctx, s.keys.Tenant("BadApprovals", keys.TenantApprovals), "x", 0)
		bad := []tenant.ID{"Newer", "Older", "BadTop", "Text", "BadApprovals"}
		reqs := []registry.ChangeRequest{change("Good1", tenant.Suspend)}
		for _, id := range bad {
			reqs = append(reqs, change(id, tenant.Suspend))
		}
		reqs = append(reqs, change("Good2", tenant.Suspend))
		results, err := s.Accept(ctx, reqs)
		noErr(t, "accept", err)
		for i, r := range results {
			if i == 0 || i == len(results)-1 {
				noErr(t, string(reqs[i].Tenant), r.Err)
				continue
			}
			wantErr(t, string(reqs[i].Tenant), r.Err, registry.ErrUnreadable)
			if r.Err != nil && !strings.Contains(r.Err.Error(), string(reqs[i].Tenant)) {
				t.Errorf("the error does not name the tenant: %v", r.Err)
			}
			if s.rdb.Exists(ctx, s.keys.Tenant(reqs[i].Tenant, keys.TenantChanges)).Val() != 0 {
				t.Errorf("%s was half written", reqs[i].Tenant)
			}
		}
		same(t, "what was stored", s.rdb.HGetAll(ctx, record("Newer")).Val(), map[string]string{"v": "2", "top": "5", "state": "Running"})
		same(t, "what was stored", s.rdb.HGetAll(ctx, record("BadApprovals")).Val(), map[string]string{})
	})
}

func TestAcceptRefusesUnreadableAnswers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		r := change("Cust1", tenant.Suspend)
		r.IdempotencyKey = "k"
		accept(t, s, r)
		key := s.rdb.Keys(ctx, "*:answer:*").Val()[0]
		for _, v := range []string{"", ";", "x;1", "5", "5;x", "-5;1", "5;-1"} {
			s.rdb.Set(ctx, key, v, 0)
			results, err := s.Accept(ctx, []registry.ChangeRequest{r})
			noErr(t, "accept", err)
			wantErr(t, strconv.Quote(v), results[0].Err, registry.ErrUnreadable)
		}
		s.rdb.Del(ctx, key)
		s.rdb.SAdd(ctx, key, "x")
		results, err := s.Accept(ctx, []registry.ChangeRequest{r})
		noErr(t, "accept", err)
		wantErr(t, "another type", results[0].Err, registry.ErrUnreadable)
	})
}

// The client library sends a call again when the connection breaks before the answer came.
func TestAcceptSentTwiceByTheLibrary(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		twice := &repeater{}
		rdb.AddHook(twice)
		s := newFixture(t, rdb, registry.Options{})
		twice.on.Store(true)
		a := accept(t, s, change("Cust1", tenant.Suspend), change("Cust2", tenant.Suspend))
		twice.on.Store(false)
		if twice.repeated.Load() == 0 {
			t.Fatal("nothing was repeated")
		}
		for _, got := range a {
			list := must[[]tenant.Change](t)(s.Changes(t.Context(), got.Tenant, 0))
			if len(list) != 1 || list[0].Sequence != got.Sequence {
				t.Errorf("%s has %d changes, want the one that was answered", got.Tenant, len(list))
			}
		}
	})
}

func TestAcceptWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	_ = rdb.Close()
	results, err := s.Accept(t.Context(), []registry.ChangeRequest{change("Cust1", tenant.Suspend)})
	if err == nil || results != nil {
		t.Errorf("accepted without Redis: %v, %v", results, err)
	}
	if _, err := s.BindIdempotencyKey(t.Context(), "k", map[int]string{1: "h"}); err == nil {
		t.Error("bound without Redis")
	}
}

// When the list of owed fan-outs cannot be written after accepting, nothing counts as accepted:
// the platform repeats the call.
func TestAcceptNeedsTheTenantListed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		broken := errors.New("connection lost")
		fault := &faulty{err: broken, skip: 1}
		s := newFixture(t, rdb, registry.Options{})
		accept(t, s, change("Cust0", tenant.Suspend)) // loads the scripts
		rdb.AddHook(fault)
		r := change("Cust1", tenant.Suspend)
		r.IdempotencyKey = "k"
		results, err := s.Accept(t.Context(), []registry.ChangeRequest{r})
		noErr(t, "accept", err)
		wantErr(t, "result", results[0].Err, broken)
		fault.err = nil
		if a := accept(t, s, r)[0]; !a.Replayed {
			t.Error("the repeat was accepted as a second change")
		}
	})
}

// A tenant named like an app, like one of the fixed slots, or like a suffix has keys of its own.
func TestNamesDoNotCollide(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		names := []string{"app1", "config", "owed", "record", "apps", "answer"}
		apps := map[string]partner.App{}
		for _, n := range names {
			apps[n] = put(t, s, testApp(n)).App
			noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{tenant.ID(n)}, partner.ClientID(n)))
			noErr(t, "attempt", s.RecordAttempts(ctx, partner.ClientID(n), []delivery.Attempt{{Tenant: tenant.ID(n)}}))
			accept(t, s, change(tenant.ID(n), tenant.Suspend))
		}
		for _, n := range names {
			same(t, "app "+n, must[registry.AppRecord](t)(s.App(ctx, partner.ClientID(n))).App, apps[n])
			same(t, "state "+n, must[tenant.Status](t)(s.Status(ctx, tenant.ID(n))).State, tenant.Suspended)
			same(t, "approvers "+n, must[[]partner.ClientID](t)(s.Approvers(ctx, tenant.ID(n))), []partner.ClientID{partner.ClientID(n)})
			same(t, "attempts "+n, len(attemptsOf(t, s, partner.ClientID(n), 0, "")), 1)
		}
		same(t, "owed", must[int64](t)(s.CountPendingFanouts(ctx, 0)), int64(len(names)))
	})
}
