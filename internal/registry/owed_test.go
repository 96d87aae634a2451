package registry_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func owed(t *testing.T, s fixture) []registry.PendingFanout {
	t.Helper()
	return must[[]registry.PendingFanout](t)(s.ListPendingFanouts(t.Context(), 0, registry.PendingFanout{}, 0))
}

// readForFanout reads what a fan-out reads, in its order: the ticket, then the record.
func readForFanout(t *testing.T, s fixture, id tenant.ID) (registry.CompletedFanout, registry.TenantView) {
	t.Helper()
	tickets := must[[]int64](t)(s.ReadTickets(t.Context(), []tenant.ID{id}))
	v := must[registry.TenantView](t)(s.Tenant(t.Context(), id))
	return registry.CompletedFanout{Tenant: id, Top: v.Record.Top, Ticket: tickets[0]}, v
}

func TestOwedIsClearedByAFanout(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		same(t, "owed at first", len(owed(t, s)), 0)
		accept(t, s, change("Cust1", tenant.Suspend), change("Cust2", tenant.Suspend))
		same(t, "owed", len(owed(t, s)), 2)
		same(t, "count", must[int64](t)(s.CountPendingFanouts(ctx, 0)), int64(2))
		done, v := readForFanout(t, s, "Cust1")
		if !v.FanoutPending || done.Ticket == 0 {
			t.Errorf("owed %v, ticket %d", v.FanoutPending, done.Ticket)
		}
		noErr(t, "clear", s.CompleteFanouts(ctx, []registry.CompletedFanout{done}))
		noErr(t, "clear again", s.CompleteFanouts(ctx, []registry.CompletedFanout{done}))
		_, v = readForFanout(t, s, "Cust1")
		if v.FanoutPending {
			t.Error("the mark stayed")
		}
		left := owed(t, s)
		if len(left) != 1 || left[0].Tenant != "Cust2" {
			t.Errorf("owed: %v, want Cust2", left)
		}
		tickets := must[[]int64](t)(s.ReadTickets(ctx, []tenant.ID{"Cust1", "Cust2", "Nobody"}))
		same(t, "tickets", tickets, []int64{0, left[0].Ticket, 0})
		noErr(t, "clear nothing", s.CompleteFanouts(ctx, nil))
		if none := must[[]int64](t)(s.ReadTickets(ctx, nil)); len(none) != 0 {
			t.Errorf("tickets of nobody: %v", none)
		}
	})
}

// A change accepted while a fan-out runs keeps both mark and entry.
func TestOwedSurvivesANewerChange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		accept(t, s, change("Cust1", tenant.Suspend))
		done, _ := readForFanout(t, s, "Cust1")
		accept(t, s, change("Cust1", tenant.Resume))
		noErr(t, "clear", s.CompleteFanouts(ctx, []registry.CompletedFanout{done}))
		next, v := readForFanout(t, s, "Cust1")
		if !v.FanoutPending || next.Ticket <= done.Ticket {
			t.Errorf("owed %v, ticket %d after %d", v.FanoutPending, next.Ticket, done.Ticket)
		}
		// The record was read after the newer change, the ticket before: the entry stays.
		stale := registry.CompletedFanout{Tenant: "Cust1", Top: next.Top, Ticket: done.Ticket}
		noErr(t, "clear", s.CompleteFanouts(ctx, []registry.CompletedFanout{stale}))
		same(t, "still listed", len(owed(t, s)), 1)
		noErr(t, "clear", s.CompleteFanouts(ctx, []registry.CompletedFanout{next}))
		same(t, "listed", len(owed(t, s)), 0)
	})
}

// A fan-out of an older change that ends between a newer one's first listing and its acceptance
// strikes the tenant off; the listing after acceptance repairs that.
func TestOwedSurvivesAFanoutWithinAccept(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newFixture(t, rdb, registry.Options{})
		accept(t, s, change("Cust1", tenant.Suspend))
		armed := true
		rdb.AddHook(&beforePipeline{do: func() {
			if !armed {
				return
			}
			armed = false
			done, _ := readForFanout(t, s, "Cust1")
			noErr(t, "clear", s.CompleteFanouts(t.Context(), []registry.CompletedFanout{done}))
			same(t, "listed during accept", len(owed(t, s)), 0)
		}})
		accept(t, s, change("Cust1", tenant.Resume))
		if armed {
			t.Fatal("no fan-out ran within accept")
		}
		_, v := readForFanout(t, s, "Cust1")
		if !v.FanoutPending || len(owed(t, s)) != 1 {
			t.Errorf("mark %v, listed %v: the newer change would be told to nobody", v.FanoutPending, owed(t, s))
		}
	})
}

func TestOwedListsTheLongestWaitingFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		var want []tenant.ID
		for i := range 20 {
			id := tenant.ID(fmt.Sprint("Cust", 20-i))
			accept(t, s, change(id, tenant.Suspend))
			want = append(want, id)
		}
		var got []tenant.ID
		for _, o := range owed(t, s) {
			got = append(got, o.Tenant)
		}
		same(t, "order", got, want)
		same(t, "counted", []int64{must[int64](t)(s.CountPendingFanouts(ctx, 0)), must[int64](t)(s.CountPendingFanouts(ctx, time.Hour))}, []int64{20, 0})
		same(t, "limited", len(must[[]registry.PendingFanout](t)(s.ListPendingFanouts(ctx, 0, registry.PendingFanout{}, 3))), 3)
		same(t, "waited an hour", len(must[[]registry.PendingFanout](t)(s.ListPendingFanouts(ctx, time.Hour, registry.PendingFanout{}, 100))), 0)
		old := time.Now().Add(-2 * time.Hour).UnixMicro()
		s.rdb.ZAdd(ctx, s.keys.Pending(keys.PendingTenants), redis.Z{Score: float64(old), Member: "Cust5"})
		same(t, "waited an hour", must[[]registry.PendingFanout](t)(s.ListPendingFanouts(ctx, time.Hour, registry.PendingFanout{}, 100)), []registry.PendingFanout{{Tenant: "Cust5", Ticket: old}})
		same(t, "one has waited an hour", must[int64](t)(s.CountPendingFanouts(ctx, time.Hour)), int64(1))
	})
}

// Page by page behind the one before, all are listed once, though many share a ticket; behind one that is done, what shares
// its ticket is listed again.
func TestOwedPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		key := s.keys.Pending(keys.PendingTenants)
		var all []redis.Z
		for i := range 700 {
			all = append(all, redis.Z{Score: float64(1_795_000_000_000_000 + i/300), Member: fmt.Sprintf("Cust%03d", i)})
		}
		s.rdb.ZAdd(t.Context(), key, all...)
		var got []string
		var after registry.PendingFanout
		pages := 0
		for {
			page := must[[]registry.PendingFanout](t)(s.ListPendingFanouts(t.Context(), time.Second, after, 100))
			if len(page) == 0 {
				break
			}
			pages++
			after = page[len(page)-1]
			for _, o := range page {
				got = append(got, string(o.Tenant))
			}
		}
		want := make([]string, len(all))
		for i, z := range all {
			want[i] = z.Member.(string)
		}
		same(t, "listed", got, want)
		same(t, "pages", pages, 7)
		s.rdb.ZRem(t.Context(), key, "Cust349")
		page := must[[]registry.PendingFanout](t)(s.ListPendingFanouts(t.Context(), time.Second, registry.PendingFanout{Tenant: "Cust349", Ticket: 1_795_000_000_000_001}, 100))
		same(t, "behind one that is done", string(page[0].Tenant), "Cust300")
	})
}

// Tickets grow even when Redis's clock is behind the last one.
func TestTicketsGrow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ahead := time.Now().Add(time.Hour).UnixMicro()
		s.rdb.Set(t.Context(), s.keys.Pending(keys.PendingTicket), ahead, 0)
		last := ahead
		for range 5 {
			accept(t, s, change("Cust1", tenant.Suspend))
			ticket := must[[]int64](t)(s.ReadTickets(t.Context(), []tenant.ID{"Cust1"}))[0]
			if ticket <= last {
				t.Errorf("ticket %d after %d", ticket, last)
			}
			last = ticket
		}
	})
}

func TestClearOwedOfMany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		var reqs []registry.ChangeRequest
		var ids []tenant.ID
		for i := range 1205 {
			ids = append(ids, tenant.ID(fmt.Sprint("Cust", i)))
			reqs = append(reqs, change(ids[i], tenant.Suspend))
		}
		accept(t, s, reqs...)
		tickets := must[[]int64](t)(s.ReadTickets(ctx, ids))
		views := must[[]registry.TenantView](t)(s.Tenants(ctx, ids))
		var done []registry.CompletedFanout
		for i, v := range views {
			if v.Status.Tenant != ids[i] || !v.FanoutPending || tickets[i] == 0 {
				t.Fatalf("tenant %d: %+v, ticket %d", i, v, tickets[i])
			}
			done = append(done, registry.CompletedFanout{Tenant: ids[i], Top: v.Record.Top, Ticket: tickets[i]})
		}
		s.rdb.Set(ctx, s.keys.Tenant("Bad", keys.TenantRecord), "x", 0)
		err := s.CompleteFanouts(ctx, append(slices.Clone(done), registry.CompletedFanout{Tenant: "Bad", Top: 1, Ticket: 1}))
		if err == nil {
			t.Error("a tenant that could not be cleared is no error")
		}
		same(t, "owed", must[int64](t)(s.CountPendingFanouts(ctx, 0)), int64(0))
	})
}

// Scripts that Redis forgets (restart, failover, flush) come back by themselves.
func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newFixture(t, rdb, registry.Options{})
	for range 3 {
		noErr(t, "flush", rdb.ScriptFlush(t.Context()).Err())
		var reqs []registry.ChangeRequest
		for i := range 2500 {
			reqs = append(reqs, change(tenant.ID(fmt.Sprint("Cust", i%1000)), tenant.Suspend))
		}
		accept(t, s, reqs...)
		noErr(t, "flush", rdb.ScriptFlush(t.Context()).Err())
		put(t, s, testApp("app1"))
	}
	same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(t.Context(), "Cust7", 0))), 9)
}

// Another process may load a script in the middle of a pipeline that Redis began without it: the
// first half is repeated after the second. One tenant's changes keep their order all the same.
func TestAcceptKeepsOrderWhileAScriptIsLoaded(t *testing.T) {
	t.Parallel()
	source := must[[]byte](t)(os.ReadFile("lua/accept.lua"))
	own := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr})
	t.Cleanup(func() { _ = own.Close() })
	for name, rdb := range map[string]redis.UniversalClient{"miniredis": redistest.Mini(t), "redis-server": own} {
		half := &splitter{between: func() { noErr(t, "load", rdb.ScriptLoad(t.Context(), string(source)).Err()) }}
		rdb.AddHook(half)
		s := newFixture(t, rdb, registry.Options{})
		var reqs []registry.ChangeRequest
		for i := range 20 {
			reqs = append(reqs, change(tenant.ID(fmt.Sprint("Cust", i%5)), tenant.Suspend))
		}
		last := map[tenant.ID]int64{}
		for _, a := range accept(t, s, reqs...) {
			if a.Sequence <= last[a.Tenant] {
				t.Errorf("%s: sequence %d of %s comes after %d", name, a.Sequence, a.Tenant, last[a.Tenant])
			}
			last[a.Tenant] = a.Sequence
		}
		if !half.done {
			t.Errorf("%s: no pipeline was cut", name)
		}
	}
}
