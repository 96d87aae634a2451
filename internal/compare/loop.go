package compare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Registry is the registry's side of the comparison.
type Registry interface {
	TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, holder string) error
	Comparison(ctx context.Context) (registry.Comparison, error)
	SaveComparison(ctx context.Context, c registry.Comparison) error
	RequestFastRound(ctx context.Context) (int64, error)

	ReadTenantSides(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]registry.TenantSide, time.Time, error)
	ReadTickets(ctx context.Context, ids []tenant.ID) ([]int64, error)
	ReadIndexPage(ctx context.Context, cursor string, count int64) (ids []tenant.ID, next string, err error)
	ApproversOf(ctx context.Context, ids []tenant.ID) ([][]partner.ClientID, error)
	CollectUnfinishedApprovals(ctx context.Context, limit int) (list []registry.UnfinishedApproval, complete bool, err error)

	Tenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error)
	RaiseSequence(ctx context.Context, v registry.TenantView, known int64) (bool, error)
	AddPendingFanouts(ctx context.Context, ids []tenant.ID) error
	HealApp(ctx context.Context, id partner.ClientID, birth, revision, endpoint int64) (bool, error)
}

// Mailboxes is the mailboxes' side.
type Mailboxes interface {
	ReadMarks(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []mailbox.Mark, next string, err error)
	ReadMarksOf(ctx context.Context, batches []mailbox.MarkQuery) ([][]mailbox.Mark, error)
	// OpenJobs names the jobs that deposit the status of an app's tenants.
	OpenJobs(ctx context.Context, apps []partner.ClientID) ([][]mailbox.JobID, error)
	View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
	// Dismissals counts how often approvals of an app were withdrawn by dismissal.
	Dismissals(ctx context.Context, app partner.ClientID) (int64, error)
}

// Approvals repairs pairs by the operations of approvals and resyncs.
type Approvals interface {
	// ReconcileIndex makes the index of tenants match the app's mailbox, and deposits what fan-outs left out.
	ReconcileIndex(ctx context.Context, app partner.ClientID, ts []tenant.ID) error
	// CatchUp deposits the tenants' records again.
	CatchUp(ctx context.Context, app partner.ClientID, ts []tenant.ID) error
}

// Jobs starts a job that deposits what the app missed.
type Jobs interface {
	CatchUp(ctx context.Context, app partner.ClientID) error
}

// Apps lists the apps as of the last refresh.
type Apps interface {
	Refresh(ctx context.Context) error
	App(id partner.ClientID) (*registry.Entry, bool)
	All() []*registry.Entry
	// CountResets counts how often the settings were found to have lost writes.
	CountResets() int64
}

// Options of a Comparer.
type Options struct {
	Registry  Registry
	Mailboxes Mailboxes
	Approvals Approvals
	Jobs      Jobs
	Apps      Apps
	// Primaries names the primaries of Redis as they run now; a failover or a restart changes it. Empty: unknown.
	Primaries func(ctx context.Context) (string, error)
	Metrics   *Metrics
	Log       *slog.Logger
	// Now is the clock; nil for the machine's.
	Now func() time.Time
	// Pace is how much is compared per second; the zero value is the default.
	Pace Pace
}

// Pace is how many units of work are done per second; one pair is one unit, see the costs in walk.go.
type Pace struct {
	Slow, Fast float64
	// Again is how long a suspect waits for its second check, Rest the pause between rounds.
	Again, Rest time.Duration
}

// The default pace. A million pairs cost 1.1 million units, and with the index up to 1.9 million, so a slow round takes 27
// minutes and a fast one 3. BenchmarkRound measures what that costs.
const (
	slowPace = 700
	fastPace = 11500
	again    = 10 * time.Second
	rest     = 30 * time.Second
)

// Times of the loop.
const (
	leaseName = "comparison"
	// leaseFor is how long a process keeps the lease without renewing it, renewEvery how often it renews it.
	leaseFor   = 30 * time.Second
	renewEvery = 5 * time.Second
	// stepWithin bounds one step.
	stepWithin = 10 * time.Second
	// failedPause is the pause after a failed step, passOver how often the same place fails before the walk skips it.
	failedPause = 5 * time.Second
	passOver    = 3
	// releaseWithin bounds the release of the lease; a lease that is not released expires.
	releaseWithin = 2 * time.Second
)

// Comparer compares while it holds the lease. New, then Run once.
type Comparer struct {
	opts   Options
	holder string

	// held: this process has the lease. renewed is when it last took or renewed the lease and checked whether a fast round is
	// needed.
	held    bool
	renewed time.Time
	state   registry.Comparison
	// resets and primaries are the values that this process saw last.
	resets    int64
	primaries string
	suspects  suspects
	// failures counts failed steps in a row.
	failures int
	// resting is the time before which no round begins.
	resting time.Time
	// keysPerPage is how many tenants' index entries are read at once.
	keysPerPage int
}

// New returns a Comparer.
func New(o Options) *Comparer {
	if o.Now == nil {
		o.Now = time.Now
	}
	def := func(v *float64, d float64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.Pace.Slow, slowPace)
	def(&o.Pace.Fast, fastPace)
	if o.Pace.Again <= 0 {
		o.Pace.Again = again
	}
	if o.Pace.Rest <= 0 {
		o.Pace.Rest = rest
	}
	return &Comparer{opts: o, holder: uuid.NewString(), resets: o.Apps.CountResets(), keysPerPage: indexPage}
}

// Run compares until ctx ends, and then releases the lease, so that another process continues at once.
func (c *Comparer) Run(ctx context.Context) {
	defer c.releaseLease(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait, err := c.Step(ctx)
		if err != nil && ctx.Err() == nil {
			c.opts.Log.WarnContext(ctx, "comparison interrupted; it continues", "err", err)
		}
		timer.Reset(wait)
	}
}

func (c *Comparer) releaseLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := c.opts.Registry.ReleaseLease(ctx, leaseName, c.holder); err != nil {
		c.opts.Log.WarnContext(ctx, "comparison's lease not released; it will expire", "err", err)
	}
}

// Step does one bounded piece of the work if this process holds the lease. It returns the time until the next one is due.
func (c *Comparer) Step(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	start := c.opts.Now()
	if err := c.keepLease(ctx, start); err != nil {
		c.held = false // a lease that cannot be renewed counts as lost
		c.opts.Metrics.countStep(false)
		return failedPause, err
	}
	if !c.held {
		return renewEvery, nil
	}
	cost, idle, err := c.doNextPiece(ctx, start)
	if err != nil {
		err = c.noteFailure(err)
	} else {
		c.failures = 0
	}
	if cost > 0 || err != nil {
		if serr := c.opts.Registry.SaveComparison(ctx, c.state); serr != nil {
			err = errors.Join(err, serr)
		}
	}
	c.opts.Metrics.countStep(err == nil)
	c.opts.Metrics.setProgress(c.state)
	if err != nil {
		return failedPause, err
	}
	if idle > 0 {
		return min(idle, renewEvery), nil
	}
	pace := c.opts.Pace.Slow
	if c.isFast() {
		pace = c.opts.Pace.Fast
	}
	return max(time.Duration(cost/pace*float64(time.Second))-c.opts.Now().Sub(start), 0), nil
}

// isFast: this round is fast, or a fast one is requested.
func (c *Comparer) isFast() bool { return c.state.Fast || c.state.WantsFastRound() }

// noteFailure counts a failure. A place that fails passOver times in a row is skipped, so that one broken mailbox does not stop
// the comparison of the others.
func (c *Comparer) noteFailure(err error) error {
	if c.failures++; c.failures%passOver != 0 {
		return err
	}
	at := c.state.Cursor
	c.state.Cursor = skipPlace(c.state.Cursor)
	return fmt.Errorf("passed over %q: %w", at, err)
}

// keepLease takes or renews the lease. Every few seconds it also checks whether a fast round is requested or should be.
func (c *Comparer) keepLease(ctx context.Context, now time.Time) error {
	if c.held && now.Sub(c.renewed) < renewEvery {
		return nil
	}
	held, err := c.opts.Registry.TakeLease(ctx, leaseName, c.holder, leaseFor)
	if err != nil {
		return fmt.Errorf("take the comparison's lease: %w", err)
	}
	stored, err := c.opts.Registry.Comparison(ctx)
	if err != nil {
		return err
	}
	before, lost := c.state, false
	if held && c.held { // other processes write nothing but requests
		lost = stored.Asked < before.Asked
		c.state.Asked = stored.Asked
		c.state.Serving, c.state.Served = min(before.Serving, stored.Asked), min(before.Served, stored.Asked)
	} else {
		c.state, c.suspects = stored, suspects{}
	}
	c.held, c.renewed = held, now
	c.opts.Metrics.setProgress(c.state)
	if !held {
		return nil
	}
	if err := c.opts.Apps.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh apps: %w", err)
	}
	if err := c.requestRoundAfterLoss(ctx, lost); err != nil {
		return err
	}
	// What was compared so far may be wrong by now. A fast round continues to its end nevertheless, otherwise a series of
	// requests would prevent any round from completing.
	if c.state.Asked > max(before.Asked, c.state.Serving) && !c.state.Fast {
		c.state.Cursor = ""
	}
	return nil
}

// requestRoundAfterLoss requests a fast round where Redis may have lost writes: a request is missing, another server answers, or
// the settings went back.
func (c *Comparer) requestRoundAfterLoss(ctx context.Context, ask bool) error {
	if n := c.opts.Apps.CountResets(); n != c.resets {
		c.resets, ask = n, true
	}
	names, err := c.opts.Primaries(ctx)
	if err != nil {
		return fmt.Errorf("identify the primaries of Redis: %w", err)
	}
	if names != "" {
		ask = ask || c.primaries != "" && c.primaries != names || c.state.Primaries != "" && c.state.Primaries != names
		c.primaries, c.state.Primaries = names, names
	}
	if ask {
		return c.requestFastRound(ctx)
	}
	return nil
}

func (c *Comparer) requestFastRound(ctx context.Context) error {
	n, err := c.opts.Registry.RequestFastRound(ctx)
	if err != nil {
		return err
	}
	c.state.Asked = max(n, c.state.Asked)
	return nil
}

// doNextPiece does what is due: a second check, the end or the start of a round, or the next page. It returns the cost, or how
// long nothing is due.
func (c *Comparer) doNextPiece(ctx context.Context, now time.Time) (cost float64, idle time.Duration, err error) {
	if c.suspects.len() > 0 && !c.suspects.oldestSeenAt().After(now.Add(-c.opts.Pace.Again)) {
		return c.recheckSuspects(ctx, now)
	}
	ended := c.state.Cursor == atEnd
	if full := c.suspects.len() >= suspectsMax; full || ended && c.suspects.len() > 0 {
		return 0, c.suspects.oldestSeenAt().Add(c.opts.Pace.Again).Sub(now), nil
	}
	switch {
	case ended:
		c.completeRound(now)
		return 1, 0, nil
	case c.state.Cursor == "":
		if wait := c.resting.Sub(now); wait > 0 && !c.state.WantsFastRound() {
			return 0, wait, nil
		}
		c.beginRound(now)
	}
	cost, err = c.compareNextPage(ctx, now)
	return cost, 0, err
}

func (c *Comparer) beginRound(now time.Time) {
	s := &c.state
	s.Fast, s.Serving = s.WantsFastRound(), s.Asked
	s.Started, s.Compared, s.Closed = now, 0, 0
	s.Cursor = atStart
}

func (c *Comparer) completeRound(now time.Time) {
	s := &c.state
	s.Served, s.Pairs, s.Gaps = max(s.Serving, s.Served), s.Compared, s.Closed
	s.Completed, s.Took = now, now.Sub(s.Started)
	c.opts.Metrics.noteCompleted(s.Fast)
	if s.Gaps > 0 || s.Fast {
		c.opts.Log.Info("comparison complete", "fast", s.Fast, "pairs", s.Pairs, "gaps_closed", s.Gaps, "duration_ms", s.Took.Milliseconds())
	}
	s.Cursor, s.Fast = "", false
	c.resting = now.Add(c.opts.Pace.Rest)
}
