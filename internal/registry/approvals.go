package registry

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Approvers lists, in order, the apps that a tenant approved, as the tenant's index has them. The apps' mailboxes are
// authoritative. Errors: ErrUnreadable.
func (s *Store) Approvers(ctx context.Context, id tenant.ID) ([]partner.ClientID, error) {
	all, err := s.ApproversOf(ctx, []tenant.ID{id})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// approversPage is about how many approvals one command reads. Reading all approvals of a tenant with thousands of apps would
// block Redis for milliseconds.
const approversPage = 1000

// ApproversOf lists the approvers of many tenants, in the order of ids, pipelined and page by page. An app that is an approver
// during the whole call is listed.
func (s *Store) ApproversOf(ctx context.Context, ids []tenant.ID) ([][]partner.ClientID, error) {
	members, cursors := make([][]string, len(ids)), make([]uint64, len(ids))
	at := make([]int, len(ids))
	for i := range at {
		at[i] = i
	}
	for len(at) > 0 {
		some, cmds := make([]tenant.ID, len(at)), make([]*redis.ScanCmd, len(at))
		for j, i := range at {
			some[j] = ids[i]
		}
		err := s.pipelineApprovals(ctx, s.rdb, some, func(p redis.Pipeliner, j int, key string) {
			cmds[j] = p.SScan(ctx, key, cursors[at[j]], "", approversPage)
		})
		if err != nil {
			return nil, wrapError(err, "read approvals")
		}
		var more []int
		for j, i := range at {
			page, next := cmds[j].Val()
			members[i], cursors[i] = append(members[i], page...), next
			if next != 0 {
				more = append(more, i)
			}
		}
		at = more
	}
	out := make([][]partner.ClientID, len(ids))
	var err error
	for i, id := range ids {
		slices.Sort(members[i])
		if out[i], err = parseSortedApprovers(id, slices.Compact(members[i])); err != nil { // a scan may return a member twice
			return nil, err
		}
	}
	return out, nil
}

// ApproverCounts returns how many apps each tenant approved, in the order of ids, pipelined.
func (s *Store) ApproverCounts(ctx context.Context, ids []tenant.ID) ([]int64, error) {
	cmds := make([]*redis.IntCmd, len(ids))
	err := s.pipelineApprovals(ctx, s.rdb, ids, func(p redis.Pipeliner, i int, key string) { cmds[i] = p.SCard(ctx, key) })
	if err != nil {
		return nil, wrapError(err, "count approvals")
	}
	out := make([]int64, len(ids))
	for i, c := range cmds {
		out[i] = c.Val()
	}
	return out, nil
}

func parseSortedApprovers(id tenant.ID, members []string) ([]partner.ClientID, error) {
	slices.Sort(members)
	return parseApprovers(id, members)
}

func parseApprovers(id tenant.ID, members []string) (apps []partner.ClientID, err error) {
	if len(members) > 0 {
		apps = make([]partner.ClientID, 0, len(members))
	}
	for _, m := range members {
		app, err := partner.ParseClientID(m)
		if err != nil {
			return nil, fmt.Errorf("read approvals of tenant %s: %w: %w", id, ErrUnreadable, err)
		}
		apps = append(apps, app)
	}
	return apps, nil
}

// AddApprover adds an app to the tenants' indexes. It may be repeated.
func (s *Store) AddApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error {
	err := s.pipelineApprovals(ctx, s.durable, ids, func(p redis.Pipeliner, _ int, key string) { p.SAdd(ctx, key, string(app)) })
	return wrapError(err, "add app %s to the approvals", app)
}

// RemoveApprover removes an app from the tenants' indexes. It may be repeated.
func (s *Store) RemoveApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error {
	err := s.pipelineApprovals(ctx, s.durable, ids, func(p redis.Pipeliner, _ int, key string) { p.SRem(ctx, key, string(app)) })
	return wrapError(err, "remove app %s from the approvals", app)
}

// pipelineApprovals pipelines one command per tenant's index.
func (s *Store) pipelineApprovals(ctx context.Context, rdb redis.UniversalClient, ids []tenant.ID, do func(p redis.Pipeliner, i int, key string)) error {
	for start := 0; start < len(ids); start += pipelineMax {
		end := min(start+pipelineMax, len(ids))
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := start; i < end; i++ {
				do(p, i, s.keys.Tenant(ids[i], keys.TenantApprovals))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
