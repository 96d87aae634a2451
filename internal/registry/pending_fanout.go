package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The scripts of pending fan-outs.
var (
	addPending    = newScript("owe")
	listPending   = newScript("owed")
	clearMark     = newScript("clear")
	removePending = newScript("paid")
)

// CompletedFanout is a fan-out that reached every app, with what was read before it began.
type CompletedFanout struct {
	Tenant tenant.ID
	// Top is the record's highest sequence.
	Top int64
	// Ticket is the tenant's ticket in the list of pending fan-outs; it MUST be read before the record. 0 if the tenant was not
	// listed.
	Ticket int64
}

// addPendingFanouts adds tenants to the list of pending fan-outs, under a new ticket.
func (s *Store) addPendingFanouts(ctx context.Context, rdb redis.UniversalClient, ids []tenant.ID) error {
	ks := []string{s.keys.Pending(keys.PendingTenants), s.keys.Pending(keys.PendingTicket)}
	for chunk := range slices.Chunk(ids, maxPage) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = string(id)
		}
		if err := addPending.run(ctx, rdb, ks, args...).Err(); err != nil {
			return wrapError(err, "add pending fan-outs")
		}
	}
	return nil
}

// ListPendingFanouts lists at most limit tenants (500 at most) that have been in the list of pending fan-outs for at least
// waited, the longest first, behind after; the zero value is the start. A listed tenant may have no pending fan-out: a fan-out of
// it changes nothing and removes it from the list.
func (s *Store) ListPendingFanouts(ctx context.Context, waited time.Duration, after PendingFanout, limit int) ([]PendingFanout, error) {
	args := []any{waited.Microseconds(), clampPageSize(limit), 0}
	if after != (PendingFanout{}) {
		args = append(args, after.Ticket, string(after.Tenant))
	}
	flat, err := listPending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingTenants)}, args...).StringSlice()
	if err != nil {
		return nil, wrapError(err, "read the pending fan-outs")
	}
	out := make([]PendingFanout, 0, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		ticket, err := strconv.ParseFloat(flat[i+1], 64)
		if err != nil {
			return nil, fmt.Errorf("read the pending fan-outs: %w: ticket of tenant %s", ErrUnreadable, flat[i])
		}
		out = append(out, PendingFanout{Tenant: tenant.ID(flat[i]), Ticket: int64(ticket)})
	}
	return out, nil
}

// CountPendingFanouts returns how many tenants have been in the list of pending fan-outs for at least waited, by Redis's clock;
// all of them if waited is 0.
func (s *Store) CountPendingFanouts(ctx context.Context, waited time.Duration) (int64, error) {
	before := "+inf"
	if waited > 0 {
		now, err := s.rdb.Time(ctx).Result()
		if err != nil {
			return 0, wrapError(err, "read Redis's clock")
		}
		before = strconv.FormatInt(now.Add(-waited).UnixMicro(), 10)
	}
	n, err := s.rdb.ZCount(ctx, s.keys.Pending(keys.PendingTenants), "-inf", before).Result()
	return n, wrapError(err, "count the pending fan-outs")
}

// ReadTickets reads the tickets of tenants, in their order, 0 for one that is not listed.
func (s *Store) ReadTickets(ctx context.Context, ids []tenant.ID) ([]int64, error) {
	out := make([]int64, 0, len(ids))
	for chunk := range slices.Chunk(ids, pipelineMax) {
		members := make([]string, len(chunk))
		for i, id := range chunk {
			members[i] = string(id)
		}
		scores, err := s.rdb.ZMScore(ctx, s.keys.Pending(keys.PendingTenants), members...).Result()
		if err != nil {
			return nil, wrapError(err, "read tickets")
		}
		for _, f := range scores {
			out = append(out, int64(f))
		}
	}
	return out, nil
}

// CompleteFanouts records that fan-outs reached every app. If a newer change was accepted meanwhile, mark and list stay. A crash
// between the two writes leaves a listed tenant without a pending fan-out, which the next fan-out removes from the list.
func (s *Store) CompleteFanouts(ctx context.Context, done []CompletedFanout) error {
	calls := make([]call, len(done))
	for i, c := range done {
		calls[i] = call{
			keys: []string{s.keys.Tenant(c.Tenant, keys.TenantRecord)}, args: []any{strconv.FormatInt(c.Top, 10)},
		}
	}
	var paid []any
	var failed error
	for i, cmd := range clearMark.runMany(ctx, s.rdb, calls) {
		n, err := cmd.Int()
		switch {
		case err != nil:
			failed = wrapError(err, "clear the mark of tenant %s", done[i].Tenant)
		case n == 1 && done[i].Ticket != 0:
			paid = append(paid, string(done[i].Tenant), done[i].Ticket)
		}
	}
	for chunk := range slices.Chunk(paid, 2*maxPage) {
		if err := removePending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingTenants)}, chunk...).Err(); err != nil {
			return wrapError(err, "remove completed fan-outs")
		}
	}
	return failed
}
