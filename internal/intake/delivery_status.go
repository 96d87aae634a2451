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

// StatusSource is the part of the registry that StatusReader uses.
type StatusSource interface {
	Change(ctx context.Context, id string) (tenant.Change, error)
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	Approvers(ctx context.Context, id tenant.ID) ([]partner.ClientID, error)
}

// Mailboxes is the part of the mailboxes that StatusReader uses.
type Mailboxes interface {
	ReadPairsOfTenant(ctx context.Context, t tenant.ID, apps []partner.ClientID) ([]mailbox.PairState, error)
	Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
}

// Apps is the directory of apps.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// DeliveryState says whether an app has received a change.
type DeliveryState string

// The closed set of delivery states.
const (
	// Waiting: the change, or a newer one of the tenant, is pending for the app.
	Waiting DeliveryState = "waiting"
	// Settled: the change, or a newer one that replaced it, was delivered, and nothing is pending.
	Settled DeliveryState = "settled"
	// Off: the app is off or paused; deliveries follow when it is switched on.
	Off DeliveryState = "off"
)

// AllDeliveryStates lists the closed set.
func AllDeliveryStates() []DeliveryState { return []DeliveryState{Waiting, Settled, Off} }

// AppDelivery is what is known of one app and a change.
type AppDelivery struct {
	ClientID partner.ClientID
	State    DeliveryState
	// ReplacedBy is the id of the newer change, or status set since, that is pending instead of this change; empty
	// for none.
	ReplacedBy string
	// Attempts and Reason describe the pending one of the two, once it was tried. NextAttemptAt is when the next
	// attempt for the tenant is made.
	Attempts      int
	Reason        string
	NextAttemptAt time.Time
}

// DeliveryStatus says which apps have received a change.
type DeliveryStatus struct {
	Change tenant.Change
	// InStep says that each app which approved the tenant received this change, or a newer one that replaced it, and
	// that nothing newer is pending. It describes the present and may become false again. Apps that never had a URL
	// do not count.
	InStep bool
	Apps   []AppDelivery
}

// StatusReader answers which apps have received a change, from the mailboxes.
type StatusReader struct {
	changes StatusSource
	boxes   Mailboxes
	apps    Apps
	env     partner.Environment
}

// NewStatusReader returns a StatusReader.
func NewStatusReader(c StatusSource, b Mailboxes, a Apps, env partner.Environment) *StatusReader {
	return &StatusReader{changes: c, boxes: b, apps: a, env: env}
}

// DeliveryStatus describes the delivery of a change to every app that approved its tenant.
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
		if unreadable != nil && (!ok || !e.Rec.App.EverHadURL) { // the unreadable write may have created it, or given it a URL
			return fail(unreadable)
		}
		if !ok || !s.Approved && !view.FanoutPending {
			continue // an index entry without an approval, left by a crash: it belongs to no app
		}
		o := readAppDelivery(c, &view.Record, s, views[i])
		if o.State != Settled && (!e.Rec.App.IsDelivering(a.env) || views[i].Off) {
			o.State, o.NextAttemptAt = Off, time.Time{}
		}
		o.ClientID = ids[i]
		// nothing is ever pending for an app that never had a URL
		mute := !e.Rec.App.EverHadURL && !view.FanoutPending
		k.InStep = k.InStep && (o.State == Settled || mute)
		k.Apps = append(k.Apps, o)
	}
	return k, nil
}

// isInStep reports whether an app has everything of a tenant: the change that is asked for, and everything accepted
// before the record was read. The record must be read before the mailbox.
func isInStep(s mailbox.PairState, sequence int64, r *tenant.Record) bool {
	return s.IsInStepWith(max(sequence, r.Top))
}

// readAppDelivery describes one app and a change.
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

// findReplacement returns the entry or id that is pending instead of a change which is not pending itself. It is a
// newer change of its slot; or, if a Delete emptied the slot, the newest status, which may have replaced the Delete.
// It is in the mailbox, or in the record while the fan-out is pending. The result is empty when nothing replaced the
// change, or when the replacement was delivered.
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

// isNewerEntry reports whether an entry's change was accepted after change c.
func isNewerEntry(e *delivery.Entry, told, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence > c.Sequence
	}
	// a resync bears the top of its time; its own sequence is in its id
	if _, sequence, err := tenant.ParseChangeID(told.ID); err == nil {
		return sequence > c.Sequence
	}
	return e.Sequence >= c.Sequence // a status that was set since its newest change
}

// matchesChange reports whether an entry is about a change, also as part of a resync.
func matchesChange(e *delivery.Entry, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence == c.Sequence
	}
	told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
	return err == nil && told.ID == c.ID
}
