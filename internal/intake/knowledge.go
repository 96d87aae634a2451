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
	App(id partner.ClientID) (*registry.Entry, bool)
}

// Outcome is how one app stands to a change.
type Outcome string

// The closed set of outcomes.
const (
	// Waiting: the app has not been told yet.
	Waiting Outcome = "waiting"
	// Settled: the app was told this change or newer truth that replaced it.
	Settled Outcome = "settled"
	// Off: the app is off or paused and will be told when it is switched on.
	Off Outcome = "off"
)

// AppOutcome is one app's standing to a change.
type AppOutcome struct {
	ClientID partner.ClientID
	Outcome  Outcome
	// Attempts, Reason and NextAttemptAt tell of a change that was tried and still waits.
	Attempts      int
	Reason        string
	NextAttemptAt time.Time
}

// Knowledge answers whether everyone knows of a change.
type Knowledge struct {
	Change tenant.Change
	// InStep: each app that approved the tenant was told this change, or newer truth that replaced
	// it; those that never had a URL to be told at do not count.
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
		e, ok := a.apps.App(ids[i])
		if !ok || !s.Approved && !view.FanoutOwed {
			continue // an index entry without an approval, left by a crash: it is nobody's
		}
		o := outcome(c, view.Record.Heads[c.Type.Slot()].Sequence == c.Sequence, s, views[i])
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

// outcome reads one app's standing: the change is settled once the mailbox holds the tenant's record
// up to its sequence, and neither it nor a repeated telling of it waits. newest is whether no later
// change of its slot replaced it.
func outcome(c tenant.Change, newest bool, s mailbox.Standing, v mailbox.View) AppOutcome {
	slot := c.Type.Slot()
	e := s.Entries[slot]
	waits := e != nil && tells(e, c)
	if !waits {
		// not deposited yet: a fan-out is owed, or an approval or a resync is half done
		if s.Known < c.Sequence || newest && s.Again && slot == tenant.SlotStatus && e == nil {
			return AppOutcome{Outcome: Waiting}
		}
		return AppOutcome{Outcome: Settled}
	}
	o := AppOutcome{Outcome: Waiting, Attempts: e.Attempts}
	if e.Attempts > 0 {
		o.Reason = e.LastReason.String()
	}
	if !s.InFlight {
		o.NextAttemptAt = s.DueAt
		if v.GateUntil.After(o.NextAttemptAt) {
			o.NextAttemptAt = v.GateUntil
		}
	}
	return o
}

// tells reports whether an entry tells of a change, in its turn or again.
func tells(e *delivery.Entry, c tenant.Change) bool {
	if e.Retold == "" {
		return e.Sequence == c.Sequence
	}
	told, err := delivery.DecodeChange(e.Change, c.Tenant, e.Sequence)
	return err == nil && told.ID == c.ID
}
