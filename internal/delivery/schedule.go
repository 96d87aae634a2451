package delivery

import "time"

// DefaultSchedule is the retry schedule of the Standard Webhooks specification (section
// "Delivery retries"), before jitter; its last step repeats while the endpoint is on.
func DefaultSchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// Schedule is how long a notification waits after its own failures.
type Schedule []time.Duration

// After is the wait after the given number of failed attempts (1 or more). random, in [0, 1),
// spreads it over 80 to 120 per cent, so that notifications that failed together are not all due
// together.
func (s Schedule) After(attempts int, random float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	d := s[min(max(attempts, 1), len(s))-1]
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}

// Cooldown is how long an endpoint's circuit stays open.
type Cooldown struct {
	// Base is the first cool-down, Max the longest.
	Base, Max time.Duration
}

// After is the cool-down when the circuit opens for the nth time in a row (1 or more): Base
// doubled each time, never above Max, spread over 80 to 100 per cent by random in [0, 1).
func (g Cooldown) After(n int, random float64) time.Duration {
	d := g.Base
	for i := 1; i < n && d < g.Max; i++ {
		d *= 2
	}
	d = min(d, g.Max)
	return time.Duration(float64(d) * (0.8 + 0.2*random))
}
