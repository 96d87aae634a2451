package probe_test

import (
	"context"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// approvals are pages of tenants that approved, in the order of the mailbox; called is the tenant of the last probe.
type approvals struct {
	pages  [][]tenant.ID
	called tenant.ID
}

func (a *approvals) HasApproved(_ context.Context, _ partner.ClientID, t tenant.ID) (bool, error) {
	return t == "c", nil
}

func (a *approvals) Approvals(_ context.Context, _ partner.ClientID, cursor string, _ int) ([]tenant.ID, string, error) {
	at := len(cursor)
	if at == len(a.pages)-1 {
		return a.pages[at], "", nil
	}
	return a.pages[at], cursor + "+", nil
}

func (a *approvals) Probe(_ context.Context, t probe.Target) health.Finding {
	a.called = t.Tenant
	return health.Finding{Reason: health.Healthy}
}

func (a *approvals) AnsweredSince(time.Time) bool { return true }

// TestTenantOfAProbe: the probe tenant if it approved, otherwise the smallest of the first page that has any.
func TestTenantOfAProbe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		probeTenant string
		pages       [][]tenant.ID
		want        tenant.ID
	}{
		"ProbeTenant":          {"c", [][]tenant.ID{{"b", "a"}}, "c"},
		"ProbeTenantElsewhere": {"d", [][]tenant.ID{{"b", "a"}}, "a"},
		"Smallest":             {"", [][]tenant.ID{{"b", "a"}}, "a"},
		"SecondPage":           {"", [][]tenant.ID{nil, {"b"}}, "b"},
		"None":                 {"", [][]tenant.ID{nil, nil}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, app := &approvals{pages: tt.pages}, partner.New("app1")
			app.ProbeTenant = tt.probeTenant
			r := probe.NewRunner(probe.RunnerOptions{Approvals: a, Prober: a, Environment: partner.Online})
			if _, err := r.TestSettings(t.Context(), &app, partner.Mirroring); err != nil || a.called != tt.want {
				t.Errorf("probed for %q, want %q: %v", a.called, tt.want, err)
			}
		})
	}
}
