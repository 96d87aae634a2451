package drain_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A connection costs more than a notification. A run opens only those that make it noticeably shorter.
func TestConnectionsFollowTheBacklog(t *testing.T) {
	for name, c := range map[string]struct {
		tenants     int
		took        time.Duration
		least, most int
		within      time.Duration
	}{
		"ShortAndFast": {100, time.Millisecond, 2, 8, 100 * time.Millisecond},
		"ShortAndSlow": {100, 150 * time.Millisecond, 24, 32, 1200 * time.Millisecond},
		"LongAndFast":  {5000, 2 * time.Millisecond, 32, 32, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.latency = func(delivery.Message) time.Duration { return c.took }
				r.box.fill(c.tenants)
				start := time.Now()
				r.live(time.Minute, func() bool { return r.box.waiting() == 0 })
				took := last(r.toldSince(start))
				t.Logf("%d connections, %v", r.most, took)
				if r.most < c.least || r.most > c.most {
					t.Errorf("%d attempts in flight at once, want %d to %d", r.most, c.least, c.most)
				}
				if took > c.within {
					t.Errorf("the last tenant was told after %v, want %v", took, c.within)
				}
			})
		})
	}
}

// Tenants that make the endpoint hang do not delay others, although these need few connections.
func TestTenantsThatHangAreOvertaken(t *testing.T) {
	bubble(t, func(r *rig) {
		hang := func(id tenant.ID) bool { return number(id) < 3 || number(id) == 50 }
		r.latency = func(m delivery.Message) time.Duration {
			if hang(m.Change.Tenant) {
				return r.opts.Timeout
			}
			return time.Millisecond
		}
		r.answer = func(_ int, m delivery.Message) delivery.Result {
			if hang(m.Change.Tenant) {
				return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonTimeout, Fault: delivery.FaultEndpoint}
			}
			return delivery.ClassifyStatus(204)
		}
		r.box.fill(100)
		start := time.Now()
		r.live(9*time.Second, func() bool { return r.box.waiting() == 4 })
		if told := r.toldSince(start); len(told) != 96 || last(told) > 400*time.Millisecond {
			t.Errorf("%d of 96 were told, the last after %v", len(told), last(told))
		}
	})
}
