package fanout_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
		var log bytes.Buffer
		r := fanout.NewRunner(func(_ context.Context, ids []tenant.ID) error {
			got = append(got, ids)
			<-gate
			return errFake
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
		cancel()
		gate <- struct{}{}
		wg.Wait()
		if d := cmp.Diff([][]tenant.ID{{"a"}, {"b", "a", "c"}}, got); d != "" {
			t.Error(d)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings: a failure while shutting down is none\n%s", n, log.String())
		}
	})
}

func TestRunnerBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		most, total := 0, 0
		r := fanout.NewRunner(func(_ context.Context, ids []tenant.ID) error {
			most, total = max(most, len(ids)), total+len(ids)
			return nil
		}, slog.New(slog.DiscardHandler))
		for i := range 6000 { // never blocks; what does not fit is the queue's
			r.Submit([]tenant.ID{tenant.ID(fmt.Sprintf("t%d", i))})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if total != 4096 || most != mailbox.MaxBatch {
			t.Errorf("%d tenants, at most %d at once", total, most)
		}
	})
}
