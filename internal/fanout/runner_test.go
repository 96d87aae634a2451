package fanout_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// What comes while the runner is busy goes out together, each tenant once.
func TestRunnerGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got [][]tenant.ID
		gate := make(chan struct{})
		var handed [][]tenant.ID
		var log bytes.Buffer
		r := fanout.NewRunner(func(ctx context.Context, ids []tenant.ID) error {
			got = append(got, ids)
			<-gate
			if ctx.Err() != nil {
				t.Error("a stop cut a fan-out off")
			}
			return errFake
		}, func(ctx context.Context, ids []tenant.ID) error {
			handed = append(handed, ids)
			return ctx.Err()
		}, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		r.Submit([]tenant.ID{"a"})
		synctest.Wait()
		r.Submit([]tenant.ID{"b", "a"})
		r.Submit([]tenant.ID{"c", "b"})
		gate <- struct{}{}
		synctest.Wait()
		r.Submit([]tenant.ID{"d"})
		r.Submit([]tenant.ID{"e", "d"})
		cancel()
		gate <- struct{}{}
		wg.Wait()
		if d := cmp.Diff([][]tenant.ID{{"a"}, {"b", "a", "c"}}, got); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([][]tenant.ID{{"a"}, {"b", "a", "c"}, {"d", "e"}}, handed); d != "" {
			t.Errorf("handed over: what failed, and what waited when the process stopped\n%s", d)
		}
		if r.Submit([]tenant.ID{"f"}) {
			t.Error("a runner that stopped takes more")
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings: a failure while shutting down is none\n%s", n, log.String())
		}
	})
}

func TestRunnerBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		most, total, taken := 0, 0, 0
		r := fanout.NewRunner(func(_ context.Context, ids []tenant.ID) error {
			most, total = max(most, len(ids)), total+len(ids)
			return nil
		}, func(context.Context, []tenant.ID) error { return errFake }, slog.New(slog.DiscardHandler))
		for i := range 600 { // never blocks; what does not fit is the queue's
			if r.Submit(slices.Repeat([]tenant.ID{tenant.ID(fmt.Sprintf("t%d", i)), tenant.ID(fmt.Sprintf("u%d", i)), tenant.ID(fmt.Sprintf("v%d", i))}, 2)) {
				taken++
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if taken != 256 || total != 3*taken || most < mailbox.MaxBatch || most >= mailbox.MaxBatch+3 {
			t.Errorf("%d taken, %d tenants, at most %d at once", taken, total, most)
		}
	})
}
