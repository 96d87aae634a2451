package health_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
)

func oslo(t testing.TB) *time.Location {
	t.Helper()
	l, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func night(t testing.TB) health.QuietHours {
	return health.QuietHours{From: 23 * time.Hour, To: 6 * time.Hour, Location: oslo(t)}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	l := oslo(t)
	day := func(d, h, m int) time.Time { return time.Date(2026, 11, d, h, m, 0, 0, l) }
	for name, tc := range map[string]struct {
		q    health.QuietHours
		at   time.Time
		want bool
		end  time.Time
	}{
		"Evening":      {night(t), day(25, 22, 59), false, time.Time{}},
		"Begins":       {night(t), day(25, 23, 0), true, day(26, 6, 0)},
		"Midnight":     {night(t), day(26, 0, 0), true, day(26, 6, 0)},
		"Last":         {night(t), day(26, 5, 59), true, day(26, 6, 0)},
		"Ends":         {night(t), day(26, 6, 0), false, time.Time{}},
		"ByPlaceOnly":  {night(t), time.Date(2026, 11, 25, 22, 30, 0, 0, time.UTC), true, day(26, 6, 0)},
		"Daytime":      {health.QuietHours{From: 9 * time.Hour, To: 17 * time.Hour, Location: l}, day(25, 12, 0), true, day(25, 17, 0)},
		"AfterDaytime": {health.QuietHours{From: 9 * time.Hour, To: 17 * time.Hour, Location: l}, day(25, 17, 0), false, time.Time{}},
		"None":         {health.QuietHours{From: time.Hour, To: time.Hour, Location: l}, day(25, 1, 0), false, time.Time{}},
		"Zero":         {health.QuietHours{}, day(25, 1, 0), false, time.Time{}},
		// the clock goes from 02:00 to 03:00 on 28 March 2027, and back on 25 October 2026
		"SpringForward": {night(t), time.Date(2027, 3, 28, 1, 59, 0, 0, l), true, time.Date(2027, 3, 28, 6, 0, 0, 0, l)},
		"EndInTheGap":   {health.QuietHours{From: 0, To: 150 * time.Minute, Location: l}, time.Date(2027, 3, 28, 1, 0, 0, 0, l), true, time.Date(2027, 3, 28, 3, 30, 0, 0, l)},
		"FallBack":      {night(t), time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC), true, time.Date(2026, 10, 25, 6, 0, 0, 0, l)},
	} {
		if got := tc.q.Contains(tc.at); got != tc.want {
			t.Errorf("%s: quiet %v", name, got)
		}
		if tc.end.IsZero() {
			tc.end = tc.at
		}
		if got := tc.q.EndAfter(tc.at); !got.Equal(tc.end) {
			t.Errorf("%s: ends %v, want %v", name, got, tc.end)
		}
	}
	// whatever the clock does, an end is never quiet's own past
	q := health.QuietHours{From: 0, To: 150 * time.Minute, Location: l}
	for at := time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC); at.Before(time.Date(2026, 10, 25, 5, 0, 0, 0, time.UTC)); at = at.Add(time.Minute) {
		if q.Contains(at) && !q.EndAfter(at).After(at) {
			t.Errorf("at %v the quiet ends at %v", at, q.EndAfter(at))
		}
	}
}

func schedule(t testing.TB) health.Schedule {
	return health.Schedule{Interval: 5 * time.Minute, BackoffMax: 15 * time.Minute, Quiet: night(t)}
}

// The places of 3,000 endpoints are spread as evenly as chance allows, and each stays where it is.
func TestSlotsAreSpread(t *testing.T) {
	t.Parallel()
	s := schedule(t)
	perSecond := map[int64]int{}
	for i := range 1000 {
		app := partner.ClientID(fmt.Sprintf("app%d", i))
		for _, k := range []partner.EndpointKind{partner.ERPSync, partner.QuoteConnector, partner.Mirroring} {
			at := s.NextRegularTime(app, k, t0)
			if at.Before(t0) || !at.Before(t0.Add(s.Interval)) {
				t.Fatalf("%s %s: %v is not within the interval after %v", app, k, at, t0)
			}
			if again := s.NextRegularTime(app, k, at); !again.Equal(at) {
				t.Fatalf("%s %s moved from %v to %v", app, k, at, again)
			}
			if next := s.NextRegularTime(app, k, at.Add(time.Millisecond)); !next.Equal(at.Add(s.Interval)) {
				t.Fatalf("%s %s: after %v comes %v", app, k, at, next)
			}
			perSecond[at.Unix()]++
		}
	}
	most := 0
	for _, n := range perSecond {
		most = max(most, n)
	}
	// 10 a second on average; chance alone puts 20 or 21 into the fullest of 300 seconds
	if most > 25 || len(perSecond) < 295 {
		t.Errorf("at most %d in a second, %d of 300 seconds used", most, len(perSecond))
	}
}

func TestAfterASuccess(t *testing.T) {
	t.Parallel()
	s := schedule(t)
	for i := range 200 {
		app := partner.ClientID(fmt.Sprintf("app%d", i))
		slot := s.NextRegularTime(app, partner.ERPSync, t0)
		for _, random := range []float64{0, 0.5, 0.999} {
			at := s.NextTime(app, partner.ERPSync, health.State{}, slot.Add(3*time.Second), random)
			off := at.Sub(slot.Add(s.Interval))
			if off < -15*time.Second || off > 15*time.Second {
				t.Errorf("%s is due %v off its place", app, off)
			}
		}
	}
}

func TestAfterFailures(t *testing.T) {
	t.Parallel()
	s := schedule(t)
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for n, want := range []time.Duration{1: time.Minute, 2: 2 * time.Minute, 3: 4 * time.Minute, 4: 8 * time.Minute, 5: 15 * time.Minute, 9: 15 * time.Minute} {
		if want == 0 {
			continue
		}
		st := health.State{Failures: n, FailingSince: noon}
		for _, random := range []float64{0, 0.5, 0.999} {
			got := s.NextTime("app1", partner.Mirroring, st, noon, random).Sub(noon)
			if spread := want / 5; got < want-spread || got > want+spread {
				t.Errorf("after %d failures: %v, want %v or so", n, got, want)
			}
		}
	}
	if got := s.NextTime("app1", partner.ERPSync, health.State{OwnSince: noon}, noon, 0.5).Sub(noon); got != time.Minute {
		t.Errorf("after an own fault: %v", got)
	}
	short := health.Schedule{Interval: time.Second, BackoffMax: time.Second}
	if got := short.NextTime("app1", partner.ERPSync, health.State{Failures: 1}, noon, 0.5).Sub(noon); got != time.Second {
		t.Errorf("with an interval of a second a failure waits %v", got)
	}
	never := health.Schedule{Interval: 5 * time.Minute, BackoffMax: 24 * time.Hour}
	if got := never.NextTime("app1", partner.ERPSync, health.State{Failures: 1_000_000}, noon, 0.5).Sub(noon); got != 24*time.Hour {
		t.Errorf("after a million failures: %v", got)
	}
}

// No mirroring endpoint is ever due at night, and morning brings no herd.
func TestNightsAreQuiet(t *testing.T) {
	t.Parallel()
	s := schedule(t)
	q := night(t)
	random := rand.New(rand.NewPCG(1, 2))
	morning := map[int64]int{}
	for i := range 1000 {
		app := partner.ClientID(fmt.Sprintf("app%d", i))
		st := health.State{Failures: i % 8}
		at := time.Date(2026, 11, 25, 21, 30, 0, 0, time.UTC).Add(time.Duration(random.IntN(1800)) * time.Second)
		for at.Before(time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)) {
			if q.Contains(at) {
				t.Fatalf("%s is due at %v", app, at)
			}
			at = s.NextTime(app, partner.Mirroring, st, at, random.Float64())
			if at.Hour() == 5 && at.Minute() < 5 {
				morning[at.Unix()]++
			}
		}
	}
	most := 0
	for _, n := range morning {
		most = max(most, n)
	}
	if most > 15 {
		t.Errorf("%d probes in one second of the morning", most)
	}
	if s.IsQuiet(partner.ERPSync, time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC)) {
		t.Error("the ERP sync rests at night")
	}
}
