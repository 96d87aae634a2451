package compare

import (
	"context"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// count is a mailbox of so many approvals.
type count struct {
	Mailboxes
	n int64
}

func (c count) ApprovalCount(context.Context, partner.ClientID) (int64, error) { return c.n, nil }

// A first URL is fresh for as long as its resync may take, whatever else was written of the app since.
func TestFresh(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	for name, row := range map[string]struct {
		url, written time.Duration
		approvals    int64
		want         bool
	}{
		"JustNow":          {10 * time.Second, 10 * time.Second, 1, true},
		"AMinuteAgo":       {61 * time.Second, 61 * time.Second, 1, false},
		"ManyApprovals":    {10 * time.Minute, 10 * time.Minute, 1_000_000, true},
		"ManyLongAgo":      {time.Hour, time.Hour, 1_000_000, false},
		"RenamedAllTheWay": {time.Hour, time.Millisecond, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(Options{Mailboxes: count{n: row.approvals}, Apps: noApps{}})
			rec := registry.AppRecord{Revision: now.Add(-row.written).UnixMilli(), EndpointRevision: now.Add(-row.url).UnixMilli()}
			got, err := c.isFresh(t.Context(), &registry.Entry{Rec: rec}, now)
			if err != nil || got != row.want {
				t.Errorf("fresh %v, %v, want %v", got, err, row.want)
			}
		})
	}
}

type noApps struct{ Apps }

func (noApps) Resets() int64 { return 0 }
