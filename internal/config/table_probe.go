package config

import (
	"errors"
	"fmt"
	"time"
)

func probeSettings() []Setting {
	return []Setting{
		{
			Key: "probe.interval", Default: "5m", Rule: spellOrZero(10*time.Second, day),
			Help: "How often an integration endpoint that is on and well is probed. All endpoints are spread evenly over it.",
			at:   func(c *Config) any { return &c.Probe.Interval },
		},
		{
			Key: "probe.backoff_max", Default: "15m", Rule: spell(time.Minute, day),
			Help: "The longest wait between two probes of an endpoint that fails. It is looked at again after 1m, then after twice as long each time.",
			at:   func(c *Config) any { return &c.Probe.BackoffMax },
		},
		{
			Key: "probe.in_flight", Default: "128", Rule: span(1, 10_000),
			Help: "The most probes at once in one worker, beside those whose endpoint has not answered for 200 ms: of these there may be eight times as many.",
			at:   func(c *Config) any { return &c.Probe.InFlight },
		},
		{
			Key: "probe.clock_tolerance", Default: "5m", Rule: spell(time.Minute, time.Hour),
			Help: "How far the clock behind a mirroring endpoint's signed answer may be off.",
			at:   func(c *Config) any { return &c.Probe.ClockTolerance },
		},
		{
			Key: "probe.quiet_from", Default: "23:00", Rule: clockTime(),
			Help: "When the mirroring endpoints' quiet hours begin: until `probe.quiet_to` they are not probed. Equal times mean that there are none.",
			at:   func(c *Config) any { return &c.Probe.QuietFrom },
		},
		{
			Key: "probe.quiet_to", Default: "06:00", Rule: clockTime(),
			Help: "When the mirroring endpoints' quiet hours end, on the next morning where they span midnight.",
			at:   func(c *Config) any { return &c.Probe.QuietTo },
		},
		{
			Key: "probe.time_zone", Default: "Europe/Oslo", Rule: timeZone(),
			Help: "The time zone by whose clock the quiet hours are.",
			at:   func(c *Config) any { return &c.Probe.TimeZone },
		},
	}
}

// ClockTime reads a time of day such as 23:00, as a duration since midnight.
func ClockTime(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of day such as 23:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// clockTime accepts a time of day.
func clockTime() Rule {
	return Rule{Words: "a time of day, as HH:MM", check: func(item string) error {
		_, err := ClockTime(item)
		return err
	}}
}

// timeZone accepts the name of a time zone.
func timeZone() Rule {
	return Rule{Words: "an IANA time zone", check: func(item string) error {
		if _, err := time.LoadLocation(item); err != nil || item == "" || item == "Local" {
			return errors.New("must be an IANA time zone such as Europe/Oslo")
		}
		return nil
	}}
}
