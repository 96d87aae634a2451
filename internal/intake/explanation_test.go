package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// never is a service in which there is no common cause.
func never() incident.CommonCause { return incident.CommonCause{} }

// because fails the test unless the cause is the wanted one and the words hold the pieces.
func (l *ledger) because(id tenant.ID, want intake.Cause, pieces ...string) intake.Explanation {
	l.Helper()
	w, err := intake.NewStatusExplainer(l.reg, l.box, l.reg, partner.Online, never).Explain(l.Context(), app, id)
	l.check(err)
	if w.Cause != want {
		l.Errorf("cause %s, want %s: %s", w.Cause, want, w.Description(intake.Staff))
	}
	for _, p := range pieces {
		if !strings.Contains(w.Description(intake.Staff), p) {
			l.Errorf("%s: %q is not in %q", want, p, w.Description(intake.Staff))
		}
	}
	return w
}

// toggle changes the app and its mailbox's switch as the service does.
func (l *ledger) toggle(on bool, change func(a *partner.App)) {
	l.Helper()
	l.put(app, change)
	rec, err := l.reg.App(l.Context(), app)
	l.check(err)
	_, err = l.box.ApplySwitch(l.Context(), "n"+time.Now().String(), mailbox.Switch{Life: l.life(app), Revision: rec.Revision, On: on})
	l.check(err)
}

func TestWhyAChangeHasNotArrived(t *testing.T) {
	ledgers(t, func(l *ledger) {
		l.because("b", intake.NotApproved, "Nothing has been reported about b yet.", "has not approved it")
		l.because("a", intake.UnknownTenant, "Nothing has been reported")
		l.accept(tenant.Suspend, false)
		l.because("a", intake.FanOutPending, `a is Suspended; its newest change is "suspend", accepted `, "not in the mailbox of app1 yet")
		l.deposit(app)
		l.check(l.reg.CompleteFanouts(l.Context(), []registry.CompletedFanout{{Tenant: "a", Top: l.record().Top}}))
		w := l.because("a", intake.Due, `"suspend" waits for app1 since `, "goes out in its turn; 1 notification waiting in all")
		if len(w.Waiting) != 1 || w.Waiting[0].Type != tenant.Suspend || w.Waiting[0].ChangeID != w.Newest.ID || w.Waiting[0].Sequence != w.Newest.Sequence {
			l.Errorf("waiting %+v, newest %+v", w.Waiting, w.Newest)
		}
		l.drain(mailbox.Failed, mailbox.Closing{})
		l.because("a", intake.Retry, "failed for this tenant (it refused the connection; 1 attempt failed)", "says nothing of others")
		l.toggle(true, func(*partner.App) {})
		l.accept(tenant.Resume, true)
		l.drain(mailbox.Failed, mailbox.Closing{Cooldown: time.Minute, Probes: 1})
		w = l.because("a", intake.CircuitOpen, `"resume" waits`, "1 older change replaced", "left alone until")
		if !w.NextAttemptAt.After(w.Now) || w.Breaker != "open" {
			l.Errorf("next attempt %v, breaker %s", w.NextAttemptAt, w.Breaker)
		}
		l.toggle(false, func(a *partner.App) { a.Paused = true })
		l.because("a", intake.Paused, "when it is resumed")
		l.toggle(false, func(a *partner.App) {
			a.Endpoints[partner.StateChange].Enabled, a.Endpoints[partner.StateChange].OffReason = false, partner.OffGone
		})
		w = l.because("a", intake.SwitchedOff, "because it answered 410")
		if !w.NextAttemptAt.IsZero() {
			l.Errorf("an endpoint that is off is tried at %v", w.NextAttemptAt)
		}
		l.toggle(false, func(a *partner.App) { a.Endpoints[partner.StateChange].URL = "" })
		l.because("a", intake.NoURL, "once it has one")
		l.toggle(true, func(*partner.App) {})
		l.accept(tenant.Suspend, true)
		l.drain(mailbox.OK, mailbox.Closing{})
		l.because("a", intake.InStep, "app1 knows: nothing waits for it.")
	})
}

func TestWhyOfAStatusNobodyChanged(t *testing.T) {
	ledgers(t, func(l *ledger) {
		_, err := l.reg.PutStatus(l.Context(), registry.StatusRequest{Tenant: "a", State: tenant.Running}, registry.Actor{})
		l.check(err)
		w := l.because("a", intake.InStep, "a is Running. There is nothing of it to tell")
		if w.Newest != nil {
			l.Errorf("no change brought it, yet the newest is %+v", w.Newest)
		}
	})
}

func TestWhyWordsOfWhatIsRare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 15, 30, 0, time.UTC)
	entry := []intake.WaitingChange{
		{Type: tenant.Suspend, Since: now.Add(-time.Hour), Attempts: 2, Reason: delivery.ReasonClientError, LastAttempt: now.Add(-time.Minute), Superseded: 3, Again: true},
		{Type: tenant.Move, Since: now.Add(-2 * time.Hour)},
	}
	for _, test := range []struct {
		name string
		why  intake.Explanation
		want string
	}{
		{"Sending", intake.Explanation{Cause: intake.Sending}, "It is being sent at this moment."},
		{"Late", intake.Explanation{Cause: intake.Due, NextAttemptAt: now.Add(-5 * time.Minute)}, "It has been due for 5m0s, and no worker sends it: see that a worker runs"},
		{"Several", intake.Explanation{Cause: intake.Due}, `"suspend" (told again), "move" wait for app1 since 2026-11-24 08:15:30 UTC, 3 older changes replaced.`},
		{"Together", intake.Explanation{Cause: intake.CircuitOpen, NextAttemptAt: now.Add(time.Minute), CommonSince: now.Add(-time.Minute)}, "when what waits is tried again. So do many others since 2026-11-24 10:14:30 UTC, and none answers: the cause may be here."},
		{"Gate", intake.Explanation{Cause: intake.CircuitOpen, Openings: 4, NextAttemptAt: now.Add(time.Minute)}, "The endpoint failed (it refused this notification; 2 attempts failed), so it is left alone until 2026-11-24 10:16:30 UTC, when what waits is tried again (put off 4 times in a row)."},
		{"FailedForDays", intake.Explanation{Cause: intake.SwitchedOff, Endpoint: partner.Endpoint{OffReason: partner.OffFailing, SwitchedAt: now}}, "The service switched the endpoint off on 2026-11-24 10:15:30 UTC, because it had failed for days"},
		{"ByPeople", intake.Explanation{Cause: intake.SwitchedOff}, "The endpoint is switched off: what waits"},
		{"Delivered", intake.Explanation{Cause: intake.InStep, Attempts: []delivery.Attempt{{At: now, ChangeType: "resume", Outcome: "delivered", Status: 204, DurationMS: 12}}}, `The last one delivered was "resume", 2026-11-24 10:15:30 UTC, HTTP status 204 after 12 ms.`},
		{"Failed", intake.Explanation{Cause: intake.Due, Attempts: []delivery.Attempt{{At: now, ChangeType: "resume", Outcome: "retryable", Reason: "timeout", DurationMS: 10000}}}, `The last attempt, of "resume" at 2026-11-24 10:15:30 UTC, failed: it did not answer in time, after 10000 ms.`},
	} {
		test.why.ClientID, test.why.Tenant, test.why.Waiting, test.why.Now = "app1", "Cust1", entry, now
		if got := test.why.Description(intake.Staff); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q does not hold %q", test.name, got, test.want)
		}
	}
	for _, c := range intake.AllCauses() {
		w := intake.Explanation{ClientID: "app1", Tenant: "Cust1", Waiting: entry, Now: now, Cause: c}
		if got := w.Description(intake.Staff); len(got) < 15 || strings.Contains(got, "%!") || strings.Contains(got, "0001") && c != intake.CircuitOpen && c != intake.Retry {
			t.Errorf("%s: %q", c, got)
		}
	}
}
