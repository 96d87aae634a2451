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

// ErrCursor reports a cursor that no listing gave out.
var ErrCursor = errors.New("cursor is not one that a listing gave out")

// ErrDismissed reports that an approval was taken back while another was under way.
var ErrDismissed = errors.New("an approval was taken back meanwhile")

// ErrApproved reports an approval where there should have been none yet.
var ErrApproved = errors.New("the tenant approved the app before")

// ErrGone reports a call for a life of an app that is over: the app was deleted, or deleted and made again.
// Nothing was written.
var ErrGone = errors.New("the app was deleted or made anew meanwhile")

// Life names one life of an app. A client id that is deleted and made again names another app, and nothing
// that was meant for the former one may reach it.
type Life struct {
	App partner.ClientID
	// Birth is the revision of the write that made the app; registry.AppRecord has it.
	Birth int64
}

// MaxBatch is the most tenants, claims or results one call takes. Lua could take more, but a script
// stops all of Redis while it runs: 200 tenants take some milliseconds.
const MaxBatch = 200

// Settings are the times of the protocol, and what Take reads besides. The zero value of each time means its
// default.
type Settings struct {
	// OwnerLease is how long a drainer that says nothing keeps the mailbox. Default 15 s.
	OwnerLease time.Duration
	// EntryLease is how long a claim stands; a post must end before. Default 25 s.
	EntryLease time.Duration
	// Horizon is how far ahead a wake-up is armed; three sweeps. Default 15 s.
	Horizon time.Duration
	// Grace is how late an armed wake-up may come before another is armed. Default 10 s.
	Grace time.Duration
	// RevisionKey names the revision of the settings, which Take reads after it has claimed; "" for none.
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
	// Generation names it: a task of the same app and generation is the same wake-up.
	Generation int64
	// Delay is how long the drainer has to wait, 0 for now; by Redis's clock, so that skewed
	// clocks of workers do not matter.
	Delay time.Duration
}

// IsNone reports that there is nothing to enqueue.
func (w Wake) IsNone() bool { return w.Generation == 0 }

// DepositResult is what a deposit did.
type DepositResult struct {
	Wake Wake
	// Written counts new entries, Replaced those among them that replaced a waiting one.
	Written, Replaced int
}

// Admission is a tenant and the highest sequence given out for it when it was read.
type Admission struct {
	Tenant tenant.ID
	Top    int64
}

// BeginState says how Begin ended.
type BeginState uint8

// The closed set of ends of Begin.
const (
	// Owned: the caller is the drainer now.
	Owned BeginState = iota
	// Busy: another drainer owns the mailbox.
	Busy
	// Off: the endpoint is off.
	Off
	// CircuitOpen: the gate is closed; Begun.Wake comes when it opens.
	CircuitOpen
)

// BeginResult is the answer to Begin.
type BeginResult struct {
	State BeginState
	// Probes is how many tenants may be tried to prove the endpoint, since the gate was closed and has run out; 0 where
	// nothing is to be proved.
	Probes int
	// Openings is how often in a row the gate closed.
	Openings int
	// HeldUntil is when the mailbox last came out of a closed gate or an off switch: what was
	// deposited before was held back for the endpoint's sake. Zero when it never was.
	HeldUntil time.Time
	// Sole: one tenant is all that approved.
	Sole bool
	// Refusing: the gate closed on an endpoint that refused nearly all. Recall: entries wait to be recalled.
	Refusing, Recall bool
	Wake             Wake
	// SettingsRevision, of an owner that Take made, is what Settings.RevisionKey held after the claims: who
	// posts them MUST know the settings of that revision or a newer one. 0 where there is none.
	SettingsRevision int64
}

// SettleResult is what became of a claim.
type SettleResult uint8

// The closed set of verdicts.
const (
	// OK: the app answered 2xx.
	OK SettleResult = iota
	// Failed: it did not; the entry is due again after a delay.
	Failed
	// Release: not tried; the entry is due again at once and counts no attempt.
	Release
)

// Settlement is the result of one claim.
type Settlement struct {
	Claim  Claim
	Result SettleResult
	// Delay, Step and Reason belong to Failed: when it is due again, whether it climbs the retry
	// schedule, and why it failed.
	Delay  time.Duration
	Step   bool
	Reason delivery.Reason
	// Well, of Failed: the endpoint answered and works, so that its gate is forgotten; the fault is
	// the notification's own.
	Well bool
}

// Claim is one entry that the drainer may post until its stamp.
type Claim struct {
	Tenant tenant.ID
	Slot   tenant.Slot
	Stamp  int64
	Entry  delivery.Entry
}

// ExchangeResult is the answer to Exchange.
type ExchangeResult struct {
	// Owner is false when the mailbox belongs to another: stop.
	Owner bool
	// Off: the endpoint was switched off: stop claiming.
	Off bool
	// Outdated: the endpoint was changed, switched on, resumed or tested since the run began: stop, what
	// the run saw is not of the endpoint as it is now.
	Outdated bool
	Claims   []Claim
	// Unreadable lists claimed tenants whose entry this version cannot read; their claims run
	// out by themselves and another version may take them.
	Unreadable []tenant.ID
}

// Closing says how a drainer wants to leave.
type Closing struct {
	// Force leaves although work is due.
	Force bool
	// Cooldown closes the endpoint's gate for so long; 0 leaves it as it is.
	Cooldown time.Duration
	// Probes is how many tenants may prove the endpoint once the gate has run out; 0 where it only asked for a pause, and
	// nothing is to be proved.
	Probes int
	// Refusing is since when, by Redis's clock, the endpoint has refused nearly all, zero where it has not: what failed
	// since then is recalled once it takes something.
	Refusing time.Time
	// OffRevision is the registry revision that switched the endpoint off, 0 for none.
	OffRevision int64
}

// FinishState says how Finish ended.
type FinishState uint8

// The closed set of ends of Finish.
const (
	// Done: the mailbox is free.
	Done FinishState = iota
	// More: work is due and the caller is still the owner.
	More
	// Lost: the mailbox belongs to another.
	Lost
)

// FinishResult is the answer to Finish.
type FinishResult struct {
	State FinishState
	Wake  Wake
	// Outdated, of Done: as in Exchanged; the gate was not closed.
	Outdated bool
}

// Switch is what the registry says of an app's state-change endpoint.
type Switch struct {
	Life     Life
	Revision int64
	On       bool
	// EndpointRevision is that at which the endpoint's URL or switch last changed.
	EndpointRevision int64
}

// View is how a mailbox stands.
type View struct {
	// Waiting counts entries, Diverged the tenants they belong to.
	Waiting, Diverged int64
	InFlight          int64
	// Superseded counts the waiting entries that newer ones replaced since the mailbox was last empty.
	Superseded int64
	// Oldest is how long the oldest entry's slot has waited, 0 when nothing waits. Beyond
	// viewSample entries it is a close estimate from below.
	Oldest time.Duration
	// CooldownUntil is zero when no gate is set; in the past, the next post proves the endpoint.
	CooldownUntil time.Time
	Openings      int
	Off           bool
	Owned         bool
	Approvals     int64
	// Birth is that of the life which the mailbox belongs to, Revision and EndpointRevision those of the
	// newest settings that it was told.
	Birth, Revision, EndpointRevision int64
	// Former are the births that followed a life whose approvals are still to be cleared away.
	Former []int64
	// Now is Redis's clock when the view was taken.
	Now time.Time
}

// CircuitState names the state of the shared breaker: "closed", "open" or "half_open". Nobody asks an
// endpoint that is off: it has no open breaker, whatever its gate was.
func (v View) CircuitState() string {
	switch {
	case v.CooldownUntil.IsZero() || v.Off:
		return "closed"
	case v.CooldownUntil.After(v.Now):
		return "open"
	default:
		return "half_open"
	}
}

// PairState is how one tenant stands in a mailbox.
type PairState struct {
	Tenant   tenant.ID
	Approved bool
	// Known is the highest tenant sequence deposited, Again that its status will be told again.
	Known int64
	Again bool
	// Entries holds the waiting entry of each slot, nil for none.
	Entries [tenant.Slots]*delivery.Entry
	// DueAt is zero when nothing waits or the tenant is in flight.
	DueAt    time.Time
	InFlight bool
}

// HasPending reports whether anything waits for the tenant.
func (s PairState) HasPending() bool { return s.Entries != [tenant.Slots]*delivery.Entry{} }

// IsBehind reports whether the mailbox must still be given something of a record whose highest sequence is top.
func (s PairState) IsBehind(top int64) bool { return s.Known < top || s.Again }

// IsInStepWith reports whether the app was told the tenant's truth up to a sequence: this change, or newer
// ones that replaced it. It speaks of now, and is false again once something newer waits. A post in flight
// waits until it is acknowledged.
//
// That nothing at all waits is asked for, not only nothing of this sequence or a newer one: the lowest is
// told first, so that what waits below it would only be there after a loss.
func (s PairState) IsInStepWith(sequence int64) bool {
	return s.Approved && !s.IsBehind(sequence) && !s.HasPending()
}
