package registry

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// ReadLastEndedTimes reads when the last incident of each app ended, not later than until if that is not zero. The result is zero
// if there is none. One round trip for each thousand apps.
func (s *IncidentStore) ReadLastEndedTimes(ctx context.Context, apps []partner.ClientID, until time.Time) ([]time.Time, error) {
	cmds := make([]*redis.ZSliceCmd, len(apps))
	newest := newEndedRange(time.Time{}, until, 1)
	err := s.pipelineApps(ctx, apps, keys.AppHistory, func(p redis.Pipeliner, i int, key string) {
		cmds[i] = p.ZRevRangeByScoreWithScores(ctx, key, newest)
	})
	if err != nil {
		return nil, err
	}
	out := make([]time.Time, len(apps))
	for i, cmd := range cmds {
		if all := cmd.Val(); len(all) > 0 {
			out[i] = fromMillis(int64(all[0].Score))
		}
	}
	return out, nil
}

// CountEnded counts what ListEnded would list without a limit. One round trip for each thousand apps.
func (s *IncidentStore) CountEnded(ctx context.Context, apps []partner.ClientID, since, until time.Time) ([]int, error) {
	cmds := make([]*redis.IntCmd, len(apps))
	chosen := newEndedRange(since, until, 0)
	err := s.pipelineApps(ctx, apps, keys.AppHistory, func(p redis.Pipeliner, i int, key string) {
		cmds[i] = p.ZCount(ctx, key, chosen.Min, chosen.Max)
	})
	if err != nil {
		return nil, err
	}
	out := make([]int, len(apps))
	for i, cmd := range cmds {
		out[i] = int(cmd.Val())
	}
	return out, nil
}

// ListEnded lists incidents of many apps that ended between two times, both included; a zero time is no bound. The most recently
// ended come first, at most limit of each app. One round trip for each thousand apps.
func (s *IncidentStore) ListEnded(ctx context.Context, apps []partner.ClientID, since, until time.Time, limit int) ([][]incident.EndedIncident, error) {
	cmds := make([]*redis.StringSliceCmd, len(apps))
	chosen := newEndedRange(since, until, limit)
	err := s.pipelineApps(ctx, apps, keys.AppHistory, func(p redis.Pipeliner, i int, key string) {
		cmds[i] = p.ZRevRangeByScore(ctx, key, chosen)
	})
	if err != nil {
		return nil, err
	}
	out := make([][]incident.EndedIncident, len(apps))
	for i, app := range apps {
		if out[i], err = decodeEnded(app, cmds[i].Val()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func newEndedRange(since, until time.Time, limit int) *redis.ZRangeBy {
	by := &redis.ZRangeBy{Min: "-inf", Max: "+inf", Count: int64(limit)}
	if !since.IsZero() {
		by.Min = strconv.FormatInt(since.UnixMilli(), 10)
	}
	if !until.IsZero() {
		by.Max = strconv.FormatInt(until.UnixMilli(), 10)
	}
	return by
}

// pipelineApps sends one command about each app.
func (s *IncidentStore) pipelineApps(ctx context.Context, apps []partner.ClientID, of keys.AppKey, do func(p redis.Pipeliner, i int, key string)) error {
	for start := 0; start < len(apps); start += pipelineMax {
		end := min(start+pipelineMax, len(apps))
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := start; i < end; i++ {
				do(p, i, s.keys.App(apps[i], of))
			}
			return nil
		})
		if err != nil {
			return wrapError(err, "read incidents of many apps")
		}
	}
	return nil
}

func decodeEnded(app partner.ClientID, texts []string) ([]incident.EndedIncident, error) {
	list := make([]incident.EndedIncident, len(texts))
	for i, text := range texts {
		if err := decodeJSON(text, &list[i], &list[i].Format); err != nil {
			return nil, fmt.Errorf("ended incident of %s: %w", app, err)
		}
	}
	return list, nil
}
