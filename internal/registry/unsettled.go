package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Unsettled is an approval that a call set out to change and never said that it had.
type Unsettled struct {
	App    partner.ClientID
	Tenant tenant.ID
	// call tells calls about the same approval apart: what one settles, another may break off.
	call   string
	ticket int64
}

// NoteApprovals notes that a call sets out to change tenants' approvals of an app, which lie in
// several slots. The call settles what it gets when it is done.
func (s *Store) NoteApprovals(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]Unsettled, error) {
	ks := []string{s.keys.Pending(keys.PendingApprovals), s.keys.Pending(keys.PendingTicket)}
	noted, call := make([]Unsettled, 0, len(ids)), s.nonce()
	for chunk := range slices.Chunk(ids, maxPage) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = Unsettled{App: app, Tenant: id, call: call}.member()
		}
		ticket, err := oweTenants.run(ctx, s.rdb, ks, args...).Int64()
		if err != nil {
			return nil, failure(err, "note approvals of app %s", app)
		}
		for _, id := range chunk {
			noted = append(noted, Unsettled{App: app, Tenant: id, call: call, ticket: ticket})
		}
	}
	return noted, nil
}

// SettleApprovals strikes off what NoteApprovals noted.
func (s *Store) SettleApprovals(ctx context.Context, done []Unsettled) error {
	for chunk := range slices.Chunk(done, maxPage) {
		args := make([]any, 0, 2*len(chunk))
		for _, u := range chunk {
			args = append(args, u.member(), u.ticket)
		}
		if err := paidTenants.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, args...).Err(); err != nil {
			return failure(err, "strike off the approvals that are settled")
		}
	}
	return nil
}

// UnsettledApprovals lists at most limit (500 at most) approvals whose call has had time for at
// least waited, longest first, those behind the first skip ones. Notes that cannot be read are left
// out, and are the error.
func (s *Store) UnsettledApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]Unsettled, error) {
	flat, err := owedTenants.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, waited.Microseconds(), pageSize(limit), skip).StringSlice()
	if err != nil {
		return nil, failure(err, "read the approvals that are not settled")
	}
	out := make([]Unsettled, 0, len(flat)/2)
	var errs []error
	for i := 0; i+1 < len(flat); i += 2 {
		parts := strings.SplitN(flat[i], "|", 3)
		ticket, err := strconv.ParseFloat(flat[i+1], 64)
		if len(parts) != 3 || err != nil {
			errs = append(errs, fmt.Errorf("read the approvals that are not settled: %w: %q", ErrUnreadable, flat[i]))
			continue
		}
		out = append(out, Unsettled{App: partner.ClientID(parts[0]), Tenant: tenant.ID(parts[1]), call: parts[2], ticket: int64(ticket)})
	}
	return out, errors.Join(errs...)
}

// member names it in the list; no part can hold the bar.
func (u Unsettled) member() string { return string(u.App) + "|" + string(u.Tenant) + "|" + u.call }

// Removed is an app that is gone.
type Removed struct {
	App      partner.ClientID
	Revision int64
}

// RemovedApps lists at most limit (500 at most) apps removed after a revision, in the order of
// their removal. An app that is back is not among them.
func (s *Store) RemovedApps(ctx context.Context, since int64, limit int) ([]Removed, error) {
	zs, err := s.rdb.ZRangeByScoreWithScores(ctx, s.keys.Config(keys.ConfigRemoved), &redis.ZRangeBy{
		Min: "(" + strconv.FormatInt(since, 10), Max: "+inf", Count: int64(pageSize(limit)),
	}).Result()
	if err != nil {
		return nil, failure(err, "read the removed apps")
	}
	out := make([]Removed, len(zs))
	for i, z := range zs {
		name, _ := z.Member.(string)
		out[i] = Removed{App: partner.ClientID(name), Revision: int64(z.Score)}
	}
	return out, nil
}
