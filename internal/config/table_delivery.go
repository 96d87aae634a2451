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
			Help:    "The most attempts at once for one app.",
			fieldOf: func(c *Config) any { return &c.Delivery.InFlightPerApp },
		},
		{
			Key: "delivery.in_flight", Default: "512", Rule: intRangeRule(1, 20_000),
			Help:    "The target of attempts at once in one worker, shared by its apps. Each takes a socket.",
			fieldOf: func(c *Config) any { return &c.Delivery.InFlight },
		},
		{
			Key: "delivery.drainers", Default: "1000", Rule: intRangeRule(1, 20_000),
			Help:    "The most mailboxes that one worker empties at once.",
			fieldOf: func(c *Config) any { return &c.Delivery.Drainers },
		},
		{
			Key: "delivery.drainers_waiting", Default: "5000", Rule: intRangeRule(0, 50_000),
			Help:    "The most mailboxes, not counted in `delivery.drainers`, whose drain has only waited for answers for 200 ms. Each takes a socket and about 40 kB. Beyond this number a drain stays counted in `delivery.drainers`.",
			fieldOf: func(c *Config) any { return &c.Delivery.DrainersWaiting },
		},
		{
			Key: "delivery.connection_max_age", Default: "1m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long a connection to an endpoint is used, less up to a quarter. The next connection resolves the host name again, so this is how soon a host that moved by DNS is followed.",
			fieldOf: func(c *Config) any { return &c.Delivery.ConnectionMaxAge },
		},
		{
			Key: "delivery.retry_schedule", Default: "5s,5m,30m,2h,5h,10h,14h,20h,24h", Rule: durationRangeRule(time.Second, 7*day),
			Help:    "The wait after each refusal of a notification by an endpoint that works, before jitter; the last one repeats. After other failures a notification is tried again within `breaker.open_for_max`.",
			fieldOf: func(c *Config) any { return &c.Delivery.RetrySchedule },
		},
		{
			Key: "delivery.switch_off_after", Default: "120h", Rule: durationOrZeroRule(time.Hour, 90*day),
			Help:    "How long an endpoint may fail without interruption before it is switched off.",
			fieldOf: func(c *Config) any { return &c.Delivery.SwitchOffAfter },
		},
		{
			Key: "delivery.drain_budget", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Minute),
			Help:    "How long a drain keeps one mailbox before other mailboxes get a turn.",
			fieldOf: func(c *Config) any { return &c.Delivery.DrainBudget },
		},
		{
			Key: "delivery.entry_lease", Default: "25s", Rule: durationRangeRule(time.Second, 5*time.Minute),
			Help:    "How long a claimed notification belongs to its worker: after a crash it is tried again this much later. At least 5 s longer than `delivery.timeout`.",
			fieldOf: func(c *Config) any { return &c.Delivery.EntryLease },
		},
		{
			Key: "delivery.owner_lease", Default: "15s", Rule: durationRangeRule(time.Second, 5*time.Minute),
			Help:    "How long a mailbox belongs to a drainer that has stopped responding.",
			fieldOf: func(c *Config) any { return &c.Delivery.OwnerLease },
		},
		{
			Key: "delivery.grace", Default: "10s", Rule: durationRangeRule(time.Second, time.Minute),
			Help:    "How late a wake-up may be before another one is armed.",
			fieldOf: func(c *Config) any { return &c.Delivery.Grace },
		},
		{
			Key: "delivery.sweep", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Minute),
			Help:    "How often each loop begins a round: lost wake-ups, pending fan-outs, incidents, pending mails, gauges.",
			fieldOf: func(c *Config) any { return &c.Delivery.Sweep },
		},
		{
			Key: "breaker.failures", Default: "5", Rule: intRangeRule(1, 100),
			Help:    "How many failures in a row, of at least two tenants, open the circuit of an endpoint that accepted others within 10 s. Also how many equal refusals open it when it accepts none.",
			fieldOf: func(c *Config) any { return &c.Breaker.Failures },
		},
		{
			Key: "breaker.open_for", Default: "5s", Rule: durationRangeRule(100*time.Millisecond, time.Hour),
			Help:    "The first cool-down of the circuit; each failed probe doubles it. Also how long a tenant waits that fails alone.",
			fieldOf: func(c *Config) any { return &c.Breaker.OpenFor },
		},
		{
			Key: "breaker.open_for_max", Default: "1m", Rule: durationRangeRule(100*time.Millisecond, time.Hour),
			Help:    "The longest cool-down: an app that works again is notified within this time.",
			fieldOf: func(c *Config) any { return &c.Breaker.OpenForMax },
		},
	}
}

func incidentSettings() []Setting {
	return []Setting{
		{
			Key: "incident.open_after", Default: "5m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long an endpoint must fail before a mail says so.",
			fieldOf: func(c *Config) any { return &c.Incident.OpenAfter },
		},
		{
			Key: "incident.recover_after", Default: "1m", Rule: durationRangeRule(time.Second, day),
			Help:    "How long an endpoint must be healthy again before a mail says so.",
			fieldOf: func(c *Config) any { return &c.Incident.RecoverAfter },
		},
		{
			Key: "incident.remind_after", Default: "24h,72h", Rule: durationRangeRule(time.Minute, 90*day),
			Help:    "When reminders are sent, counted from the incident's start; in ascending order. An empty list: never.",
			fieldOf: func(c *Config) any { return &c.Incident.RemindAfter },
		},
	}
}

func licenceSettings() []Setting {
	return []Setting{
		{
			Key: "licences.required", Default: "erp_sync=integration_server,mirroring=database_mirroring", Rule: licenceRule(),
			Help:    "Which licence an app must be granted before an integration endpoint of it is called. An empty list: none. Each endpoint may be listed once.",
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
			Help:    "How long a repeated request with the same `Idempotency-Key` gets the first answer.",
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
			Help:    "How many audit entries of operators, tokens and the service are kept; as many of accepted state changes, and as many of partners, with at most 500 per app.",
			fieldOf: func(c *Config) any { return &c.Retention.Audit },
		},
	}
}

func auditSettings() []Setting {
	return []Setting{
		{
			Key: "audit.write_to", Rule: auditSinkRule(),
			Help:    "Where one worker at a time writes audit entries as lines of JSON, each with the SHA-256 of the line before; `lamplighter audit verify` checks them. A file on the worker's machine, its syslog, or a remote syslog. Nowhere when unset.",
			fieldOf: func(c *Config) any { return &c.Audit.WriteTo },
		},
	}
}

// DevDefaults are the defaults of `lamplighter dev` that replace the usual ones, by key. A partner's receiver runs on
// this machine, and mails and recoveries take seconds.
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
