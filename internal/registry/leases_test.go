package registry_test

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func TestLease(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		take := func(holder string, ttl time.Duration, want bool) {
			t.Helper()
			got, err := s.TakeLease(ctx, "sweep", holder, ttl)
			noErr(t, "lease", err)
			if got != want {
				t.Errorf("%s has the lease: %v, want %v", holder, got, want)
			}
		}
		take("a", time.Minute, true)
		take("b", time.Minute, false)
		take("a", time.Hour, true)
		key := s.keys.Config(keys.ConfigLeases) + ":sweep"
		if ttl := s.rdb.PTTL(ctx, key).Val(); ttl <= time.Minute || ttl > time.Hour {
			t.Errorf("a renewed lease ends in %v", ttl)
		}
		noErr(t, "release by another", s.ReleaseLease(ctx, "sweep", "b"))
		take("b", time.Minute, false)
		if other, err := s.TakeLease(ctx, "gauges", "b", time.Minute); err != nil || !other {
			t.Errorf("another lease: %v, %v", other, err)
		}
		noErr(t, "release", s.ReleaseLease(ctx, "sweep", "a"))
		noErr(t, "release again", s.ReleaseLease(ctx, "sweep", "a"))
		take("b", 0, true)
		redistest.Eventually(t, 5*time.Second, "a lease of no time ends", func() bool {
			if mini := s.rdb.Exists(ctx, key).Val() == 0; mini {
				return true
			}
			s.rdb.PExpire(ctx, key, 0) // the in-process Redis has no clock of its own
			return false
		})
		take("c", time.Minute, true)
	})
}

// TestLeaseOfAFullRedis: the sweep wakes the drains that free memory, so it takes its lease without any.
func TestLeaseOfAFullRedis(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := p.Client(t)
	s := registry.New(rdb, registry.Options{Keyring: testKeyring(t)})
	noErr(t, "fill", rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("a write to a full Redis: %v", err)
	}
	for _, what := range []string{"taken", "renewed"} {
		if held, err := s.TakeLease(t.Context(), "sweep", "a", time.Minute); err != nil || !held {
			t.Errorf("lease not %s: %v, %v", what, held, err)
		}
	}
	if held, err := s.TakeLease(t.Context(), "sweep", "b", time.Minute); err != nil || held {
		t.Errorf("another has the lease: %v, %v", held, err)
	}
}

func TestLeaseHasOneHolder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		var holders atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ok, err := s.TakeLease(t.Context(), "sweep", strconv.Itoa(i), time.Minute)
				if err != nil {
					t.Error(err)
				}
				if ok {
					holders.Add(1)
				}
			})
		}
		wg.Wait()
		same(t, "holders", holders.Load(), int64(1))
	})
}

func TestClaimEnvironment(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		s := newFixture(t, rdb, registry.Options{})
		for range 2 {
			noErr(t, "claim", s.ClaimEnvironment(ctx, partner.Stage))
		}
		err := s.ClaimEnvironment(ctx, partner.Online)
		wantErr(t, "another environment", err, registry.ErrOtherEnvironment)
		for _, word := range []string{"stage", "online", `"test"`, "redis.prefix"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %s: %v", word, err)
			}
		}
		noErr(t, "claim again", s.ClaimEnvironment(ctx, partner.Stage))
		other := registry.New(rdb, registry.Options{Keys: keys.New("other"), Keyring: testKeyring(t)})
		noErr(t, "another prefix", other.ClaimEnvironment(ctx, partner.Online))
	})
}

func TestLeasesWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	_ = rdb.Close()
	if held, err := s.TakeLease(t.Context(), "sweep", "a", time.Minute); held || err == nil {
		t.Errorf("lease without Redis: %v, %v", held, err)
	}
	if err := s.ReleaseLease(t.Context(), "sweep", "a"); err == nil {
		t.Error("released without Redis")
	}
	if err := s.ClaimEnvironment(t.Context(), partner.Online); err == nil {
		t.Error("claimed without Redis")
	}
}
