package mailbox

import (
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// ErrFormat reports a mailbox, or a value in it, that this version cannot read.
var ErrFormat = errors.New("mailbox has an unknown format")

// ErrCursor reports a cursor that no listing returned.
var ErrCursor = errors.New("cursor was not returned by a listing")

// ErrDismissed reports that an approval was withdrawn while a new one was in progress.
var ErrDismissed = errors.New("an approval was withdrawn meanwhile")

// ErrApproved reports an approval that exists already.
var ErrApproved = errors.New("the tenant approved the app before")

// ErrGone reports a call for a life of an app that has ended: the app was deleted, or deleted and made again. Nothing was
// written.
var ErrGone = errors.New("the app was deleted or made anew meanwhile")

// Life names one life of an app. A client id that is deleted and made again names another app, and nothing that was meant for the
// former one may reach it.
type Life struct {
	App partner.ClientID
	// Birth is the revision of the write that made the app; registry.AppRecord has it.
	Birth int64
}

// MaxBatch is the most tenants, claims or results that one call takes. Lua could take more, but Redis does nothing else while a
// script runs: 200 tenants take some milliseconds.
const MaxBatch = 200

// Settings are the times of the protocol, and the key that BeginAndClaim also reads. The zero value of each time means its
// default.
type Settings struct {
	// OwnerLease is how long a drainer keeps the mailbox without renewing its lease. Default 15 s.
	OwnerLease time.Duration
	// EntryLease is how long a claim lasts; an attempt must end before. Default 25 s.
	EntryLease time.Duration
	// Horizon is how far ahead a wake-up is armed: three rounds of the sweep. Default 15 s.
	Horizon time.Duration
	// Grace is how late an armed wake-up may come before another is armed. Default 10 s.
	Grace time.Duration
	// RevisionKey is the key of the revision of the settings, which BeginAndClaim reads after it has claimed; "" for none.
	RevisionKey string
}

// Defaults of Settings.
const (
	DefaultOwnerLease = 15 * time.Second
	DefaultEntryLease = 25 * time.Second
	DefaultHorizon    = 15 * time.Second
	DefaultGrace      = 10 * time.Second
)

// Wake is a wake-up that the caller must turn into a run or a queue task; its zero value is none.
type Wake struct {
	// Generation identifies the wake-up: a task of the same app and generation is the same wake-up.
	Generation int64
	// Delay is how long the drainer has to wait, 0 for now. It is measured by Redis's clock, so that the workers' clocks do not
	// matter.
	Delay time.Duration
}

// IsNone reports that there is nothing to enqueue.
func (w Wake) IsNone() bool { return w.Generation == 0 }

// DepositResult says what a deposit wrote.
type DepositResult struct {
	Wake Wake
	// Written counts new entries, Replaced those among them that replaced a pending one.
	Written, Replaced int
}

// Admission is a tenant and the highest sequence that was assigned to it when it was read.
type Admission struct {
	Tenant tenant.ID
	Top    int64
}

// BeginState says how Begin ended.
type BeginState uint8

// The closed set of results of Begin.
const (
	// Owned: the caller is the drainer now.
	Owned BeginState = iota
	// Busy: another drainer owns the mailbox.
	Busy
	// Off: the endpoint is off.
	Off
	// CircuitOpen: the circuit is open; BeginResult.Wake comes when the cool-down is over.
	CircuitOpen
)

// BeginResult is the answer to Begin.
type BeginResult struct {
	State BeginState
	// Probes is how many tenants may be tried as probes, after the circuit was opened and the cool-down is over; 0 if no probe is
	// needed.
	Probes int
	// Openings is how often in a row the circuit opened.
	Openings int
	// HeldUntil is when the mailbox last left an open circuit or an off switch: what was deposited before that was held back
	// because of the endpoint. Zero when it never was.
	HeldUntil time.Time
	// Sole: only one tenant has approved the app.
	Sole bool
	// Refusing: the circuit opened on an endpoint that refused nearly all. Recall: entries wait to be recalled.
	Refusing, Recall bool
	Wake             Wake
	// SettingsRevision is what Settings.RevisionKey held after the claims, for an owner that BeginAndClaim made. The attempts for
	// these claims MUST use the settings of that revision or a newer one. 0 where there is none.
	SettingsRevision int64
}

// SettleResult is the result of a claim.
type SettleResult uint8

// The closed set of results.
const (
	// OK: the app answered 2xx.
	OK SettleResult = iota
	// Failed: no 2xx; the entry is due again after a delay.
	Failed
	// Release: not tried; the entry is due again at once, and no attempt is counted.
	Release
)

// Settlement is the result of one claim.
type Settlement struct {
	Claim  Claim
	Result SettleResult
	// Delay, Step and Reason are used with Failed: when the entry is due again, whether it climbs the retry schedule, and why the
	// attempt failed.
	Delay  time.Duration
	Step   bool
	Reason delivery.Reason
	// Well is used with Failed: the endpoint works, so that its circuit closes; the fault is the notification's own.
	Well bool
}

// Claim is one entry for which the drainer may make an attempt until the stamp's time.
type Claim struct {
	Tenant tenant.ID
	Slot   tenant.Slot
	Stamp  int64
	Entry  delivery.Entry
}

// ExchangeResult is the answer to Exchange.
type ExchangeResult struct {
	// Owner is false when another process owns the mailbox: the caller must stop.
	Owner bool
	// Off: the endpoint was switched off: the caller must stop claiming.
	Off bool
	// Outdated: the endpoint was changed, switched on, resumed or tested since the run began. The caller must stop: what it found
	// out describes the former endpoint.
	Outdated bool
	Claims   []Claim
	// Left is how many tenants wait beside those claimed, due now or later. It is 0 if no tenant is due.
	Left int
	// Unreadable lists claimed tenants whose entry this version cannot read. Their claims expire, and another version may take
	// them.
	Unreadable []tenant.ID
}

// Closing says how a drainer gives the mailbox back.
type Closing struct {
	// Force gives it back although work is due.
	Force bool
	// Cooldown opens the endpoint's circuit for this long; 0 leaves it as it is.
	Cooldown time.Duration
	// Probes is how many tenants may be tried as probes once the cool-down is over; 0 if the endpoint only asked for a pause, so
	// that no probe is needed.
	Probes int
	// Refusing is since when, by Redis's clock, the endpoint has refused nearly all, zero where it has not. What failed since
	// then is recalled once the endpoint accepts something.
	Refusing time.Time
	// OffRevision is the registry revision that switched the endpoint off, 0 for none.
	OffRevision int64
}

// FinishState says how Finish ended.
type FinishState uint8

// The closed set of results of Finish.
const (
	// Done: the mailbox is free.
	Done FinishState = iota
	// More: work is due and the caller is still the owner.
	More
	// Lost: another process owns the mailbox.
	Lost
)

// FinishResult is the answer to Finish.
type FinishResult struct {
	State FinishState
	Wake  Wake
	// Outdated, of Done: as in ExchangeResult; the circuit was not opened.
	Outdated bool
}

// Switch is the registry's setting of an app's state-change endpoint.
type Switch struct {
	Life     Life
	Revision int64
	On       bool
	// EndpointRevision is the revision at which the endpoint's URL or switch last changed.
	EndpointRevision int64
}

// View is a summary of a mailbox.
type View struct {
	// Waiting counts pending entries, Diverged the tenants they belong to.
	Waiting, Diverged int64
	InFlight          int64
	// Superseded counts the pending entries that newer ones replaced since the mailbox was last empty.
	Superseded int64
	// Oldest is how long the oldest entry's slot has been pending, 0 when nothing is. Beyond viewSample entries it is an estimate
	// that may be too low.
	Oldest time.Duration
	// CooldownUntil is zero when the circuit is closed. If it is in the past, the next attempt is a probe.
	CooldownUntil time.Time
	Openings      int
	Off           bool
	Owned         bool
	Approvals     int64
	// Birth is that of the life to which the mailbox belongs. Revision and EndpointRevision are those of the newest settings that
	// the mailbox knows.
	Birth, Revision, EndpointRevision int64
	// Former are the births that followed a life whose approvals are still to be removed.
	Former []int64
	// Now is Redis's clock when the view was taken.
	Now time.Time
}

// The closed set of states of a circuit.
const (
	circuitClosed   = "closed"
	circuitOpen     = "open"
	circuitHalfOpen = "half_open"
)

// CircuitStates lists the closed set.
func CircuitStates() []string { return []string{circuitClosed, circuitOpen, circuitHalfOpen} }

// CircuitState names the state of the circuit. An endpoint that is off is not called: its
// circuit counts as closed, whatever CooldownUntil is.
func (v View) CircuitState() string {
	switch {
	case v.CooldownUntil.IsZero() || v.Off:
		return circuitClosed
	case v.CooldownUntil.After(v.Now):
		return circuitOpen
	default:
		return circuitHalfOpen
	}
}

// PairState is the state of one tenant in a mailbox.
type PairState struct {
	Tenant   tenant.ID
	Approved bool
	// Known is the highest tenant sequence deposited, Again that its status will be deposited again.
	Known int64
	Again bool
	// Entries holds the pending entry of each slot, nil for none.
	Entries [tenant.Slots]*delivery.Entry
	// DueAt is zero when nothing is pending or the tenant is in flight.
	DueAt    time.Time
	InFlight bool
}

// HasPending reports whether anything is pending for the tenant.
func (s PairState) HasPending() bool { return s.Entries != [tenant.Slots]*delivery.Entry{} }

// IsBehind reports whether a record whose highest sequence is top must still be deposited.
func (s PairState) IsBehind(top int64) bool { return s.Known < top || s.Again }

// IsInStepWith reports whether the app has received the tenant's state up to a sequence: this change, or newer ones that replaced
// it. The result is about the present, and is false again once something newer is pending. An attempt in progress counts as
// pending until it is acknowledged.
//
// Nothing at all may be pending, not only nothing of this sequence or a newer one. The lowest sequence is delivered first, so a
// lower one is pending only after a loss.
func (s PairState) IsInStepWith(sequence int64) bool {
	return s.Approved && !s.IsBehind(sequence) && !s.HasPending()
}
