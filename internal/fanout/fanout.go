package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Tenants is the registry's side of a fan-out.
type Tenants interface {
	// ReadFanoutInputs reads tickets, records and about page approvers of each; it MUST read them in this order, and
	// records that no failover takes back. NextApprovers reads on.
	ReadFanoutInputs(ctx context.Context, ids []tenant.ID, page int) ([]registry.FanoutInput, error)
	NextApprovers(ctx context.Context, of []*registry.FanoutInput, page int) []error
	CompleteFanouts(ctx context.Context, done []registry.CompletedFanout) error
}

// Mailboxes takes the snapshots.
type Mailboxes interface {
	DepositMany(ctx context.Context, nonce string, batches []mailbox.Batch) ([]mailbox.DepositResult, []error)
}

// Apps knows which apps there are, as of its last refresh.
type Apps interface {
	Refresh(ctx context.Context) error
	// Lookup also says where an app's last write cannot be read: what is known of it is older then.
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Waker turns a mailbox's wake-up into a drain, here or by a task. It is told of every deposit, also of one that needs no
// wake-up because a drainer is at work.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Options of a Fanout.
type Options struct {
	Tenants   Tenants
	Mailboxes Mailboxes
	Apps      Apps
	Waker     Waker
	Metrics   *Metrics
	Log       *slog.Logger
}

// Fanout carries records into mailboxes. It is safe for concurrent use.
type Fanout struct {
	opts Options
	// room is for the pairs of tenant and app that all fan-outs of the process hold.
	room *semaphore.Weighted
}

// What fan-outs hold is bounded in pairs of a tenant and an app, about 100 bytes each besides the tenants' records.
const (
	// pairsAtOnce is how many a fan-out of at most mailbox.MaxBatch tenants reads and deposits at a time.
	pairsAtOnce = 20_000
	// pairsInAll bounds those of all fan-outs that run in the process at once.
	pairsInAll = 20 * pairsAtOnce
	// approversAtOnce bounds one tenant's: while Redis lists them, a microsecond each, it answers nobody.
	approversAtOnce = 1000
)

// New returns a Fanout.
func New(opts Options) *Fanout {
	return &Fanout{opts: opts, room: semaphore.NewWeighted(pairsInAll)}
}

// Run fans the records of tenants out. It may be repeated at any time; what it could not do stays
// owed, and is part of the error.
func (f *Fanout) Run(ctx context.Context, ids []tenant.ID) error {
	var errs []error
	for len(ids) > 0 {
		n := min(len(ids), mailbox.MaxBatch)
		if err := f.fanOutBatch(ctx, ids[:n]); err != nil {
			errs = append(errs, err)
		}
		ids = ids[n:]
	}
	return errors.Join(errs...)
}

// approversPage is how many approvers of each of n tenants are held at once.
func approversPage(n int) int { return max(1, min(pairsAtOnce/n, approversAtOnce)) }

// fanOutBatch fans out at most mailbox.MaxBatch tenants.
func (f *Fanout) fanOutBatch(ctx context.Context, ids []tenant.ID) error {
	err := f.fanOutWithRoom(ctx, ids)
	if !errors.Is(err, registry.ErrUnreadable) || len(ids) == 1 {
		return err
	}
	errs := make([]error, len(ids)) // one that cannot be read must not keep the others
	for i := range ids {
		errs[i] = f.fanOutWithRoom(ctx, ids[i:i+1])
	}
	return errors.Join(errs...)
}

// fanOutWithRoom fans tenants out once there is room for what that holds.
func (f *Fanout) fanOutWithRoom(ctx context.Context, ids []tenant.ID) error {
	start := time.Now()
	room := int64(len(ids) * approversPage(len(ids)))
	if err := f.room.Acquire(ctx, room); err != nil {
		return fmt.Errorf("fan out: wait for the fan-outs before: %w", err)
	}
	defer f.room.Release(room)
	read, err := f.opts.Tenants.ReadFanoutInputs(ctx, ids, approversPage(len(ids)))
	if err != nil {
		return fmt.Errorf("fan out: %w", err)
	}
	owed := make([]*registry.FanoutInput, 0, len(ids))
	var done []registry.CompletedFanout
	for i := range read {
		switch o := &read[i]; {
		case o.View.FanoutPending:
			owed = append(owed, o)
		case isStaleTicket(o.Ticket, start):
			done = append(done, registry.CompletedFanout{Tenant: ids[i], Top: o.View.Record.Top, Ticket: o.Ticket})
		}
	}
	var failed map[tenant.ID]bool
	if len(owed) > 0 {
		failed, err = f.depositAllPages(ctx, owed)
		if err != nil {
			f.opts.Log.WarnContext(ctx, "fan-out incomplete; it stays owed", "tenants", len(failed), "err", err)
		}
		for _, o := range owed {
			if r := &o.View.Record; !failed[r.Tenant] {
				done = append(done, registry.CompletedFanout{Tenant: r.Tenant, Top: r.Top, Ticket: o.Ticket})
			}
		}
		f.opts.Metrics.observeFanout(time.Since(start))
	}
	if len(done) > 0 {
		if err := f.opts.Tenants.CompleteFanouts(ctx, done); err != nil {
			return fmt.Errorf("fan out: %w", err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("fan out: %d of %d tenants did not reach every mailbox", len(failed), len(owed))
	}
	return nil
}

// depositAllPages puts the records of tenants into the mailboxes of all who approved them, a page of approvers after the
// other. It returns the tenants whose record did not reach every mailbox.
func (f *Fanout) depositAllPages(ctx context.Context, owed []*registry.FanoutInput) (failed map[tenant.ID]bool, err error) {
	failed = map[tenant.ID]bool{}
	err = f.depositForApprovers(ctx, owed, failed)
	for {
		var more []*registry.FanoutInput
		for _, o := range owed {
			if o.HasMoreApprovers() {
				more = append(more, o)
			}
		}
		if owed = more; len(owed) == 0 {
			return failed, err
		}
		errs := f.opts.Tenants.NextApprovers(ctx, owed, approversPage(len(owed)))
		for i, o := range owed {
			if errs[i] != nil {
				failed[o.View.Record.Tenant] = true
			}
		}
		err = errors.Join(err, errors.Join(errs...), f.depositForApprovers(ctx, owed, failed))
	}
}

// staleTicket is how long a tenant may be listed without owing: between listing it and marking its
// record lie milliseconds, or a crash.
const staleTicket = 10 * time.Minute

// isStaleTicket reports that a tenant owes nothing and that its ticket (µs) is too old for an accept
// that is still under way.
func isStaleTicket(ticket int64, now time.Time) bool {
	return ticket != 0 && now.Sub(time.UnixMicro(ticket)) > staleTicket
}

// depositForApprovers puts records into the mailboxes of the approvers that were read, waking those that need it. It marks the
// tenants whose record did not reach every mailbox. Where the apps could not all be
// read anew, it serves those that are known; what else may be an app that hears stays owed.
//
// Whoever is known to get deposits may get this one, even if it was deleted meanwhile: its mailbox then refuses.
// To leave one out, the apps must be read anew, after the approvers: it may have been created since.
func (f *Fanout) depositForApprovers(ctx context.Context, owed []*registry.FanoutInput, failed map[tenant.ID]bool) error {
	apps := groupByApp(owed)
	batches, silent := f.planDeposits(apps)
	var stale error
	if len(silent) > 0 {
		if stale = f.opts.Apps.Refresh(ctx); stale != nil {
			stale = fmt.Errorf("refresh apps: %w", stale)
		}
		batches, silent = f.planDeposits(apps)
	}
	for _, a := range silent {
		if stale != nil || a.unreadable {
			markFailed(failed, a.records)
		}
	}
	gone, err := f.depositMany(ctx, batches, failed)
	if len(gone) > 0 {
		again, stale := f.readdressDeposits(ctx, gone, failed)
		gone, late := f.depositMany(ctx, again, failed)
		for _, b := range gone {
			markFailed(failed, b.Records)
		}
		err = errors.Join(err, stale, late)
	}
	return errors.Join(stale, err)
}

// appRecords is an app with the records of tenants that approved it.
type appRecords struct {
	app     partner.ClientID
	records []*tenant.Record
	// unreadable: the app's last write cannot be read.
	unreadable bool
}

func groupByApp(owed []*registry.FanoutInput) []appRecords {
	var apps []appRecords
	where := map[partner.ClientID]int{}
	for _, o := range owed {
		for _, id := range o.Approvers {
			at, ok := where[id]
			if !ok {
				at = len(apps)
				where[id] = at
				apps = append(apps, appRecords{app: id})
			}
			if r := &o.View.Record; len(apps[at].records) == 0 || apps[at].records[len(apps[at].records)-1] != r { // it may come twice
				apps[at].records = append(apps[at].records, r)
			}
		}
	}
	return apps
}

// planDeposits makes deposits for the apps that are known to get them, and returns the others.
func (f *Fanout) planDeposits(apps []appRecords) (batches []mailbox.Batch, silent []appRecords) {
	batches = make([]mailbox.Batch, 0, len(apps))
	for _, a := range apps {
		e, ok, unreadable := f.opts.Apps.Lookup(a.app)
		if ok && e.Rec.App.EverHadURL {
			batches = append(batches, mailbox.Batch{Life: lifeOf(e), Records: a.records})
			continue
		}
		a.unreadable = unreadable != nil
		silent = append(silent, a)
	}
	return batches, silent
}

// depositMany makes deposits and wakes who needs it. It marks tenants whose deposit failed, but returns the
// deposits for a life that is over: those who made them know the apps as they were.
func (f *Fanout) depositMany(ctx context.Context, batches []mailbox.Batch, failed map[tenant.ID]bool) (gone []mailbox.Batch, err error) {
	if len(batches) == 0 {
		return nil, nil
	}
	results, errs := f.opts.Mailboxes.DepositMany(ctx, uuid.NewString(), batches)
	for i, b := range batches {
		if errors.Is(errs[i], mailbox.ErrGone) {
			gone, errs[i] = append(gone, b), nil
			continue
		}
		if errs[i] != nil {
			markFailed(failed, b.Records)
			if results[i] == (mailbox.DepositResult{}) {
				continue
			} // else it is written, and what it armed must not wait for the grace to pass
		}
		f.opts.Metrics.countSuperseded(results[i])
		forwardWake(ctx, f.opts.Waker, f.opts.Log, b.Life.App, results[i].Wake)
	}
	return gone, errors.Join(errs...)
}

// readdressDeposits makes deposits of a life that is over ones of the app's present life; there is none for an app that
// was deleted. Where the settings know no later life, they lost what the mailbox was told: that stays owed.
func (f *Fanout) readdressDeposits(ctx context.Context, gone []mailbox.Batch, failed map[tenant.ID]bool) (again []mailbox.Batch, err error) {
	stale := f.opts.Apps.Refresh(ctx)
	if stale != nil {
		stale = fmt.Errorf("refresh apps: %w", stale)
	}
	for _, b := range gone {
		e, ok, unreadable := f.opts.Apps.Lookup(b.Life.App)
		switch {
		case ok && lifeOf(e) != b.Life:
			again = append(again, mailbox.Batch{Life: lifeOf(e), Records: b.Records})
		case ok || stale != nil || unreadable != nil:
			markFailed(failed, b.Records)
		}
	}
	return again, stale
}

func markFailed(failed map[tenant.ID]bool, records []*tenant.Record) {
	for _, r := range records {
		failed[r.Tenant] = true
	}
}

// forwardWake hands a wake-up on; one that is lost is armed again by the sweep.
func forwardWake(ctx context.Context, w Waker, log *slog.Logger, app partner.ClientID, wk mailbox.Wake) {
	if err := w.Wake(ctx, app, wk); err != nil {
		log.WarnContext(ctx, "wake-up not enqueued; a loop will", "app", app, "err", err)
	}
}
