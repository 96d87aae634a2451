package sweep

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

// Registry is the registry's side of a sweep.
type Registry interface {
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error
	OwedTenants(ctx context.Context, waited time.Duration, skip, limit int) ([]registry.Owed, error)
	ApproversOf(ctx context.Context, ids []tenant.ID) ([][]partner.ClientID, error)
	SaveGauges(ctx context.Context, doc []byte, ttl time.Duration) error
	Gauges(ctx context.Context) ([]byte, error)
}

// Apps lists the apps as of the last refresh.
type Apps interface {
	Refresh(ctx context.Context) error
	All() []*registry.Entry
}

// Mailboxes is the mailboxes' side of a sweep.
type Mailboxes interface {
	Sweep(ctx context.Context, nonce string, apps []mailbox.Switch) ([]mailbox.Wake, []error)
	Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
}

// Waker turns a mailbox's wake-up into a task.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Notifier starts the fan-out of tenants.
type Notifier interface {
	Notify(ctx context.Context, id string, ts []tenant.ID) error
}

// Repairer makes the tenants' index match the approvals, a bounded piece each time.
type Repairer interface {
	Repair(ctx context.Context) error
}

// Incidents moves incidents and mails whose time has come.
type Incidents interface {
	// Troubled reads of each app what Tick must look after, nil for nothing.
	Troubled(ctx context.Context, apps []partner.ClientID) ([]*registry.Trouble, error)
	// Tick looks after what Troubled found of an app and says which endpoints are failing.
	Tick(ctx context.Context, app partner.ClientID, found registry.Trouble) (Troubles, error)
	// Mails wakes the mailer for what waits for recipients, counts it and says for how long the
	// longest of it is overdue. Called once a sweep.
	Mails(ctx context.Context) (waiting int, oldest time.Duration, err error)
}

// Troubles is what Tick found of one app.
type Troubles struct {
	// Failing is true for each endpoint that is failing, Open for each with an open incident.
	Failing, Open [partner.EndpointKinds]bool
	// Outbox counts mails that wait, OldestMail is how long the oldest has.
	Outbox     int
	OldestMail time.Duration
}

// Options of a Sweeper.
type Options struct {
	Registry    Registry
	Apps        Apps
	Mailboxes   Mailboxes
	Waker       Waker
	Notifier    Notifier
	Repairer    Repairer
	Incidents   Incidents
	Metrics     *Metrics
	Environment partner.Environment
	// Every is the pause between sweeps.
	Every time.Duration
	Log   *slog.Logger
}

// Limits of one sweep.
const (
	leaseName = "sweep"
	// leaseSweeps is how many sweeps a silent holder keeps the lease.
	leaseSweeps = 3
	batch       = 200
	// owedLimit is what the registry lists at most, and how many owed fan-outs a sweep starts at
	// first; owedMax is how many it starts at most.
	owedLimit = 500
	owedMax   = 64 * owedLimit
	// owedSample is of how many of the oldest owed fan-outs the pairs are counted.
	owedSample = 200
	// staleSweeps is how many sweeps the gauges outlive the last one that wrote them.
	staleSweeps = 12
)

// Sweeper sweeps while it holds the lease. New, then Run once.
type Sweeper struct {
	opts   Options
	holder string
	// owing is how many owed fan-outs the next sweep starts, owedTo the newest ticket of those that
	// the last one started, 0 for none.
	owing  int
	owedTo int64
	// oldest are the oldest owed fan-outs at the last look, owedSample at most; found is how many were.
	oldest []registry.Owed
	found  int
}

// New returns a Sweeper.
func New(opts Options) *Sweeper {
	return &Sweeper{opts: opts, holder: uuid.NewString(), owing: owedLimit}
}

// releaseWithin bounds giving the lease back; unreleased it runs out by itself.
const releaseWithin = 2 * time.Second

// Run sweeps until ctx ends, and then gives the lease back, so that another process goes on at its
// next turn.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(s.opts.Every)
	defer tick.Stop()
	defer s.release(ctx)
	for {
		if err := s.Once(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.WarnContext(ctx, "sweep incomplete; the next one goes on", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Sweeper) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := s.opts.Registry.Release(ctx, leaseName, s.holder); err != nil {
		s.opts.Log.WarnContext(ctx, "sweep's lease not given back; it will run out", "err", err)
	}
}

// Once sweeps if this process holds the lease, and exports the gauges of whoever does.
func (s *Sweeper) Once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.opts.Every*leaseSweeps, time.Second))
	defer cancel()
	held, err := s.opts.Registry.Lease(ctx, leaseName, s.holder, s.opts.Every*leaseSweeps)
	if err != nil {
		s.opts.Metrics.swept(time.Time{}, false)
		return fmt.Errorf("take the sweep's lease: %w", err)
	}
	var errs []error
	if held {
		start := time.Now()
		errs = append(errs, s.sweep(ctx))
		s.opts.Metrics.swept(start, errs[0] == nil)
	}
	doc, err := s.opts.Registry.Gauges(ctx)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("read the cluster's gauges: %w", err))...)
	}
	s.opts.Metrics.export(doc)
	return errors.Join(errs...)
}

func (s *Sweeper) sweep(ctx context.Context) error {
	var errs []error
	if err := s.owed(ctx); err != nil {
		errs = append(errs, err)
	}
	if err := s.opts.Apps.Refresh(ctx); err != nil {
		// one app of another version must not keep the others from being swept
		errs = append(errs, fmt.Errorf("refresh apps: %w", err))
	}
	errs = append(errs, s.opts.Repairer.Repair(ctx))
	sum := newSummary()
	if err := s.owedPairs(ctx, sum); err != nil {
		errs = append(errs, err)
	}
	n, oldest, err := s.opts.Incidents.Mails(ctx)
	if err != nil {
		errs = append(errs, fmt.Errorf("look after the mails: %w", err))
	}
	sum.Outbox, sum.OldestMail = n, oldest.Seconds()
	apps := s.opts.Apps.All()
	for len(apps) > 0 {
		n := min(len(apps), batch)
		errs = append(errs, s.apps(ctx, apps[:n], sum))
		apps = apps[n:]
	}
	if sum.partial { // those of the last sweep are closer to the truth
		return errors.Join(errs...)
	}
	if err := s.opts.Registry.SaveGauges(ctx, sum.encode(), s.opts.Every*staleSweeps); err != nil {
		errs = append(errs, fmt.Errorf("save the cluster's gauges: %w", err))
	}
	return errors.Join(errs...)
}

// owed starts again the fan-outs that a crash left behind, those that wait longest first. While
// what the last sweep started is done by the next one, each starts twice as many; else half as many.
func (s *Sweeper) owed(ctx context.Context) error {
	found := 0
	defer func() { s.found = found }()
	for found < s.owing {
		list, err := s.opts.Registry.OwedTenants(ctx, s.opts.Every, found, owedLimit)
		if err != nil {
			return fmt.Errorf("find owed fan-outs: %w", err)
		}
		if found == 0 {
			s.adapt(list)
			s.oldest = list[:min(len(list), owedSample)]
		}
		if err := s.start(ctx, list); err != nil {
			return fmt.Errorf("start owed fan-outs: %w", err)
		}
		if found += len(list); len(list) < owedLimit {
			break
		}
		s.owedTo = list[len(list)-1].Ticket
	}
	s.opts.Metrics.owed(found)
	return nil
}

// owedPairs adds how many pairs of app and tenant the owed fan-outs are for, and since when: they wait
// in no mailbox yet. Where many are owed it is reckoned from the oldest ones.
func (s *Sweeper) owedPairs(ctx context.Context, sum *summary) error {
	if len(s.oldest) == 0 {
		return nil
	}
	sum.OldestOwed = max(time.Since(time.UnixMicro(s.oldest[0].Ticket)).Seconds(), 0)
	ts := make([]tenant.ID, len(s.oldest))
	for i, o := range s.oldest {
		ts[i] = o.Tenant
	}
	approvers, err := s.opts.Registry.ApproversOf(ctx, ts)
	if err != nil {
		return fmt.Errorf("count the pairs of owed fan-outs: %w", err)
	}
	pairs := 0
	for _, apps := range approvers {
		pairs += len(apps)
	}
	sum.OwedPairs = int64(pairs) * int64(max(s.found, len(ts))) / int64(len(ts))
	return nil
}

// adapt sets how many fan-outs this sweep starts by the one that has waited longest.
func (s *Sweeper) adapt(list []registry.Owed) {
	switch {
	case len(list) < owedLimit || s.owedTo == 0:
		s.owing = owedLimit
	case list[0].Ticket > s.owedTo:
		s.owing = min(2*s.owing, owedMax)
	default:
		s.owing = max(s.owing/2, owedLimit)
	}
	s.owedTo = 0
}

func (s *Sweeper) start(ctx context.Context, list []registry.Owed) error {
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

func (s *Sweeper) apps(ctx context.Context, entries []*registry.Entry, sum *summary) error {
	switches := make([]mailbox.Switch, len(entries))
	ids := make([]partner.ClientID, len(entries))
	for i, e := range entries {
		ids[i] = e.Rec.App.ClientID
		switches[i] = mailbox.Switch{
			Life: mailbox.Life{App: ids[i], Birth: e.Rec.Birth}, Revision: e.Rec.Revision, On: e.Rec.App.Delivering(s.opts.Environment),
			EndpointRevision: e.Rec.EndpointRevision,
		}
	}
	wakes, errs := s.opts.Mailboxes.Sweep(ctx, uuid.NewString(), switches)
	for i, w := range wakes {
		if errs[i] != nil || w.None() {
			continue
		}
		if err := s.opts.Waker.Wake(ctx, ids[i], w); err != nil {
			errs = append(errs, err)
		}
	}
	views, verrs := s.opts.Mailboxes.Views(ctx, ids)
	errs = append(errs, verrs...)
	troubled, err := s.opts.Incidents.Troubled(ctx, ids)
	if err != nil {
		sum.partial = true
		return errors.Join(append(errs, fmt.Errorf("find incidents: %w", err))...)
	}
	for i, id := range ids {
		var t Troubles
		if troubled[i] != nil {
			if t, err = s.opts.Incidents.Tick(ctx, id, *troubled[i]); err != nil {
				errs = append(errs, fmt.Errorf("look after the incidents of app %s: %w", id, err))
			}
		}
		if verrs[i] == nil {
			sum.add(id, views[i], t, switches[i].On)
		}
	}
	return errors.Join(errs...)
}
