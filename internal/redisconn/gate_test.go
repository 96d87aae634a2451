package redisconn_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestGate: while it is shut no command that names a key reaches the server, whichever way it is sent, and
// connections are made all the same.
func TestGate(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, ClientName: "gated"})
	t.Cleanup(func() { _ = rdb.Close() })
	var gate redisconn.Blocker
	rdb.AddHook(&gate)
	ctx := t.Context()
	reason := errors.New("other data")
	script := redis.NewScript(`return redis.call('SET', KEYS[1], '1')`)
	ways := map[string]func() error{
		"Command":  func() error { return rdb.Set(ctx, "a", 1, 0).Err() },
		"Read":     func() error { return rdb.Get(ctx, "there").Err() },
		"Script":   func() error { return script.Run(ctx, rdb, []string{"b"}).Err() },
		"Load":     func() error { return script.Load(ctx, rdb).Err() },
		"Blocking": func() error { return rdb.BLPop(ctx, time.Second, "list").Err() },
		"Pipeline": func() error {
			var set *redis.StatusCmd
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Ping(ctx)
				set = p.Set(ctx, "c", 1, 0)
				return nil
			})
			if set.Err() == nil {
				return nil
			}
			return err
		},
		"Transaction": func() error {
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "d", 1, 0).Err() })
			return err
		},
	}
	gate.Block(reason) // before the first connection
	for name, way := range ways {
		if err := way(); !errors.Is(err, reason) {
			t.Errorf("%s = %v, want the reason", name, err)
		}
	}
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Errorf("ping: %v", err)
	}
	if _, err := redisconn.Inspect(ctx, rdb); err != nil {
		t.Errorf("inspect: %v", err)
	}
	if err := rdb.Set(gate.Bypass(ctx), "there", 1, 0).Err(); err != nil {
		t.Errorf("past the gate: %v", err)
	}
	if n := rdb.DBSize(gate.Bypass(ctx)).Val(); n != 1 {
		t.Errorf("%d keys, want the one that was set past the gate", n)
	}
	gate.Unblock()
	for name, way := range ways {
		if err := way(); err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("open: %s = %v", name, err)
		}
	}
}
