package compare

import (
	"context"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// working is a mailbox whose app a job tells of its tenants, or none does.
type working struct {
	Mailboxes
	jobs []mailbox.JobID
}

func (w working) OpenJobs(context.Context, []partner.ClientID) ([][]mailbox.JobID, error) {
	return [][]mailbox.JobID{w.jobs}, nil
}

// A first URL is fresh until its job must have been made, and while it runs, whatever else was written of the app since.
func TestFresh(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	for name, row := range map[string]struct {
		url, written time.Duration
		jobs         []mailbox.JobID
		want         bool
	}{
		"JustNow":          {10 * time.Second, 10 * time.Second, nil, true},
		"AMinuteAgo":       {61 * time.Second, 61 * time.Second, nil, false},
		"StillTelling":     {time.Hour, time.Hour, []mailbox.JobID{{App: "app1", Kind: mailbox.JobCatchUp, Number: 1}}, true},
		"RenamedAllTheWay": {time.Hour, time.Millisecond, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(Options{Mailboxes: working{jobs: row.jobs}, Apps: noApps{}})
			rec := registry.AppRecord{Revision: now.Add(-row.written).UnixMilli(), EndpointRevision: now.Add(-row.url).UnixMilli()}
			got, err := c.isFresh(t.Context(), &registry.Entry{Rec: rec}, now)
			if err != nil || got != row.want {
				t.Errorf("fresh %v, %v, want %v", got, err, row.want)
			}
		})
	}
}

type noApps struct{ Apps }

func (noApps) CountResets() int64 { return 0 }
