package registry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func attempt(n int) delivery.Attempt {
	return delivery.Attempt{
		At: t0.Add(time.Duration(n) * time.Second), ClientID: "app1", Tenant: tenant.ID(fmt.Sprint("Cust", n%3)), ChangeID: "chg_x_1",
		WebhookID: "chg_x_1", ChangeType: "suspend", Sequence: int64(n), Number: 1, Superseded: 2, Outcome: "retryable",
		Reason: "server_error", Status: 503, DurationMS: 12, Detail: "it answered with \"503\"", Excerpt: "<h1>Ø\n</h1>",
		NextAttemptAt: t0.Add(time.Hour),
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		s := newFixture(t, rdb, registry.Options{DeliveriesKeep: 700, IncidentsKeep: time.Hour})
		noErr(t, "nothing", s.RecordAttempts(ctx, "app1", nil))
		same(t, "at first", len(must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 0, ""))), 0)
		noErr(t, "record", s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(0), attempt(1)}))
		noErr(t, "record", s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(2)}))
		same(t, "newest first", must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 0, "")), []delivery.Attempt{attempt(2), attempt(1), attempt(0)})
		same(t, "limited", must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 1, "")), []delivery.Attempt{attempt(2)})
		same(t, "of one tenant", must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 1, "Cust1")), []delivery.Attempt{attempt(1)})
		same(t, "of another app", len(must[[]delivery.Attempt](t)(s.Attempts(ctx, "app2", 0, ""))), 0)

		var many []delivery.Attempt
		for i := range 1300 {
			many = append(many, attempt(i))
		}
		noErr(t, "record many", s.RecordAttempts(ctx, "app1", many))
		key := s.keys.App("app1", keys.AppDeliveries)
		same(t, "kept", rdb.LLen(ctx, key).Val(), int64(700))
		got := must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 9999, ""))
		same(t, "page", len(got), 500)
		same(t, "newest", got[0], attempt(1299))
		same(t, "of one tenant", len(must[[]delivery.Attempt](t)(s.Attempts(ctx, "app1", 500, "Cust0"))), 234)
		if ttl := rdb.PTTL(ctx, key).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("the list is kept for %v, want 1 h", ttl)
		}
	})
}

func TestUnreadableAttempts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		key := s.keys.App("app1", keys.AppDeliveries)
		for _, v := range []string{"", "x", `{"v":2}`, `{"at":"2026-01-01T00:00:00Z"}`, `{"v":1,"sequence":"five"}`} {
			s.rdb.Del(ctx, key)
			s.rdb.LPush(ctx, key, v)
			_, err := s.Attempts(ctx, "app1", 0, "")
			wantErr(t, v, err, registry.ErrUnreadable)
		}
		s.rdb.Del(ctx, key)
		s.rdb.Set(ctx, key, "x", 0)
		_, err := s.Attempts(ctx, "app1", 0, "")
		wantErr(t, "another type", err, registry.ErrUnreadable)
		if err := s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(1)}); err == nil {
			t.Error("recorded into a key of another type")
		}
	})
}
