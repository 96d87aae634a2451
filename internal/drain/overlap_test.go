package drain_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// farBox is a mailbox whose exchanges take their time, as Redis does at every fsync.
type farBox struct {
	*box
	takes time.Duration
	// most is the largest number of results that one exchange handed in; during are those in hand when
	// calls overlap, which they must not.
	most, during int
	overlap      bool
}

func (f *farBox) Exchange(ctx context.Context, a mailbox.Life, token string, want int, rs []mailbox.Settlement) (mailbox.ExchangeResult, error) {
	f.during++
	f.overlap = f.overlap || f.during > 1
	f.most = max(f.most, len(rs))
	pass(f.takes)
	f.during--
	return f.box.Exchange(ctx, a, token, want, rs)
}

// BeginAndClaim implements drain.Mailbox.
func (f *farBox) BeginAndClaim(ctx context.Context, a mailbox.Life, token string, generation int64, want int) (mailbox.BeginResult, mailbox.ExchangeResult, error) {
	return take(ctx, f, a, token, generation, want)
}

// SettleAndFinish implements drain.Mailbox.
func (f *farBox) SettleAndFinish(ctx context.Context, a mailbox.Life, token string, results []mailbox.Settlement) (mailbox.FinishResult, error) {
	return leave(ctx, f, a, token, results)
}

// The endpoint need not wait while results are recorded: posts go on from the reserve.
func TestPostsGoOnDuringAnExchange(t *testing.T) {
	bubble(t, func(r *rig) {
		far := &farBox{box: r.box, takes: 8 * time.Millisecond}
		r.opts.Mailbox = far
		r.d = drain.New(r.opts)
		r.box.fill(2000)
		start := time.Now()
		r.run()
		r.expect(2000, 0)
		// 32 at once, 10 ms each: 625 ms if nobody ever waits; more than twice that if all wait for
		// each exchange of 32 results; the reserve widens until it lasts for an exchange
		if took := time.Since(start); took > 720*time.Millisecond {
			r.Errorf("2,000 posts took %v", took)
		}
		if far.overlap {
			r.Error("two exchanges of a run overlapped")
		}
		if far.most > 3*r.opts.InFlightPerApp {
			r.Errorf("an exchange handed in %d results", far.most)
		}
	})
}

// The reserve widens with an endpoint that outruns Redis, no further than its bound, and not with one
// that does not.
func TestReserveWidensForAFastEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		takes       time.Duration
		least, most int
	}{
		"RedisIsSlow": {100 * time.Millisecond, 100, 32 + 4*32}, "RedisIsQuick": {time.Millisecond, 32, 32 + 32},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.opts.Mailbox = &farBox{box: r.box, takes: c.takes}
				r.d = drain.New(r.opts)
				r.box.fill(2000)
				r.run()
				r.expect(2000, 0)
				if n := slices.Max(r.box.wants); n < c.least || n > c.most {
					r.Errorf("asked for up to %d claims, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// What ended while an exchange failed is not lost from sight: the run says so and leaves the claims to
// their leases, and nothing is told out of order afterwards.
func TestPostsThatEndDuringALostExchange(t *testing.T) {
	bubble(t, func(r *rig) {
		far := &farBox{box: r.box, takes: 8 * time.Millisecond}
		r.opts.Mailbox = far
		r.d = drain.New(r.opts)
		r.box.fill(200)
		r.box.fails["exchange"] = []string{"", "", "before", "before", "before", "before"}
		if err := r.drain(r.Context(), app, 1); err == nil {
			r.Fatal("no error")
		}
		synctest.Wait()
		pass(ownerLease + entryLease)
		r.wakes = append(r.wakes, r.box.sweep())
		r.follow()
		for i, p := range r.posts {
			for _, q := range r.posts[:i] {
				if q.tenant == p.tenant && q.seq > p.seq {
					r.Errorf("%s went from %d back to %d", p.tenant, q.seq, p.seq)
				}
			}
		}
	})
}

// Of many apps that drain at once each finishes little in a time; it gathers longer, so that a
// delivery does not cost an exchange of its own.
func TestManyAppsGatherLonger(t *testing.T) {
	bubble(t, func(r *rig) {
		r.latency = func(delivery.Message) time.Duration { return 30 * time.Millisecond }
		r.box.fill(100)
		r.run()
		r.expect(100, 0)
		if n := r.box.count("exchange"); n > 12 { // four at once: 25 rounds
			r.Errorf("%d exchanges for 100 posts", n)
		}
	}, func(o *drain.Options) { o.InFlight = 1 })
}
