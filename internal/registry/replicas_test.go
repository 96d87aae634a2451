package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestAcceptedMeansReplicated freezes the only replica: a change is then written, but not answered
// as accepted, and neither is a repeat, which writes nothing new. Once the replica is back, the
// repeat gets the first answer.
func TestAcceptedMeansReplicated(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.StartReplica(t, p)
	connect := func(wait int) redisconn.Options {
		return redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: wait}
	}
	durable, err := redisconn.New(connect(1))
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = durable.Close() })
	rdb, err := redisconn.New(connect(0))
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = rdb.Close() })
	s := registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: testKeyring(t), Durable: durable})
	ctx := t.Context()
	once := func(key string) (registry.Accepted, error) {
		r := change("Cust1", tenant.Suspend)
		r.IdempotencyKey = key
		results, err := s.Accept(ctx, []registry.ChangeRequest{r})
		if err != nil {
			return registry.Accepted{}, err
		}
		return results[0].Accepted, results[0].Err
	}
	first, err := once("k1")
	noErr(t, "accept with a replica", err)
	replica.Freeze()
	defer replica.Thaw()
	var few *redisconn.ReplicasError
	for _, what := range []string{"the change", "its repeat"} {
		if _, err := once("k2"); !errors.As(err, &few) {
			t.Errorf("%s was accepted without a replica: %v", what, err)
		}
	}
	got, err := s.Tenants(ctx, []tenant.ID{"Cust1"})
	noErr(t, "read", err)
	if got[0].Record.Top <= first.Sequence {
		t.Error("nothing was written, so that the repeat proves nothing")
	}
	written := got[0].Record.Top
	replica.Thaw()
	var again registry.Accepted
	redistest.Eventually(t, 20*time.Second, "the repeat is accepted", func() bool {
		again, err = once("k2")
		return err == nil
	})
	if !again.Replayed || again.Sequence != written {
		t.Errorf("the repeat got sequence %d (replayed: %v), want the first's, %d", again.Sequence, again.Replayed, written)
	}
}
