package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// underWayMax is how many unfinished approvals are read at most. With more of them the second check waits.
const underWayMax = 5000

// recheckSuspects checks suspects of one app a second time, and repairs what is still wrong.
func (c *Comparer) recheckSuspects(ctx context.Context, now time.Time) (cost float64, idle time.Duration, err error) {
	batch := c.suspects.takeRipe(now.Add(-c.opts.Pace.Again), mailbox.MaxBatch)
	cost = costPage + costLook*float64(len(batch))
	app := batch[0].app
	found, complete, err := c.findLastingGaps(ctx, batch)
	if err == nil && !complete {
		for _, s := range batch {
			s.at = now
			c.suspects.add(s)
		}
		return cost, 0, nil
	}
	if err == nil {
		err = c.closeGaps(ctx, app, found)
	}
	if err != nil {
		if c.failures+1 < passOver { // else the next round finds them again
			c.suspects.putBack(batch)
		}
		return cost, 0, fmt.Errorf("repair app %s: %w", app, err)
	}
	return cost, 0, nil
}

// gap lists what is wrong with a pair.
type gap struct {
	tenant tenant.ID
	kinds  []Kind
	known  int64
}

// findLastingGaps checks suspects of one app again and returns the gaps that persist. The order of reads matters: dismissals,
// calls and clear jobs in progress, marks, records, lists, calls, marks, dismissals.
//
// A call notes what it is about to write: until the note is gone, its tenant has no gap. A call that began after the first read
// of the notes and ended before the second has approved: the last marks show that. A dismissal in between would hide it, which
// the count of dismissals shows. A record that is read after a mark knows at least what the mark knows. A mark that is read after
// a record without a pending fan-out knows at least what the record knows. complete is false where this cannot be decided.
func (c *Comparer) findLastingGaps(ctx context.Context, batch []suspect) (found []gap, complete bool, err error) {
	app := batch[0].app
	if err := c.opts.Apps.Refresh(ctx); err != nil {
		return nil, false, fmt.Errorf("refresh apps: %w", err)
	}
	dismissals, err := c.opts.Mailboxes.Dismissals(ctx, app)
	if err != nil {
		return nil, false, err
	}
	noted := map[tenant.ID]bool{}
	if complete, err := c.addUnfinishedApprovals(ctx, app, noted); err != nil || !complete {
		return nil, false, err
	}
	view, err := c.opts.Mailboxes.View(ctx, app)
	if err != nil {
		return nil, false, err
	}
	e, ok := c.opts.Apps.App(app)
	if !ok {
		e = &registry.Entry{Rec: registry.AppRecord{App: partner.App{ClientID: app}}}
	}
	asked := []mailbox.MarkQuery{{App: app, Tenants: make([]tenant.ID, len(batch))}}
	for i, s := range batch {
		asked[0].Tenants[i] = s.tenant
	}
	before, err := c.opts.Mailboxes.ReadMarksOf(ctx, asked)
	if err != nil {
		return nil, false, err
	}
	sights, err := c.readSnapshots(ctx, e, before[0])
	if err != nil {
		return nil, false, err
	}
	if complete, err := c.addUnfinishedApprovals(ctx, app, noted); err != nil || !complete {
		return nil, false, err
	}
	after, err := c.opts.Mailboxes.ReadMarksOf(ctx, asked)
	if err != nil {
		return nil, false, err
	}
	now, err := c.opts.Mailboxes.Dismissals(ctx, app)
	if err != nil {
		return nil, false, err
	}
	for i, s := range batch {
		last, m := sights[i], after[0][i]
		last.Approved, last.Known, last.Again = m.Approved, m.Known, m.Again
		kinds := FindPersisting(s.first, sights[i], last)
		if noted[s.tenant] { // the call itself writes it, or the repair of calls that broke off does
			kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return k == Index || k == Behind || k == Retell })
		}
		if len(view.Former) > 0 && !m.Approved { // a job is removing what a former life left in the index
			kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return k == Index })
		}
		if now != dismissals && slices.Contains(kinds, Index) {
			return nil, false, nil
		}
		if len(kinds) > 0 {
			found = append(found, gap{tenant: s.tenant, kinds: kinds, known: m.Known})
		}
	}
	return found, true, nil
}

// addUnfinishedApprovals adds the app's tenants whose approvals calls are changing. complete is false if there are more than
// underWayMax such calls.
func (c *Comparer) addUnfinishedApprovals(ctx context.Context, app partner.ClientID, noted map[tenant.ID]bool) (complete bool, err error) {
	calls, complete, err := c.opts.Registry.CollectUnfinishedApprovals(ctx, underWayMax)
	if err != nil && !errors.Is(err, registry.ErrUnreadable) || !complete {
		return false, err
	}
	for _, u := range calls {
		if u.App == app {
			noted[u.Tenant] = true
		}
	}
	return true, nil
}

// closeGaps closes gaps of one app, by operations that are correct whatever happened since the gaps were seen.
func (c *Comparer) closeGaps(ctx context.Context, app partner.ClientID, found []gap) error {
	by := map[Kind][]tenant.ID{}
	var ahead []gap
	for _, g := range found {
		for _, k := range g.kinds {
			by[k] = append(by[k], g.tenant)
			if k == Ahead {
				ahead = append(ahead, g)
			}
		}
	}
	var errs []error
	closed := func(k Kind, n int, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("close gaps (%s): %w", k, err))
			return
		}
		if n > 0 {
			c.opts.Metrics.countClosed(k, n)
			c.opts.Log.WarnContext(ctx, "gaps between an app and its tenants closed", "app", app, "kind", string(k), "count", n, "tenant", by[k][0])
			c.state.Closed += int64(n)
		}
	}
	for _, g := range ahead {
		raised, err := c.raiseSequence(ctx, g)
		n := 0
		if raised {
			n = 1
		}
		closed(Ahead, n, err)
	}
	if ts := by[Listing]; len(ts) > 0 {
		closed(Listing, len(ts), c.opts.Registry.AddPendingFanouts(ctx, ts))
	}
	if ts := by[Index]; len(ts) > 0 {
		closed(Index, len(ts), c.opts.Approvals.ReconcileIndex(ctx, app, ts))
	}
	if ts := by[Behind]; len(ts) > 0 {
		closed(Behind, len(ts), c.opts.Approvals.CatchUp(ctx, app, ts))
	}
	if ts := by[Retell]; len(ts) > 0 { // others are likely to be missing, too
		closed(Retell, len(ts), c.opts.Jobs.CatchUp(ctx, app))
	}
	if len(found) > 0 && c.state.Asked <= c.state.Serving { // a gap is seldom the only one
		errs = append(errs, c.requestFastRound(ctx))
	}
	return errors.Join(errs...)
}

// raiseSequence raises a tenant's sequence above what a mailbox knows, and has its state deposited.
func (c *Comparer) raiseSequence(ctx context.Context, g gap) (bool, error) {
	views, err := c.opts.Registry.Tenants(ctx, []tenant.ID{g.tenant})
	if err != nil {
		return false, err
	}
	return c.opts.Registry.RaiseSequence(ctx, views[0], g.known)
}
