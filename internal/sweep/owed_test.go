package sweep_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Of many owed fan-outs the pairs are reckoned from the oldest, and none are told once none is owed.
func TestPairsOfOwedFanOuts(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(0)
	for i := range 450 {
		c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: int64(i + 1)})
	}
	p := c.process()
	for _, want := range []map[string]float64{{"owed_pairs": 897}, {}} { // 399 of the oldest 200
		p.mustRound(t, "gauges")
		same(t, want, p.series(t, "owed_pairs"))
		c.pendingFanouts = nil
	}
	c.pendingFanouts = []registry.PendingFanout{{Tenant: "a", Ticket: 1}}
	c.fails["approvers"] = true
	if err := p.round(t.Context(), "gauges"); !errors.Is(err, errFake) {
		t.Errorf("error = %v, want that of the approvals", err)
	}
}

// ticket is that of the nth of some accepts a moment ago.
func ticket(n int) int64 { return time.Now().Add(-time.Minute).UnixMicro() + int64(n) }

// rounds starts owed fan-outs round by round and returns how many each started; done says which are made by then.
func (c *clusterCollector) rounds(t testing.TB, p process, n int, done func(round int, started []tenant.ID)) (started []int) {
	t.Helper()
	cursor := ""
	for i := range n {
		c.notified = nil
		r, err := p.Steps()["owed"](t.Context(), cursor)
		if err != nil || !r.End {
			t.Fatalf("%+v, %v", r, err)
		}
		cursor = r.Next
		ts := slices.Concat(c.notified...)
		started = append(started, len(ts))
		done(i, ts)
	}
	return started
}

func (c *clusterCollector) strike(ts []tenant.ID) {
	gone := map[tenant.ID]bool{}
	for _, id := range ts {
		gone[id] = true
	}
	c.pendingFanouts = slices.DeleteFunc(c.pendingFanouts, func(o registry.PendingFanout) bool { return gone[o.Tenant] })
}

// Many owed fan-outs are worked off faster and faster while the workers keep up, and slower when
// they do not: 100,000 are started within eight rounds of 5 s.
func TestOwedAdapts(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(1)
	for i := range 100_000 {
		c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: ticket(i)})
	}
	started := c.rounds(t, c.process(), 9, func(round int, ts []tenant.ID) {
		if round != 3 { // in the fourth the workers are slow
			c.strike(ts)
		}
	})
	same(t, []int{1000, 2000, 4000, 8000, 4000, 8000, 16000, 32000, 25000}, started)
	if len(c.pendingFanouts) != 8000 {
		t.Errorf("%d are left, want those that were started and not made", len(c.pendingFanouts))
	}
}

// Those that cannot be fanned out hold up those behind them for a round at most, however old they are.
func TestStuckFanOutsArePassedOver(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(n int) int64{
		"New": ticket, "Old": func(n int) int64 { return time.Now().Add(-time.Hour).UnixMicro() + int64(n) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClusterCollector(1)
			for i := range 500 {
				c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("stuck%d", i)), Ticket: at(i)})
			}
			for i := range 1500 {
				c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: ticket(500 + i)})
			}
			tries := 0
			started := c.rounds(t, c.process(), 2, func(_ int, ts []tenant.ID) {
				tries += len(slices.DeleteFunc(slices.Clone(ts), func(id tenant.ID) bool { return !strings.HasPrefix(string(id), "stuck") }))
				c.strike(slices.DeleteFunc(slices.Clone(ts), func(id tenant.ID) bool { return strings.HasPrefix(string(id), "stuck") }))
			})
			if len(c.pendingFanouts) != 500 || tries != 500 {
				t.Errorf("after two rounds, which started %v, %d are owed; the 500 that cannot be made were tried %d times", started, len(c.pendingFanouts), tries)
			}
			started = c.rounds(t, c.process(), 1, func(int, []tenant.ID) {})
			same(t, []int{500}, started)
		})
	}
}

// A new holder goes on behind what the last one started, and from the start behind the last.
func TestOwedGoesOn(t *testing.T) {
	t.Parallel()
	c := newClusterCollector(1)
	for i := range 1200 {
		c.pendingFanouts = append(c.pendingFanouts, registry.PendingFanout{Tenant: tenant.ID(fmt.Sprintf("t%d", i)), Ticket: int64(i + 1)})
	}
	cursor, first := "", []tenant.ID{}
	for range 3 {
		c.notified = nil
		r, err := c.process().Steps()["owed"](t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		cursor, first = r.Next, append(first, c.notified[0][0])
	}
	same(t, []tenant.ID{"t0", "t1000", "t0"}, first)
	if r, err := c.process().Steps()["owed"](t.Context(), "garbage"); err != nil || r.Next == "garbage" {
		t.Errorf("%+v, %v", r, err)
	}
}
