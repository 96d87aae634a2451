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
	// Claiming: it claims what there is room for.
	Claiming Stage = iota
	// Suspecting: the evidence is against the endpoint. Nothing is claimed; an answer to what is out may show otherwise.
	Suspecting
	// Resting: its budget is spent. Nothing is claimed until that is renewed.
	Resting
	// Leaving: nothing more is claimed; what is out is settled, and the mailbox given back.
	Leaving
	// Lost: the mailbox belongs to another.
	Lost
)

// Proof is what is known of the endpoint in a run.
type Proof uint8

// What a run knows of the endpoint.
const (
	// Proven: it answers, as far as is known.
	Proven Proof = iota
	// Alone: it has not answered since the process started, or since it fell silent.
	Alone
	// Probing: its gate was closed and has run out.
	Probing
)

const (
	// OwnFaultDelay paces what fails by the service's own fault.
	OwnFaultDelay = 5 * time.Second
	// BlockedCooldown is how long the gate of an endpoint stays closed whose address the guard refuses: only a change of its URL
	// helps, and that opens the gate.
	BlockedCooldown = time.Hour
	// firstProbes and mostProbes bound a half-open round where the host answers.
	firstProbes, mostProbes = 5, 64
	// afterCooldown is how long after the next gate what failed is due, so that others are tried first.
	afterCooldown = time.Second
)

// StartState is how a run found the mailbox.
type StartState struct {
	// Probes is how many tenants may prove the endpoint, 0 where nothing is to be proved.
	Probes int
	// Openings is how often in a row the gate closed.
	Openings int
	// Sole: one tenant is all that approved. Refusing: the gate closed on an endpoint that refused nearly all. Recall: entries wait
	// to be recalled.
	Sole, Refusing, Recall bool
}

// Run decides what one drain of a mailbox does. Its owner hands in what happened. Begin, Answered and Close need the Endpoint for
// themselves; all else is the run's own.
type Run struct {
	set   *Settings
	e     *Endpoint
	start StartState
	stage Stage
	proof Proof
	limit int
	// cool is how long the gate closes if it does in this run.
	cool   time.Duration
	random float64
	// careful: something failed and the endpoint took nothing recently, so one post is out at a time.
	careful bool
	// answered: a failure of this run was an HTTP answer. silent: the last attempt got none.
	answered, silent bool
	// pause is until when the endpoint asked to be left alone, blocked that the guard refused its address, gone that it said so.
	pause   time.Time
	blocked bool
	gone    *delivery.Result
	// force: leave although work is due. outdated: the endpoint was changed or is to be tried anew, so what the run saw is void.
	force, outdated bool
	ownFault        bool
	recall          bool
	// suspected: the evidence was against the endpoint at some time.
	suspected bool
}

// BeginRun begins a run. random is in [0, 1).
func (e *Endpoint) BeginRun(set *Settings, b StartState, now time.Time, random float64) *Run {
	r := &Run{set: set, e: e, start: b, recall: b.Recall && b.Probes == 0, cool: set.Cooldown.After(b.Openings+1, random), random: random}
	var alone bool
	r.limit, alone = e.InitialLimit(set.Most, now)
	switch {
	case b.Probes > 0:
		r.proof = Probing
	case alone:
		r.proof = Alone
	}
	if now.Sub(e.streak.last) > evidenceLife {
		e.streak = streak{}
	}
	switch { // the mailbox knows what came of it in other processes
	case !b.Refusing:
		e.refusing = time.Time{}
	case e.refusing.IsZero():
		e.refusing = now
	}
	return r
}

// AttemptResult is what came of an attempt.
type AttemptResult struct {
	Result delivery.Result
	Tenant tenant.ID
	// Attempts counts those that failed before, Steps those among them that climbed the retry schedule; LastAttempt is when the last
	// one failed, zero where none did.
	Attempts, Steps int
	LastAttempt, At time.Time
	// Full: as many posts were out as there might be.
	Full bool
	// Halting: the process stops, and an attempt that was cut off says nothing.
	Halting bool
}

// Blame says whom a failure is held against.
type Blame uint8

// Whom a failure is held against.
const (
	NoFault Blame = iota
	TenantFault
	EndpointFault
)

// Decision is what follows for the notification.
type Decision struct {
	// Delivered: it was taken. Released: it was not tried. Else it failed and is due after Delay.
	Delivered, Released bool
	Delay               time.Duration
	// Step: it climbs the retry schedule. Well: the endpoint works.
	Step, Well bool
	Blame      Blame
	// Proved: this answer proved an endpoint whose gate was closed.
	Proved bool
}

// JudgeAttempt takes the result of an attempt. random is in [0, 1).
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

// noteWorking notes an answer of an endpoint that works, and reports whether that proved it.
func (r *Run) noteWorking(a *AttemptResult) (proved bool) {
	r.ownFault, r.careful = false, false
	r.cool = r.set.Cooldown.After(1, r.random) // the next exchange forgets the gate
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
	r.limit = r.e.pace.limit
	return proved
}

// judgeRefusal judges a notification that the endpoint does not want.
func (r *Run) judgeRefusal(a *AttemptResult, random float64) Decision {
	e := r.e
	if a.Steps <= 1 && (a.LastAttempt.IsZero() || a.LastAttempt.After(e.delivered)) { // else others were taken since it was refused
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

// honorPause keeps a pause that the endpoint asked for.
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

// judgeFailure judges a failure that may be the endpoint's or the tenant's.
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

// dueAfterCooldown is when what failed is due: after those that were not tried.
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

// Stop has the run end: the process stops, or the run is old, or its endpoint is another.
func (r *Run) Stop() { r.stopClaiming(true) }

// MarkSwitchedOff has it end because the endpoint is off.
func (r *Run) MarkSwitchedOff() { r.stopClaiming(false) }

// MarkOutdated says that the endpoint was changed, switched on, resumed or tested since the run began.
func (r *Run) MarkOutdated() {
	r.outdated = true
	r.stopClaiming(true)
}

// MarkMailboxLost says that the mailbox belongs to another.
func (r *Run) MarkMailboxLost() { r.stage = Lost }

// SpendBudget says that the budget is spent.
func (r *Run) SpendBudget() {
	if r.stage == Claiming {
		r.stage = Resting
	}
}

// RenewBudget says that there is another.
func (r *Run) RenewBudget() {
	if r.stage == Resting {
		r.stage = Claiming
	}
}

// Resume goes on with what came while the mailbox was to be given back.
func (r *Run) Resume() {
	if r.stage != Lost {
		r.stage = Claiming
	}
}

// Stage is what the run may still do.
func (r *Run) Stage() Stage { return r.stage }

// Proof is what it knows of the endpoint.
func (r *Run) Proof() Proof { return r.proof }

// MayStart reports whether what was claimed may be posted. A round of probes goes on although some failed, as long as the host answers.
func (r *Run) MayStart() bool {
	return r.stage == Claiming || r.stage == Suspecting && r.proof == Probing && !r.silent
}

// AttemptLimit is how many posts may be out.
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

// WantedClaims is how many more claims there is room for, with so many posts out and claims that may start: what may run, and a reserve, so
// that posters need not wait for an exchange. The reserve does not shrink with the limit, or many apps at once would exchange a few
// entries at a time.
func (r *Run) WantedClaims(out, share, reserve int) int {
	switch {
	case r.stage != Claiming:
		return 0
	case r.proof == Probing && out > 0: // a round is of one exchange
		return 0
	case r.proof == Probing:
		return r.start.Probes
	case r.proof == Alone || r.careful:
		return max(1-out, 0)
	default:
		return max(min(r.limit, share)+reserve-out, 0)
	}
}

// NeedsRecall reports whether a page of what failed while the endpoint was not well is to be made due.
func (r *Run) NeedsRecall() bool {
	return r.recall && r.proof != Probing && !r.outdated && r.stage != Lost
}

// SetNeedsRecall says whether there is more.
func (r *Run) SetNeedsRecall(more bool) { r.recall = more }

// IsFailing reports whether the endpoint is held to be failing, now that nothing is out.
func (r *Run) IsFailing() bool {
	return !r.outdated && (r.stage == Suspecting || r.gone != nil || r.blocked)
}

// WasSuspected reports whether the evidence was against the endpoint at some time.
func (r *Run) WasSuspected() bool { return r.suspected }

// HasOwnFault reports whether the service itself failed and nothing was delivered since.
func (r *Run) HasOwnFault() bool { return r.ownFault }

// IsOutdated reports whether what the run saw is void.
func (r *Run) IsOutdated() bool { return r.outdated }

// GoneResult is the answer that says so, nil where there was none or it is void.
func (r *Run) GoneResult() *delivery.Result {
	if r.outdated {
		return nil
	}
	return r.gone
}

// Closing is how the run leaves the mailbox.
type Closing struct {
	// Force leaves although work is due.
	Force bool
	// Cooldown closes for so long, 0 where it stays as it is; Probes may prove the endpoint then, 0 where it only asked for a pause.
	Cooldown time.Duration
	Probes   int
	// Refusing is since when the endpoint has refused nearly all, by this process's clock.
	Refusing time.Time
	// Failing: the gate closes because the endpoint fails.
	Failing bool
}

// KeepsRejection reports whether what was held against a tenant stays its own although the gate closes: what the endpoint refuses as one
// that works, unless it refuses nearly all.
func (c *Closing) KeepsRejection(d *Decision) bool {
	return !c.Failing || d.Well && c.Refusing.IsZero()
}

// Close is how to leave now that nothing is out.
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

// nextProbes is how many tenants prove the endpoint next time. Rounds grow also where some were taken in between: an endpoint that
// fails for most tenants closes its gate again and again.
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
