package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// StatusSource is the registry's side of the question who knows.
type StatusSource interface {
	Change(ctx context.Context, id string) (tenant.Change, error)
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	Approvers(ctx context.Context, id tenant.ID) ([]partner.ClientID, error)
}

// Mailboxes is the mailboxes' side.
type Mailboxes interface {
	ReadPairsOfTenant(ctx context.Context, t tenant.ID, apps []partner.ClientID) ([]mailbox.PairState, error)
	Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
}

// Apps knows which apps deliver.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// DeliveryState is how one app stands to a change.
type DeliveryState string

// The closed set of outcomes.
const (
	// Waiting: the app must still be told this change, or something newer of the tenant.
	Waiting DeliveryState = "waiting"
	// Settled: the app was told this change, or newer truth that replaced it, and nothing waits.
	Settled DeliveryState = "settled"
	// Off: the app is off or paused and will be told when it is switched on.
	Off DeliveryState = "off"
)

// AppDelivery is one app's standing to a change.
type AppDelivery struct {
	ClientID partner.ClientID
	State    DeliveryState
	// ReplacedBy is the id of the newer change, or status set since, that will be told in the place of this
	// one, empty for none.
	ReplacedBy string
	// Attempts and Reason tell of the one of the two that waits, once it was tried; NextAttemptAt is when
	// the app is told something of the tenant next.
	Attempts      int
	Reason        string
	NextAttemptAt time.Time
}

// DeliveryStatus answers whether everyone knows of a change.
type DeliveryStatus struct {
	Change tenant.Change
	// InStep: each app that approved the tenant was told this change, or newer truth that replaced it,
	// and nothing newer waits either. It speaks of now, and may go back; apps that never had a URL to be
	// told at do not count.
	InStep bool
	Apps   []AppDelivery
}

// StatusReader tells who knows of a change, from the mailboxes as they stand.
type StatusReader struct {
	changes StatusSource
	boxes   Mailboxes
	apps    Apps
	env     partner.Environment
}

// NewStatusReader returns an Answers.
func NewStatusReader(c StatusSource, b Mailboxes, a Apps, env partner.Environment) *StatusReader {
	return &StatusReader{changes: c, boxes: b, apps: a, env: env}
}

// DeliveryStatus tells how every app that approved the change's tenant stands to it.
func (a *StatusReader) DeliveryStatus(ctx context.Context, changeID string) (DeliveryStatus, error) {
	fail := func(err error) (DeliveryStatus, error) {
		return DeliveryStatus{}, fmt.Errorf("look up change %s: %w", changeID, err)
	}
	c, err := a.changes.Change(ctx, changeID)
	if err != nil {
		return fail(err)
	}
	// the record before the approvers, as the fan-out does
	view, err := a.changes.Tenant(ctx, c.Tenant)
	if err != nil {
		return fail(err)
	}
	ids, err := a.changes.Approvers(ctx, c.Tenant)
	if err != nil {
		return fail(err)
	}
	if err := a.apps.Refresh(ctx); err != nil {
		return fail(err)
	}
	standings, err := a.boxes.ReadPairsOfTenant(ctx, c.Tenant, ids)
	if err != nil {
		return fail(err)
	}
	views, errs := a.boxes.Views(ctx, ids)
	k := DeliveryStatus{Change: c, InStep: true}
	for i, s := range standings {
		if errs[i] != nil {
			return fail(errs[i])
		}
		e, ok, unreadable := a.apps.Lookup(ids[i])
		if unreadable != nil && (!ok || !e.Rec.App.EverHadURL) { // it may be there, and hear, since its last write
			return fail(unreadable)
		}
		if !ok || !s.Approved && !view.FanoutPending {
			continue // an index entry without an approval, left by a crash: it is nobody's
		}
		o := readAppDelivery(c, &view.Record, s, views[i])
		if o.State != Settled && (!e.Rec.App.IsDelivering(a.env) || views[i].Off) {
			o.State, o.NextAttemptAt = Off, time.Time{}
		}
		o.ClientID = ids[i]
		// for an app that never had a URL nothing waits, now or ever, until it has one
		mute := !e.Rec.App.EverHadURL && !view.FanoutPending
		k.InStep = k.InStep && (o.State == Settled || mute)
		k.Apps = append(k.Apps, o)
	}
	return k, nil
}

// isInStep is the one answer to whether an app knows a tenant's truth: the change that is asked for, and
// all that was accepted when the record was read, before the standing.
func isInStep(s mailbox.PairState, sequence int64, r *tenant.Record) bool {
	return s.IsInStepWith(max(sequence, r.Top))
}

// readAppDelivery reads one app's standing to a change.
func readAppDelivery(c tenant.Change, r *tenant.Record, s mailbox.PairState, v mailbox.View) AppDelivery {
	if isInStep(s, c.Sequence, r) {
		return AppDelivery{State: Settled}
	}
	o := AppDelivery{State: Waiting}
	e := s.Entries[c.Type.Slot()]
	if e == nil || !matchesChange(e, c) {
		e, o.ReplacedBy = findReplacement(c, r, s)
	}
	if e != nil && e.Attempts > 0 {
		o.Attempts, o.Reason = e.Attempts, e.LastReason.String()
	}
	if s.HasPending() && !s.InFlight {
		o.NextAttemptAt = s.DueAt
		if v.CooldownUntil.After(o.NextAttemptAt) {
			o.NextAttemptAt = v.CooldownUntil
		}
	}
	return o
}

// findReplacement is what will be told in the place of a change that does not wait itself: a newer change of
// its slot; or, where a Delete emptied that, the newest status, which may have replaced the Delete. It
// waits in the mailbox, or the record has it and the fan-out is owed; empty where nothing replaced the
// change, or where what did was told.
func findReplacement(c tenant.Change, r *tenant.Record, s mailbox.PairState) (*delivery.Entry, string) {
	own := c.Type.Slot()
	emptied := r.Heads[own].Sequence < c.Sequence
	for _, slot := range []tenant.Slot{own, tenant.SlotStatus} {
		if e := s.Entries[slot]; e != nil {
			told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
			replaces := slot == own || emptied || told.Type == tenant.Delete
			if err == nil && replaces && isNewerEntry(e, told, c) {
				return e, told.ID
			}
		}
		if h := r.Heads[slot]; h.Sequence > max(c.Sequence, s.Known) && (slot == own || emptied) {
			return nil, h.Change.ID
		}
	}
	return nil, ""
}

// isNewerEntry reports whether what an entry tells came after a change.
func isNewerEntry(e *delivery.Entry, told, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence > c.Sequence
	}
	// told again it bears the top of its time; the sequence of its own stands in its id
	if _, sequence, err := tenant.ParseChangeID(told.ID); err == nil {
		return sequence > c.Sequence
	}
	return e.Sequence >= c.Sequence // a status that was set since its newest change
}

// matchesChange reports whether an entry tells of a change, in its turn or again.
func matchesChange(e *delivery.Entry, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence == c.Sequence
	}
	told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
	return err == nil && told.ID == c.ID
}
