package intake

import (
	"fmt"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

// overdue is how long a notification may be due before a missing worker is suspected.
const overdue = time.Minute

// Audience is who reads an explanation.
type Audience bool

// The two audiences. A partner gets less detailed reasons than an operator.
const (
	Staff   Audience = false
	Partner Audience = true
)

// describeCause states a reason for the audience.
func (a Audience) describeCause(c told.Cause) string {
	if a == Partner {
		return c.PublicReason().Description(partner.StateChange).String()
	}
	return c.Description(partner.StateChange)
}

// Description says in one paragraph why the tenant's newest state has not arrived, or that it has. It contains no
// error texts and nothing that the endpoint sent.
func (w *Explanation) Description(to Audience) string {
	sentences := []string{w.describeStatus()}
	switch w.Cause {
	case NotApproved:
		sentences = append(sentences, fmt.Sprintf("%s is not notified, because the tenant has not approved it.", w.ClientID))
	case UnknownTenant:
	case InStep:
		sentences = append(sentences, w.describeInStep())
	case FanOutPending:
		sentences = append(sentences, fmt.Sprintf("It is not in the mailbox of %s yet: the fan-out is under way, and where a process died in it another one finishes it within seconds.", w.ClientID))
	default:
		sentences = append(sentences, w.describePending(), w.describeObstacle(to))
	}
	if last := w.describeLastAttempt(to); last != "" {
		sentences = append(sentences, last)
	}
	return strings.Join(sentences, " ")
}

// describeStatus describes the tenant's status and newest change.
func (w *Explanation) describeStatus() string {
	switch {
	case !w.Known && len(w.Waiting) == 0:
		return fmt.Sprintf("Nothing has been reported about %s yet.", w.Tenant)
	case w.Newest == nil:
		return fmt.Sprintf("%s is %s.", w.Tenant, w.Status.State)
	case w.Newest.AcceptedAt.IsZero():
		return fmt.Sprintf("%s is %s; its newest change is %q.", w.Tenant, w.Status.State, w.Newest.Type)
	default:
		return fmt.Sprintf("%s is %s; its newest change is %q, accepted %s.", w.Tenant, w.Status.State, w.Newest.Type, formatTime(w.Newest.AcceptedAt))
	}
}

func (w *Explanation) describeInStep() string {
	if w.top == 0 {
		return fmt.Sprintf("There is nothing of it to tell: nothing waits for %s.", w.ClientID)
	}
	return fmt.Sprintf("%s knows: nothing waits for it.", w.ClientID)
}

func (w *Explanation) describePending() string {
	oldest, replaced := w.Waiting[0].Since, int64(0)
	types := make([]string, len(w.Waiting))
	for i, c := range w.Waiting {
		types[i] = fmt.Sprintf("%q", c.Type)
		if c.Again {
			types[i] += " (told again)"
		}
		replaced += c.Superseded
		if c.Since.Before(oldest) {
			oldest = c.Since
		}
	}
	verb := "waits"
	if len(types) > 1 {
		verb = "wait"
	}
	s := fmt.Sprintf("%s %s for %s since %s", strings.Join(types, ", "), verb, w.ClientID, formatTime(oldest))
	if replaced > 0 {
		s += fmt.Sprintf(", %s", formatCount(replaced, "older change", "replaced"))
	}
	return s + "."
}

// formatCount formats a count with its noun and verb.
func formatCount(n int64, what, done string) string {
	if n == 1 {
		return "1 " + what + " " + done
	}
	return fmt.Sprintf("%d %ss %s", n, what, done)
}

// describeObstacle says what holds back the pending notifications, and what ends it.
func (w *Explanation) describeObstacle(to Audience) string {
	switch w.Cause {
	case NoURL:
		return "The state change endpoint has no URL in this environment: what waits is delivered once it has one."
	case SwitchedOff:
		return w.describeSwitchedOff()
	case Paused:
		return "The app is paused: what waits is delivered when it is resumed."
	case Sending:
		return "It is being sent at this moment."
	case CircuitOpen:
		if w.newestFailure().Reason == delivery.ReasonRateLimited {
			return fmt.Sprintf("The endpoint asked for a pause%s: what waits goes out from %s on.", w.describeFailure(to), formatTime(w.NextAttemptAt))
		}
		return fmt.Sprintf("The endpoint failed%s, so it is left alone until %s, when what waits is tried again%s.%s", w.describeFailure(to), formatTime(w.NextAttemptAt), w.describeOpenings(), w.describeCommonCause())
	case Retry:
		if w.newestFailure().Refused {
			return fmt.Sprintf("The endpoint works but did not take this notification%s: the next try is at %s, on the retry schedule.", w.describeFailure(to), formatTime(w.NextAttemptAt))
		}
		return fmt.Sprintf("The endpoint failed for this tenant%s, which says nothing of others: the next try is at %s.", w.describeFailure(to), formatTime(w.NextAttemptAt))
	default:
		if late := w.Now.Sub(w.NextAttemptAt); late > overdue {
			return fmt.Sprintf("It has been due for %s, and no worker sends it: see that a worker runs and reaches Redis.", late.Round(time.Second))
		}
		return fmt.Sprintf("It is due and goes out in its turn; %s in all for this app.", formatCount(w.Ahead, "notification", "waiting"))
	}
}

// describeCommonCause says that other endpoints fail alike.
func (w *Explanation) describeCommonCause() string {
	if w.CommonSince.IsZero() {
		return ""
	}
	return fmt.Sprintf(" So do many others since %s, and none answers: the cause may be here.", formatTime(w.CommonSince))
}

func (w *Explanation) describeSwitchedOff() string {
	since := ""
	if !w.Endpoint.SwitchedAt.IsZero() {
		since = " on " + formatTime(w.Endpoint.SwitchedAt)
	}
	const then = "what waits is delivered when it is switched on."
	switch w.Endpoint.OffReason {
	case partner.OffGone:
		return "The service switched the endpoint off" + since + ", because it answered 410 (gone): " + then
	case partner.OffFailing:
		return "The service switched the endpoint off" + since + ", because it had failed for days: " + then
	default:
		return "The endpoint is switched off" + since + ": " + then
	}
}

// describeFailure describes the newest failure of the pending notifications.
func (w *Explanation) describeFailure(to Audience) string {
	n := w.newestFailure()
	if n.Attempts == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s; %s)", to.describeCause(n.Reason.Cause()), formatCount(int64(n.Attempts), "attempt", "failed"))
}

// newestFailure returns the pending notification that failed last.
func (w *Explanation) newestFailure() (newest WaitingChange) {
	for _, c := range w.Waiting {
		if c.Attempts > 0 && !c.LastAttempt.Before(newest.LastAttempt) {
			newest = c
		}
	}
	return newest
}

func (w *Explanation) describeOpenings() string {
	if w.Openings < 2 {
		return ""
	}
	return fmt.Sprintf(" (put off %d times in a row)", w.Openings)
}

// describeLastAttempt describes the newest attempt of the pair.
func (w *Explanation) describeLastAttempt(to Audience) string {
	if len(w.Attempts) == 0 {
		return ""
	}
	a := w.Attempts[0]
	status := ""
	if a.Status != 0 {
		status = fmt.Sprintf(", HTTP status %d", a.Status)
	}
	if a.Outcome == delivery.Delivered.String() {
		return fmt.Sprintf("The last one delivered was %q, %s%s after %d ms.", a.ChangeType, formatTime(a.At), status, a.DurationMS)
	}
	return fmt.Sprintf("The last attempt, of %q at %s, failed: %s%s, after %d ms.", a.ChangeType, formatTime(a.At), to.describeCause(told.FindCause(a.Reason)), status, a.DurationMS)
}

// formatTime formats a time for a sentence.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
