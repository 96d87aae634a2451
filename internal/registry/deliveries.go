package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var recordAttempts = newScript("record_attempts")

// storedAttempt is an attempt as stored.
type storedAttempt struct {
	Format int `json:"v"`
	delivery.Attempt
}

// RecordAttempts adds attempts, oldest first, to the app's list of recent ones, of which
// Options.DeliveriesKeep are kept. The list is for people to look at: nothing depends on it.
func (s *Store) RecordAttempts(ctx context.Context, app partner.ClientID, attempts []delivery.Attempt) error {
	key := []string{s.keys.App(app, keys.AppDeliveries)}
	for chunk := range slices.Chunk(attempts, maxPage) {
		args := make([]any, 2, 2+len(chunk))
		args[0], args[1] = s.opts.DeliveriesKeep, s.opts.IncidentsKeep.Milliseconds()
		for _, a := range chunk {
			b, err := json.Marshal(storedAttempt{Format: format, Attempt: a})
			if err != nil {
				return fmt.Errorf("encode an attempt of app %s: %w", app, err)
			}
			args = append(args, b)
		}
		if err := recordAttempts.run(ctx, s.rdb, key, args...).Err(); err != nil {
			return failure(err, "record attempts of app %s", app)
		}
	}
	return nil
}

// Attempts lists an app's recent attempts, newest first: those of one tenant when only is not
// empty; 100 when limit is 0, 500 at most. Errors: ErrUnreadable.
func (s *Store) Attempts(ctx context.Context, app partner.ClientID, limit int, only tenant.ID) ([]delivery.Attempt, error) {
	limit = pageSize(limit)
	last := int64(-1)
	if only == "" {
		last = int64(limit) - 1
	}
	stored, err := s.rdb.LRange(ctx, s.keys.App(app, keys.AppDeliveries), 0, last).Result()
	if err != nil {
		return nil, failure(err, "read attempts of app %s", app)
	}
	out := make([]delivery.Attempt, 0, min(limit, len(stored)))
	for _, text := range stored {
		var a storedAttempt
		if err := decodeJSON(text, &a, &a.Format); err != nil {
			return nil, fmt.Errorf("read attempts of app %s: %w", app, err)
		}
		if only != "" && a.Tenant != only {
			continue
		}
		if out = append(out, a.Attempt); len(out) == limit {
			break
		}
	}
	return out, nil
}
