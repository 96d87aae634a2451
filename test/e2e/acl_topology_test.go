package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

const aclPassword = "correct-horse-battery"

// restrict gives a server the documented user, and has the test fail on anything it refuses.
func restrict(t *testing.T, addr string, commands ...int) {
	t.Helper()
	admin := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { _ = admin.Close() })
	for _, which := range commands {
		if err := admin.Do(t.Context(), aclArguments(t, which, aclPassword)...).Err(); err != nil {
			t.Fatalf("the documented ACL SETUSER: %v", err)
		}
	}
}

// refusals fails the test on what a server refused the documented user.
func refusals(t *testing.T, addr string) {
	t.Helper()
	admin := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer func() { _ = admin.Close() }()
	refused, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range refused {
		t.Errorf("%s refused the documented user: %v", addr, entry)
	}
}

// aclSettings log in as the documented user, with the client certificate of an authority, and wait for a replica.
func aclSettings(a redistest.Authority, more ...string) []string {
	return append([]string{
		"LAMPLIGHTER_REDIS_USERNAME=lamplighter", "LAMPLIGHTER_REDIS_PASSWORD=" + aclPassword, "LAMPLIGHTER_REDIS_WAIT_REPLICAS=1",
		"LAMPLIGHTER_REDIS_TLS_CA=" + a.CA, "LAMPLIGHTER_REDIS_TLS_CERT=" + a.Cert, "LAMPLIGHTER_REDIS_TLS_KEY=" + a.Key,
	}, more...)
}

// underLoad runs an API and two workers under load, lets something happen to Redis, and expects that
// every app ends with the truth.
func underLoad(t *testing.T, s *stack, what string, happen func(fresh func() time.Duration)) {
	t.Helper()
	s.serve("api")
	s.serve("worker")
	s.serve("worker")
	names := tenantNames(200)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		s.register(r, "ES256", names)
	}
	tr := newTruth()
	l := s.load(tr, names, 2, 20)
	redistest.Eventually(t, 60*time.Second, "some load", func() bool { return l.sent.Load() >= 300 })
	happen(func() time.Duration { // how long until another batch is accepted
		began, sent := time.Now(), l.sent.Load()
		redistest.Eventually(t, 60*time.Second, "changes are accepted again", func() bool { return l.sent.Load() >= sent+40 })
		return time.Since(began)
	})
	redistest.Eventually(t, 60*time.Second, "more load", func() bool { return l.sent.Load() >= 600 })
	l.end(t)
	awaitSettled(t, tr, 60*time.Second, rs...)
	s.quiet(rs...)
	report(t, what, tr, l, rs)
	s.agree(tr, rs...)
}

// TestTheDocumentedUserIsEnoughInACluster moves a slot in use under load, and kills the primary of another, over
// TLS with client certificates.
func TestTheDocumentedUserIsEnoughInACluster(t *testing.T) {
	t.Parallel()
	pair := redistest.NewAuthority(t, time.Hour)
	c := redistest.StartTLSCluster(t, 3, true, pair, "--appendonly", "yes")
	for _, p := range append(append([]*redistest.Process{}, c.Primaries...), c.Replicas...) {
		restrict(t, p.Addr, dataUser, clusterUser)
	}
	s := newStackOn(t, c.URL(), aclSettings(pair)...)
	underLoad(t, s, "a Cluster over TLS, a slot move, a failover and the documented ACL user", func(fresh func() time.Duration) {
		ctx := t.Context()
		slot, err := c.Slot(ctx, "lamplighter:{app1}:mailbox")
		if err != nil {
			t.Fatal(err)
		}
		from := c.Holder(ctx, slot)
		to := c.Primaries[0]
		if from == to {
			to = c.Primaries[1]
		}
		if err := c.MoveSlot(ctx, slot, from, to); err != nil {
			t.Fatal(err)
		}
		t.Logf("40 more changes were accepted %v after the slot was moved", fresh().Round(10*time.Millisecond))
		settings, err := c.Slot(ctx, "lamplighter:{config}:apps") // all changes ask for what lies there
		if err != nil {
			t.Fatal(err)
		}
		i, began := slices.Index(c.Primaries, c.Holder(ctx, settings)), time.Now()
		if err := c.FailOver(t, i); err != nil {
			t.Fatal(err)
		}
		back := c.Replicas[i].Addr
		restrict(t, back, dataUser, clusterUser) // its users were in memory, and it knew none when it was back
		if err := c.Replicas[i].Client(t).Do(ctx, "ACL", "LOG", "RESET").Err(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		t.Logf("its replica served, and it was back as a replica, %v after a primary was killed; 40 more changes were accepted %v later",
			took.Round(10*time.Millisecond), fresh().Round(10*time.Millisecond))
	})
	for _, p := range append(append([]*redistest.Process{}, c.Primaries...), c.Replicas...) {
		refusals(t, p.Addr)
	}
}

// TestTheDocumentedUserIsEnoughBehindSentinels kills the primary under load, over TLS with client certificates.
func TestTheDocumentedUserIsEnoughBehindSentinels(t *testing.T) {
	t.Parallel()
	pair := redistest.NewAuthority(t, time.Hour)
	args := func() []string { return append(pair.Args(t), "--appendonly", "yes") }
	primary := redistest.Start(t, args()...)
	// two replicas: with one killed primary there is still one to wait for
	replicas := []*redistest.Process{redistest.StartReplica(t, primary, args()...), redistest.StartReplica(t, primary, args()...)}
	watch := redistest.StartSentinels(t, primary, 3, pair)
	for _, p := range append([]*redistest.Process{primary}, replicas...) {
		restrict(t, p.Addr, dataUser)
	}
	for _, addr := range watch.Addrs {
		restrict(t, addr, sentinelUser)
	}
	s := newStackOn(t, watch.URL(), aclSettings(pair,
		"LAMPLIGHTER_REDIS_SENTINEL_USERNAME=lamplighter", "LAMPLIGHTER_REDIS_SENTINEL_PASSWORD="+aclPassword)...)
	underLoad(t, s, "Sentinel over TLS, a failover and the documented ACL user", func(fresh func() time.Duration) {
		primary.Kill()
		t.Logf("changes were accepted again %v after the primary was killed", fresh().Round(10*time.Millisecond))
	})
	for _, p := range replicas {
		refusals(t, p.Addr)
	}
	for _, addr := range watch.Addrs {
		refusals(t, addr)
	}
}
