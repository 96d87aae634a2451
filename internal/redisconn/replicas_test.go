package redisconn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// short reports whether an error says that got of one replica confirmed.
func short(err error, got int) bool {
	var few *redisconn.ReplicasError
	if !errors.As(err, &few) {
		return false
	}
	confirmed, asked := few.Replicas()
	return confirmed == got && asked == 1
}

func TestAnswersWaitForReplicas(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), WaitReplicas: 1})
	ctx := t.Context()
	if err := rdb.Set(ctx, "alone", "1", 0).Err(); !short(err, 0) {
		t.Fatalf("a write without any replica: %v", err)
	}
	replica := redistest.StartReplica(t, p)
	script := redis.NewScript(`redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]`)
	write := map[string]func(ctx context.Context) error{
		"Command": func(ctx context.Context) error { return rdb.Set(ctx, "k", "v", 0).Err() },
		"Script":  func(ctx context.Context) error { return script.Run(ctx, rdb, []string{"k"}, "v").Err() },
		"Pipeline": func(ctx context.Context) error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.SAdd(ctx, "s", 1)
				p.SAdd(ctx, "s", 2)
				return nil
			})
			return err
		},
	}
	for name, f := range write {
		if err := f(ctx); err != nil {
			t.Fatalf("%s with a replica: %v", name, err)
		}
	}
	replica.Freeze()
	defer replica.Thaw()
	for name, f := range write {
		if err := f(ctx); !short(err, 0) {
			t.Errorf("%s while the replica is frozen: %v", name, err)
		}
	}
	quick, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if err := rdb.Set(quick, "k", "v", 0).Err(); !short(err, 0) && !errors.Is(err, context.DeadlineExceeded) { // the latter on a machine too busy to answer in time
		t.Errorf("a write whose caller waits 500 ms: %v", err)
	}
	if v, err := rdb.Get(ctx, "k").Result(); !short(err, 0) || v != "v" {
		t.Errorf("a read while the replica is frozen: %q, %v", v, err)
	}
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Errorf("a PING, which rests on no key: %v", err)
	}
	replica.Thaw()
	redistest.Eventually(t, 20*time.Second, "a write is confirmed again", func() bool { return write["Script"](ctx) == nil })
}

// TestPatienceEndsBeforeTheCaller: replicas are waited for as long as the caller does, less what the answer takes.
func TestPatienceEndsBeforeTheCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if d := redisconn.Patience(t.Context()); d != time.Second {
			t.Errorf("without a deadline %v", d)
		}
		for within, want := range map[time.Duration]time.Duration{
			time.Minute: time.Second, 500 * time.Millisecond: 350 * time.Millisecond, 100 * time.Millisecond: time.Millisecond, -time.Second: time.Millisecond,
		} {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(within))
			if d := redisconn.Patience(ctx); d != want {
				t.Errorf("of %v the replicas get %v, want %v", within, d, want)
			}
			cancel()
		}
	})
}

// TestOnlyWhatSucceededFailsForReplicas keeps each command's own error.
func TestOnlyWhatSucceededFailsForReplicas(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), WaitReplicas: 1})
	ctx := t.Context()
	_ = rdb.Set(ctx, "text", "1", 0).Err()
	var wrong, right *redis.IntCmd
	var read *redis.StringCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		wrong = p.SAdd(ctx, "text", 1)
		right = p.SAdd(ctx, "set", 1)
		read = p.Get(ctx, "text")
		return nil
	})
	if err == nil || !redis.HasErrorPrefix(wrong.Err(), "WRONGTYPE") || !short(right.Err(), 0) || !short(read.Err(), 0) || read.Val() != "1" {
		t.Errorf("pipeline: %v; %v; %v; %v", err, wrong.Err(), right.Err(), read.Err())
	}
	err = redis.NewScript("return 1 -- never sent before").EvalSha(ctx, rdb, []string{"k"}).Err()
	if !redis.HasErrorPrefix(err, "NOSCRIPT") {
		t.Errorf("an unknown script: %v", err)
	}
}

// TestEveryAnswerMovesTheOffset asks what changes nothing of keys of all kinds: each answer moves the
// replication offset, on which WAIT rests since Redis 7.2, and the key stays as it was.
func TestEveryAnswerMovesTheOffset(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	redistest.StartReplica(t, p)
	rdb, plain := client(t, redisconn.Options{URL: address("redis://" + p.Addr), WaitReplicas: 1}), p.Client(t)
	ctx := t.Context()
	for name, make := range map[string]func() error{
		"absent":  func() error { return nil },
		"string":  func() error { return plain.Set(ctx, "string", "v", 0).Err() },
		"lasting": func() error { return plain.Set(ctx, "lasting", "v", time.Hour).Err() },
		"hash":    func() error { return plain.HSet(ctx, "hash", "f", "v").Err() },
		"set":     func() error { return plain.SAdd(ctx, "set", "m").Err() },
		"zset":    func() error { return plain.ZAdd(ctx, "zset", redis.Z{Member: "m", Score: 1}).Err() },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		dump, left := plain.Dump(ctx, name).Val(), plain.PTTL(ctx, name).Val()
		for what, f := range map[string]func() error{
			"a script": func() error { return rdb.Eval(ctx, "return 1", []string{name}).Err() },
			"a read":   func() error { return rdb.Exists(ctx, name).Err() },
			"a pipeline": func() error {
				_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					p.Ping(ctx)
					p.Type(ctx, name)
					return nil
				})
				return err
			},
		} {
			before := redistest.Written(t, plain)
			if err := f(); err != nil {
				t.Errorf("%s of %s: %v", what, name, err)
			}
			if after := redistest.Written(t, plain); !after.Beyond(before) {
				t.Errorf("%s of %s: %+v before, %+v after", what, name, before, after)
			}
		}
		if got := plain.Dump(ctx, name).Val(); got != dump {
			t.Errorf("%s became another", name)
		}
		switch now := plain.PTTL(ctx, name).Val(); {
		case left < 0 && now != left, left > 0 && (now <= 0 || now > left+10*time.Millisecond):
			t.Errorf("%s had %v to live, now %v", name, left, now)
		}
	}
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "string", "w", 0).Err() })
	if err == nil || plain.Get(ctx, "string").Val() != "v" {
		t.Errorf("a transaction, which cannot wait: %v", err)
	}
}

func TestClusterWritesWaitForReplicasOfTheirNode(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, true)
	rdb := client(t, redisconn.Options{URL: address(c.URL()), WaitReplicas: 1})
	ctx := t.Context()
	names := []string{"{a}", "{b}", "{c}", "{d}", "{e}", "{f}", "{g}", "{h}"}
	all := func() map[string]error {
		out := map[string]error{}
		cmds := map[string]*redis.StatusCmd{}
		_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, n := range names {
				cmds[n] = p.Set(ctx, n, "v", 0)
			}
			return nil
		})
		for n, cmd := range cmds {
			out[n] = cmd.Err()
		}
		return out
	}
	redistest.Eventually(t, 20*time.Second, "every node's replica confirms", func() bool {
		for _, err := range all() {
			if err != nil {
				return false
			}
		}
		return rdb.Set(ctx, "{a}", "v", 0).Err() == nil
	})
	c.Replicas[0].Freeze()
	defer c.Replicas[0].Thaw()
	held, free := 0, 0
	for n, err := range all() {
		slot, slotErr := c.Slot(ctx, n)
		if slotErr != nil {
			t.Fatal(slotErr)
		}
		mine := c.Holder(ctx, slot) == c.Primaries[0]
		switch {
		case mine && short(err, 0):
			held++
		case !mine && err == nil:
			free++
		default:
			t.Errorf("key %s, on the node whose replica is frozen: %v; error %v", n, mine, err)
		}
	}
	if held == 0 || free == 0 {
		t.Errorf("%d keys held back, %d not: the keys do not cover both", held, free)
	}
}

// TestSlotMovesUnderWritesThatWait moves a slot while it is written to: redirected writes wait for
// the replica of the node they end at.
func TestSlotMovesUnderWritesThatWait(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, true)
	rdb := client(t, redisconn.Options{URL: address(c.URL()), WaitReplicas: 1})
	ctx := t.Context()
	const key = "{moved}:n"
	script := redis.NewScript(`return redis.call('INCR', KEYS[1])`)
	slot, err := c.Slot(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	from := c.Holder(ctx, slot)
	to := c.Primaries[0]
	if from == to {
		to = c.Primaries[1]
	}
	redistest.Eventually(t, 20*time.Second, "the cluster takes writes", func() bool { return script.Run(ctx, rdb, []string{key}).Err() == nil })
	before, err := rdb.Get(ctx, key).Int()
	if err != nil {
		t.Fatal(err)
	}
	moved := make(chan error, 1)
	go func() { moved <- c.MoveSlot(ctx, slot, from, to) }()
	counted := 0
	for done := false; !done; {
		select {
		case err := <-moved:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		if err := script.Run(ctx, rdb, []string{key}).Err(); err != nil {
			t.Errorf("a write during the move: %v", err)
			break
		}
		counted++
	}
	for range 20 {
		if err := script.Run(ctx, rdb, []string{key}).Err(); err != nil {
			t.Errorf("a write after the move: %v", err)
		}
		counted++
	}
	if n, err := rdb.Get(ctx, key).Int(); err != nil || n != before+counted {
		t.Errorf("counted %d writes on top of %d, Redis has %d: %v", counted, before, n, err)
	}
	if c.Holder(ctx, slot) != to {
		t.Error("the slot did not move, so that the test proves nothing")
	}
}
