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

// Changes is the registry's side of the question who knows.
type Changes interface {
	Change(ctx context.Context, id string) (tenant.Change, error)
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	Approvers(ctx context.Context, id tenant.ID) ([]partner.ClientID, error)
}

// Mailboxes is the mailboxes' side.
type Mailboxes interface {
	InspectMany(ctx context.Context, t tenant.ID, apps []partner.ClientID) ([]mailbox.Standing, error)
	Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
}

// Apps knows which apps deliver.
type Apps interface {
	Refresh(ctx context.Context) error
	Lookup(id partner.ClientID) (e *registry.Entry, ok bool, unreadable error)
}

// Outcome is how one app stands to a change.
type Outcome string

// The closed set of outcomes.
const (
	// Waiting: the app must still be told this change, or something newer of the tenant.
	Waiting Outcome = "waiting"
	// Settled: the app was told this change, or newer truth that replaced it, and nothing waits.
	Settled Outcome = "settled"
	// Off: the app is off or paused and will be told when it is switched on.
	Off Outcome = "off"
)

// AppOutcome is one app's standing to a change.
type AppOutcome struct {
	ClientID partner.ClientID
	Outcome  Outcome
	// ReplacedBy is the id of the newer change, or status set since, that will be told in the place of this
	// one, empty for none.
	ReplacedBy string
	// Attempts and Reason tell of the one of the two that waits, once it was tried; NextAttemptAt is when
	// the app is told something of the tenant next.
	Attempts      int
	Reason        string
	NextAttemptAt time.Time
}

// Knowledge answers whether everyone knows of a change.
type Knowledge struct {
	Change tenant.Change
	// InStep: each app that approved the tenant was told this change, or newer truth that replaced it,
	// and nothing newer waits either. It speaks of now, and may go back; apps that never had a URL to be
	// told at do not count.
	InStep bool
	Apps   []AppOutcome
}

// Answers tells who knows of a change, from the mailboxes as they stand.
type Answers struct {
	changes Changes
	boxes   Mailboxes
	apps    Apps
	env     partner.Environment
}

// NewAnswers returns an Answers.
func NewAnswers(c Changes, b Mailboxes, a Apps, env partner.Environment) *Answers {
	return &Answers{changes: c, boxes: b, apps: a, env: env}
}

// Knowledge tells how every app that approved the change's tenant stands to it.
func (a *Answers) Knowledge(ctx context.Context, changeID string) (Knowledge, error) {
	fail := func(err error) (Knowledge, error) {
		return Knowledge{}, fmt.Errorf("look up change %s: %w", changeID, err)
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
	standings, err := a.boxes.InspectMany(ctx, c.Tenant, ids)
	if err != nil {
		return fail(err)
	}
	views, errs := a.boxes.Views(ctx, ids)
	k := Knowledge{Change: c, InStep: true}
	for i, s := range standings {
		if errs[i] != nil {
			return fail(errs[i])
		}
		e, ok, unreadable := a.apps.Lookup(ids[i])
		if unreadable != nil && (!ok || !e.Rec.App.EverHadURL) { // it may be there, and hear, since its last write
			return fail(unreadable)
		}
		if !ok || !s.Approved && !view.FanoutOwed {
			continue // an index entry without an approval, left by a crash: it is nobody's
		}
		o := outcome(c, &view.Record, s, views[i])
		if o.Outcome != Settled && (!e.Rec.App.Delivering(a.env) || views[i].Off) {
			o.Outcome, o.NextAttemptAt = Off, time.Time{}
		}
		o.ClientID = ids[i]
		// for an app that never had a URL nothing waits, now or ever, until it has one
		mute := !e.Rec.App.EverHadURL && !view.FanoutOwed
		k.InStep = k.InStep && (o.Outcome == Settled || mute)
		k.Apps = append(k.Apps, o)
	}
	return k, nil
}

// inStep is the one answer to whether an app knows a tenant's truth: the change that is asked for, and
// all that was accepted when the record was read, before the standing.
func inStep(s mailbox.Standing, sequence int64, r *tenant.Record) bool {
	return s.InStepWith(max(sequence, r.Top))
}

// outcome reads one app's standing to a change.
func outcome(c tenant.Change, r *tenant.Record, s mailbox.Standing, v mailbox.View) AppOutcome {
	if inStep(s, c.Sequence, r) {
		return AppOutcome{Outcome: Settled}
	}
	o := AppOutcome{Outcome: Waiting}
	e := s.Entries[c.Type.Slot()]
	if e == nil || !tells(e, c) {
		e, o.ReplacedBy = replacement(c, r, s)
	}
	if e != nil && e.Attempts > 0 {
		o.Attempts, o.Reason = e.Attempts, e.LastReason.String()
	}
	if s.Waits() && !s.InFlight {
		o.NextAttemptAt = s.DueAt
		if v.GateUntil.After(o.NextAttemptAt) {
			o.NextAttemptAt = v.GateUntil
		}
	}
	return o
}

// replacement is what will be told in the place of a change that does not wait itself: a newer change of
// its slot; or, where a Delete emptied that, the newest status, which may have replaced the Delete. It
// waits in the mailbox, or the record has it and the fan-out is owed; empty where nothing replaced the
// change, or where what did was told.
func replacement(c tenant.Change, r *tenant.Record, s mailbox.Standing) (*delivery.Entry, string) {
	own := c.Type.Slot()
	emptied := r.Heads[own].Sequence < c.Sequence
	for _, slot := range []tenant.Slot{own, tenant.SlotStatus} {
		if e := s.Entries[slot]; e != nil {
			told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
			replaces := slot == own || emptied || told.Type == tenant.Delete
			if err == nil && replaces && newer(e, told, c) {
				return e, told.ID
			}
		}
		if h := r.Heads[slot]; h.Sequence > max(c.Sequence, s.Known) && (slot == own || emptied) {
			return nil, h.Change.ID
		}
	}
	return nil, ""
}

// newer reports whether what an entry tells came after a change.
func newer(e *delivery.Entry, told, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence > c.Sequence
	}
	// told again it bears the top of its time; the sequence of its own stands in its id
	if _, sequence, err := tenant.ParseChangeID(told.ID); err == nil {
		return sequence > c.Sequence
	}
	return e.Sequence >= c.Sequence // a status that was set since its newest change
}

// tells reports whether an entry tells of a change, in its turn or again.
func tells(e *delivery.Entry, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence == c.Sequence
	}
	told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
	return err == nil && told.ID == c.ID
}
