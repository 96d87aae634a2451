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

// UnfinishedApproval is an approval that a call set out to change and never said that it had.
type UnfinishedApproval struct {
	App    partner.ClientID
	Tenant tenant.ID
	// call tells calls about the same approval apart: what one settles, another may break off.
	call   string
	ticket int64
}

// RecordUnfinishedApprovals notes that a call sets out to change tenants' approvals of an app, which lie in
// several slots. The call settles what it gets when it is done.
func (s *Store) RecordUnfinishedApprovals(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]UnfinishedApproval, error) {
	ks := []string{s.keys.Pending(keys.PendingApprovals), s.keys.Pending(keys.PendingTicket)}
	noted, call := make([]UnfinishedApproval, 0, len(ids)), s.nonce()
	for chunk := range slices.Chunk(ids, maxPage) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = UnfinishedApproval{App: app, Tenant: id, call: call}.memberName()
		}
		ticket, err := addPending.run(ctx, s.rdb, ks, args...).Int64()
		if err != nil {
			return nil, wrapError(err, "note approvals of app %s", app)
		}
		for _, id := range chunk {
			noted = append(noted, UnfinishedApproval{App: app, Tenant: id, call: call, ticket: ticket})
		}
	}
	return noted, nil
}

// FinishApprovals strikes off what RecordUnfinishedApprovals noted.
func (s *Store) FinishApprovals(ctx context.Context, done []UnfinishedApproval) error {
	for chunk := range slices.Chunk(done, maxPage) {
		args := make([]any, 0, 2*len(chunk))
		for _, u := range chunk {
			args = append(args, u.memberName(), u.ticket)
		}
		if err := removePending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, args...).Err(); err != nil {
			return wrapError(err, "strike off the approvals that are settled")
		}
	}
	return nil
}

// ReadUnfinishedApprovals lists at most limit (500 at most) approvals whose call has had time for at
// least waited, longest first, those behind the first skip ones. Notes that cannot be read are left
// out, and are the error.
func (s *Store) ReadUnfinishedApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]UnfinishedApproval, error) {
	flat, err := listPending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, waited.Microseconds(), clampPageSize(limit), skip).StringSlice()
	if err != nil {
		return nil, wrapError(err, "read the approvals that are not settled")
	}
	out := make([]UnfinishedApproval, 0, len(flat)/2)
	var errs []error
	for i := 0; i+1 < len(flat); i += 2 {
		parts := strings.SplitN(flat[i], "|", 3)
		ticket, err := strconv.ParseFloat(flat[i+1], 64)
		if len(parts) != 3 || err != nil {
			errs = append(errs, fmt.Errorf("read the approvals that are not settled: %w: %q", ErrUnreadable, flat[i]))
			continue
		}
		out = append(out, UnfinishedApproval{App: partner.ClientID(parts[0]), Tenant: tenant.ID(parts[1]), call: parts[2], ticket: int64(ticket)})
	}
	return out, errors.Join(errs...)
}

// memberName names it in the list; no part can hold the bar.
func (u UnfinishedApproval) memberName() string {
	return string(u.App) + "|" + string(u.Tenant) + "|" + u.call
}

// RemovedApp is an app that is gone.
type RemovedApp struct {
	App      partner.ClientID
	Revision int64
}

// RemovedApps lists at most limit (500 at most) apps removed after a revision, in the order of
// their removal. An app that is back is not among them.
func (s *Store) RemovedApps(ctx context.Context, since int64, limit int) ([]RemovedApp, error) {
	zs, err := s.rdb.ZRangeByScoreWithScores(ctx, s.keys.Config(keys.ConfigRemoved), &redis.ZRangeBy{
		Min: "(" + strconv.FormatInt(since, 10), Max: "+inf", Count: int64(clampPageSize(limit)),
	}).Result()
	if err != nil {
		return nil, wrapError(err, "read the removed apps")
	}
	out := make([]RemovedApp, len(zs))
	for i, z := range zs {
		name, _ := z.Member.(string)
		out[i] = RemovedApp{App: partner.ClientID(name), Revision: int64(z.Score)}
	}
	return out, nil
}
