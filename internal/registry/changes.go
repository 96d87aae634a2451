package registry

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Change reads an accepted change by its id: one of the listed changes, or the newest of its slot however old it is, because it
// may still be pending for an app that was unreachable for that long. Errors: ErrNotFound, also for a string that is no change's
// id; ErrUnreadable.
func (s *Store) Change(ctx context.Context, changeID string) (tenant.Change, error) {
	id, seq, err := tenant.ParseChangeID(changeID)
	if err != nil {
		return tenant.Change{}, fmt.Errorf("read change: %w: %w", ErrNotFound, err)
	}
	score := strconv.FormatInt(seq, 10)
	found, err := s.rdb.ZRangeByScore(ctx, s.keys.Tenant(id, keys.TenantChanges), &redis.ZRangeBy{Min: score, Max: score}).Result()
	if err != nil {
		return tenant.Change{}, wrapError(err, "read change %s", changeID)
	}
	if len(found) > 0 {
		return decodeChange(found[0], id, seq)
	}
	v, err := s.Tenant(ctx, id)
	if err != nil {
		return tenant.Change{}, err
	}
	for _, h := range v.Record.Heads {
		if h.Sequence == seq {
			return h.Change, nil
		}
	}
	return tenant.Change{}, fmt.Errorf("read change %s: %w", changeID, ErrNotFound)
}

// Changes lists a tenant's accepted changes of Options.ChangesKeep, newest first; 100 when limit
// is 0, 500 at most. Errors: ErrUnreadable.
func (s *Store) Changes(ctx context.Context, id tenant.ID, limit int) ([]tenant.Change, error) {
	found, err := s.rdb.ZRevRangeWithScores(ctx, s.keys.Tenant(id, keys.TenantChanges), 0, int64(clampPageSize(limit))-1).Result()
	if err != nil {
		return nil, wrapError(err, "list changes of tenant %s", id)
	}
	out := make([]tenant.Change, 0, len(found))
	for _, z := range found {
		member, _ := z.Member.(string) // a value that is no string is refused below
		c, err := decodeChange(member, id, int64(z.Score))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// decodeChange decodes a listed change; its own id must match the list.
func decodeChange(stored string, id tenant.ID, seq int64) (tenant.Change, error) {
	c, err := delivery.DecodeChange(stored, id, seq)
	if err != nil {
		return tenant.Change{}, fmt.Errorf("%w: change %s: %w", ErrUnreadable, tenant.FormatChangeID(id, seq), err)
	}
	if want := tenant.FormatChangeID(id, seq); c.ID != want {
		return tenant.Change{}, fmt.Errorf("%w: change %s bears another id", ErrUnreadable, want)
	}
	return c, nil
}
