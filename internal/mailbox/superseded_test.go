package mailbox_test

import (
	"testing"

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
		if _, err := s.Approve(ctx, "app1", 0, []mailbox.Admission{{Tenant: "c1"}}); err != nil {
			t.Fatal(err)
		}
		for seq := int64(1); seq <= 4; seq++ {
			c := tenant.Change{ID: tenant.ChangeID("c1", seq), Tenant: "c1", Type: tenant.Suspend}
			rec := tenant.Record{Tenant: "c1", Top: seq, Heads: [tenant.Slots]tenant.Head{{Sequence: seq, Change: c}}}
			if _, err := s.Deposit(ctx, "app1", c.ID, []tenant.Record{rec}); err != nil {
				t.Fatal(err)
			}
		}
		if n := superseded(); n != 3 {
			t.Errorf("after four changes %d superseded, want 3", n)
		}
		if _, err := s.Begin(ctx, "app1", "token", 0); err != nil {
			t.Fatal(err)
		}
		x, err := s.Exchange(ctx, "app1", "token", 1, nil)
		if err != nil || len(x.Claims) != 1 {
			t.Fatalf("claims %v, %v", x.Claims, err)
		}
		if _, err := s.Exchange(ctx, "app1", "token", 0, []mailbox.Settlement{{Claim: x.Claims[0], Verdict: mailbox.OK}}); err != nil {
			t.Fatal(err)
		}
		if n := superseded(); n != 0 {
			t.Errorf("an empty mailbox tells of %d superseded", n)
		}
	})
}
