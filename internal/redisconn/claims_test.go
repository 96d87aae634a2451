package redisconn_test

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// waits counts the calls of WAIT that a server saw.
func waits(t *testing.T, p *redistest.Process) int {
	t.Helper()
	info, err := p.Client(t).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`cmdstat_wait:calls=(\d+)`).FindStringSubmatch(info)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What a claim rests on, a replica has when it is answered: what it wrote, and what another connection wrote before.
func TestClaimsRestOnWhatReplicasHold(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb, plain, held := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1}), p.Client(t), replica.Client(t)
	ctx := t.Context()
	redistest.Eventually(t, 10*time.Second, "the replica confirms", func() bool {
		plain.Set(ctx, "deposit", 0, 0)
		n, err := plain.Wait(ctx, 1, time.Second).Result()
		return err == nil && n == 1
	})
	before := waits(t, p)
	claim := map[string]func() error{
		"Command": func() error { return rdb.Set(ctx, "claim", "1", 0).Err() },
		"Pipeline": func() error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "claim", "2", 0)
				return nil
			})
			return err
		},
	}
	for name, f := range claim {
		for i := range 200 {
			if err := plain.Set(ctx, "deposit", i, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if err := f(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := held.Get(ctx, "deposit").Int(); err != nil || got != i {
				t.Fatalf("%s: the replica has %d, %v; want %d", name, got, err, i)
			}
		}
	}
	if n := waits(t, p) - before; n != 2*200 {
		t.Errorf("%d waits for 400 claims", n)
	}
}

// A claim is held while a replica is behind, as after a failover. So no partner gets a change that the next failover undoes.
func TestClaimsAreHeldForAReplicaThatFollows(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb, plain, held := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1}), p.Client(t), replica.Client(t)
	ctx := t.Context()
	replica.Freeze()
	if err := plain.Set(ctx, "deposit", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	const claims = 20
	answered := make(chan error, claims)
	for range claims {
		go func() { answered <- rdb.Set(ctx, "claim", "1", 0).Err() }()
	}
	redistest.Eventually(t, 10*time.Second, "claims wait in vain once", func() bool { return waits(t, p) > claims })
	if n := len(answered); n > 0 {
		t.Errorf("%d claims were answered before a replica had them", n)
	}
	replica.Thaw()
	for range claims {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	if got, err := held.Get(ctx, "deposit").Int(); err != nil || got != 1 {
		t.Errorf("the replica has %d, %v when the claims are answered", got, err)
	}
}

// holdClaim makes a claim on a server whose replica is frozen, and returns when it waits. The channel brings its error.
func holdClaim(t *testing.T, p *redistest.Process, rdb redis.UniversalClient) <-chan error {
	t.Helper()
	answered := make(chan error, 1)
	before := waits(t, p)
	go func() { answered <- rdb.Set(t.Context(), "claim", "1", 0).Err() }()
	redistest.Eventually(t, 10*time.Second, "the claim waits", func() bool { return waits(t, p) >= before+2 })
	if len(answered) > 0 {
		t.Error("the claim was answered before the replica had it")
	}
	return answered
}

// New connections, and claims that are given up, do not end the waiting of others.
func TestOtherCommandsDoNotEndTheWaiting(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1, ClientName: "named"})
	replica.Freeze()
	given, cancel := context.WithCancel(t.Context())
	cancel()
	_ = rdb.Set(given, "claim", "0", 0).Err()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_ = rdb.Set(short, "claim", "0", 0).Err()
	answered := holdClaim(t, p, rdb)
	replica.Thaw()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// The next outage is waited for like the first.
func TestEachOutageIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1})
	for range 2 {
		replica.Freeze()
		answered := holdClaim(t, p, rdb)
		replica.Thaw()
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

// A claim whose server is a replica by now fails: what it took is lost.
func TestAHeldClaimFailsWithItsServer(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1})
	replica.Freeze()
	answered := holdClaim(t, p, rdb)
	other := redistest.Start(t)
	host, port, _ := strings.Cut(other.Addr, ":")
	if err := p.Client(t).Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err == nil {
		t.Error("the claim was answered by a server that is a replica now")
	}
	replica.Thaw()
}

// Without replicas claims go on, and only now and then one of them waits.
func TestClaimsGoOnWithoutReplicas(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr), ClaimReplicas: 1})
	for range 2 { // the first is held as long as a replica may need, and the other not at all
		if err := rdb.Set(t.Context(), "claim", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	before := waits(t, p)
	for range 20 {
		if err := rdb.Set(t.Context(), "claim", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := waits(t, p) - before; n > 2 {
		t.Errorf("%d of 20 claims waited long after the replicas were gone", n)
	}
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

// Who claims from a server that is a replica by now is told so, and not that WAIT is for primaries.
func TestClaimsFromAReplica(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb := client(t, redisconn.Options{URL: address("redis://" + replica.Addr), ClaimReplicas: 1})
	if err := rdb.Get(t.Context(), "nothing").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("a read: %v", err)
	}
	var set *redis.StatusCmd
	_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		set = p.Set(t.Context(), "claim", "1", 0)
		return nil
	})
	for _, err := range []error{err, set.Err()} {
		if err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
			t.Errorf("a claim: %v, want READONLY", err)
		}
	}
}
