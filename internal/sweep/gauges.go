package sweep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// pendingSample is how many of the oldest pending fan-outs are used to count pairs.
const pendingSample = 200

// countRound is one round of counting in this process. A sum to which two processes contribute is not a count.
type countRound struct {
	sum *summary
	// at is the place that the round reached.
	at string
}

// countAll is the step of the loop that counts. A round that another process began, or that cannot be completed, starts again.
func (s *Sweeper) countAll(ctx context.Context, cursor string) (loop.Report, error) {
	var f faults
	c := &s.count
	if c.sum == nil || cursor == "" || cursor != c.at {
		c.sum, cursor = newSummary(), ""
	}
	s.refreshApps(ctx, &f)
	entries, next, last := s.appsAfter(cursor, page)
	ids := listClientIDs(entries)
	views, verrs := s.opts.Mailboxes.Views(ctx, ids)
	found, terrs := s.opts.Incidents.ReadOpenIncidents(ctx, ids)
	for i, e := range entries {
		if err := errors.Join(verrs[i], terrs[i]); err != nil {
			f.addError(err)
			continue
		}
		c.sum.addApp(ids[i], views[i], summarizeIncidents(found[i]), e.Rec.App.IsDelivering(s.opts.Environment))
	}
	c.at = next
	if last && f.storeError() == nil {
		f.addError(s.saveSummary(ctx, c.sum))
	}
	if err := f.storeError(); err != nil { // the numbers of the last round are more accurate than a part
		c.sum = nil
		return loop.Report{End: true, Passed: f.own}, err
	}
	return loop.Report{Next: next, End: last, Passed: f.own}, nil
}

// saveSummary adds the counts that belong to no app, and stores the sum for all processes.
func (s *Sweeper) saveSummary(ctx context.Context, sum *summary) error {
	m := s.mails.Load()
	sum.Outbox, sum.OldestMail = m.Mails, m.oldestDelay(time.Now()).Seconds()
	if err := s.countPendingFanouts(ctx, sum); err != nil {
		return fmt.Errorf("count the pending fan-outs: %w", err)
	}
	if err := s.opts.Registry.SaveGauges(ctx, sum.encode(), s.opts.Every*staleRounds); err != nil {
		return fmt.Errorf("save the cluster's gauges: %w", err)
	}
	return nil
}

// countPendingFanouts counts the pending fan-outs, and their pairs of app and tenant, which wait in no mailbox yet. With more
// than pendingSample of them the number of pairs is extrapolated from the oldest ones.
func (s *Sweeper) countPendingFanouts(ctx context.Context, sum *summary) error {
	oldest, err := s.opts.Registry.ListPendingFanouts(ctx, s.opts.Every, registry.PendingFanout{}, pendingSample)
	if err != nil || len(oldest) == 0 {
		return err
	}
	if sum.PendingFanouts, err = s.opts.Registry.CountPendingFanouts(ctx, s.opts.Every); err != nil {
		return err
	}
	if sum.Stuck, err = s.opts.Registry.CountPendingFanouts(ctx, stuckAfter); err != nil {
		return err
	}
	ids := make([]tenant.ID, len(oldest))
	for i, o := range oldest {
		ids[i] = o.Tenant
	}
	counts, err := s.opts.Registry.ApproverCounts(ctx, ids)
	if err != nil {
		return err
	}
	pairs := int64(0)
	for _, n := range counts {
		pairs += n
	}
	n := int64(len(ids))
	sum.FanoutPairs = pairs * max(sum.PendingFanouts, n) / n
	sum.OldestFanout = max(time.Since(time.UnixMicro(oldest[0].Ticket)).Seconds(), 0)
	return nil
}

// EndpointIncidents says which of an app's endpoints have an incident.
type EndpointIncidents struct {
	// Failing is true for each endpoint that is failing, Open for each with an open incident.
	Failing, Open [partner.EndpointKinds]bool
}

func summarizeIncidents(found *registry.OpenIncidents) (t EndpointIncidents) {
	if found == nil {
		return t
	}
	for k, s := range found.Incidents {
		t.Open[k], t.Failing[k] = s.IsOpen(), !s.FailingSince.IsZero()
	}
	return t
}
