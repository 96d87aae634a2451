package registry

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Owing is what a fan-out of one tenant needs.
type Owing struct {
	// Ticket is that of the tenant's place in the list, 0 when it is not listed.
	Ticket int64
	View   TenantView
	// Approvers are read of tenants whose fan-out is owed.
	Approvers []partner.ClientID
}

// Owing reads what the fan-outs of tenants need, in the order of ids: first all tickets, then all
// records, then all approvers, so that neither a change nor an approval made in between is lost. Where
// one connection leads to all of Redis that takes one round trip for each pipelineMax tenants; in a
// Cluster, whose nodes answer at different times, one after the other. The records are what replicas hold:
// a fan-out may read a change whose accept still waits for them. Errors: as of HeldTenants.
func (s *Store) Owing(ctx context.Context, ids []tenant.ID) ([]Owing, error) {
	if one, ok := s.durable.(*redis.Client); ok && len(ids) > 0 && len(ids) <= pipelineMax {
		return s.owingAtOnce(ctx, one, ids)
	}
	tickets, err := s.Tickets(ctx, ids)
	if err != nil {
		return nil, err
	}
	views, err := s.HeldTenants(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]Owing, len(ids))
	owed, at := make([]tenant.ID, 0, len(ids)), make([]int, 0, len(ids))
	for i := range ids {
		out[i] = Owing{Ticket: tickets[i], View: views[i]}
		if views[i].FanoutOwed {
			owed, at = append(owed, ids[i]), append(at, i)
		}
	}
	approvers, err := s.ApproversOf(ctx, owed)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		out[i].Approvers = approvers[j]
	}
	return out, nil
}

func (s *Store) owingAtOnce(ctx context.Context, rdb *redis.Client, ids []tenant.ID) ([]Owing, error) {
	members := make([]string, len(ids))
	for i, id := range ids {
		members[i] = string(id)
	}
	var scores *redis.FloatSliceCmd
	records, approvals := make([]*redis.MapStringStringCmd, len(ids)), make([]*redis.StringSliceCmd, len(ids))
	// Each command holds its own error.
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		scores = p.ZMScore(ctx, s.keys.Owed(keys.OwedTenants), members...)
		for i, id := range ids {
			records[i] = p.HGetAll(ctx, s.keys.Tenant(id, keys.TenantRecord))
		}
		for i, id := range ids {
			approvals[i] = p.SMembers(ctx, s.keys.Tenant(id, keys.TenantApprovals))
		}
		return nil
	})
	tickets, err := scores.Result()
	if err != nil {
		return nil, failure(err, "read tickets")
	}
	views, err := readRecords(ids, records)
	if err != nil {
		return nil, err
	}
	out := make([]Owing, len(ids))
	for i, id := range ids {
		out[i] = Owing{Ticket: int64(tickets[i]), View: views[i]}
		if !views[i].FanoutOwed {
			continue
		}
		members, err := approvals[i].Result()
		if err != nil {
			return nil, failure(err, "read approvals of tenant %s", id)
		}
		if out[i].Approvers, err = readApprovers(id, members); err != nil {
			return nil, err
		}
	}
	return out, nil
}
