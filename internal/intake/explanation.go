package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Cause is what keeps a tenant's newest state from an app, the first of several. Adding one means: the constants,
// AllCauses, Explanation.findCause, Explanation.Description and the OpenAPI document.
type Cause string

// The closed set of causes.
const (
	// InStep: nothing; everything was delivered.
	InStep Cause = "in_step"
	// UnknownTenant: no change or status of the tenant was ever reported.
	UnknownTenant Cause = "unknown_tenant"
	// NotApproved: the tenant did not approve the app.
	NotApproved Cause = "not_approved"
	// FanOutPending: the change is accepted and on its way into the mailbox.
	FanOutPending Cause = "fan_out_owed"
	// SwitchedOff: the endpoint is off.
	SwitchedOff Cause = "switched_off"
	// NoURL: the endpoint has no URL in this environment.
	NoURL Cause = "no_url"
	// Paused: the app is paused.
	Paused Cause = "paused"
	// Sending: an attempt is in flight.
	Sending Cause = "sending"
	// CircuitOpen: the endpoint failed, and no attempts are made for a while.
	CircuitOpen Cause = "gate_closed"
	// Retry: the notification failed and waits for its next attempt.
	Retry Cause = "retry"
	// Due: it may be sent, and waits for its turn.
	Due Cause = "due"
)

// AllCauses lists the closed set.
func AllCauses() []Cause {
	return []Cause{InStep, UnknownTenant, NotApproved, FanOutPending, SwitchedOff, NoURL, Paused, Sending, CircuitOpen, Retry, Due}
}

// WaitingChange is a pending notification.
type WaitingChange struct {
	ChangeID string
	Type     tenant.ChangeType
	Sequence int64
	// Since is when its slot became pending; Superseded counts the older changes that it replaced meanwhile.
	Since      time.Time
	Superseded int64
	// Attempts counts the failed attempts, Reason is why the last one failed, LastAttempt when.
	Attempts    int
	Reason      delivery.Reason
	LastAttempt time.Time
	// Refused says that a working endpoint refused it, so it climbs the retry schedule.
	Refused bool
	// Again is true for the repetition of a status, as after a resync.
	Again bool
}

// Explanation says whether an app has a tenant's newest state, and if not, why.
type Explanation struct {
	ClientID partner.ClientID
	Tenant   tenant.ID
	Cause    Cause
	// Known is false for a tenant that was never reported; Status is its present status.
	Known  bool
	Status tenant.Status
	// Newest is the newest change to notify, nil for none.
	Newest   *tenant.Change
	Approved bool
	// FanOutPending is true until the mailbox holds the tenant's newest state.
	FanOutPending bool
	Waiting       []WaitingChange
	InFlight      bool
	// NextAttemptAt is zero when nothing is planned.
	NextAttemptAt time.Time
	// Endpoint is the app's state-change endpoint; HasURL says whether it has a URL in this environment.
	Endpoint       partner.Endpoint
	HasURL, Paused bool
	Breaker        string
	// CooldownUntil is when the endpoint is tried again; Openings is how often in a row its circuit opened.
	CooldownUntil time.Time
	Openings      int
	// Ahead is the number of notifications pending for the app.
	Ahead int64
	// Attempts are the pair's last attempts, newest first.
	Attempts []delivery.Attempt
	// CommonSince is since when many endpoints fail on the connection at once, zero when they do not.
	CommonSince time.Time
	// Now is the time that the explanation describes.
	Now time.Time

	// top is the sequence of the newest change to notify, 0 for none.
	top int64
	// inStep says that everything was delivered and nothing is pending.
	inStep bool
}

// TenantSource is the part of the registry that StatusExplainer uses.
type TenantSource interface {
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	Attempts(ctx context.Context, app partner.ClientID, q registry.AttemptQuery) (attempts []delivery.Attempt, next string, err error)
}

// MailboxSource is the part of the mailboxes that StatusExplainer uses.
type MailboxSource interface {
	ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error)
	View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
}

// AppSource reads apps as they are stored.
type AppSource interface {
	App(ctx context.Context, id partner.ClientID) (registry.AppRecord, error)
}

// listedAttempts is how many attempts an explanation lists.
const listedAttempts = 10

// StatusExplainer answers why a tenant's change has not arrived, from stored data.
type StatusExplainer struct {
	tenants TenantSource
	boxes   MailboxSource
	apps    AppSource
	env     partner.Environment
	common  func() incident.CommonCause
}

// NewStatusExplainer returns a StatusExplainer. common returns the newest common cause of failures on the connection.
func NewStatusExplainer(t TenantSource, b MailboxSource, a AppSource, env partner.Environment, common func() incident.CommonCause) *StatusExplainer {
	return &StatusExplainer{tenants: t, boxes: b, apps: a, env: env, common: common}
}

// Explain describes what an app has received of a tenant, and why not more. It returns registry.ErrNotFound for an
// unknown app.
func (x *StatusExplainer) Explain(ctx context.Context, app partner.ClientID, id tenant.ID) (Explanation, error) {
	fail := func(err error) (Explanation, error) {
		return Explanation{}, fmt.Errorf("explain tenant %s of app %s: %w", id, app, err)
	}
	rec, err := x.apps.App(ctx, app)
	if err != nil {
		return fail(err)
	}
	// the record before the mailbox, as the fan-out does
	view, err := x.tenants.Tenant(ctx, id)
	if err != nil {
		return fail(err)
	}
	standings, err := x.boxes.ReadPairs(ctx, app, []tenant.ID{id})
	if err != nil {
		return fail(err)
	}
	box, err := x.boxes.View(ctx, app)
	if err != nil {
		return fail(err)
	}
	attempts, _, err := x.tenants.Attempts(ctx, app, registry.AttemptQuery{Tenant: id, Limit: listedAttempts})
	if err != nil {
		return fail(err)
	}
	w := Explanation{ClientID: app, Tenant: id, Attempts: attempts}
	w.setTenant(view)
	w.setApp(&rec.App, x.env)
	w.setMailbox(standings[0], box)
	w.FanOutPending = w.Approved && standings[0].IsBehind(view.Record.Top)
	w.inStep = isInStep(standings[0], 0, &view.Record)
	w.Cause = w.findCause()
	if c := x.common(); c.IsOngoing() {
		w.CommonSince = c.Since
	}
	return w, nil
}

func (w *Explanation) setTenant(v registry.TenantView) {
	w.Known, w.Status = v.Known, v.Status
	for _, h := range v.Record.Heads {
		if h.Sequence <= w.top {
			continue
		}
		w.top = h.Sequence
		if h.Sequence == tenant.NeverChanged { // made for the resync: it has no change
			continue
		}
		c := h.Change
		c.Tenant, c.Sequence = w.Tenant, h.Sequence
		w.Newest = &c
	}
}

func (w *Explanation) setApp(a *partner.App, env partner.Environment) {
	w.Endpoint = a.Endpoints[partner.StateChange]
	w.HasURL, w.Paused = w.Endpoint.EffectiveURL(env) != "", a.Paused
}

func (w *Explanation) setMailbox(s mailbox.PairState, v mailbox.View) {
	w.Approved, w.InFlight, w.Breaker = s.Approved, s.InFlight, v.CircuitState()
	w.CooldownUntil, w.Openings, w.Ahead, w.Now = v.CooldownUntil, v.Openings, v.Waiting, v.Now
	for slot, e := range s.Entries {
		if e == nil {
			continue
		}
		m, err := e.Message(w.ClientID, w.Tenant)
		wait := WaitingChange{
			Sequence: e.Sequence, Since: time.UnixMilli(e.FirstDepositedMS).UTC(), Superseded: e.Superseded, Attempts: e.Attempts, Again: e.Retold != "",
		}
		if err == nil { // otherwise of another version: it is pending all the same
			wait.ChangeID, wait.Type, wait.LastAttempt = m.Change.ID, m.Change.Type, m.LastAttempt
		}
		if e.Attempts > 0 {
			wait.Reason, wait.Refused = e.LastReason, e.Steps > 0 && e.LastReason == delivery.ReasonClientError
		}
		if err != nil && slot == int(tenant.SlotMove) {
			wait.Type = tenant.Move
		}
		w.Waiting = append(w.Waiting, wait)
	}
	if len(w.Waiting) > 0 && !w.InFlight && w.isDelivering() {
		w.NextAttemptAt = s.DueAt
		if v.CooldownUntil.After(w.NextAttemptAt) {
			w.NextAttemptAt = v.CooldownUntil
		}
	}
}

func (w *Explanation) isDelivering() bool { return w.Endpoint.Enabled && w.HasURL && !w.Paused }

func (w *Explanation) findCause() Cause {
	switch waits := len(w.Waiting) > 0; {
	case !w.Approved:
		return NotApproved
	case !w.Known && !waits:
		return UnknownTenant
	case w.inStep:
		return InStep
	case !waits:
		return FanOutPending
	case !w.HasURL:
		return NoURL
	case !w.Endpoint.Enabled:
		return SwitchedOff
	case w.Paused:
		return Paused
	case w.InFlight:
		return Sending
	case w.CooldownUntil.After(w.Now):
		return CircuitOpen
	case w.NextAttemptAt.After(w.Now):
		return Retry
	default:
		return Due
	}
}
