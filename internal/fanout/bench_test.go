package fanout_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// silent wakes nobody.
type silent struct{}

func (silent) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

// BenchmarkRun fans tenants out that were changed, as one batch: the usual one, one of many tenants, one of many apps.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct{ tenants, apps int }{{1, 1}, {1, 10}, {200, 10}, {200, 200}, {1, 3000}} {
		b.Run(fmt.Sprintf("tenants=%d/apps=%d", c.tenants, c.apps), func(b *testing.B) {
			s := newShim(b, redistest.Real(b))
			ids, reqs := make([]tenant.ID, c.tenants), make([]registry.ChangeRequest, c.tenants)
			for i := range ids {
				ids[i] = tenant.ID(fmt.Sprintf("Cust%05d", i))
				reqs[i] = registry.ChangeRequest{Tenant: ids[i], Type: tenant.Suspend}
			}
			for i := range c.apps {
				app := partner.ClientID(fmt.Sprintf("0123456789abcdef0123456789%06d", i))
				s.app(app, hook)
				admissions := make([]mailbox.Admission, len(ids))
				for j, id := range ids {
					admissions[j].Tenant = id
				}
				ok[int](b)(s.box.Approve(b.Context(), s.life(app), 0, admissions))
				if err := s.reg.AddApprover(b.Context(), ids, app); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.dir.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
			f := fanout.New(fanout.Options{Tenants: s.reg, Mailboxes: s.box, Apps: s.dir, Waker: silent{}, Log: slog.New(slog.DiscardHandler)})
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				ok[[]registry.AcceptResult](b)(s.reg.Accept(b.Context(), reqs))
				b.StartTimer()
				if err := f.Run(b.Context(), ids); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.tenants*c.apps)*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}
