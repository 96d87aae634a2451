package registry

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Troubled reports, for each app, whether it has an incident under way, reports to take into account or a mail in its outbox. One
// round trip for all.
func (s *IncidentStore) Troubled(ctx context.Context, apps []partner.ClientID) ([]bool, error) {
	found := make([]*redis.IntCmd, len(apps))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range apps {
			found[i] = p.Exists(ctx, s.keys.App(id, keys.AppIncidents), s.keys.App(id, keys.AppOutbox), s.keys.App(id, keys.AppReports))
		}
		return nil
	})
	if err != nil {
		return nil, failure(err, "find apps with incidents")
	}
	out := make([]bool, len(apps))
	for i, f := range found {
		out[i] = f.Val() > 0
	}
	return out, nil
}
