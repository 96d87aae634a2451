package circuit

import (
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Stage is what a run may still do.
type Stage uint8

// The stages of a run.
const (
	// Claiming: the run takes claims while there is room.
	Claiming Stage = iota
	// Suspecting: there is evidence against the endpoint. No claims are taken; the answer to an attempt in flight may
	// refute it.
	Suspecting
	// Resting: the budget is spent. No claims are taken until it is renewed.
	Resting
	// Leaving: no more claims are taken. Attempts in flight are settled, and the mailbox is given back.
	Leaving
	// Lost: the mailbox has another owner.
	Lost
)

// Proof is what a run knows of its endpoint.
type Proof uint8

// The values of Proof.
const (
	// Proven: it answers, as far as is known.
	Proven Proof = iota
	// Alone: it has not answered since the process started, or since it stopped answering.
	Alone
	// Probing: its circuit was open and the cool-down is over.
	Probing
)

const (
	// OwnFaultDelay is the delay after a fault of the service itself.
	OwnFaultDelay = 5 * time.Second
	// BlockedCooldown is the cool-down of an endpoint whose address the guard refuses. Only a change of its URL
	// helps, and that ends the cool-down.
	BlockedCooldown = time.Hour
	// firstProbes and mostProbes bound a round of probes when the host answers.
	firstProbes, mostProbes = 5, 64
	// afterCooldown is how long after the next cool-down a failed probe is due, so that others are tried first.
	afterCooldown = time.Second
)

// StartState is the state of the mailbox at the start of a run.
type StartState struct {
	// Probes is how many tenants may probe the endpoint; 0 when its circuit was not open.
	Probes int
	// Openings is how often in a row the circuit opened.
	Openings int
	// Sole says that only one tenant has approved; Refusing, that the circuit opened because the endpoint refused
	// nearly everything; Recall, that entries wait to be recalled.
	Sole, Refusing, Recall bool
}

// Run decides what one drain of a mailbox does. Its owner reports the events. BeginRun, JudgeAttempt and Close need
// exclusive access to the Endpoint; everything else belongs to the run.
type Run struct {
	set   *Settings
	e     *Endpoint
	start StartState
	stage Stage
	proof Proof
	limit int
	// answerTime is the average time of the last answers, zero if unknown.
	answerTime time.Duration
	// cool is the cool-down if the circuit opens in this run.
	cool   time.Duration
	random float64
	// careful says that something failed and nothing was delivered recently, so one attempt is in flight at a time.
	careful bool
	// answered says that a failure of this run was an HTTP answer; silent, that the last attempt got none.
	answered, silent bool
	// pause is until when the endpoint asked for a pause; blocked says that the guard refused its address; gone is
	// the answer that it is gone.
	pause   time.Time
	blocked bool
	gone    *delivery.Result
	// force says to leave although work is due. outdated says that there was an opening, so what the run saw is void.
	force, outdated bool
	ownFault        bool
	recall          bool
	// suspected says that there was evidence against the endpoint at some time.
	suspected bool
}

// BeginRun begins a run. random is in [0, 1).
func (e *Endpoint) BeginRun(set *Settings, b StartState, now time.Time, random float64) *Run {
	r := &Run{set: set, e: e, start: b, recall: b.Recall && b.Probes == 0, cool: set.Cooldown.After(b.Openings+1, random), random: random}
	var alone bool
	r.limit, alone = e.InitialLimit(set.Most, now)
	r.answerTime = e.pace.recent
	switch {
	case b.Probes > 0:
		r.proof = Probing
	case alone:
		r.proof = Alone
	}
	if now.Sub(e.streak.last) > evidenceLife {
		e.streak = streak{}
	}
	switch { // the mailbox knows the results of other processes
	case !b.Refusing:
		e.refusing = time.Time{}
	case e.refusing.IsZero():
		e.refusing = now
	}
	return r
}

// AttemptResult describes a finished attempt.
type AttemptResult struct {
	Result delivery.Result
	Tenant tenant.ID
	// Attempts counts the failed attempts before, Steps those of them that climbed the retry schedule. LastAttempt is
	// the time of the last one, zero when there was none.
	Attempts, Steps int
	LastAttempt, At time.Time
	// Full says that as many attempts were in flight as allowed.
	Full bool
	// Halting says that the process stops; an attempt that was cut off says nothing then.
	Halting bool
}

// Blame says whose fault a failure is.
type Blame uint8

// The values of Blame.
const (
	NoFault Blame = iota
	TenantFault
	EndpointFault
)

// Decision is what follows for the notification.
type Decision struct {
	// Delivered says that it was accepted; Released, that it was not tried. Otherwise it failed and is due after
	// Delay.
	Delivered, Released bool
	Delay               time.Duration
	// Step says that it climbs the retry schedule; Well, that the endpoint works.
	Step, Well bool
	Blame      Blame
	// Proved says that this answer closed an open circuit.
	Proved bool
}

// JudgeAttempt decides what follows from an attempt. random is in [0, 1).
func (r *Run) JudgeAttempt(a AttemptResult, random float64) Decision {
	e, res := r.e, &a.Result
	if res.Outcome == delivery.Aborted {
		r.stopClaiming(true)
		if a.Halting {
			return Decision{Released: true}
		}
		r.ownFault = true
		return Decision{Delay: OwnFaultDelay}
	}
	e.retries.countAttempt(a.At)
	if r.silent = res.Status == 0; !r.silent {
		e.answered = a.At
	} else if res.Outcome != delivery.Blocked {
		e.silent = a.At
	}
	switch {
	case res.Outcome == delivery.Delivered:
		return r.noteDelivered(&a)
	case res.Outcome == delivery.Rejected:
		return r.judgeRefusal(&a, random)
	case res.Outcome == delivery.Gone:
		gone := *res
		r.gone = &gone
		r.stopClaiming(false)
		return Decision{Delay: r.dueAfterCooldown(), Blame: EndpointFault}
	case res.Outcome == delivery.Blocked:
		r.blocked = true
		r.stopClaiming(false)
		return Decision{Delay: r.dueAfterCooldown(), Blame: EndpointFault}
	case res.Wait && (res.RetryAfter > 0 || res.Status == http.StatusTooManyRequests):
		return r.honorPause(&a)
	}
	return r.judgeFailure(&a, random)
}

func (r *Run) noteDelivered(a *AttemptResult) Decision {
	e := r.e
	e.delivered, e.streak = a.At, streak{}
	if !e.refusing.IsZero() || r.start.Recall {
		e.refusing, r.recall, r.start.Recall = time.Time{}, true, false
	}
	return Decision{Delivered: true, Well: true, Proved: r.noteWorking(a)}
}

// noteWorking records an answer of a working endpoint, and reports whether it closed the circuit.
func (r *Run) noteWorking(a *AttemptResult) (proved bool) {
	r.ownFault, r.careful = false, false
	r.cool = r.set.Cooldown.After(1, r.random) // the next exchange ends the cool-down
	if r.stage == Suspecting {
		r.stage = Claiming
	}
	if r.proof == Proven {
		r.e.pace.noteAnswer(a.Result.Duration, a.At, a.Full, r.set)
	} else {
		proved = r.proof == Probing
		r.proof = Proven
		r.e.pace.initialLimit(r.set.Most)
	}
	r.limit, r.answerTime = r.e.pace.limit, r.e.pace.recent
	return proved
}

// judgeRefusal judges a notification that the endpoint refused.
func (r *Run) judgeRefusal(a *AttemptResult, random float64) Decision {
	e := r.e
	if a.Steps <= 1 && (a.LastAttempt.IsZero() || a.LastAttempt.After(e.delivered)) { // otherwise others were delivered since it was refused
		e.streak.addRefusal(a.Tenant, a.Result.Status, a.At)
	}
	if e.refusing.IsZero() && e.refusesNearlyAll(r.set, a.At) {
		e.refusing = e.streak.since
	}
	if !e.refusing.IsZero() {
		r.answered = true
		r.suspectEndpoint()
		return Decision{Delay: r.dueAfterCooldown(), Blame: EndpointFault}
	}
	return Decision{Delay: r.set.Schedule.After(a.Steps+1, random), Step: true, Well: true, Blame: TenantFault, Proved: r.noteWorking(a)}
}

// honorPause starts a pause that the endpoint asked for.
func (r *Run) honorPause(a *AttemptResult) Decision {
	r.e.pace.halveLimit(a.At.Add(-a.Result.Duration), a.At)
	pause := a.Result.RetryAfter
	if pause == 0 {
		pause = r.cool
	}
	if until := a.At.Add(pause); until.After(r.pause) {
		r.pause = until
	}
	r.stopClaiming(false)
	return Decision{Blame: EndpointFault}
}

// judgeFailure decides whether a failure is the endpoint's or the tenant's.
func (r *Run) judgeFailure(a *AttemptResult, random float64) Decision {
	e, answered := r.e, a.Result.Status != 0
	if a.Result.Reason == delivery.ReasonTimeout {
		e.pace.halveLimit(a.At.Add(-a.Result.Duration), a.At)
	}
	r.answered = r.answered || answered
	e.streak.addFailure(a.Tenant, a.At)
	others := e.deliveredRecently(a.At)
	d := Decision{Delay: r.set.Cooldown.After(a.Attempts+1, random), Blame: TenantFault}
	if r.proof == Probing || e.isEvidence(r.set, a.At, answered, r.start.Sole) {
		d.Blame = EndpointFault
		r.suspectEndpoint()
	}
	switch {
	case others:
		d.Delay = max(r.set.Cooldown.After(1, random)/2, e.retries.reserveRetry(a.At))
	case d.Blame == EndpointFault:
		d.Delay = r.dueAfterCooldown()
	default:
		r.careful = true
		d.Delay = max(d.Delay, r.dueAfterCooldown())
	}
	return d
}

// dueAfterCooldown is when a failed notification is due: after those that were not tried.
func (r *Run) dueAfterCooldown() time.Duration { return r.cool + afterCooldown }

func (r *Run) suspectEndpoint() {
	r.suspected = true
	if r.stage == Claiming || r.stage == Resting {
		r.stage = Suspecting
	}
}

func (r *Run) stopClaiming(force bool) {
	r.force = r.force || force
	if r.stage != Lost {
		r.stage = Leaving
	}
}

// Stop ends the run: the process stops, the run is too old, or its endpoint was changed.
func (r *Run) Stop() { r.stopClaiming(true) }

// MarkSwitchedOff ends the run because the endpoint is off.
func (r *Run) MarkSwitchedOff() { r.stopClaiming(false) }

// MarkOutdated records that the endpoint was changed, switched on, resumed or tested since the run began.
func (r *Run) MarkOutdated() {
	r.outdated = true
	r.stopClaiming(true)
}

// MarkMailboxLost records that the mailbox has another owner.
func (r *Run) MarkMailboxLost() { r.stage = Lost }

// SpendBudget records that the budget is spent.
func (r *Run) SpendBudget() {
	if r.stage == Claiming {
		r.stage = Resting
	}
}

// RenewBudget gives the run another budget.
func (r *Run) RenewBudget() {
	if r.stage == Resting {
		r.stage = Claiming
	}
}

// Resume continues because work arrived while the mailbox was to be given back.
func (r *Run) Resume() {
	if r.stage != Lost {
		r.stage = Claiming
	}
}

// Stage returns what the run may still do.
func (r *Run) Stage() Stage { return r.stage }

// Proof returns what the run knows of the endpoint.
func (r *Run) Proof() Proof { return r.proof }

// MayStart reports whether an attempt may start for a claim. A round of probes goes on after failures as long as the
// host answers.
func (r *Run) MayStart() bool {
	return r.stage == Claiming || r.stage == Suspecting && r.proof == Probing && !r.silent
}

// AttemptLimit is how many attempts may be in flight.
func (r *Run) AttemptLimit() int {
	switch {
	case r.proof == Probing:
		return r.start.Probes
	case r.proof == Alone || r.careful:
		return 1
	default:
		return r.limit
	}
}

// NeedsConnection reports whether a run that had at most open attempts in flight should have more. left is how many
// tenants are still to be told, silent how long no attempt has ended. The first to hang are so overtaken by others.
func (r *Run) NeedsConnection(open, left int, silent time.Duration) bool {
	return r.proof != Proven || open < Floor || max(r.answerTime, silent)*time.Duration(left) > WorthConnecting*time.Duration(open)
}

// WantedClaims is how many more claims there is room for: what may run and a reserve, so that workers need not wait
// for an exchange. out counts attempts in flight and claims held. The reserve does not shrink with the limit;
// otherwise many apps at once would exchange a few entries at a time.
func (r *Run) WantedClaims(out, share, reserve int) int {
	switch {
	case r.stage != Claiming:
		return 0
	case r.proof == Probing && out > 0: // a round is one exchange
		return 0
	case r.proof == Probing:
		return r.start.Probes
	case r.proof == Alone || r.careful:
		return max(1-out, 0)
	default:
		return max(min(r.limit, share)+reserve-out, 0)
	}
}

// NeedsRecall reports whether a page of what failed while the endpoint was failing must be made due.
func (r *Run) NeedsRecall() bool {
	return r.recall && r.proof != Probing && !r.outdated && r.stage != Lost
}

// SetNeedsRecall sets whether there is more to recall.
func (r *Run) SetNeedsRecall(more bool) { r.recall = more }

// IsFailing reports whether the endpoint counts as failing, now that nothing is in flight.
func (r *Run) IsFailing() bool {
	return !r.outdated && (r.stage == Suspecting || r.gone != nil || r.blocked)
}

// WasSuspected reports whether there was evidence against the endpoint at some time.
func (r *Run) WasSuspected() bool { return r.suspected }

// HasOwnFault reports whether the service itself failed and nothing was delivered since.
func (r *Run) HasOwnFault() bool { return r.ownFault }

// IsOutdated reports whether what the run saw is void.
func (r *Run) IsOutdated() bool { return r.outdated }

// GoneResult is the answer that the endpoint is gone; nil when there was none or it is void.
func (r *Run) GoneResult() *delivery.Result {
	if r.outdated {
		return nil
	}
	return r.gone
}

// Closing is how the run gives the mailbox back.
type Closing struct {
	// Force gives it back although work is due.
	Force bool
	// Cooldown opens the circuit for that long, 0 leaves it as it is. Probes is how many tenants may probe the
	// endpoint afterwards, 0 when it only asked for a pause.
	Cooldown time.Duration
	Probes   int
	// Refusing is since when the endpoint has refused nearly everything, by this process's clock.
	Refusing time.Time
	// Failing says that the circuit opens because the endpoint fails.
	Failing bool
}

// KeepsRejection reports whether a failure stays the tenant's fault although the circuit opens: a refusal by a
// working endpoint, unless it refuses nearly everything.
func (c *Closing) KeepsRejection(d *Decision) bool {
	return !c.Failing || d.Well && c.Refusing.IsZero()
}

// Close decides how to give the mailbox back, now that nothing is in flight.
func (r *Run) Close(now time.Time) Closing {
	c := Closing{Force: r.force || r.stage == Resting}
	if r.outdated {
		return c
	}
	if pause := r.pause.Sub(now); pause > 0 {
		c.Cooldown = pause
	}
	if c.Failing = r.IsFailing(); !c.Failing {
		return c
	}
	c.Cooldown, c.Probes, c.Refusing = max(c.Cooldown, r.cool), r.nextProbes(now), r.e.refusing
	if r.blocked {
		c.Cooldown = max(c.Cooldown, BlockedCooldown)
	}
	r.e.pace, r.e.round, r.e.closed = pace{}, c.Probes, now
	return c
}

// nextProbes is how many tenants probe the endpoint next time. Rounds also grow when some probes were delivered in
// between: the circuit of an endpoint that fails for most tenants opens again and again.
func (r *Run) nextProbes(now time.Time) int {
	last := r.start.Probes
	if last <= 1 && now.Sub(r.e.closed) <= roundLife {
		last = r.e.round
	}
	switch {
	case !r.answered:
		return 1
	case last <= 1:
		return firstProbes
	default:
		return min(2*last, mostProbes)
	}
}
