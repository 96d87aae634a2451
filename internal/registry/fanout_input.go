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

// FanoutInput is what a fan-out of one tenant needs.
type FanoutInput struct {
	// Ticket is the tenant's ticket in the list of pending fan-outs, 0 if it is not listed.
	Ticket int64
	View   TenantView
	// Approvers are read for tenants with a pending fan-out, a page at a time. An app may come twice.
	Approvers []partner.ClientID
	rest      approversLeft
}

// HasMoreApprovers reports whether approvers are left, which NextApprovers reads.
func (o *FanoutInput) HasMoreApprovers() bool { return o.rest.cursor != 0 }

// approversLeft is the place that the read of a tenant's approvers reached.
type approversLeft struct {
	// cursor is Redis's cursor, 0 if nothing is left.
	cursor uint64
	// first are some of the approvers that were read first.
	first []string
}

// placemarks is how many of the first members are remembered, to recognise the server. Each server lists the members of a set in
// its own order. The same server is assumed if half of the remembered members are among the first 2*placemarks, because some may
// have changed. On another server that is unlikely: a set that has a second page is much larger.
const placemarks = 10

// ReadFanoutInputs reads what the fan-outs of tenants need, in the order of ids. It reads first all tickets, then all records,
// then about page approvers of each, so that no change or approval made in between is lost. With a single client that takes one
// round trip for each pipelineMax tenants. In a Cluster, whose nodes answer at different times, the reads follow each other. The
// records are those that replicas have: otherwise a fan-out could read a change whose accept still waits for them. Errors: as of
// ReplicatedTenants.
func (s *Store) ReadFanoutInputs(ctx context.Context, ids []tenant.ID, page int) ([]FanoutInput, error) {
	if one, ok := s.durable.(*redis.Client); ok && len(ids) > 0 && len(ids) <= pipelineMax {
		return s.readFanoutInputsAtOnce(ctx, one, ids, page)
	}
	tickets, err := s.ReadTickets(ctx, ids)
	if err != nil {
		return nil, err
	}
	views, err := s.ReplicatedTenants(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]FanoutInput, len(ids))
	var owed []*FanoutInput
	for i := range ids {
		out[i] = FanoutInput{Ticket: tickets[i], View: views[i]}
		if views[i].FanoutPending {
			owed = append(owed, &out[i])
		}
	}
	for _, err := range s.readApproverPages(ctx, owed, page) {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Store) readFanoutInputsAtOnce(ctx context.Context, rdb *redis.Client, ids []tenant.ID, page int) ([]FanoutInput, error) {
	members := make([]string, len(ids))
	for i, id := range ids {
		members[i] = string(id)
	}
	var scores *redis.FloatSliceCmd
	records, approvals := make([]*redis.MapStringStringCmd, len(ids)), make([]*redis.ScanCmd, len(ids))
	// Each command holds its own error.
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		scores = p.ZMScore(ctx, s.keys.Pending(keys.PendingTenants), members...)
		for i, id := range ids {
			records[i] = p.HGetAll(ctx, s.keys.Tenant(id, keys.TenantRecord))
		}
		for i, id := range ids {
			approvals[i] = p.SScan(ctx, s.keys.Tenant(id, keys.TenantApprovals), 0, "", int64(page))
		}
		return nil
	})
	tickets, err := scores.Result()
	if err != nil {
		return nil, wrapError(err, "read tickets")
	}
	views, err := decodeRecords(ids, records)
	if err != nil {
		return nil, err
	}
	out := make([]FanoutInput, len(ids))
	for i := range ids {
		out[i] = FanoutInput{Ticket: int64(tickets[i]), View: views[i]}
		if !views[i].FanoutPending {
			continue
		}
		if err := out[i].readApproverPage(approvals[i], nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// NextApprovers replaces the approvers of each input by its next page of about page approvers. Errors are at their tenant's
// index: not all of its approvers were read then, and HasMoreApprovers is false.
//
// A cursor of Redis is valid only on the server that returned it. On another one, as after a failover, it would skip approvers
// that were never read. That is an error.
func (s *Store) NextApprovers(ctx context.Context, of []*FanoutInput, page int) []error {
	return s.readApproverPages(ctx, of, page)
}

func (s *Store) readApproverPages(ctx context.Context, of []*FanoutInput, page int) []error {
	pages, starts := make([]*redis.ScanCmd, len(of)), make([]*redis.ScanCmd, len(of))
	for start := 0; start < len(of); start += pipelineMax {
		// Each command holds its own error.
		_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, o := range of[start:min(start+pipelineMax, len(of))] {
				key := s.keys.Tenant(o.View.Record.Tenant, keys.TenantApprovals)
				pages[start+i] = p.SScan(ctx, key, o.rest.cursor, "", int64(page))
				if o.HasMoreApprovers() { // after the page: a new server cannot answer only the page
					starts[start+i] = p.SScan(ctx, key, 0, "", 2*placemarks)
				}
			}
			return nil
		})
	}
	errs := make([]error, len(of))
	for i, o := range of {
		if errs[i] = o.readApproverPage(pages[i], starts[i]); errs[i] != nil {
			o.Approvers, o.rest = nil, approversLeft{}
		}
	}
	return errs
}

// readApproverPage decodes a page of approvers. start, nil for the first page, are the first members on the server that answered.
func (o *FanoutInput) readApproverPage(page, start *redis.ScanCmd) error {
	id := o.View.Record.Tenant
	members, cursor, err := page.Result()
	if err != nil {
		return wrapError(err, "read approvals of tenant %s", id)
	}
	if start != nil {
		begins, _, err := start.Result()
		if err != nil {
			return wrapError(err, "read approvals of tenant %s", id)
		}
		if !o.rest.hasSameOrder(begins) {
			return fmt.Errorf("read approvals of tenant %s: another server answered meanwhile, or most of them changed", id)
		}
	} else if cursor != 0 {
		o.rest.first = slices.Clone(members[:min(placemarks, len(members))])
	}
	o.rest.cursor = cursor
	o.Approvers, err = parseApprovers(id, members)
	return err
}

func (l approversLeft) hasSameOrder(begins []string) bool {
	n := 0
	for _, m := range l.first {
		if slices.Contains(begins, m) {
			n++
		}
	}
	return 2*n >= len(l.first)
}
