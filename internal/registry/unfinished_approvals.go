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

// UnfinishedApproval is an approval that a call began to change and did not finish.
type UnfinishedApproval struct {
	App    partner.ClientID
	Tenant tenant.ID
	// call distinguishes calls about the same approval: one may finish while another breaks off.
	call   string
	ticket int64
}

// RecordUnfinishedApprovals records that a call begins to change tenants' approvals of an app, which are stored in several slots.
// The call passes the result to FinishApprovals when it is done.
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
			return nil, wrapError(err, "record unfinished approvals of app %s", app)
		}
		for _, id := range chunk {
			noted = append(noted, UnfinishedApproval{App: app, Tenant: id, call: call, ticket: ticket})
		}
	}
	return noted, nil
}

// FinishApprovals removes what RecordUnfinishedApprovals recorded.
func (s *Store) FinishApprovals(ctx context.Context, done []UnfinishedApproval) error {
	for chunk := range slices.Chunk(done, maxPage) {
		args := make([]any, 0, 2*len(chunk))
		for _, u := range chunk {
			args = append(args, u.memberName(), u.ticket)
		}
		if err := removePending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, args...).Err(); err != nil {
			return wrapError(err, "remove finished approvals")
		}
	}
	return nil
}

// ReadUnfinishedApprovals lists at most limit (500 at most) approvals whose call began at least waited ago, the longest first,
// behind the first skip ones. Entries that cannot be read are left out, and reported by the error.
func (s *Store) ReadUnfinishedApprovals(ctx context.Context, waited time.Duration, skip, limit int) ([]UnfinishedApproval, error) {
	flat, err := listPending.run(ctx, s.rdb, []string{s.keys.Pending(keys.PendingApprovals)}, waited.Microseconds(), clampPageSize(limit), skip).StringSlice()
	if err != nil {
		return nil, wrapError(err, "read unfinished approvals")
	}
	out := make([]UnfinishedApproval, 0, len(flat)/2)
	var errs []error
	for i := 0; i+1 < len(flat); i += 2 {
		parts := strings.SplitN(flat[i], "|", 3)
		ticket, err := strconv.ParseFloat(flat[i+1], 64)
		if len(parts) != 3 || err != nil {
			errs = append(errs, fmt.Errorf("read unfinished approvals: %w: %q", ErrUnreadable, flat[i]))
			continue
		}
		out = append(out, UnfinishedApproval{App: partner.ClientID(parts[0]), Tenant: tenant.ID(parts[1]), call: parts[2], ticket: int64(ticket)})
	}
	return out, errors.Join(errs...)
}

// memberName returns its name in the list; no part can hold the bar.
func (u UnfinishedApproval) memberName() string {
	return string(u.App) + "|" + string(u.Tenant) + "|" + u.call
}

// RemovedApp is a deleted app.
type RemovedApp struct {
	App      partner.ClientID
	Revision int64
}

// RemovedApps lists at most limit (500 at most) apps that were removed after a revision, in the order of their removal. An app
// that exists again is not listed.
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
