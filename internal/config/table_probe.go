package config

import (
	"errors"
	"fmt"
	"time"
)

func probeSettings() []Setting {
	return []Setting{
		{
			Key: "probe.interval", Default: "5m", Rule: durationOrZeroRule(10*time.Second, day),
			Help:    "How often a healthy integration endpoint is probed. All endpoints are spread evenly over it.",
			fieldOf: func(c *Config) any { return &c.Probe.Interval },
		},
		{
			Key: "probe.backoff_max", Default: "15m", Rule: durationRangeRule(time.Minute, day),
			Help:    "The longest wait between two probes of a failing endpoint. The first wait is 1m; each one doubles it.",
			fieldOf: func(c *Config) any { return &c.Probe.BackoffMax },
		},
		{
			Key: "probe.in_flight", Default: "128", Rule: intRangeRule(1, 10_000),
			Help:    "The most probes at once in one worker. Probes whose endpoint has not answered for 200 ms are not counted; there may be eight times as many of them.",
			fieldOf: func(c *Config) any { return &c.Probe.InFlight },
		},
		{
			Key: "probe.clock_tolerance", Default: "5m", Rule: durationRangeRule(time.Minute, time.Hour),
			Help:    "How far the clock behind a mirroring endpoint's signed answer may be off.",
			fieldOf: func(c *Config) any { return &c.Probe.ClockTolerance },
		},
		{
			Key: "probe.quiet_from", Default: "23:00", Rule: clockTimeRule(),
			Help:    "When the mirroring endpoints' quiet hours begin: until `probe.quiet_to` they are not probed. Equal times mean that there are none.",
			fieldOf: func(c *Config) any { return &c.Probe.QuietFrom },
		},
		{
			Key: "probe.quiet_to", Default: "06:00", Rule: clockTimeRule(),
			Help:    "When the mirroring endpoints' quiet hours end, on the next day if they span midnight.",
			fieldOf: func(c *Config) any { return &c.Probe.QuietTo },
		},
		{
			Key: "probe.time_zone", Default: "Europe/Oslo", Rule: timeZoneRule(),
			Help:    "The time zone of the quiet hours.",
			fieldOf: func(c *Config) any { return &c.Probe.TimeZone },
		},
	}
}

// ParseClockTime reads a time of day such as 23:00, as a duration since midnight.
func ParseClockTime(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of day such as 23:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// clockTimeRule accepts a time of day.
func clockTimeRule() Rule {
	return Rule{Accepts: "a time of day, as HH:MM", check: func(item string) error {
		_, err := ParseClockTime(item)
		return err
	}}
}

// timeZoneRule accepts the name of a time zone.
func timeZoneRule() Rule {
	return Rule{Accepts: "an IANA time zone", check: func(item string) error {
		if _, err := time.LoadLocation(item); err != nil || item == "" || item == "Local" {
			return errors.New("must be an IANA time zone such as Europe/Oslo")
		}
		return nil
	}}
}
