package mailbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestSupersededIsCountedUntilTheMailboxIsEmpty follows the figure that a recovery mail names.
func TestSupersededIsCountedUntilTheMailboxIsEmpty(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := mailbox.New(rdb, keys.New(""), mailbox.Settings{})
		ctx := t.Context()
		superseded := func() int64 {
			t.Helper()
			v, err := s.View(ctx, "app1")
			if err != nil {
				t.Fatal(err)
			}
			return v.Superseded
		}
		if _, err := s.Approve(ctx, mailbox.Life{App: "app1"}, 0, []mailbox.Admission{{Tenant: "c1"}}); err != nil {
			t.Fatal(err)
		}
		for seq := int64(1); seq <= 4; seq++ {
			c := tenant.Change{ID: tenant.FormatChangeID("c1", seq), Tenant: "c1", Type: tenant.Suspend}
			rec := tenant.Record{Tenant: "c1", Top: seq, Heads: [tenant.Slots]tenant.Head{{Sequence: seq, Change: c}}}
			if _, err := s.Deposit(ctx, mailbox.Life{App: "app1"}, c.ID, []tenant.Record{rec}); err != nil {
				t.Fatal(err)
			}
		}
		if n := superseded(); n != 3 {
			t.Errorf("after four changes %d superseded, want 3", n)
		}
		if _, err := s.Begin(ctx, mailbox.Life{App: "app1"}, "token", 0); err != nil {
			t.Fatal(err)
		}
		x, err := s.Exchange(ctx, mailbox.Life{App: "app1"}, "token", 1, nil)
		if err != nil || len(x.Claims) != 1 {
			t.Fatalf("claims %v, %v", x.Claims, err)
		}
		if _, err := s.Exchange(ctx, mailbox.Life{App: "app1"}, "token", 0, []mailbox.Settlement{{Claim: x.Claims[0], Result: mailbox.OK}}); err != nil {
			t.Fatal(err)
		}
		if n := superseded(); n != 0 {
			t.Errorf("an empty mailbox tells of %d superseded", n)
		}
	})
}

// Each tenant flaps ten times while its app is down: on recovery the app hears each tenant's last
// status once, however the backlog is split into claims, and what stayed between was never kept.
func TestFlappingTenantsAreToldOnce(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		const tenants, flaps = 150, 10
		ids := make([]tenant.ID, tenants)
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprintf("t%03d", i))
		}
		b.approved(1, ids...)
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 100 * time.Millisecond})
		for flap := range flaps {
			recs := make([]tenant.Record, tenants)
			for i, id := range ids {
				recs[i] = story(id, fmt.Sprintf("%s%d", []string{"suspend", "resume"}[flap%2], 5+flap))
			}
			b.deposit(b.nonce(), recs...)
		}
		if v := b.view(); v.Waiting != tenants || v.Superseded != tenants*(flaps-1) {
			b.Errorf("%d wait, %d superseded", v.Waiting, v.Superseded)
		}
		b.pass(100 * time.Millisecond)
		b.own("d2")
		posts := map[tenant.ID]int{}
		for {
			x := b.exchange("d2", 40)
			if len(x.Claims) == 0 {
				break
			}
			for _, c := range x.Claims {
				posts[c.Tenant]++
				if got := b.words(c.Tenant, c.Entry); got != "resume14+9" {
					b.Fatalf("told %s, want resume14+9", got)
				}
				b.exchange("d2", 0, ok(c))
			}
		}
		if len(posts) != tenants {
			b.Errorf("%d tenants told, want %d", len(posts), tenants)
		}
		for id, n := range posts {
			if n != 1 {
				b.Errorf("tenant %s was told %d times", id, n)
			}
		}
	})
}
