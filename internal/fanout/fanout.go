package fanout

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

// Tenants is the registry's side of a fan-out.
type Tenants interface {
	// Owing reads tickets, records and approvers; it MUST read them in this order, and records that no
	// failover takes back.
	Owing(ctx context.Context, ids []tenant.ID) ([]registry.Owing, error)
	ClearOwed(ctx context.Context, done []registry.Cleared) error
}

// Mailboxes takes the snapshots.
type Mailboxes interface {
	DepositMany(ctx context.Context, nonce string, batches []mailbox.Batch) ([]mailbox.Deposited, []error)
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
type Fanout struct{ opts Options }

// New returns a Fanout.
func New(opts Options) *Fanout { return &Fanout{opts: opts} }

// Run fans the records of tenants out. It may be repeated at any time; what it could not do stays
// owed, and is part of the error.
func (f *Fanout) Run(ctx context.Context, ids []tenant.ID) error {
	var errs []error
	for len(ids) > 0 {
		n := min(len(ids), mailbox.MaxBatch)
		if err := f.batch(ctx, ids[:n]); err != nil {
			errs = append(errs, err)
		}
		ids = ids[n:]
	}
	return errors.Join(errs...)
}

// batch fans out at most mailbox.MaxBatch tenants.
func (f *Fanout) batch(ctx context.Context, ids []tenant.ID) error {
	start := time.Now()
	read, err := f.opts.Tenants.Owing(ctx, ids)
	if errors.Is(err, registry.ErrUnreadable) && len(ids) > 1 { // it must not keep the others
		errs := make([]error, len(ids))
		for i := range ids {
			errs[i] = f.batch(ctx, ids[i:i+1])
		}
		return errors.Join(errs...)
	}
	if err != nil {
		return fmt.Errorf("fan out: %w", err)
	}
	owed := make([]registry.Owing, 0, len(ids))
	var done []registry.Cleared
	for i, o := range read {
		switch {
		case o.View.FanoutOwed:
			owed = append(owed, o)
		case listedInVain(o.Ticket, start):
			done = append(done, registry.Cleared{Tenant: ids[i], Top: o.View.Record.Top, Ticket: o.Ticket})
		}
	}
	var failed map[tenant.ID]bool
	if len(owed) > 0 {
		failed, err = f.deposit(ctx, owed)
		if err != nil {
			f.opts.Log.WarnContext(ctx, "fan-out incomplete; it stays owed", "tenants", len(failed), "err", err)
		}
		for _, o := range owed {
			if r := &o.View.Record; !failed[r.Tenant] {
				done = append(done, registry.Cleared{Tenant: r.Tenant, Top: r.Top, Ticket: o.Ticket})
			}
		}
		f.opts.Metrics.fannedOut(time.Since(start))
	}
	if len(done) > 0 {
		if err := f.opts.Tenants.ClearOwed(ctx, done); err != nil {
			return fmt.Errorf("fan out: %w", err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("fan out: %d of %d tenants did not reach every mailbox", len(failed), len(owed))
	}
	return nil
}

// staleTicket is how long a tenant may be listed without owing: between listing it and marking its
// record lie milliseconds, or a crash.
const staleTicket = 10 * time.Minute

// listedInVain reports that a tenant owes nothing and that its ticket (µs) is too old for an accept
// that is still under way.
func listedInVain(ticket int64, now time.Time) bool {
	return ticket != 0 && now.Sub(time.UnixMicro(ticket)) > staleTicket
}

// deposit groups records by app and puts them into the mailboxes, waking those that need it. It
// returns the tenants whose record did not reach every mailbox. Where the apps could not all be
// read anew, it serves those that are known; what else may be an app that hears stays owed.
func (f *Fanout) deposit(ctx context.Context, owed []registry.Owing) (map[tenant.ID]bool, error) {
	failed := map[tenant.ID]bool{}
	var stale error
	if !f.hear(owed) {
		if stale = f.opts.Apps.Refresh(ctx); stale != nil {
			stale = fmt.Errorf("refresh apps: %w", stale)
		}
	}
	where := map[partner.ClientID]int{}
	var batches []mailbox.Batch
	for _, o := range owed {
		for _, id := range o.Approvers {
			e, ok, unreadable := f.opts.Apps.Lookup(id)
			if !ok || !e.Rec.App.EverHadURL {
				if stale != nil || unreadable != nil {
					failed[o.View.Record.Tenant] = true
				}
				continue
			}
			at, ok := where[id]
			if !ok {
				at = len(batches)
				where[id] = at
				batches = append(batches, mailbox.Batch{Life: lifeOf(e)})
			}
			batches[at].Records = append(batches[at].Records, o.View.Record)
		}
	}
	gone, err := f.depositMany(ctx, batches, failed)
	if len(gone) > 0 {
		again, stale := f.livesAnew(ctx, gone, failed)
		gone, late := f.depositMany(ctx, again, failed)
		markFailed(failed, gone)
		err = errors.Join(err, stale, late)
	}
	return failed, errors.Join(stale, err)
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
			markFailed(failed, batches[i:i+1])
			if results[i] == (mailbox.Deposited{}) {
				continue
			} // else it is written, and what it armed must not wait for the grace to pass
		}
		f.opts.Metrics.deposited(results[i])
		wake(ctx, f.opts.Waker, f.opts.Log, b.Life.App, results[i].Wake)
	}
	return gone, errors.Join(errs...)
}

// livesAnew makes deposits of a life that is over ones of the app's present life; there is none for an app that
// was deleted. Where the settings know no later life, they lost what the mailbox was told: that stays owed.
func (f *Fanout) livesAnew(ctx context.Context, gone []mailbox.Batch, failed map[tenant.ID]bool) (again []mailbox.Batch, err error) {
	stale := f.opts.Apps.Refresh(ctx)
	if stale != nil {
		stale = fmt.Errorf("refresh apps: %w", stale)
	}
	for i, b := range gone {
		e, ok, unreadable := f.opts.Apps.Lookup(b.Life.App)
		switch {
		case ok && lifeOf(e) != b.Life:
			again = append(again, mailbox.Batch{Life: lifeOf(e), Records: b.Records})
		case ok || stale != nil || unreadable != nil:
			markFailed(failed, gone[i:i+1])
		}
	}
	return again, stale
}

func markFailed(failed map[tenant.ID]bool, batches []mailbox.Batch) {
	for _, b := range batches {
		for _, r := range b.Records {
			failed[r.Tenant] = true
		}
	}
}

// hear reports that all of the apps are known to get deposits. Whoever does may get this one, even if
// it was deleted meanwhile: its mailbox then refuses. To leave one out, the apps must be read
// anew, after the approvers: it may have been created since.
func (f *Fanout) hear(owed []registry.Owing) bool {
	for _, o := range owed {
		for _, id := range o.Approvers {
			if e, ok, _ := f.opts.Apps.Lookup(id); !ok || !e.Rec.App.EverHadURL {
				return false
			}
		}
	}
	return true
}

// wake hands a wake-up on; one that is lost is armed again by the sweep.
func wake(ctx context.Context, w Waker, log *slog.Logger, app partner.ClientID, wk mailbox.Wake) {
	if err := w.Wake(ctx, app, wk); err != nil {
		log.WarnContext(ctx, "wake-up not enqueued; the sweep will", "app", app, "err", err)
	}
}
