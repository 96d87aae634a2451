package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// paged reads approvers as the registry does.
type paged struct{ *shim }

func (p paged) ReadFanoutInputs(ctx context.Context, ids []tenant.ID, page int) ([]registry.FanoutInput, error) {
	return call(p.shim, "owing", func() ([]registry.FanoutInput, error) { return p.reg.ReadFanoutInputs(ctx, ids, page) })
}

// A tenant with more approvers than are held at once is fanned out in pieces, and pending until the last one.
func TestRunInPieces(t *testing.T) {
	t.Parallel()
	s := newShim(t, redistest.Real(t))
	const apps = 1100
	for i := range apps {
		app := partner.ClientID(fmt.Sprintf("app%04d", i))
		s.app(app, hook)
		if _, err := s.box.Approve(t.Context(), s.life(app), 0, []mailbox.Admission{{Tenant: "big"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.reg.AddApprover(t.Context(), []tenant.ID{"big"}, app); err != nil {
			t.Fatal(err)
		}
	}
	s.app("app", hook)
	s.approve("app", "small")
	if err := s.dir.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.accept("big", tenant.Suspend)
	s.accept("small", tenant.Suspend)
	o := fanout.Options{Tenants: paged{s}, Mailboxes: s, Apps: s, Waker: s, Log: slog.New(slog.DiscardHandler)}
	s.fails["next"], s.calls = "before", nil
	if err := fanout.New(o).Run(t.Context(), []tenant.ID{"big", "small"}); err == nil {
		t.Error("no error")
	}
	big, _ := s.owed("big")
	small, _ := s.owed("small")
	if !big || small {
		t.Errorf("owed: %v and %v", big, small)
	}
	s.calls = nil
	if err := fanout.New(o).Run(t.Context(), []tenant.ID{"big", "small"}); err != nil {
		t.Fatal(err)
	}
	s.calls = slices.DeleteFunc(s.calls, func(c string) bool { return c == "wake" })
	if d := cmp.Diff([]string{"owing", "deposit", "next", "deposit", "clear"}, s.calls); d != "" {
		t.Error(d)
	}
	if mark, listed := s.owed("big"); mark || listed {
		t.Errorf("owed %v, listed %v", mark, listed)
	}
	for i := range apps {
		app := partner.ClientID(fmt.Sprintf("app%04d", i))
		if v := ok[mailbox.View](t)(s.box.View(t.Context(), app)); v.Waiting != 1 {
			t.Fatalf("%s: %d wait", app, v.Waiting)
		}
	}
}

// hoarder counts the pairs that fan-outs may hold at once, of tenants with as many approvers as are asked for.
type hoarder struct {
	held, most atomic.Int64
	hold       chan struct{}
}

func (h *hoarder) ReadFanoutInputs(_ context.Context, ids []tenant.ID, page int) ([]registry.FanoutInput, error) {
	n := int64(len(ids) * page)
	now := h.held.Add(n)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	<-h.hold
	h.held.Add(-n)
	return nil, errFake
}

func (*hoarder) NextApprovers(context.Context, []*registry.FanoutInput, int) []error { return nil }
func (*hoarder) CompleteFanouts(context.Context, []registry.CompletedFanout) error   { return nil }

// However many fan-outs run at once, what they hold is bounded together; and whoever waits hears when its time is over.
func TestFanoutsShareRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hoarder{hold: make(chan struct{})}
		f := fanout.New(fanout.Options{Tenants: h})
		ids := make([]tenant.ID, mailbox.MaxBatch)
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprintf("t%d", i))
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = f.Run(t.Context(), ids) })
		}
		synctest.Wait()
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Run(hasty, ids); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waited too long heard %v", err)
		}
		if most := h.most.Load(); most > 400_000 || most < 200_000 {
			t.Errorf("%d pairs at once", most)
		}
		close(h.hold)
		wg.Wait()
	})
}
