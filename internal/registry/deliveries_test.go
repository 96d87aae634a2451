package registry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
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

// attemptsOf is the first page of an app's attempts.
func attemptsOf(t *testing.T, s fixture, app partner.ClientID, limit int, of tenant.ID) []delivery.Attempt {
	t.Helper()
	list, _, err := s.Attempts(t.Context(), app, registry.AttemptQuery{Tenant: of, Limit: limit})
	noErr(t, "attempts", err)
	return list
}

// TestAttemptsPageByPage: all that is kept can be read, once and in order, while new attempts come to the front and
// old ones drop off the end; of one tenant too.
func TestAttemptsPageByPage(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newFixture(t, rdb, registry.Options{DeliveriesKeep: 1500, IncidentsKeep: time.Hour})
		recorded := 0
		record := func(n int) {
			var list []delivery.Attempt
			for range n {
				list = append(list, attempt(recorded))
				recorded++
			}
			noErr(t, "record", s.RecordAttempts(t.Context(), "app1", list))
		}
		record(1500)
		for _, of := range []tenant.ID{"", "Cust1"} {
			for _, limit := range []int{1, 7, 333, 500} {
				first := int64(recorded - 1) // the newest when the first page is read
				var seen []int64
				pages := 0
				for q := (registry.AttemptQuery{Tenant: of, Limit: limit}); ; pages++ {
					list, next, err := s.Attempts(t.Context(), "app1", q)
					noErr(t, "page", err)
					for _, a := range list {
						seen = append(seen, a.Sequence)
					}
					if next == "" || limit == 1 && pages == 50 {
						break
					}
					q.After = next
					record(3)
				}
				step := int64(1)
				if of != "" {
					for ; first%3 != 1; first-- { // the newest one of the tenant
					}
					step = 3
				}
				for i, n := range seen {
					if want := first - int64(i)*step; n != want {
						t.Fatalf("limit %d of %q: attempt %d is number %d, want %d", limit, of, i, n, want)
					}
				}
				if last := seen[len(seen)-1]; limit != 1 && last-step >= int64(recorded-1500) {
					t.Errorf("limit %d of %q: the last attempt is number %d, and those from %d on are kept", limit, of, last, recorded-1500)
				}
			}
		}
		for _, bad := range []string{"x", "-", "1-", "-1-ab", "99999999999999999999-ab", "5-0000000000000000"} {
			list, next, err := s.Attempts(t.Context(), "app1", registry.AttemptQuery{After: bad})
			if err != nil || len(list) != 0 || next != "" {
				t.Errorf("after %q: %d attempts, next %q, %v", bad, len(list), next, err)
			}
		}
	})
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		s := newFixture(t, rdb, registry.Options{DeliveriesKeep: 700, IncidentsKeep: time.Hour})
		noErr(t, "nothing", s.RecordAttempts(ctx, "app1", nil))
		same(t, "at first", len(attemptsOf(t, s, "app1", 0, "")), 0)
		noErr(t, "record", s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(0), attempt(1)}))
		noErr(t, "record", s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(2)}))
		same(t, "newest first", attemptsOf(t, s, "app1", 0, ""), []delivery.Attempt{attempt(2), attempt(1), attempt(0)})
		same(t, "limited", attemptsOf(t, s, "app1", 1, ""), []delivery.Attempt{attempt(2)})
		same(t, "of one tenant", attemptsOf(t, s, "app1", 1, "Cust1"), []delivery.Attempt{attempt(1)})
		same(t, "of another app", len(attemptsOf(t, s, "app2", 0, "")), 0)

		var many []delivery.Attempt
		for i := range 1300 {
			many = append(many, attempt(i))
		}
		noErr(t, "record many", s.RecordAttempts(ctx, "app1", many))
		key := s.keys.App("app1", keys.AppDeliveries)
		same(t, "kept", rdb.LLen(ctx, key).Val(), int64(700))
		got := attemptsOf(t, s, "app1", 9999, "")
		same(t, "page", len(got), 500)
		same(t, "newest", got[0], attempt(1299))
		same(t, "of one tenant", len(attemptsOf(t, s, "app1", 500, "Cust0")), 234)
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
			_, _, err := s.Attempts(ctx, "app1", registry.AttemptQuery{})
			wantErr(t, v, err, registry.ErrUnreadable)
		}
		s.rdb.Del(ctx, key)
		s.rdb.Set(ctx, key, "x", 0)
		_, _, err := s.Attempts(ctx, "app1", registry.AttemptQuery{})
		wantErr(t, "another type", err, registry.ErrUnreadable)
		if err := s.RecordAttempts(ctx, "app1", []delivery.Attempt{attempt(1)}); err == nil {
			t.Error("recorded into a key of another type")
		}
	})
}
