package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
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
		noErr(t, "clear", s.CompleteFanouts(ctx, []registry.CompletedFanout{done}))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1", "Cust2"}, "b"))
		noErr(t, "approve", s.AddApprover(ctx, []tenant.ID{"Cust1"}, "a.1"))
		// read by nobody, since nothing is owed
		noErr(t, "spoil", s.rdb.SAdd(ctx, s.keys.Tenant("Cust2", keys.TenantApprovals), "no client id").Err())

		ids := []tenant.ID{"Cust1", "Nobody", "Cust2"}
		o := &order{}
		s.rdb.AddHook(o)
		var got []registry.FanoutInput
		if n := s.cmds.during(func() { got = must[[]registry.FanoutInput](t)(s.ReadFanoutInputs(ctx, ids, 100)) }); n != 1 {
			t.Errorf("took %d round trips", n)
		}
		same(t, "order", o.sent, []string{"zmscore", "hgetall", "hgetall", "hgetall", "sscan", "sscan", "sscan"})
		far := registry.New(manyNodes{s.rdb}, registry.Options{Keys: s.keys, Keyring: testKeyring(t)})
		o.sent = nil
		same(t, "from many nodes", must[[]registry.FanoutInput](t)(far.ReadFanoutInputs(ctx, ids, 100)), got, ownFields)
		same(t, "order", slices.Compact(o.sent), []string{"zmscore", "hgetall", "sscan"})

		same(t, "how many", len(got), 3)
		for i, id := range ids {
			same(t, "view of "+string(id), got[i].View, must[registry.TenantView](t)(s.Tenant(ctx, id)))
			same(t, "ticket of "+string(id), got[i].Ticket, must[[]int64](t)(s.ReadTickets(ctx, ids))[i])
		}
		slices.Sort(got[0].Approvers)
		same(t, "approvers", got[0].Approvers, []partner.ClientID{"a.1", "b"})
		if got[0].Ticket == 0 || got[1].View.Known || got[1].Approvers != nil || got[2].Approvers != nil {
			t.Errorf("owing: %+v", got)
		}
		same(t, "of nobody", len(must[[]registry.FanoutInput](t)(s.ReadFanoutInputs(ctx, nil, 100))), 0)
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
			_, err := store.ReadFanoutInputs(ctx, []tenant.ID{"Cust1"}, 100)
			wantErr(t, "approvers", err, registry.ErrUnreadable)
			noErr(t, "mend", s.rdb.Del(ctx, key).Err())
			key = s.keys.Tenant("Cust2", keys.TenantRecord)
			top := must[string](t)(s.rdb.HGet(ctx, key, "top").Result())
			noErr(t, "spoil", s.rdb.HSet(ctx, key, "top", "x").Err())
			_, err = store.ReadFanoutInputs(ctx, []tenant.ID{"Cust1", "Cust2"}, 100)
			wantErr(t, "record", err, registry.ErrUnreadable)
			noErr(t, "mend", s.rdb.HSet(ctx, key, "top", top).Err())
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.ReadFanoutInputs(canceled, []tenant.ID{"Cust1"}, 100); err == nil {
			t.Error("no error from a Redis that does not answer")
		}
	})
}

// ownFields lets what a tenant's read goes on from be compared too.
var ownFields = cmp.Exporter(func(reflect.Type) bool { return true }) //nolint:gochecknoglobals // never changed

// crowd lets n apps be approved by a tenant whose fan-out is owed.
func crowd(t *testing.T, s fixture, id tenant.ID, n int) []partner.ClientID {
	t.Helper()
	accept(t, s, change(id, tenant.Suspend))
	apps, members := make([]partner.ClientID, n), make([]any, n)
	for i := range apps {
		apps[i] = partner.ClientID(fmt.Sprintf("app%05d", i))
		members[i] = string(apps[i])
	}
	noErr(t, "approve", s.rdb.SAdd(t.Context(), s.keys.Tenant(id, keys.TenantApprovals), members...).Err())
	return apps
}

// readAll reads all pages of approvers, and returns the most that a page held.
func readAll(t *testing.T, s *registry.Store, ids []tenant.ID, page int) (all [][]partner.ClientID, most int) {
	t.Helper()
	read := must[[]registry.FanoutInput](t)(s.ReadFanoutInputs(t.Context(), ids, page))
	all = make([][]partner.ClientID, len(ids))
	left := make([]*registry.FanoutInput, len(ids))
	for i := range read {
		left[i] = &read[i]
	}
	at := map[tenant.ID]int{}
	for i, id := range ids {
		at[id] = i
	}
	for {
		for _, o := range left {
			i := at[o.View.Record.Tenant]
			all[i] = append(all[i], o.Approvers...)
			most = max(most, len(o.Approvers))
		}
		left = slices.DeleteFunc(left, func(o *registry.FanoutInput) bool { return !o.HasMoreApprovers() })
		if len(left) == 0 {
			break
		}
		noErr(t, "read on", errors.Join(s.NextApprovers(t.Context(), left, page)...))
	}
	for i := range all {
		slices.Sort(all[i])
		all[i] = slices.Compact(all[i])
	}
	return all, most
}

// Approvers come in pages; together they are all there are, from one node and from many.
func TestOwingInPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ids := []tenant.ID{"Big", "Small", "Nobody"}
		want := [][]partner.ClientID{crowd(t, s, "Big", 3000), crowd(t, s, "Small", 7), nil}
		for _, store := range []*registry.Store{s.Store, registry.New(manyNodes{s.rdb}, registry.Options{Keys: s.keys, Keyring: testKeyring(t)})} {
			got, _ := readAll(t, store, ids, 100)
			same(t, "approvers", got, want)
		}
	})
}

func TestOwingPagesAreBounded(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	want := crowd(t, s, "Big", 3000)
	got, most := readAll(t, s.Store, []tenant.ID{"Big"}, 100)
	same(t, "approvers", got, [][]partner.ClientID{want})
	if most > 150 {
		t.Errorf("a page of 100 held %d", most)
	}
}

// Another server does not know the place that a cursor names: what it skips must not pass for told.
func TestOwingNoticesAnotherServer(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	ctx := t.Context()
	crowd(t, s, "Big", 3000)
	crowd(t, s, "Other", 300)
	read := must[[]registry.FanoutInput](t)(s.ReadFanoutInputs(ctx, []tenant.ID{"Big", "Other"}, 100))
	both := []*registry.FanoutInput{&read[0], &read[1]}
	noErr(t, "read on", errors.Join(s.NextApprovers(ctx, both, 100)...))
	// the other one has the same members in another order, as a set that grew differently has
	key := s.keys.Tenant("Big", keys.TenantApprovals)
	noErr(t, "another server", s.rdb.Del(ctx, key).Err())
	elsewhere := redistest.Start(t)
	other := redis.NewClient(&redis.Options{Addr: elsewhere.Addr})
	t.Cleanup(func() { _ = other.Close() })
	there := newFixture(t, other, registry.Options{})
	crowd(t, there, "Big", 3000)
	errs := there.NextApprovers(ctx, both[:1], 100)
	if errs[0] == nil || !strings.Contains(errs[0].Error(), "another server answered") || both[0].HasMoreApprovers() || both[0].Approvers != nil {
		t.Errorf("error %v, more %v", errs[0], both[0].HasMoreApprovers())
	}
	for both[1].HasMoreApprovers() {
		noErr(t, "the other tenant", errors.Join(s.NextApprovers(ctx, both[1:], 100)...))
	}
}

// Approvals that come and go meanwhile are no reason to start over.
func TestOwingWhileApprovalsChange(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Real(t), registry.Options{})
	ctx := t.Context()
	want := crowd(t, s, "Big", 3000)
	key := s.keys.Tenant("Big", keys.TenantApprovals)
	read := must[[]registry.FanoutInput](t)(s.ReadFanoutInputs(ctx, []tenant.ID{"Big"}, 100))
	one := []*registry.FanoutInput{&read[0]}
	seen := map[partner.ClientID]bool{}
	for n := 0; ; n++ {
		for _, app := range one[0].Approvers {
			seen[app] = true
		}
		if !one[0].HasMoreApprovers() {
			break
		}
		for i := range 30 {
			noErr(t, "approve", s.rdb.SAdd(ctx, key, fmt.Sprintf("new%d.%d", n, i)).Err())
		}
		noErr(t, "dismiss", s.rdb.SRem(ctx, key, fmt.Sprintf("new%d.0", n)).Err())
		noErr(t, "read on", errors.Join(s.NextApprovers(ctx, one, 100)...))
	}
	for _, app := range want {
		if !seen[app] {
			t.Fatalf("%s was not read, although it was there all the time", app)
		}
	}
}
