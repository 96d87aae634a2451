package sweep

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const (
	// pendingLimit is what the registry lists at most, pendingFirst how many owed fan-outs a round starts at first, and pendingMax how many
	// at most.
	pendingLimit = 500
	pendingFirst = 2 * pendingLimit
	pendingMax   = 64 * pendingLimit
	// stuckAfter is after how long a fan-out that is still owed counts as one that cannot be made: a tenant that owes nothing may be listed for ten
	// minutes.
	stuckAfter = 15 * time.Minute
)

// fanoutBudget is how many owed fan-outs the next round starts at most, and the last ones that the round before started.
type fanoutBudget struct {
	most int
	last []registry.PendingFanout
	// full: the round before started as many as it might.
	full bool
}

// startPendingFanouts is the step of the loop that starts fan-outs again which a crash left behind, those that have waited longest
// first. Each round goes on behind those that the one before started: what cannot be fanned out is passed over until all others were tried.
func (s *Sweeper) startPendingFanouts(ctx context.Context, cursor string) (loop.Report, error) {
	after := decodeFanoutCursor(cursor)
	report := func(err error) (loop.Report, error) {
		return loop.Report{Next: encodeFanoutCursor(after), End: true}, err
	}
	if err := s.adaptFanoutLimit(ctx); err != nil {
		return report(err)
	}
	s.fanouts.last, s.fanouts.full = nil, false
	for started := 0; started < s.fanouts.most; {
		list, err := s.opts.Registry.ListPendingFanouts(ctx, s.opts.Every, after, pendingLimit)
		if err != nil {
			return report(fmt.Errorf("find owed fan-outs: %w", err))
		}
		if err := s.startFanouts(ctx, list); err != nil {
			return report(fmt.Errorf("start owed fan-outs: %w", err))
		}
		fromStart := after == registry.PendingFanout{}
		if len(list) > 0 {
			s.fanouts.last, after = list, list[len(list)-1]
		}
		started += len(list)
		if len(list) < pendingLimit {
			if after = (registry.PendingFanout{}); started > 0 || fromStart {
				return report(nil)
			} // those behind the cursor are done: from the start
		}
	}
	s.fanouts.full = true
	return report(nil)
}

// adaptFanoutLimit sets how many fan-outs a round starts: twice as many as before while what the last one started is done by now, else
// half as many, and as at first once the end of the list was reached. What counts as stuck says nothing of how fast the workers are.
func (s *Sweeper) adaptFanoutLimit(ctx context.Context) error {
	o := &s.fanouts
	if !o.full {
		o.most = pendingFirst
		return nil
	}
	var ids []tenant.ID
	var tickets []int64
	for _, t := range o.last {
		if time.Since(time.UnixMicro(t.Ticket)) < stuckAfter {
			ids, tickets = append(ids, t.Tenant), append(tickets, t.Ticket)
		}
	}
	now, err := s.opts.Registry.ReadTickets(ctx, ids)
	if err != nil {
		return fmt.Errorf("look for the fan-outs that were started: %w", err)
	}
	left := 0
	for i, ticket := range now {
		if ticket == tickets[i] {
			left++
		}
	}
	if 2*left <= len(ids) {
		o.most = min(2*o.most, pendingMax)
	} else {
		o.most = max(o.most/2, pendingFirst)
	}
	return nil
}

func (s *Sweeper) startFanouts(ctx context.Context, list []registry.PendingFanout) error {
	for len(list) > 0 {
		n := min(len(list), mailbox.MaxBatch)
		ts := make([]tenant.ID, n)
		for i, o := range list[:n] {
			ts[i] = o.Tenant
		}
		if err := s.opts.Notifier.Notify(ctx, uuid.NewString(), ts); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// The loop's place is "<ticket>|<tenant>" of the last one that was started.
func encodeFanoutCursor(o registry.PendingFanout) string {
	if o == (registry.PendingFanout{}) {
		return ""
	}
	return strconv.FormatInt(o.Ticket, 10) + "|" + string(o.Tenant)
}

func decodeFanoutCursor(cursor string) registry.PendingFanout {
	ticket, id, ok := strings.Cut(cursor, "|")
	n, err := strconv.ParseInt(ticket, 10, 64)
	if !ok || err != nil {
		return registry.PendingFanout{}
	}
	return registry.PendingFanout{Ticket: n, Tenant: tenant.ID(id)}
}
