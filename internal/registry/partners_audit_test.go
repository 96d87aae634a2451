package registry_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

var (
	evil   = registry.Actor{Name: "evil", Role: "partner:evil", RequestID: "req-e"}
	victim = registry.Actor{Name: "victim", Role: "partner:victim", RequestID: "req-v"}
)

// TestPartnersPushOutTheirOwnAuditAlone: 500 entries of a partner stay, and all of everybody else's.
func TestPartnersPushOutTheirOwnAuditAlone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newFixture(t, rdb, registry.Options{AuditKeep: 1000})
		ctx := t.Context()
		_, err := s.CreateToken(ctx, registry.Token{ID: "t1", Name: "evil", Role: evil.Role}, "h1", false, kim)
		noErr(t, "token", err)
		app := put(t, s, testApp("evil")).App
		for i := range 3 {
			noErr(t, "resync of another partner", s.AppendAudit(ctx, registry.AuditEntry{Actor: victim.Name, Role: victim.Role, Action: "app.resync", Subject: fmt.Sprint("victim", i)}))
		}
		for i := range 700 {
			app.TechnicalContact.Name = "E" + strconv.Itoa(i)
			_, _, err := s.PutApp(ctx, app, registry.AnyRevision, nil, evil, "app.patch", registry.AuditNote{Action: "endpoint.moved", After: `{"n":` + strconv.Itoa(i) + `}`})
			noErr(t, "write", err)
		}
		count := map[string]int{}
		newest, next := "", ""
		ids := map[string]bool{}
		for {
			page, after, err := s.AuditEntries(ctx, registry.AuditQuery{After: next, Limit: 37})
			noErr(t, "audit", err)
			for _, e := range page {
				if count[e.Actor+" "+e.Action]++; newest == "" {
					newest = e.Action + " " + e.After
				}
				if ids[e.ID] {
					t.Fatalf("entry %s comes twice", e.ID)
				}
				ids[e.ID] = true
			}
			if next = after; next == "" {
				break
			}
		}
		same(t, "entries", count, map[string]int{"kim token.create": 1, "kim app.put": 1, "victim app.resync": 3, "evil app.patch": 250, "evil endpoint.moved": 250})
		same(t, "the newest", newest, `endpoint.moved {"n":699}`)
		same(t, "the list", rdb.LLen(ctx, s.keys.Config(keys.ConfigAuditOf)+":evil").Val(), int64(500))

		// An owner of the id later has entries of its own, and those of before stay.
		_, err = s.DeleteApp(ctx, "evil", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		app = put(t, s, testApp("evil")).App
		app.TechnicalContact.Name = "new"
		_, _, err = s.PutApp(ctx, app, registry.AnyRevision, nil, evil, "app.patch")
		noErr(t, "write", err)
		same(t, "the list anew", rdb.LLen(ctx, s.keys.Config(keys.ConfigAuditOf)+":evil").Val(), int64(1))
		same(t, "the stream", rdb.XLen(ctx, s.keys.Config(keys.ConfigAuditPartners)).Val(), int64(504))
	})
}

// TestAuditMergesByTime: entries of both streams come by their time, those with one stamp once each, and a cursor of an
// older version holds.
func TestAuditMergesByTime(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		add := func(stream keys.ConfigKey, id string) {
			s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.Config(stream), ID: id, Values: []string{"v", "1", "actor", "a", "role", "r", "action", "x", "subject", "s"}})
		}
		add(keys.ConfigAudit, "5-0")
		add(keys.ConfigAudit, "7-0")
		add(keys.ConfigAudit, "7-1")
		add(keys.ConfigAuditPartners, "6-0")
		add(keys.ConfigAuditPartners, "7-0")
		add(keys.ConfigAuditPartners, "9-3")
		want := "9-3p 7-1 7-0 7-0p 6-0p 5-0"
		for limit := 1; limit < 8; limit++ {
			var got []string
			q := registry.AuditQuery{Limit: limit}
			for {
				page, next, err := s.AuditEntries(ctx, q)
				noErr(t, "audit", err)
				for _, e := range page {
					got = append(got, e.ID)
				}
				if q.After = next; next == "" {
					break
				}
			}
			same(t, "in pages of "+strconv.Itoa(limit), strings.Join(got, " "), want)
		}
		page, _, err := s.AuditEntries(ctx, registry.AuditQuery{After: "7-0"})
		noErr(t, "audit", err)
		same(t, "behind an older cursor", len(page), 3)
		page, _, err = s.AuditEntries(ctx, registry.AuditQuery{Changes: true})
		noErr(t, "audit", err)
		same(t, "changes", len(page), 0)

		next, err := s.ReadNextAudit(ctx, registry.AuditPlace{})
		noErr(t, "next", err)
		var got []string
		for _, e := range next.Entries {
			got = append(got, e.ID)
		}
		same(t, "oldest first", strings.Join(got, " "), "5-0 6-0p 7-0 7-0p 7-1 9-3p")
	})
}

// TestAuditPagesEndByBytes: long entries make pages short, and a filter looks at so many bytes at most.
func TestAuditPagesEndByBytes(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	text := strings.Repeat("x", 700_000)
	for range 60 { // of a version that stored whatever it was given
		s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: s.keys.Config(keys.ConfigAudit), Values: []string{"v", "1", "subject", "evil", "before", text, "after", "{}"}})
	}
	entries := make([]registry.AuditEntry, 500)
	for i := range entries {
		entries[i] = registry.AuditEntry{Subject: "app1", Before: `{"a":"` + strings.Repeat("b", 200) + `"}`, After: strings.Repeat(`"c"`, 400)}
	}
	noErr(t, "append", s.AppendAudit(t.Context(), entries...))
	page, next, err := s.AuditEntries(t.Context(), registry.AuditQuery{Limit: 500})
	noErr(t, "audit", err)
	if len(page) == 0 || len(page) > 500 || next == "" {
		t.Errorf("%d entries, next %q", len(page), next)
	}
	none, next, err := s.AuditEntries(t.Context(), registry.AuditQuery{Subject: "victim"})
	if err != nil || len(none) != 0 || next == "" {
		t.Errorf("a filter that matches nothing: %d entries, next %q, %v", len(none), next, err)
	}
}

// TestAuditReadBySixAtOnce: readers of entries as older versions stored them, of 766 KB, hold little of them. Run alone, it
// says what the process took at most.
func TestAuditReadBySixAtOnce(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	doc := func(name string) string {
		return fmt.Sprintf(`{"v":1,"client_id":"evil","name":%q,"public_keys":[%q]}`, name, strings.Repeat("k", 383_000))
	}
	for i := range 60 {
		s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: s.keys.Config(keys.ConfigAudit), Values: []string{
			"v", "1", "actor", "evil", "action", "app.patch", "subject", "evil", "before", doc("A"), "after", doc(strconv.Itoa(i)),
		}})
	}
	var all sync.WaitGroup
	for _, q := range []registry.AuditQuery{{Limit: 1, Subject: "victim"}, {Limit: 500}, {Limit: 1}, {Subject: "evil", Limit: 500}, {Subject: "victim"}, {Limit: 500}} {
		all.Go(func() {
			for range 3 {
				page, next, err := s.AuditEntries(t.Context(), q)
				if err != nil {
					t.Error(err)
				}
				size := 0
				for _, e := range page {
					size += entrySize(e)
				}
				if size > 300<<10 {
					t.Errorf("a page of %d bytes", size)
				}
				if q.After = next; next == "" {
					return
				}
			}
		})
	}
	all.Wait()
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmHWM:") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

// TestOnceBudget: the tokens of one partner share their keys, and an outcome is short.
func TestOnceBudget(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		for i := range 100 {
			o := registry.IdempotencyRecord{Caller: "partner:evil\ntoken" + strconv.Itoa(i), Owner: "partner:evil", Most: 100, Key: "k", Digest: "d", Within: 1 << 40}
			b, err := s.ClaimIdempotencyKey(ctx, o)
			noErr(t, "begin", err)
			if _, err = s.SettleIdempotencyKey(ctx, o, b.Run, []byte(strings.Repeat("o", 3000))); err != nil {
				t.Fatal(err)
			}
		}
		o := registry.IdempotencyRecord{Caller: "partner:evil\nanother", Owner: "partner:evil", Most: 100, Key: "k", Digest: "d", Within: 1 << 40}
		b, err := s.ClaimIdempotencyKey(ctx, o)
		if err != nil || b.State != registry.IdempotencyFull {
			t.Errorf("the 101st: %v %v", b.State, err)
		}
		o.Owner = "partner:other"
		b, err = s.ClaimIdempotencyKey(ctx, o)
		if err != nil || b.State != registry.IdempotencyRun {
			t.Errorf("another owner's: %v %v", b.State, err)
		}
		_, err = s.SettleIdempotencyKey(ctx, o, b.Run, []byte(strings.Repeat("o", 4000)))
		wantErr(t, "an outcome that is too long", err, registry.ErrTooMany)
		for _, k := range s.rdb.Keys(ctx, s.keys.Config(keys.ConfigOnce)+":*").Val() {
			if n := len(s.rdb.HGet(ctx, k, "o").Val()); n > registry.IdempotencyAnswerMax {
				t.Errorf("an outcome of %d bytes", n)
			}
		}
	})
}

// TestPauses: of several holders one begins, and the others are told how long it goes on.
func TestPauses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		wait, err := s.LeaseOrWait(t.Context(), "resync:app1", "a", 1<<36)
		if err != nil || wait != 0 {
			t.Fatalf("the first waits %v, %v", wait, err)
		}
		wait, err = s.LeaseOrWait(t.Context(), "resync:app1", "b", 1<<36)
		if err != nil || wait <= 0 || wait > 1<<36 {
			t.Errorf("the second waits %v, %v", wait, err)
		}
		noErr(t, "release", s.ReleaseLease(t.Context(), "resync:app1", "a"))
		if wait, err = s.LeaseOrWait(t.Context(), "resync:app1", "b", 1<<36); err != nil || wait != 0 {
			t.Errorf("after it was given back: %v, %v", wait, err)
		}
	})
}

// writes is how many a simulated week has: one a second is 604,800, of which the growth is over after a few hundred.
var writes = flag.Int("registry.writes", 3000, "writes of a partner in TestAWeekOfAPartnersWrites; 604800 are a week")

// memoryUsed asks Redis.
func memoryUsed(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	for line := range strings.Lines(rdb.Info(t.Context(), "memory").Val()) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			noErr(t, "used_memory", err)
			return n
		}
	}
	t.Fatal("Redis does not say how much it uses")
	return 0
}

// TestAWeekOfAPartnersWrites: a partner that writes as fast as it may for a week makes Redis grow by less than 2 MB.
func TestAWeekOfAPartnersWrites(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newFixture(t, rdb, registry.Options{})
	ctx := t.Context()
	before := make([]registry.AuditEntry, 200)
	for i := range before {
		before[i] = registry.AuditEntry{Actor: "kim", Role: "admin", Action: "token.create", Subject: strconv.Itoa(i)}
		if i%10 == 0 {
			before[i].Actor, before[i].Role = victim.Name, victim.Role
		}
	}
	noErr(t, "others' entries", s.AppendAudit(ctx, before...))
	app := put(t, s, big("evil")).App
	used := func() int64 { return memoryUsed(t, rdb) }
	write := func(from, to int) {
		for i := from; i < to; i++ {
			app.TechnicalContact.Name = strings.Repeat("<", 190) + strconv.Itoa(i)
			app.Endpoints[partner.ERPSync].URL = "https://partner.example/" + strings.Repeat("e", 1000) + strconv.Itoa(i)
			note := registry.AuditNote{Action: "endpoint.moved", Before: `{"a":"` + strings.Repeat("b", 5000) + `"}`, After: `"` + strings.Repeat("c", 5000) + `"`}
			_, _, err := s.PutApp(ctx, app, registry.AnyRevision, nil, evil, "app.patch", note, note)
			noErr(t, "write", err)
		}
	}
	start := used()
	write(0, *writes)
	if grown := used() - start; grown > 2<<20 {
		t.Errorf("Redis grew by %d bytes", grown)
	} else {
		t.Logf("%d writes: Redis grew by %d bytes", *writes, grown)
	}
	found := 0
	q := registry.AuditQuery{Limit: 500}
	for {
		page, next, err := s.AuditEntries(ctx, q)
		noErr(t, "audit", err)
		for _, e := range page {
			if e.Actor != evil.Name && e.Action == "token.create" {
				found++
			}
		}
		if q.After = next; next == "" {
			break
		}
	}
	same(t, "others' entries", found, len(before))
}
