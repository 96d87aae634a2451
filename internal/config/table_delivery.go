package config

import "time"

const day = 24 * time.Hour

func deliverySettings() []Setting {
	return []Setting{
		{
			Key: "delivery.timeout", Default: "10s", Rule: durationRangeRule(100*time.Millisecond, 15*time.Second),
			Help:    "How long one attempt may take, from dial to the end of the answer.",
			fieldOf: func(c *Config) any { return &c.Delivery.Timeout },
		},
		{
			Key: "delivery.in_flight_per_app", Default: "32", Rule: intRangeRule(1, 1000),
			Help:    "The most attempts at once towards one app.",
			fieldOf: func(c *Config) any { return &c.Delivery.InFlightPerApp },
		},
		{
			Key: "delivery.in_flight", Default: "512", Rule: intRangeRule(1, 20_000),
			Help:    "The target of attempts at once in one worker, shared out among its apps. Each takes a socket.",
			fieldOf: func(c *Config) any { return &c.Delivery.InFlight },
		},
		{
			Key: "delivery.drainers", Default: "1000", Rule: intRangeRule(1, 20_000),
			Help:    "The most mailboxes that one worker empties at once.",
			fieldOf: func(c *Config) any { return &c.Delivery.Drainers },
		},
		{
			Key: "delivery.drainers_waiting", Default: "5000", Rule: intRangeRule(0, 50_000),
			Help:    "The most mailboxes besides whose drain has only waited for an answer for 200 ms: they keep no other waiting. Each takes a socket and some 40 kB. Beyond them a drain keeps its place among `delivery.drainers`.",
			fieldOf: func(c *Config) any { return &c.Delivery.DrainersWaiting },
		},
		{
			Key: "delivery.connection_max_age", Default: "1m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long a connection to an endpoint serves, less up to a quarter. With the next one its name is looked up anew, so this is how soon a host that moved by DNS is followed.",
			fieldOf: func(c *Config) any { return &c.Delivery.ConnectionMaxAge },
		},
		{
			Key: "delivery.retry_schedule", Default: "5s,5m,30m,2h,5h,10h,14h,20h,24h", Rule: durationRangeRule(time.Second, 7*day),
			Help:    "The wait after each refusal of a notification by an endpoint that works, before jitter; the last one repeats. What fails otherwise is tried again within `breaker.open_for_max`.",
			fieldOf: func(c *Config) any { return &c.Delivery.RetrySchedule },
		},
		{
			Key: "delivery.switch_off_after", Default: "120h", Rule: durationOrZeroRule(time.Hour, 90*day),
			Help:    "How long an endpoint may fail without a break before it is switched off.",
			fieldOf: func(c *Config) any { return &c.Delivery.SwitchOffAfter },
		},
		{
			Key: "delivery.drain_budget", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Minute),
			Help:    "How long a drain keeps one mailbox before it queues up behind the others.",
			fieldOf: func(c *Config) any { return &c.Delivery.DrainBudget },
		},
		{
			Key: "delivery.entry_lease", Default: "25s", Rule: durationRangeRule(time.Second, 5*time.Minute),
			Help:    "How long a claimed notification belongs to its worker: after a crash it is tried again this much later. At least 5 s longer than `delivery.timeout`.",
			fieldOf: func(c *Config) any { return &c.Delivery.EntryLease },
		},
		{
			Key: "delivery.owner_lease", Default: "15s", Rule: durationRangeRule(time.Second, 5*time.Minute),
			Help:    "How long a mailbox belongs to its drainer without a sign of life.",
			fieldOf: func(c *Config) any { return &c.Delivery.OwnerLease },
		},
		{
			Key: "delivery.grace", Default: "10s", Rule: durationRangeRule(time.Second, time.Minute),
			Help:    "How late a wake-up may be before another one is armed.",
			fieldOf: func(c *Config) any { return &c.Delivery.Grace },
		},
		{
			Key: "delivery.sweep", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Minute),
			Help:    "How often each loop begins a round: lost wake-ups, owed fan-outs, incidents, mails that wait, gauges.",
			fieldOf: func(c *Config) any { return &c.Delivery.Sweep },
		},
		{
			Key: "breaker.failures", Default: "5", Rule: intRangeRule(1, 100),
			Help:    "Failures in a row, of two tenants at least, that make an endpoint wait although it took others within 10 s; and refusals alike that make it wait when it takes none.",
			fieldOf: func(c *Config) any { return &c.Breaker.Failures },
		},
		{
			Key: "breaker.open_for", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Hour),
			Help:    "How long it waits the first time; each failed probe doubles it. Also how long a tenant waits that fails alone.",
			fieldOf: func(c *Config) any { return &c.Breaker.OpenFor },
		},
		{
			Key: "breaker.open_for_max", Default: "1m", Rule: durationRangeRule(100*time.Millisecond, time.Hour),
			Help:    "The longest wait: an app that comes back hears the truth within this time.",
			fieldOf: func(c *Config) any { return &c.Breaker.OpenForMax },
		},
	}
}

func incidentSettings() []Setting {
	return []Setting{
		{
			Key: "incident.open_after", Default: "5m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long an endpoint must fail before people are told.",
			fieldOf: func(c *Config) any { return &c.Incident.OpenAfter },
		},
		{
			Key: "incident.recover_after", Default: "1m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long it must be well again before they are told so.",
			fieldOf: func(c *Config) any { return &c.Incident.RecoverAfter },
		},
		{
			Key: "incident.remind_after", Default: "24h,72h", Rule: durationRangeRule(time.Minute, 90*day),
			Help:    "When they are reminded, counted from the incident's start; in ascending order. An empty list: never.",
			fieldOf: func(c *Config) any { return &c.Incident.RemindAfter },
		},
	}
}

func licenceSettings() []Setting {
	return []Setting{
		{
			Key: "licences.required", Default: "erp_sync=integration_server,mirroring=database_mirroring", Rule: licenceRule(),
			Help:    "Which licence an app must be granted before an integration endpoint of it is called. An empty list: none. Each endpoint may stand there once.",
			fieldOf: func(c *Config) any { return &c.Licences.Required },
		},
	}
}

func retentionSettings() []Setting {
	return []Setting{
		{
			Key: "retention.changes", Default: "168h", Rule: durationRangeRule(time.Hour, 365*day),
			Help:    "How long an accepted state change can be looked up.",
			fieldOf: func(c *Config) any { return &c.Retention.Changes },
		},
		{
			Key: "retention.idempotency", Default: "24h", Rule: durationRangeRule(time.Minute, 30*day),
			Help:    "How long a repeat with the same `Idempotency-Key` gets the first answer.",
			fieldOf: func(c *Config) any { return &c.Retention.Idempotency },
		},
		{
			Key: "retention.deliveries", Default: "1000", Rule: intRangeRule(0, 100_000),
			Help:    "How many recent attempts are kept per app.",
			fieldOf: func(c *Config) any { return &c.Retention.Deliveries },
		},
		{
			Key: "retention.incidents", Default: "2160h", Rule: durationRangeRule(day, 3650*day),
			Help:    "How long a closed incident is kept.",
			fieldOf: func(c *Config) any { return &c.Retention.Incidents },
		},
		{
			Key: "retention.audit", Default: "100000", Rule: intRangeRule(1000, 10_000_000),
			Help:    "How many entries of the audit are kept of staff, tokens and the service; as many of accepted state changes, and of partners, of whom each app has 500.",
			fieldOf: func(c *Config) any { return &c.Retention.Audit },
		},
	}
}

func auditSettings() []Setting {
	return []Setting{
		{
			Key: "audit.write_to", Rule: auditSinkRule(),
			Help:    "Where one worker at a time writes the audit out as lines of JSON, each with the SHA-256 of the line before; `lamplighter audit verify` checks them. A file of the worker's own machine, its syslog, or one elsewhere. Nowhere when unset.",
			fieldOf: func(c *Config) any { return &c.Audit.WriteTo },
		},
	}
}

// DevDefaults are the defaults that `lamplighter dev` has instead of the usual ones, by key: a
// partner's receiver runs on this machine, and people and apps that come back are told within seconds.
func DevDefaults() map[string]string {
	return map[string]string{
		"environment":            "sod",
		"log.format":             "text",
		"guard.allow_cidrs":      "127.0.0.0/8,::1/128",
		"guard.allow_http":       "true",
		"incident.open_after":    "10s",
		"incident.recover_after": "5s",
		"breaker.open_for":       "2s",
		"breaker.open_for_max":   "3s",
		"delivery.sweep":         "2s",
		"redis.waive_checks":     "eviction,persistence,version",
		"smtp.tls":               "none",
		"mail.gather_for":        "1s",
		"mail.daily_cap":         "200",
	}
}
