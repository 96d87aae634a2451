package fanout_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// While no replica has a change, nothing carries it into a mailbox: no fan-out and no resync. A
// failover would take it back, and the partner would have been told a state that never was.
func TestOnlyWhatReplicasHoldIsDeposited(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	durable, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = durable.Close() })
	plain := p.Client(t)
	// The mailboxes are written without waiting: what keeps changes out is how the records are read.
	s, accepter := newShimOn(t, plain, durable), newShim(t, plain)
	s.app("app1", "https://app1.example/")
	ctx, actor := t.Context(), registry.Actor{Name: "test"}
	ids := []tenant.ID{"Cust1"}
	if err := s.approvals().Approve(ctx, "app1", ids, actor); err != nil {
		t.Fatal(err)
	}
	replica.Freeze()
	defer replica.Thaw()
	accepter.accept("Cust1", tenant.Suspend)
	for name, f := range map[string]func() error{
		"fan-out": func() error { return s.fanout().Run(ctx, ids) },
		"resync":  func() error { _, err := s.approvals().Resync(ctx, "app1", ids); return err },
	} {
		var few *redisconn.ReplicasError
		if err := f(); !errors.As(err, &few) {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.standing("app1", "Cust1"); got.HasPending() || got.Known != 0 {
			t.Errorf("%s brought what no replica has into the mailbox: %+v", name, got)
		}
	}
	replica.Thaw()
	redistest.Eventually(t, 20*time.Second, "the fan-out goes on", func() bool { return s.fanout().Run(ctx, ids) == nil })
	if s.standing("app1", "Cust1").Entries[tenant.SlotStatus] == nil {
		t.Error("the change is in no mailbox although replicas have it")
	}
}
