package drain_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// What every answer leads to, with a success of another notification at every side of the borders.
func TestJudge(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 3, 20, 0, 0, 0, time.UTC)
	last := began.Add(-time.Minute)
	schedule := delivery.Schedule{5 * time.Second, 5 * time.Minute, time.Hour}
	status := delivery.ClassifyStatus
	waiting := func(code int, d time.Duration) delivery.Result {
		r := status(code)
		r.RetryAfter = d
		return r
	}
	refused := delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRefused, Fault: delivery.FaultEndpoint}
	climbed := func(d time.Duration) drain.Judgement {
		return drain.Judgement{Verdict: mailbox.Failed, Delay: d, Step: true, Fault: true}
	}
	refusal := func(d time.Duration) drain.Judgement {
		return drain.Judgement{Verdict: mailbox.Failed, Delay: d, Step: true, Well: true}
	}
	suspect := drain.Judgement{Verdict: mailbox.Failed, Fault: true, Suspect: true}
	gated := func(d time.Duration, fault bool) drain.Judgement {
		return drain.Judgement{Verdict: mailbox.Failed, Fault: fault, Suspect: true, Gate: d}
	}
	first, again := delivery.Message{}, delivery.Message{Attempts: 3, Steps: 1, LastAttempt: last}
	for name, c := range map[string]struct {
		result  delivery.Result
		message delivery.Message
		success time.Time
		want    drain.Judgement
	}{
		"Delivered":                          {status(200), first, time.Time{}, drain.Judgement{Verdict: mailbox.OK, Well: true}},
		"DeliveredAtLast":                    {status(204), again, time.Time{}, drain.Judgement{Verdict: mailbox.OK, Well: true}},
		"RejectedFirst":                      {status(400), first, time.Time{}, refusal(5 * time.Second)},
		"RejectedAgain":                      {status(422), again, time.Time{}, refusal(5 * time.Minute)},
		"RejectedBeyondTheSchedule":          {status(499), delivery.Message{Steps: 40}, time.Time{}, refusal(time.Hour)},
		"Gone":                               {status(410), again, began, drain.Judgement{Verdict: mailbox.Failed, Fault: true, Suspect: true, Gone: true}},
		"Blocked":                            {delivery.Result{Outcome: delivery.Blocked, Fault: delivery.FaultEndpoint}, again, began, gated(drain.BlockedGate, true)},
		"OwnFault":                           {delivery.Result{Outcome: delivery.Aborted, Fault: delivery.FaultOwn}, again, began, drain.Judgement{Verdict: mailbox.Failed, Delay: drain.OwnFaultDelay}},
		"TooManyWithoutRetryAfter":           {status(429), first, began.Add(time.Second), gated(time.Millisecond, false)},
		"TooManyWithRetryAfter":              {waiting(429, 90*time.Second), again, began, gated(90*time.Second, false)},
		"UnavailableWithRetryAfter":          {waiting(503, time.Hour), again, began, gated(time.Hour, true)},
		"UnavailableWithoutRetryAfter":       {status(503), again, began.Add(time.Hour), gated(time.Millisecond, true)},
		"RetryAfterOfOthersIsIgnored":        {waiting(500, time.Hour), again, time.Time{}, suspect},
		"FirstAttemptNothingKnown":           {status(500), first, time.Time{}, suspect},
		"FirstAttemptSuccessBeforeTheRun":    {status(500), first, began, suspect},
		"FirstAttemptSuccessInTheRun":        {status(500), first, began.Add(1), climbed(5 * time.Second)},
		"LaterAttemptNothingKnown":           {refused, again, time.Time{}, suspect},
		"LaterAttemptSuccessBeforeTheOneOne": {refused, again, last, suspect},
		"LaterAttemptSuccessSince":           {refused, again, last.Add(1), climbed(5 * time.Minute)},
		"Unauthorized":                       {status(401), first, time.Time{}, suspect},
		"Forbidden":                          {status(403), first, time.Time{}, suspect},
		"NotFound":                           {status(404), first, time.Time{}, suspect},
		"MethodNotAllowed":                   {status(405), first, time.Time{}, suspect},
		"Redirect":                           {status(302), first, time.Time{}, suspect},
		"NoSuchStatus":                       {status(0), first, time.Time{}, suspect},
		"UnknownOutcomeIsTheEndpoints":       {delivery.Result{Outcome: 99, Fault: delivery.FaultEndpoint}, first, time.Time{}, suspect},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := drain.Judge(c.result, c.message, c.success, began, schedule, 0.5)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever the answer: an entry is delivered, or comes back; only a notification's own fault
// climbs; only an endpoint's, or its wish, closes a gate.
func TestJudgeOfEveryStatus(t *testing.T) {
	t.Parallel()
	began := time.Unix(1e9, 0)
	for code := range 1000 {
		r := delivery.ClassifyStatus(code)
		for _, success := range []time.Time{{}, began.Add(time.Second)} {
			j := drain.Judge(r, delivery.Message{}, success, began, delivery.DefaultSchedule(), 0)
			switch {
			case (r.Outcome == delivery.Delivered) != (j.Verdict == mailbox.OK):
				t.Errorf("%d: %+v", code, j)
			case j.Fault && j.Well, j.Well != (r.Outcome == delivery.Delivered || r.Outcome == delivery.Rejected):
				t.Errorf("%d: %+v is and is not the endpoint's fault", code, j)
			case j.Step && (j.Suspect || j.Gate > 0 || j.Delay < 4*time.Second):
				t.Errorf("%d: %+v climbs for a fault that is not its own", code, j)
			case j.Gate > 0 && !r.Wait, j.Verdict == mailbox.Release:
				t.Errorf("%d: %+v", code, j)
			}
		}
	}
}
