package circuit_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const timeout = 10 * time.Second

func settings() *circuit.Settings {
	return &circuit.Settings{
		Failures: 5, Cooldown: delivery.Cooldown{Base: 5 * time.Second, Max: time.Minute}, Schedule: delivery.DefaultSchedule(), Timeout: timeout, Most: 32,
	}
}

var start = time.Date(2026, 11, 3, 20, 0, 0, 0, time.UTC)

// clock is an endpoint with a run, and a clock that goes on with each answer.
type clock struct {
	set *circuit.Settings
	e   *circuit.Endpoint
	run *circuit.Run
	now time.Time
}

func begin(b circuit.StartState) *clock {
	c := &clock{set: settings(), e: &circuit.Endpoint{}, now: start}
	c.next(b)
	return c
}

func (c *clock) next(b circuit.StartState) { c.run = c.e.BeginRun(c.set, b, c.now, 0.5) }

// gets hands in an answer about a tenant after a moment.
func (c *clock) gets(t tenant.ID, res delivery.Result, change ...func(a *circuit.AttemptResult)) circuit.Decision {
	c.now = c.now.Add(20 * time.Millisecond)
	res.Duration = 10 * time.Millisecond
	a := circuit.AttemptResult{Result: res, Tenant: t, At: c.now, Full: true}
	for _, f := range change {
		f(&a)
	}
	return c.run.JudgeAttempt(a, 0.5)
}

func status(code int) delivery.Result { return delivery.ClassifyStatus(code) }

func noAnswer(r delivery.Reason) delivery.Result {
	return delivery.Result{Outcome: delivery.Retryable, Reason: r, Fault: delivery.FaultEndpoint}
}

func after(d time.Duration) delivery.Result {
	r := status(429)
	r.RetryAfter = d
	return r
}

// What is evidence against the endpoint, and what only against a tenant.
func TestEvidence(t *testing.T) {
	t.Parallel()
	refused := noAnswer(delivery.ReasonRefused)
	times := func(n int, do func(i int)) {
		for i := range n {
			do(i)
		}
	}
	name := func(i int) tenant.ID { return tenant.ID(fmt.Sprint("t", i)) }
	for what, row := range map[string]struct {
		begun   circuit.StartState
		do      func(c *clock)
		failing bool
	}{
		"OneTenant":  {circuit.StartState{}, func(c *clock) { times(9, func(int) { c.gets("a", status(500)) }) }, false},
		"TwoTenants": {circuit.StartState{}, func(c *clock) { c.gets("a", status(500)); c.gets("b", status(500)) }, true},
		"TwoTenantsAnHourApart": {circuit.StartState{}, func(c *clock) {
			c.gets("a", status(500))
			c.now = c.now.Add(time.Hour)
			c.next(circuit.StartState{})
			c.gets("b", status(500))
		}, false},
		"TheOnlyTenant":                  {circuit.StartState{Sole: true}, func(c *clock) { c.gets("a", status(500)) }, true},
		"NoAnswerAtAll":                  {circuit.StartState{}, func(c *clock) { c.gets("a", refused) }, true},
		"TakenBetween":                   {circuit.StartState{}, func(c *clock) { c.gets("a", status(500)); c.gets("c", status(204)); c.gets("b", status(500)) }, false},
		"TakenAfterwards":                {circuit.StartState{}, func(c *clock) { c.gets("a", status(500)); c.gets("b", status(500)); c.gets("c", status(204)) }, false},
		"FourInARowOfOneThatTakesOthers": {circuit.StartState{}, func(c *clock) { c.gets("z", status(204)); times(4, func(i int) { c.gets(name(i), status(500)) }) }, false},
		"FiveInARowOfOneThatTakesOthers": {circuit.StartState{}, func(c *clock) { c.gets("z", status(204)); times(5, func(i int) { c.gets(name(i), status(500)) }) }, true},
		"FiveOfOneTenantBesideOthers":    {circuit.StartState{}, func(c *clock) { c.gets("z", status(204)); times(5, func(int) { c.gets("a", status(500)) }) }, false},
		"ItHangsAfterItTookSome": {circuit.StartState{}, func(c *clock) {
			c.gets("z", status(204))
			c.now = c.now.Add(timeout)
			c.gets("a", noAnswer(delivery.ReasonTimeout))
		}, true},
		"AllRefusedAlike":        {circuit.StartState{}, func(c *clock) { times(5, func(i int) { c.gets(name(i), status(408)) }) }, true},
		"FourRefused":            {circuit.StartState{}, func(c *clock) { times(4, func(i int) { c.gets(name(i), status(408)) }) }, false},
		"OneTenantRefused":       {circuit.StartState{}, func(c *clock) { times(9, func(int) { c.gets("a", status(422)) }) }, false},
		"TheOnlyTenantRefused":   {circuit.StartState{Sole: true}, func(c *clock) { times(9, func(int) { c.gets("a", status(422)) }) }, false},
		"RefusedInDifferentWays": {circuit.StartState{}, func(c *clock) { times(9, func(i int) { c.gets(name(i), status([]int{409, 421, 422, 423}[i%4])) }) }, false},
		"RefusedBesideOthers":    {circuit.StartState{}, func(c *clock) { c.gets("z", status(204)); times(50, func(i int) { c.gets(name(i), status(422)) }) }, false},
		"RefusedAgainSinceOthersWereTaken": {circuit.StartState{}, func(c *clock) {
			c.gets("z", status(204))
			was := c.now.Add(-time.Minute)
			c.now = c.now.Add(time.Hour)
			times(50, func(i int) {
				c.gets(name(i), status(422), func(a *circuit.AttemptResult) { a.Steps, a.Attempts, a.LastAttempt = 1, 1, was })
			})
		}, false},
		"RefusedAfterTheGateClosedForIt": {circuit.StartState{Refusing: true, Probes: 5}, func(c *clock) { c.gets("a", status(408)) }, true},
		"ProbesAreRefused":               {circuit.StartState{Probes: 5}, func(c *clock) { c.gets("a", status(422)) }, false},
		"ProbesFail":                     {circuit.StartState{Probes: 5}, func(c *clock) { c.gets("a", status(500)) }, true},
		"OneProbeOfFiveIsTaken":          {circuit.StartState{Probes: 5}, func(c *clock) { c.gets("a", status(500)); c.gets("b", status(204)); c.gets("c", status(500)) }, false},
		"Gone":                           {circuit.StartState{}, func(c *clock) { c.gets("a", status(410)) }, true},
		"Blocked":                        {circuit.StartState{}, func(c *clock) { c.gets("a", delivery.Result{Outcome: delivery.Blocked, Fault: delivery.FaultEndpoint}) }, true},
		"OurOwnFault":                    {circuit.StartState{}, func(c *clock) { c.gets("a", delivery.Result{Outcome: delivery.Aborted, Fault: delivery.FaultOwn}) }, false},
		"AskedToWait":                    {circuit.StartState{}, func(c *clock) { c.gets("a", after(time.Second)); c.gets("b", after(time.Second)) }, false},
		"Outdated":                       {circuit.StartState{}, func(c *clock) { c.gets("a", refused); c.run.MarkOutdated() }, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := begin(row.begun)
			row.do(c)
			if got := c.run.IsFailing(); got != row.failing {
				t.Errorf("failing: %v, want %v", got, row.failing)
			}
			closing := c.run.Close(c.now)
			if row.failing != (closing.Failing && closing.Cooldown > 0) {
				t.Errorf("closing %+v", closing)
			}
		})
	}
}

// What a notification's failure leads to.
func TestDecisions(t *testing.T) {
	t.Parallel()
	gate := func(n int) time.Duration { return settings().Cooldown.After(n, 0.5) }
	behind := gate(1) + time.Second
	for what, row := range map[string]struct {
		do   func(c *clock) circuit.Decision
		want circuit.Decision
	}{
		"Taken":      {func(c *clock) circuit.Decision { return c.gets("a", status(204)) }, circuit.Decision{Delivered: true, Well: true}},
		"Refused":    {func(c *clock) circuit.Decision { return c.gets("a", status(422)) }, circuit.Decision{Delay: 5 * time.Second, Step: true, Well: true, Blame: circuit.TenantFault}},
		"AloneFirst": {func(c *clock) circuit.Decision { return c.gets("a", status(500)) }, circuit.Decision{Delay: behind, Blame: circuit.TenantFault}},
		"AloneAgain": {
			func(c *clock) circuit.Decision {
				return c.gets("a", status(500), func(a *circuit.AttemptResult) { a.Attempts = 3 })
			},
			circuit.Decision{Delay: gate(4), Blame: circuit.TenantFault},
		},
		"AloneForDays": {
			func(c *clock) circuit.Decision {
				return c.gets("a", status(500), func(a *circuit.AttemptResult) { a.Attempts = 8000 })
			},
			circuit.Decision{Delay: gate(8000), Blame: circuit.TenantFault},
		},
		"BesideOthers": {
			func(c *clock) circuit.Decision {
				c.gets("z", status(204))
				return c.gets("a", status(500), func(a *circuit.AttemptResult) { a.Attempts = 50 })
			},
			circuit.Decision{Delay: gate(1) / 2, Blame: circuit.TenantFault},
		},
		"TheEndpoints": {
			func(c *clock) circuit.Decision { c.gets("b", status(500)); return c.gets("a", status(500)) },
			circuit.Decision{Delay: behind, Blame: circuit.EndpointFault},
		},
		"AskedToWait": {func(c *clock) circuit.Decision { return c.gets("a", after(time.Second)) }, circuit.Decision{Blame: circuit.EndpointFault}},
		"OwnFault": {
			func(c *clock) circuit.Decision { return c.gets("a", delivery.Result{Outcome: delivery.Aborted}) },
			circuit.Decision{Delay: circuit.OwnFaultDelay},
		},
		"CutOffAtTheEnd": {
			func(c *clock) circuit.Decision {
				return c.gets("a", delivery.Result{Outcome: delivery.Aborted}, func(a *circuit.AttemptResult) { a.Halting = true })
			},
			circuit.Decision{Released: true},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if got := row.do(begin(circuit.StartState{})); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}

// How a gate closes: for how long, and how many prove the endpoint when it has run out.
func TestClosing(t *testing.T) {
	t.Parallel()
	c := begin(circuit.StartState{})
	for n, want := range []int{5, 10, 20, 40, 64, 64} {
		c.gets("a", status(500))
		c.gets("b", status(500))
		closing := c.run.Close(c.now)
		if closing.Probes != want || closing.Cooldown != c.set.Cooldown.After(n+1, 0.5) {
			t.Errorf("the %d. closing: %+v", n+1, closing)
		}
		c.now = c.now.Add(closing.Cooldown)
		c.next(circuit.StartState{Probes: closing.Probes, Openings: n + 1})
	}
	c.gets("a", noAnswer(delivery.ReasonRefused))
	if closing := c.run.Close(c.now); closing.Probes != 1 {
		t.Errorf("the host does not answer any more: %+v", closing)
	}
	c = begin(circuit.StartState{})
	c.gets("a", after(90*time.Second))
	c.gets("b", after(30*time.Second))
	if closing := c.run.Close(c.now); closing.Cooldown < 89*time.Second || closing.Cooldown > 90*time.Second || closing.Probes != 0 || closing.Failing {
		t.Errorf("a pause: %+v", closing)
	}
	c = begin(circuit.StartState{})
	c.gets("a", delivery.Result{Outcome: delivery.Blocked})
	if closing := c.run.Close(c.now); closing.Cooldown != circuit.BlockedCooldown || closing.Probes != 1 {
		t.Errorf("blocked: %+v", closing)
	}
}

func TestNeedsConnection(t *testing.T) {
	t.Parallel()
	probing := begin(circuit.StartState{Probes: 10})
	if !probing.run.NeedsConnection(9, 1, 0) {
		t.Error("a round of probes waited for a connection")
	}
	known := begin(circuit.StartState{})
	for range 3 { // 10 ms each
		known.gets("a", status(204))
	}
	for _, c := range []struct {
		open, left int
		silent     time.Duration
		want       bool
	}{
		{open: 0, left: 1, want: true}, // the first ones are always opened
		{open: circuit.Floor - 1, left: 1, want: true},
		{open: circuit.Floor, left: 40, want: false}, // 40 x 10 ms on 4 connections: 100 ms
		{open: circuit.Floor, left: 41, want: true},
		{open: 30, left: 300, want: false},
		{open: 30, left: 301, want: true},
		{open: 4, left: 2, silent: 150 * time.Millisecond, want: false},
		{open: 4, left: 2, silent: 250 * time.Millisecond, want: true}, // those in flight hang
	} {
		if got := known.run.NeedsConnection(c.open, c.left, c.silent); got != c.want {
			t.Errorf("with %d open, %d left, silent for %v: %v", c.open, c.left, c.silent, got)
		}
	}
}

// What climbed is recalled once, when an endpoint that refused all takes one again.
func TestRecallOnce(t *testing.T) {
	t.Parallel()
	c := begin(circuit.StartState{})
	for i := range 5 {
		c.gets(tenant.ID(strconv.Itoa(i)), status(408))
	}
	first := start.Add(20 * time.Millisecond)
	if closing := c.run.Close(c.now); !closing.Refusing.Equal(first) {
		t.Errorf("refusing since %v, want %v", closing.Refusing, first)
	}
	c.next(circuit.StartState{Probes: 5, Openings: 1, Refusing: true})
	c.gets("a", status(408))
	if c.run.NeedsRecall() {
		t.Error("recalls before anything was taken")
	}
	c.gets("b", status(204))
	if !c.run.NeedsRecall() {
		t.Error("recalls nothing")
	}
	c.run.SetNeedsRecall(true)
	if c.run.SetNeedsRecall(false); c.run.NeedsRecall() {
		t.Error("recalls for ever")
	}
	if c.gets("c", status(204)); c.run.NeedsRecall() {
		t.Error("recalls at each success")
	}
	c.next(circuit.StartState{Recall: true}) // another process left it
	if !c.run.NeedsRecall() {
		t.Error("does not go on")
	}
}

// What one process saw of an endpoint that refused nearly all is void once the mailbox says that it took something elsewhere.
func TestRefusingIsTheMailboxes(t *testing.T) {
	t.Parallel()
	c := begin(circuit.StartState{})
	for i := range 5 {
		c.gets(tenant.ID(strconv.Itoa(i)), status(408))
	}
	if closing := c.run.Close(c.now); closing.Refusing.IsZero() {
		t.Fatalf("closing %+v", closing)
	}
	c.now = c.now.Add(time.Hour)
	c.next(circuit.StartState{}) // another process told it of others meanwhile
	d := c.gets("a", status(422), func(a *circuit.AttemptResult) { a.Steps, a.Attempts, a.LastAttempt = 2, 2, c.now.Add(-time.Minute) })
	if !d.Step || d.Blame != circuit.TenantFault || c.run.IsFailing() {
		t.Errorf("%+v, failing %v", d, c.run.IsFailing())
	}
}

// The budget of retries: five a second, or a fifth of all posts.
func TestRetriesAreWithinABudget(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]time.Duration{"Idle": time.Hour, "Busy": 2 * time.Millisecond} {
		c := begin(circuit.StartState{})
		rate := 5.0
		if each < time.Second {
			for range 5000 { // 500 a second for ten seconds
				c.now = c.now.Add(each)
				c.run.JudgeAttempt(circuit.AttemptResult{Result: status(204), Tenant: "z", At: c.now}, 0.5)
			}
			rate = 0.2 * 500
		}
		c.gets("z", status(204))
		const failed = 400
		var last time.Duration
		for i := range failed {
			if i%3 == 0 {
				c.run.JudgeAttempt(circuit.AttemptResult{Result: status(204), Tenant: "z", At: c.now}, 0.5)
			}
			last = c.run.JudgeAttempt(circuit.AttemptResult{Result: status(502), Tenant: tenant.ID(strconv.Itoa(i)), At: c.now}, 0.5).Delay
		}
		if want := failed / rate; last.Seconds() < 0.8*want || last.Seconds() > 1.1*want {
			t.Errorf("%s: the last of %d is due after %v, want %.0f s", name, failed, last, want)
		}
	}
}

// Whatever comes: limits stay in their bounds, failures come back later and are neither lost nor due at once, only refusals climb, no endpoint
// fails whose last answer was a success, and a round is of one exchange.
func TestWhateverComes(t *testing.T) {
	t.Parallel()
	answers := []delivery.Result{
		status(204), status(204), status(204), status(500), status(502), status(408), status(422), status(410), status(429), status(503),
		after(time.Minute), noAnswer(delivery.ReasonTimeout), noAnswer(delivery.ReasonReset),
		{Outcome: delivery.Aborted},
		{Outcome: delivery.Blocked},
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := begin(circuit.StartState{})
		ids := []tenant.ID{"a", "b", "c"}
		for range rapid.IntRange(1, 6).Draw(rt, "runs") {
			b := circuit.StartState{
				Probes: rapid.SampledFrom([]int{0, 0, 1, 5, 64}).Draw(rt, "probes"), Openings: rapid.IntRange(0, 9).Draw(rt, "openings"),
				Sole: rapid.Bool().Draw(rt, "sole"), Refusing: rapid.Bool().Draw(rt, "refusing"), Recall: rapid.Bool().Draw(rt, "recall"),
			}
			c.next(b)
			for range rapid.IntRange(0, 40).Draw(rt, "answers") {
				c.now = c.now.Add(time.Duration(rapid.IntRange(0, 12_000).Draw(rt, "ms")) * time.Millisecond)
				res := rapid.SampledFrom(answers).Draw(rt, "answer")
				a := circuit.AttemptResult{
					Result: res, Tenant: rapid.SampledFrom(ids).Draw(rt, "tenant"), Attempts: rapid.IntRange(0, 20).Draw(rt, "attempts"),
					Steps: rapid.IntRange(0, 12).Draw(rt, "steps"), At: c.now, Full: rapid.Bool().Draw(rt, "full"),
				}
				if a.Attempts > 0 {
					a.LastAttempt = c.now.Add(-time.Minute)
				}
				a.Result.Duration = time.Duration(rapid.IntRange(0, 10_000).Draw(rt, "took")) * time.Millisecond
				d := c.run.JudgeAttempt(a, rapid.Float64Range(0, 0.999).Draw(rt, "random"))
				paused := res.Wait && (res.RetryAfter > 0 || res.Status == 429)
				switch limit := c.run.AttemptLimit(); {
				case limit < 1, limit > 64, c.run.Proof() == circuit.Proven && limit > c.set.Most:
					rt.Fatalf("limit %d", limit)
				case d.Delivered != (res.Outcome == delivery.Delivered):
					rt.Fatalf("%+v of %+v", d, res)
				case d.Step && res.Outcome != delivery.Rejected, d.Step && !d.Well:
					rt.Fatalf("%+v climbs", res)
				case !d.Delivered && !paused && d.Delay <= 0:
					rt.Fatalf("%+v: due at once", res)
				case !d.Step && d.Delay > 2*time.Minute:
					rt.Fatalf("%+v: due after %v", res, d.Delay)
				case d.Delivered && c.run.Stage() == circuit.Suspecting:
					rt.Fatal("suspects what it was just delivered to")
				case c.run.Stage() != circuit.Claiming && c.run.WantedClaims(0, 32, 32) != 0:
					rt.Fatalf("claims in stage %d", c.run.Stage())
				case c.run.Proof() == circuit.Probing && c.run.WantedClaims(1, 32, 32) != 0:
					rt.Fatal("a second exchange for one round")
				}
			}
			failing := c.run.IsFailing()
			closing := c.run.Close(c.now)
			switch {
			case closing.Failing != failing, closing.Cooldown < 0, failing && (closing.Cooldown == 0 || closing.Probes < 1 || closing.Probes > 64):
				rt.Fatalf("closing %+v, failing %v", closing, failing)
			case !failing && closing.Probes != 0:
				rt.Fatalf("closing %+v of an endpoint that is not to blame", closing)
			}
			c.now = c.now.Add(closing.Cooldown)
		}
	})
}
