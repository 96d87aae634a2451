package registry_test

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// manyNodes hides that one connection leads to all of Redis, as in a Cluster.
type manyNodes struct{ redis.UniversalClient }

// order notes the names of commands as they are sent.
type order struct{ sent []string }

func (o *order) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (o *order) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		o.sent = append(o.sent, cmd.Name())
		return next(ctx, cmd)
	}
}

func (o *order) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			o.sent = append(o.sent, cmd.Name())
		}
		return next(ctx, cmds)
	}
}

// Tickets, then records, then approvers: in one round trip where all of Redis is one connection away,
// and the same from many nodes.
func TestOwing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		accept(t, s, change("Cust1", tenant.Suspend), change("Cust2", tenant.Resume))
		done, _ := readForFanout(t, s, "Cust2")
		noErr(t, "clear", s.ClearOwed(ctx, []registry.Cleared{done}))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1", "Cust2"}, "b"))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1"}, "a.1"))
		// read by nobody, since nothing is owed
		noErr(t, "spoil", s.rdb.SAdd(ctx, s.keys.Tenant("Cust2", keys.TenantApprovals), "no client id").Err())

		ids := []tenant.ID{"Cust1", "Nobody", "Cust2"}
		o := &order{}
		s.rdb.AddHook(o)
		var got []registry.Owing
		if n := s.cmds.during(func() { got = must[[]registry.Owing](t)(s.Owing(ctx, ids)) }); n != 1 {
			t.Errorf("took %d round trips", n)
		}
		same(t, "order", o.sent, []string{"zmscore", "hgetall", "hgetall", "hgetall", "smembers", "smembers", "smembers"})
		far := registry.New(manyNodes{s.rdb}, registry.Options{Keys: s.keys, Keyring: testKeyring(t)})
		o.sent = nil
		same(t, "from many nodes", must[[]registry.Owing](t)(far.Owing(ctx, ids)), got)
		same(t, "order", slices.Compact(o.sent), []string{"zmscore", "hgetall", "smembers"})

		same(t, "how many", len(got), 3)
		for i, id := range ids {
			same(t, "view of "+string(id), got[i].View, must[registry.TenantView](t)(s.Tenant(ctx, id)))
			same(t, "ticket of "+string(id), got[i].Ticket, must[[]int64](t)(s.Tickets(ctx, ids))[i])
		}
		same(t, "approvers", got[0].Approvers, []partner.ClientID{"a.1", "b"})
		if got[0].Ticket == 0 || got[1].View.Known || got[1].Approvers != nil || got[2].Approvers != nil {
			t.Errorf("owing: %+v", got)
		}
		same(t, "of nobody", len(must[[]registry.Owing](t)(s.Owing(ctx, nil))), 0)
	})
}

// What cannot be read fails the fan-out that needs it.
func TestOwingUnreadable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		accept(t, s, change("Cust1", tenant.Suspend), change("Cust2", tenant.Resume))
		for _, store := range []*registry.Store{s.Store, registry.New(manyNodes{s.rdb}, registry.Options{Keys: s.keys, Keyring: testKeyring(t)})} {
			key := s.keys.Tenant("Cust1", keys.TenantApprovals)
			noErr(t, "spoil", s.rdb.SAdd(ctx, key, "no client id").Err())
			_, err := store.Owing(ctx, []tenant.ID{"Cust1"})
			wantErr(t, "approvers", err, registry.ErrUnreadable)
			noErr(t, "mend", s.rdb.Del(ctx, key).Err())
			key = s.keys.Tenant("Cust2", keys.TenantRecord)
			top := must[string](t)(s.rdb.HGet(ctx, key, "top").Result())
			noErr(t, "spoil", s.rdb.HSet(ctx, key, "top", "x").Err())
			_, err = store.Owing(ctx, []tenant.ID{"Cust1", "Cust2"})
			wantErr(t, "record", err, registry.ErrUnreadable)
			noErr(t, "mend", s.rdb.HSet(ctx, key, "top", top).Err())
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Owing(canceled, []tenant.ID{"Cust1"}); err == nil {
			t.Error("no error from a Redis that does not answer")
		}
	})
}
