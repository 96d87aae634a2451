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
	// pendingLimit is how many the registry lists at once. pendingFirst is how many pending fan-outs a round starts at first,
	// pendingMax how many at most.
	pendingLimit = 500
	pendingFirst = 2 * pendingLimit
	pendingMax   = 64 * pendingLimit
	// stuckAfter is how long a fan-out is pending before it counts as stuck. A tenant without a pending fan-out may stay listed
	// for ten minutes, so it must be longer.
	stuckAfter = 15 * time.Minute
)

// fanoutBudget limits how many pending fan-outs the next round starts, and keeps the last ones that the previous round started.
type fanoutBudget struct {
	most int
	last []registry.PendingFanout
	// full: the previous round started as many as it was allowed to.
	full bool
}

// startPendingFanouts is the step of the loop that starts fan-outs again that a crash left behind, those that have waited longest
// first. Each round continues behind those that the previous one started: a fan-out that fails is skipped until all others were
// tried.
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
			return report(fmt.Errorf("list pending fan-outs: %w", err))
		}
		if err := s.startFanouts(ctx, list); err != nil {
			return report(fmt.Errorf("start pending fan-outs: %w", err))
		}
		fromStart := after == registry.PendingFanout{}
		if len(list) > 0 {
			s.fanouts.last, after = list, list[len(list)-1]
		}
		started += len(list)
		if len(list) < pendingLimit {
			if after = (registry.PendingFanout{}); started > 0 || fromStart {
				return report(nil)
			} // those behind the cursor are done: go on from the start
		}
	}
	s.fanouts.full = true
	return report(nil)
}

// adaptFanoutLimit sets how many fan-outs a round starts. It doubles the limit if at least half of what the previous round
// started last is done by now, and halves it otherwise. Once the end of the list was reached, the limit is back at its first
// value. Stuck fan-outs do not count, because they say nothing about the speed of the workers.
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
		return fmt.Errorf("read the fan-outs that were started: %w", err)
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

// encodeFanoutCursor returns the loop's place: "<ticket>|<tenant>" of the last fan-out that was started.
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
