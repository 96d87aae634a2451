package registry_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func onceOf(key string) registry.IdempotencyRecord {
	return registry.IdempotencyRecord{Caller: "admin\nKim", Key: key, Digest: "d1", Within: time.Minute}
}

// onceNames finds the stored keys of a kind.
func onceNames(t *testing.T, s fixture, kind keys.ConfigKey) []string {
	t.Helper()
	return must[[]string](t)(s.rdb.Keys(t.Context(), s.keys.Config(kind)+":*").Result())
}

func TestOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx, o := t.Context(), onceOf("k")
		begun := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		same(t, "first", begun.State, registry.IdempotencyRun)
		busy := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		if busy.State != registry.IdempotencyBusy || busy.Wait <= 0 || busy.Wait > time.Minute {
			t.Errorf("while it runs: %+v", busy)
		}
		other := o
		other.Digest = "d2"
		_, err := s.ClaimIdempotencyKey(ctx, other)
		wantErr(t, "another request", err, registry.ErrKeyReused)
		same(t, "another's run settles", must[bool](t)(s.SettleIdempotencyKey(ctx, o, "somebody", []byte("x"))), false)

		same(t, "settles", must[bool](t)(s.SettleIdempotencyKey(ctx, o, begun.Run, []byte("the outcome"))), true)
		done := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		if done.State != registry.IdempotencyDone || string(done.Answer) != "the outcome" {
			t.Errorf("afterwards: %+v", done)
		}
		_, err = s.ClaimIdempotencyKey(ctx, other)
		wantErr(t, "another request afterwards", err, registry.ErrKeyReused)
		name := onceNames(t, s, keys.ConfigOnce)[0]
		if text := fmt.Sprint(s.rdb.HGetAll(ctx, name).Val()); strings.Contains(text, "the outcome") {
			t.Errorf("stored in the clear: %s", text)
		}
		if left := s.rdb.PTTL(ctx, name).Val(); left <= 0 || left > registry.DefaultIdempotencyKeep {
			t.Errorf("kept for %v", left)
		}
		stranger := o
		stranger.Caller = "operator\nKim"
		same(t, "another caller", must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, stranger)).State, registry.IdempotencyRun)
	})
}

func TestOnceForgotten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx, o := t.Context(), onceOf("k")
		begun := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		same(t, "forgets", must[bool](t)(s.SettleIdempotencyKey(ctx, o, begun.Run, nil)), true)
		same(t, "forgets again", must[bool](t)(s.SettleIdempotencyKey(ctx, o, begun.Run, nil)), false)
		same(t, "keys left", len(onceNames(t, s, keys.ConfigOnce))+len(onceNames(t, s, keys.ConfigOnceOf)), 0)
		o.Digest = "put right"
		same(t, "again", must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o)).State, registry.IdempotencyRun)
	})
}

// TestOnceAfterACrash: a run that died gives way when its claim ends, and can settle no more.
func TestOnceAfterACrash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx, o := t.Context(), onceOf("k")
		o.Within = 0 // its claim ends at once
		dead := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		next := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		same(t, "the next", next.State, registry.IdempotencyRun)
		same(t, "the dead settles", must[bool](t)(s.SettleIdempotencyKey(ctx, o, dead.Run, []byte("dead"))), false)
		same(t, "the next settles", must[bool](t)(s.SettleIdempotencyKey(ctx, o, next.Run, []byte("alive"))), true)
		same(t, "outcome", string(must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o)).Answer), "alive")
	})
}

func TestOnceIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx, o := t.Context(), onceOf("k0")
		must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		of := onceNames(t, s, keys.ConfigOnceOf)[0]
		in := float64(time.Now().Add(time.Hour).UnixMilli())
		for n := range registry.IdempotencyKeysMax / 1000 {
			members := make([]redis.Z, 1000)
			for i := range members {
				members[i] = redis.Z{Score: in, Member: fmt.Sprint(n, " ", i)}
			}
			noErr(t, "fill", s.rdb.ZAdd(ctx, of, members...).Err())
		}
		full := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, onceOf("k1")))
		if full.State != registry.IdempotencyFull || full.Wait <= 0 || full.Wait > time.Hour+time.Minute {
			t.Errorf("with too many keys: %+v", full)
		}
		same(t, "its own key", must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o)).State, registry.IdempotencyBusy)
		_, err := s.rdb.ZAdd(ctx, of, redis.Z{Score: 1, Member: "0 0"}, redis.Z{Score: 1, Member: "0 1"}).Result()
		noErr(t, "lapse", err)
		same(t, "when some lapsed", must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, onceOf("k1"))).State, registry.IdempotencyRun)
	})
}

func TestOnceTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		var runs atomic.Int64
		var work sync.WaitGroup
		for range 20 {
			work.Go(func() {
				b, err := s.ClaimIdempotencyKey(t.Context(), onceOf("k"))
				if err != nil {
					t.Error(err)
				}
				if b.State == registry.IdempotencyRun {
					runs.Add(1)
				}
			})
		}
		work.Wait()
		same(t, "runs", runs.Load(), int64(1))
	})
}

func TestOnceUnreadable(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, o := t.Context(), onceOf("k")
		s := newFixture(t, rdb, registry.Options{Keyring: secret.NewKeyring(keyOf(t, "a"))})
		b := must[registry.IdempotencyClaim](t)(s.ClaimIdempotencyKey(ctx, o))
		must[bool](t)(s.SettleIdempotencyKey(ctx, o, b.Run, []byte("x")))
		s = newFixture(t, rdb, registry.Options{Keyring: secret.NewKeyring(keyOf(t, "b"))})
		_, err := s.ClaimIdempotencyKey(ctx, o)
		wantErr(t, "its key is gone", err, registry.ErrUnreadable)
		name := onceNames(t, s, keys.ConfigOnce)[0]
		noErr(t, "another format", rdb.HSet(ctx, name, "v", "2").Err())
		_, err = s.ClaimIdempotencyKey(ctx, o)
		wantErr(t, "another format", err, registry.ErrUnreadable)
		noErr(t, "another type", rdb.Set(ctx, name, "x", 0).Err())
		_, err = s.ClaimIdempotencyKey(ctx, o)
		wantErr(t, "another type", err, registry.ErrUnreadable)
	})
}
