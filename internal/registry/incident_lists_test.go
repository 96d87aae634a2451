package registry_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

func TestEndedIncidentsOfManyApps(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		now := time.Now().UTC().Truncate(time.Millisecond)
		for n := range 3 {
			at := now.Add(time.Duration(n-3) * time.Second)
			must[incident.Decision](t)(registrytest.Decide(ctx, s, "b", partner.Mirroring, func(old incident.State) incident.Decision {
				return incident.Decision{State: old, Ended: &incident.EndedIncident{ID: incident.NewID("b", partner.Mirroring, at), ClientID: "b", Endpoint: partner.Mirroring, EndedAt: at}}
			}))
		}
		apps := []partner.ClientID{"a", "b"}
		for _, test := range []struct {
			since, until time.Time
			limit        int
			want         []time.Duration // before now, of b; a has none
		}{
			{time.Time{}, time.Time{}, 10, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}},
			{time.Time{}, time.Time{}, 2, []time.Duration{time.Second, 2 * time.Second}},
			{time.Time{}, now.Add(-2 * time.Second), 10, []time.Duration{2 * time.Second, 3 * time.Second}},
			{now.Add(-2 * time.Second), time.Time{}, 10, []time.Duration{time.Second, 2 * time.Second}},
			{now.Add(-2 * time.Second), now.Add(-2 * time.Second), 10, []time.Duration{2 * time.Second}},
			{time.Time{}, now.Add(-4 * time.Second), 10, nil},
		} {
			var newest time.Time
			if len(test.want) > 0 {
				newest = now.Add(-test.want[0])
			}
			if test.since.IsZero() {
				same(t, "last ended", must[[]time.Time](t)(s.ReadLastEndedTimes(ctx, apps, test.until)), []time.Time{{}, newest})
			}
			all := must[[][]incident.EndedIncident](t)(s.ListEnded(ctx, apps, test.since, test.until, test.limit))
			var got []time.Duration
			for _, e := range all[1] {
				got = append(got, now.Sub(e.EndedAt))
			}
			same(t, "ended", got, test.want)
			same(t, "of an app without any", len(all[0]), 0)
			if test.limit > 3 {
				same(t, "count", must[[]int](t)(s.CountEnded(ctx, apps, test.since, test.until)), []int{0, len(test.want)})
			}
		}
		rdb.ZAdd(ctx, incidentKeys.App("b", keys.AppHistory), redis.Z{Score: float64(now.UnixMilli()), Member: `{"v":7}`})
		_, err := s.ListEnded(ctx, apps, time.Time{}, time.Time{}, 1)
		wantErr(t, "of another format", err, registry.ErrUnreadable)
	})
}
