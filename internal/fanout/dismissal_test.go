package fanout_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// withdrawals keeps the tenants whose deliveries are observed as withdrawn.
type withdrawals struct{ tenants []tenant.ID }

func (w *withdrawals) Observe(_ context.Context, _ partner.ClientID, _ partner.EndpointKind, events ...incident.Event) error {
	for _, e := range events {
		if e, ok := e.(incident.DeliveriesWithdrawn); ok {
			w.tenants = append(w.tenants, e.Tenants...)
		}
	}
	return nil
}

// TestDismissalsAreReported: the incidents are notified of each dismissal, and of one that finds no approval, but not of
// one that failed.
func TestDismissalsAreReported(t *testing.T) {
	each(t, func(t *testing.T, s *shim) {
		s.app("app1", hook)
		w := &withdrawals{}
		a := fanout.NewReportedApprovals(s.approvals(), w)
		if err := a.Approve(t.Context(), "app1", []tenant.ID{"a", "b"}, admin()); err != nil {
			t.Fatal(err)
		}
		if err := a.Dismiss(t.Context(), "app1", []tenant.ID{"a"}, admin()); err != nil {
			t.Fatal(err)
		}
		if err := a.DismissExisting(t.Context(), "app1", "b", admin()); err != nil {
			t.Fatal(err)
		}
		if err := a.DismissExisting(t.Context(), "app1", "c", admin()); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("no approval: %v", err)
		}
		if err := errors.Join(a.Dismiss(t.Context(), "nobody", []tenant.ID{"d"}, admin()), a.DismissExisting(t.Context(), "nobody", "d", admin())); err == nil {
			t.Error("an unknown app is no error")
		}
		if !slices.Equal(w.tenants, []tenant.ID{"a", "b", "c"}) {
			t.Errorf("reported %v", w.tenants)
		}
	})
}
