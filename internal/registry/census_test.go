package registry_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// census is a store with as much in it as the largest legal calls of its scripts meet.
type census struct {
	fixture
	testing.TB

	ids []tenant.ID
	n   int
}

func newCensus(t testing.TB, rdb redis.UniversalClient) *census {
	t.Helper()
	c := &census{fixture: newFixture(t, rdb, registry.Options{}), TB: t}
	for i := range 500 {
		c.ids = append(c.ids, tenant.ID(fmt.Sprintf("Cust%05d-of-a-long-name", i)))
	}
	return c
}

func (c *census) check(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// next numbers calls.
func (c *census) next() string { c.n++; return strconv.Itoa(c.n) }

func (c *census) config(k keys.ConfigKey) string { return c.keys.Config(k) }

// once does something in the first call alone.
func once(f func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			f()
		}
	}
}

// zset fills a ZSET with members of growing scores.
func (c *census) zset(key string, n int, from float64) {
	zs := make([]redis.Z, n)
	for i := range zs {
		zs[i] = redis.Z{Score: from + float64(i), Member: fmt.Sprintf("gone%05d", i)}
	}
	c.check(c.rdb.ZAdd(c.Context(), key, zs...).Err())
}

// apps writes 500 apps, each with what an app usually has.
func (c *census) apps() {
	for i := range 500 {
		c.put(fmt.Sprintf("app%04d", i))
	}
}

func (c *census) put(id string) {
	_, _, err := c.PutApp(c.Context(), integrated(id, true), registry.AnyRevision, nil, kim, "app.put")
	c.check(err)
}

// tokens fills up to 9,900 tokens of other roles.
func (c *census) tokens() {
	many := map[string]any{}
	for i := range 9900 {
		id := fmt.Sprint("n", i)
		many[id] = fmt.Sprintf(`{"v":1,"id":%q,"name":"a token of somebody","role":"admin","c":1700000000000,"e":0,"r":0}`, id)
	}
	c.check(c.rdb.HSet(c.Context(), c.config(keys.ConfigTokens), many).Err())
}

// tickets lists 500 tenants under a ticket of each one's own.
func (c *census) tickets() []any {
	args, zs := make([]any, 0, 1000), make([]redis.Z, len(c.ids))
	for i, id := range c.ids {
		args, zs[i] = append(args, string(id), i+1), redis.Z{Score: float64(i + 1), Member: string(id)}
	}
	c.check(c.rdb.ZAdd(c.Context(), c.keys.Pending(keys.PendingTenants), zs...).Err())
	return args
}

// partnersEntries fills the audit of one partner.
func (c *census) partnersEntries() {
	list := c.config(keys.ConfigAuditOf) + ":evil"
	for c.rdb.LLen(c.Context(), list).Val() < 500 {
		c.check(c.AppendAudit(c.Context(), registry.AuditEntry{Actor: evil.Name, Role: evil.Role, Action: "app.resync", Subject: "evil", After: strings.Repeat("a", 1000)}))
	}
}

// entries fills both streams of the audit with ordinary entries.
func (c *census) entries() {
	c.partnersEntries()
	many := make([]registry.AuditEntry, 500)
	for i := range many {
		many[i] = registry.AuditEntry{Actor: "kim", Role: "admin", Action: "app.patch", Subject: "app1", Before: `{"name":"A"}`, After: `{"name":"B"}`}
	}
	c.check(c.AppendAudit(c.Context(), many...))
}

// tenantWork are the scripts of tenants and of the lists of what is owed.
func tenantWork(c *census) []redistest.Work {
	ctx, work := c.Context(), redistest.NewWork
	lines := map[int]string{}
	for i := range 500 {
		lines[i] = strings.Repeat("h", 64)
	}
	accept := func(key string) func() {
		return func() {
			v := "Release_10.3.8_2024.08.30-01"
			c.check(func() error {
				rs, err := c.Accept(ctx, []registry.ChangeRequest{{Tenant: "Cust1", Type: tenant.Suspend, VersionName: &v, IdempotencyKey: key + c.next()}})
				if err == nil {
					err = rs[0].Err
				}
				return err
			}())
		}
	}
	var cleared []registry.CompletedFanout
	attempts := make([]delivery.Attempt, 500)
	for i := range attempts {
		attempts[i] = delivery.Attempt{Tenant: c.ids[i], WebhookID: "status_" + string(c.ids[i]) + "_1700000000000", At: t0}
	}
	members := func(n int) func() {
		return once(func() {
			redistest.Fill(c, c.rdb.(*redis.Client), n, func(p redis.Pipeliner, i int) {
				p.SAdd(ctx, c.keys.Tenant("Cust1", keys.TenantApprovals), fmt.Sprintf("app%05d", i))
			})
		})
	}
	jobs := func() {
		c.zset(c.config(keys.ConfigJobs), 10_000, 1)
		c.zset(c.config(keys.ConfigJobsDue), 10_000, 1)
	}
	return []redistest.Work{
		work("accept", nil, "of a tenant with 5,000 apps and 1,000 changes", func() {
			members(5000)()
			if c.rdb.ZCard(ctx, c.keys.Tenant("Cust1", keys.TenantChanges)).Val() < 1000 {
				c.zset(c.keys.Tenant("Cust1", keys.TenantChanges), 1000, float64(time.Now().UnixMilli())-10_000)
			}
		}, accept("k")),
		work("accept", nil, "that forgets 1,000 changes", func() { c.zset(c.keys.Tenant("Cust1", keys.TenantChanges), 1000, 1) }, accept("k")),
		work("bind", nil, "500 lines", nil, func() { _, err := c.BindIdempotencyKey(ctx, c.next(), lines); c.check(err) }),
		work("bind", nil, "500 lines of the second piece, in conflict", once(func() {
			other := map[int]string{}
			for i := range 500 {
				other[500+i] = "other"
			}
			_, err := c.BindIdempotencyKey(ctx, "k", other)
			c.check(err)
		}), func() {
			second := map[int]string{}
			for i := range 500 {
				second[500+i] = strings.Repeat("h", 64)
			}
			_, err := c.BindIdempotencyKey(ctx, "k", second)
			c.check(err)
		}),
		work("owe", nil, "500 tenants", nil, func() { c.check(c.AddPendingFanouts(ctx, c.ids)) }),
		work("loop", nil, "the end of a round", nil, func() {
			_, err := c.TakeLoopLease(ctx, "arm", "census", time.Minute, &registry.LoopState{Began: time.UnixMilli(1), Note: strings.Repeat("n", 2000)})
			c.check(err)
		}),
		work("reach", nil, "48 reports of 5 KiB, forgets one", func() {
			many := map[string]any{}
			for i := range 48 {
				many[fmt.Sprint("process", i)] = fmt.Sprintf("%d;%s", time.Now().UnixMilli()-int64(i), strings.Repeat("r", 5<<10))
			}
			c.check(c.rdb.HSet(ctx, c.config(keys.ConfigReach), many).Err())
		}, func() { _, err := c.ShareReach(ctx, "process", strings.Repeat("r", 5<<10)); c.check(err) }),
		work("common_cause", nil, "one", nil, func() { _, err := c.PutCommonCause(ctx, "", `{"v":1}`); c.check(err) }),
		work("jobs_list", nil, "one beside 10,000", once(jobs), func() { c.check(c.RegisterJobs(ctx, "job"+c.next())) }),
		work("jobs_due", nil, "100 of 10,000", once(jobs), func() { _, err := c.TakeDueJobs(ctx, 100, time.Millisecond); c.check(err) }),
		work("jobs_look", nil, "one of 10,000", once(jobs), func() { c.check(c.DropAbsentJob(ctx, "gone00007", time.Minute)) }),
		work("owed", nil, "500 of 100,000", once(func() { c.zset(c.keys.Pending(keys.PendingTenants), 100_000, 1) }), func() {
			_, err := c.ListPendingFanouts(ctx, 0, registry.PendingFanout{}, 500)
			c.check(err)
		}),
		work("clear", nil, "one tenant", nil, func() { c.check(c.CompleteFanouts(ctx, []registry.CompletedFanout{{Tenant: "Cust1"}})) }),
		work("paid", nil, "500 tenants", func() {
			c.tickets()
			cleared = cleared[:0]
			for i, id := range c.ids {
				cleared = append(cleared, registry.CompletedFanout{Tenant: id, Ticket: int64(i + 1)})
			}
		}, func() { c.check(c.CompleteFanouts(ctx, cleared)) }),
		work("put_status", nil, "all of it", nil, func() {
			v := strings.Repeat("v", 200)
			_, err := c.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: tenant.Running, PublicEndpoint: &v, VersionName: &v, FileVersion: &v}, kim)
			c.check(err)
		}),
		work("raise", nil, "three slots", func() {
			accept("r")()
		}, func() {
			v, err := c.Tenant(ctx, "Cust1")
			c.check(err)
			_, err = c.RaiseSequence(ctx, v, v.Record.Top+1)
			c.check(err)
		}),
		work("record_attempts", nil, "500 attempts", nil, func() { c.check(c.RecordAttempts(ctx, "app1", attempts)) }),
		work("once_begin", nil, "beside 10,000 keys, all lapsed", func() {
			o := registry.IdempotencyRecord{Caller: "kim", Key: "k" + c.next(), Digest: "d", Within: time.Minute}
			if c.n == 1 {
				_, err := c.ClaimIdempotencyKey(ctx, o)
				c.check(err)
			}
			list := c.rdb.Keys(ctx, c.config(keys.ConfigOnceOf)+":*").Val()[0]
			if c.rdb.ZCard(ctx, list).Val() < 10_000 {
				c.zset(list, 10_000, 1)
			}
		}, func() {
			_, err := c.ClaimIdempotencyKey(ctx, registry.IdempotencyRecord{Caller: "kim", Key: "k" + c.next(), Digest: "d", Within: time.Minute})
			c.check(err)
		}),
		work("once_settle", nil, "an outcome of 4 KiB", nil, func() {
			o := registry.IdempotencyRecord{Caller: "kim", Key: "k" + c.next(), Digest: "d", Within: time.Minute}
			b, err := c.ClaimIdempotencyKey(ctx, o)
			c.check(err)
			_, err = c.SettleIdempotencyKey(ctx, o, b.Run, []byte(strings.Repeat("o", 3000)))
			c.check(err)
		}),
	}
}

// settingsWork are the scripts of apps, tokens, the feed and the store itself.
func settingsWork(c *census) []redistest.Work {
	ctx, work, revision := c.Context(), redistest.NewWork, []string{"revision"}
	ignore := func(_ any, err error) { c.check(err) }
	memory := registry.StoreMemory{}
	partners := func() { // 200 live tokens of the partner beside 9,900 others
		if c.rdb.HLen(ctx, c.config(keys.ConfigTokens)).Val() < 9900 {
			c.tokens()
		}
		c.put("app1")
		own := map[string]any{}
		for i := range 200 {
			id := fmt.Sprint("p", i)
			own[id] = fmt.Sprintf(`{"v":1,"id":%q,"name":"","role":"partner:app1","c":1,"e":0,"r":0}`, id)
		}
		c.check(c.rdb.HSet(ctx, c.config(keys.ConfigTokens), own).Err())
		if c.rdb.ZCard(ctx, c.config(keys.ConfigRemoved)).Val() < 10_000 {
			c.zset(c.config(keys.ConfigRemoved), 10_200, 1)
			c.zset(c.config(keys.ConfigFeedRemoved), 10_000, 1)
		}
	}
	return []redistest.Work{
		work("put_app", []string{"revision", "note"}, "a partner's with five notes, and 500 entries before", c.partnersEntries, func() {
			note := registry.AuditNote{Action: "endpoint.on", Before: "{}", After: "{}"}
			_, _, err := c.PutApp(ctx, integrated("app1", true), registry.AnyRevision, &registry.WebhookSecrets{}, evil, "app.put", note, note, note, note, note)
			c.check(err)
		}),
		work("audit", []string{"note"}, "beside 500 entries before", c.partnersEntries, func() {
			c.check(c.AppendAudit(ctx, registry.AuditEntry{Actor: evil.Name, Role: evil.Role, Action: "app.resync", Subject: "app1", After: strings.Repeat("a", 1000)}))
		}),
		work("audit_page", nil, "one in 500 of two streams", once(c.entries), func() {
			_, _, err := c.AuditEntries(ctx, registry.AuditQuery{Subject: "somebody"})
			c.check(err)
		}),
		work("audit_next", nil, "16 entries of each stream", once(c.entries), func() { ignore(c.ReadNextAudit(ctx, registry.AuditPlace{})) }),
		work("put_app", []string{"revision", "note"}, "new, with five notes", nil, func() {
			note := registry.AuditNote{Action: "endpoint.on", Before: "{}", After: "{}"}
			_, _, err := c.PutApp(ctx, integrated("app"+c.next(), true), registry.AnyRevision, nil, kim, "app.put", note, note, note, note, note)
			c.check(err)
		}),
		work("delete_app", revision, "with 200 tokens beside 9,900", partners, func() { ignore(c.DeleteApp(ctx, "app1", registry.AnyRevision, kim)) }),
		work("create_token", nil, "beside 9,900, forgets 50", func() {
			if c.rdb.HLen(ctx, c.config(keys.ConfigTokens)).Val() < 9900 {
				c.tokens()
			}
			old, hashes := map[string]any{}, map[string]any{}
			for i := range 50 {
				id := fmt.Sprint("old", i)
				old[id], hashes["h"+id] = fmt.Sprintf(`{"v":1,"id":%q,"name":"","role":"admin","c":1,"e":1,"r":0}`, id), id
			}
			c.check(c.rdb.HSet(ctx, c.config(keys.ConfigTokens), old).Err())
			c.check(c.rdb.HSet(ctx, c.config(keys.ConfigTokenHashes), hashes).Err())
			c.check(c.rdb.HDel(ctx, c.config(keys.ConfigTokens), "t1").Err())
			c.check(c.rdb.HDel(ctx, c.config(keys.ConfigTokenHashes), "h1").Err())
		}, func() { ignore(c.CreateToken(ctx, token("t1", "admin"), "h1", false, kim)) }),
		work("token", nil, "one", once(func() { ignore(c.CreateToken(ctx, token("t1", "admin"), "h1", false, kim)) }), func() { ignore(c.TokenByHash(ctx, "h1")) }),
		work("revoke_token", nil, "one", func() {
			id := "t" + c.next()
			ignore(c.CreateToken(ctx, token(id, "admin"), "h"+id, false, kim))
		}, func() { c.check(c.RevokeToken(ctx, "t"+strconv.Itoa(c.n), kim)) }),
		work("changed_apps", nil, "of 500 apps, 1,000 removals", once(func() {
			c.apps()
			c.zset(c.config(keys.ConfigRemoved), 1000, 10)
			c.check(c.rdb.Del(ctx, c.config(keys.ConfigHistory)).Err())
		}), func() {
			_, _, _, err := c.ChangedSince(ctx, 1)
			c.check(err)
		}),
		work("list_apps", nil, "of 500 apps", once(c.apps), func() { _, _, err := c.Apps(ctx, "", 500); c.check(err) }),
		work("get_app", nil, "one", once(func() { c.put("app1") }), func() { ignore(c.App(ctx, "app1")) }),
		work("heal_app", revision, "one", once(func() { c.put("app1") }), func() {
			r, err := c.Revision(ctx)
			c.check(err)
			ignore(c.HealApp(ctx, "app1", 0, r+1, 0))
		}),
		work("feed_since", nil, "1,000 apps and 1,000 removals", once(func() {
			c.check(c.rdb.HSet(ctx, c.config(keys.ConfigFeed), "revision", 10_000).Err())
			c.zset(c.config(keys.ConfigFeedChanged), 1000, 10)
			c.zset(c.config(keys.ConfigFeedRemoved), 1000, 10)
		}), func() { ignore(c.FeedSince(ctx, 1)) }),
		work("feed_poll", nil, "after a loss", nil, func() {
			seen, err := c.FeedRevision(ctx, 0)
			c.check(err)
			ignore(c.FeedRevision(ctx, seen+1))
		}),
		work("reseal", nil, "one", func() {
			old := newFixture(c, c.rdb, registry.Options{Keyring: secret.NewKeyring(keyOf(c, "a"))})
			w := registry.WebhookSecrets{Current: secret.New("whsec_1")}
			_, _, err := old.PutApp(ctx, testApp("app1"), registry.AnyRevision, &w, kim, "app.put")
			c.check(err)
		}, func() {
			both := newFixture(c, c.rdb, registry.Options{Keyring: secret.NewKeyring(keyOf(c, "b"), keyOf(c, "a"))})
			_, _, err := both.Reencrypt(ctx, kim)
			c.check(err)
		}),
		work("lease", nil, "one", nil, func() { ignore(c.TakeLease(ctx, "l", "me", time.Minute)) }),
		work("release", nil, "one", func() { ignore(c.TakeLease(ctx, "l", "me", time.Minute)) }, func() { c.check(c.ReleaseLease(ctx, "l", "me")) }),
		work("format", nil, "one", nil, func() { c.check(c.ClaimFormat(ctx)) }),
		work("ask_round", nil, "one", nil, func() { ignore(c.RequestFastRound(ctx)) }),
		work("watch_store", nil, "one", nil, func() {
			look, err := c.CheckStore(ctx, registry.StoreMemory{Process: "p", Identity: memory.Identity, Count: memory.Count, Revision: memory.Revision})
			c.check(err)
			memory = look.Now
		}),
		work("accept_store", nil, "16 refusals", func() {
			for i := range 16 {
				c.check(c.rdb.SAdd(ctx, c.config(keys.ConfigRefused), "REFUSED"+string(rune('A'+i))).Err())
			}
		}, func() { ignore(c.AcceptStore(ctx, registry.NewStoreIdentity(), registry.StoreMemory{}, kim)) }),
	}
}
