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

// Tenants is the part of the registry that a fan-out uses.
type Tenants interface {
	// ReadFanoutInputs reads the tickets, the records and the first page of approvers of each tenant. It MUST read
	// them in this order, and only records that no failover takes back. NextApprovers reads the next page.
	ReadFanoutInputs(ctx context.Context, ids []tenant.ID, page int) ([]registry.FanoutInput, error)
	NextApprovers(ctx context.Context, of []*registry.FanoutInput, page int) []error
	CompleteFanouts(ctx context.Context, done []registry.CompletedFanout) error
}

// Mailboxes takes the deposits.
type Mailboxes interface {
	DepositMany(ctx context.Context, nonce string, batches []mailbox.Batch) ([]mailbox.DepositResult, []error)
}

// Apps is the directory of apps, as of its last refresh.
type Apps interface {
	Refresh(ctx context.Context) error
	// Lookup returns unreadable when an app's last write cannot be read; e is then older than that write.
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Waker turns a mailbox's wake-up into a drain, here or by a task. It is called for every deposit, also for one that
// arms no wake-up because a drainer owns the mailbox.
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

// Fanout deposits records into mailboxes. It is safe for concurrent use.
type Fanout struct {
	opts Options
	// room limits the pairs of tenant and app that all fan-outs of the process hold.
	room *semaphore.Weighted
}

// The memory of fan-outs is limited in pairs of a tenant and an app, about 100 bytes each without the tenants'
// records.
const (
	// pairsAtOnce is how many pairs a fan-out of at most mailbox.MaxBatch tenants reads and deposits at a time.
	pairsAtOnce = 20_000
	// pairsInAll limits the pairs of all fan-outs that run in the process.
	pairsInAll = 20 * pairsAtOnce
	// approversAtOnce limits one tenant's page: Redis needs about a microsecond per approver and serves no other
	// command meanwhile.
	approversAtOnce = 1000
)

// New returns a Fanout.
func New(opts Options) *Fanout {
	return &Fanout{opts: opts, room: semaphore.NewWeighted(pairsInAll)}
}

// Run fans the records of tenants out. It may be repeated at any time. What fails stays pending and is part of the
// error.
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
	errs := make([]error, len(ids)) // one unreadable record must not prevent the others
	for i := range ids {
		errs[i] = f.fanOutWithRoom(ctx, ids[i:i+1])
	}
	return errors.Join(errs...)
}

// fanOutWithRoom waits for room and fans the tenants out.
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
			f.opts.Log.WarnContext(ctx, "fan-out incomplete; it stays pending", "tenants", len(failed), "err", err)
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

// depositAllPages deposits the records of tenants for all their approvers, page by page. It returns the tenants whose
// record did not reach every mailbox.
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

// staleTicket is how long a tenant may be listed without a pending fan-out. Between the listing and the mark in its
// record there are milliseconds, or a crash.
const staleTicket = 10 * time.Minute

// isStaleTicket reports that a ticket (µs) is too old for an accept that is still running. It is asked for tenants
// without a pending fan-out.
func isStaleTicket(ticket int64, now time.Time) bool {
	return ticket != 0 && now.Sub(time.UnixMicro(ticket)) > staleTicket
}

// depositForApprovers deposits records for the approvers that were read, and passes on the wake-ups. It marks the
// tenants whose record did not reach every mailbox. When the apps cannot be read again, it serves the known ones; the
// tenants of the others stay pending.
//
// A deleted app may still be in the directory: its mailbox refuses the deposit. An app may be left out only when the
// directory was read after the approvers, since it may have been created in between.
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
	// unreadable says that the app's last write cannot be read.
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
			if r := &o.View.Record; len(apps[at].records) == 0 || apps[at].records[len(apps[at].records)-1] != r { // an approver may be listed twice
				apps[at].records = append(apps[at].records, r)
			}
		}
	}
	return apps
}

// planDeposits makes deposits for the apps that are known to get them, and returns the other apps.
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

// depositMany makes deposits and passes on their wake-ups. It marks the tenants whose deposit failed. It returns the
// deposits for a life that has ended, because their apps must be read again.
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
			} // otherwise it is written, and its wake-up must not wait for the grace to pass
		}
		f.opts.Metrics.countSuperseded(results[i])
		forwardWake(ctx, f.opts.Waker, f.opts.Log, b.Life.App, results[i].Wake)
	}
	return gone, errors.Join(errs...)
}

// readdressDeposits turns deposits for an ended life into deposits for the app's present life. For a deleted app
// there is none. When the settings know no later life, they are behind the mailbox: those deposits stay pending.
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

// forwardWake passes a wake-up on. The sweep arms one that is lost again.
func forwardWake(ctx context.Context, w Waker, log *slog.Logger, app partner.ClientID, wk mailbox.Wake) {
	if err := w.Wake(ctx, app, wk); err != nil {
		log.WarnContext(ctx, "wake-up not enqueued; a loop will", "app", app, "err", err)
	}
}
