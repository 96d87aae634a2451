package config

import "time"

// AllSettings is the table of every setting, in the order of the documentation. It makes a new
// slice on each call.
func AllSettings() []Setting {
	var all []Setting
	for _, part := range [][]Setting{
		generalSettings(), redisSettings(), mailSettings(), keySettings(), guardSettings(),
		deliverySettings(), incidentSettings(), probeSettings(), licenceSettings(), retentionSettings(), auditSettings(),
	} {
		all = append(all, part...)
	}
	return all
}

func generalSettings() []Setting {
	return []Setting{
		{
			Key: "environment", Default: "online", Rule: oneOfRule("sod", "stage", "online"),
			Help:    "The platform environment that this deployment serves. It chooses each app's URL override, the default issuer of tokens and the names of queues.",
			fieldOf: func(c *Config) any { return &c.Environment },
		},
		{
			Key: "roles", Default: "api,worker", Rule: oneOfRule("api", "worker"),
			Help:    "What this process does: `api` answers HTTP, `worker` delivers, probes and mails. Run them in separate processes to scale them separately.",
			fieldOf: func(c *Config) any { return &c.Roles },
		},
		{
			Key: "listen", Default: "127.0.0.1:8080", Rule: addressRule(),
			Help:    "Address of the admin and public API.",
			fieldOf: func(c *Config) any { return &c.Listen },
		},
		{
			Key: "ops_listen", Default: "127.0.0.1:9464", Rule: addressRule(),
			Help:    "Address of `/metrics`, `/healthz` and `/readyz`. Keep it inside your network.",
			fieldOf: func(c *Config) any { return &c.OpsListen },
		},
		{
			Key: "ops_pprof", Default: "false",
			Help:    "Adds Go's profiler under `/debug/pprof/` to `ops_listen`.",
			fieldOf: func(c *Config) any { return &c.OpsPprof },
		},
		{
			Key: "public_listen", Rule: addressRule(),
			Help:    "An extra address that serves only the public API (status pull, key discovery, unsubscribe), so that the admin API can stay private.",
			fieldOf: func(c *Config) any { return &c.PublicListen },
		},
		{
			Key: "public_url", Rule: webURLRule(),
			Help:    "How partners reach the public API; the base of `jwks_uri` and of links in mails, never taken from a Host header. Required by `serve`.",
			fieldOf: func(c *Config) any { return &c.PublicURL },
		},
		{
			Key: "bootstrap_token", Secret: true, Rule: bearerTokenRule(),
			Help:    "Becomes the first admin token when none exists; ignored afterwards. A new one has at least 32 characters; a shorter one that the store knows stays valid.",
			fieldOf: func(c *Config) any { return &c.BootstrapToken },
		},
		{
			Key: "shutdown_timeout", Default: "20s", Rule: durationRangeRule(time.Second, 10*time.Minute),
			Help:    "How long work in flight may take to settle after a stop signal before it is abandoned. Give the process at least 10 s more before it is killed.",
			fieldOf: func(c *Config) any { return &c.ShutdownTimeout },
		},
		{
			Key: "http.cors", Rule: originRule(),
			Help:    "Origins, such as `https://portal.example.com`, whose scripts may call the API from a browser. None when unset. Each script must send a token of its own.",
			fieldOf: func(c *Config) any { return &c.HTTP.CORS },
		},
		{
			Key:     "http.trusted_proxies",
			Help:    "Networks of the proxies in front, whose `X-Forwarded-For` is trusted: limits per address then count the caller's address, not the proxy's. Without it, the header is ignored.",
			fieldOf: func(c *Config) any { return &c.HTTP.TrustedProxies },
		},
		{
			Key: "http.max_connections", Default: "10000", Rule: intRangeRule(16, 1_000_000),
			Help:    "The most connections of `listen` and of `public_listen`, together at most half of the files that the process may open. Beyond that, the connection that has kept the service waiting the longest is closed. It counts as waiting for a request, for headers, for a body without a valid token, or for reading of an answer. When there is none, the new connection is closed.",
			fieldOf: func(c *Config) any { return &c.HTTP.MaxConnections },
		},
		{
			Key: "http.connections_per_address", Default: "0", Rule: intRangeRule(0, 1_000_000),
			Help:    "The most connections of a listener from one address, an IPv4 address or an IPv6 /64; half of `http.max_connections` when 0. Networks in `http.trusted_proxies` are not limited; the limit then counts the requests in flight of each caller behind them.",
			fieldOf: func(c *Config) any { return &c.HTTP.ConnectionsPerAddress },
		},
		{
			Key: "log.level", Default: "info", Reload: true, Rule: oneOfRule("debug", "info", "warn", "error"),
			Help:    "The lowest level that is logged.",
			fieldOf: func(c *Config) any { return &c.Log.Level },
		},
		{
			Key: "log.format", Default: "json", Rule: oneOfRule("json", "text"),
			Help:    "How log entries are written to standard error.",
			fieldOf: func(c *Config) any { return &c.Log.Format },
		},
		{
			Key: "state.valid_for", Default: "1m", Rule: durationRangeRule(time.Second, time.Hour),
			Help:    "The length of the intervals whose end is a status answer's `ValidUntil`: how soon apps ask again.",
			fieldOf: func(c *Config) any { return &c.State.ValidFor },
		},
		{
			Key: "state.in_flight", Default: "32", Rule: intRangeRule(1, 10_000),
			Help:    "How many status requests (`GET /api/state/…`) of this process use Redis at once, at most half of `redis.pool_size`. The rest of the connections is for notifications and the admin API. 32 times as many requests wait, each for 250 ms; others are answered 503.",
			fieldOf: func(c *Config) any { return &c.State.InFlight },
		},
	}
}

func redisSettings() []Setting {
	return []Setting{
		{
			Key: "redis.url", Default: "redis://127.0.0.1:6379/0", Secret: true, OpenFlag: true, Rule: redisURLRule(),
			Help:    "Where all state is kept. With an extra `s` the connection uses TLS. User and password may be given before the host, percent-encoded; a file or the environment is a better place than a flag.",
			fieldOf: func(c *Config) any { return &c.Redis.URL },
		},
		{
			Key:     "redis.username",
			Help:    "The Redis ACL user; replaces the one in the URL.",
			fieldOf: func(c *Config) any { return &c.Redis.Username },
		},
		{
			Key: "redis.password", Secret: true,
			Help:    "The password of that user; replaces the one in the URL.",
			fieldOf: func(c *Config) any { return &c.Redis.Password },
		},
		{
			Key:     "redis.sentinel_username",
			Help:    "The ACL user for the sentinels, if they require one.",
			fieldOf: func(c *Config) any { return &c.Redis.SentinelUsername },
		},
		{
			Key: "redis.sentinel_password", Secret: true,
			Help:    "The password for the sentinels.",
			fieldOf: func(c *Config) any { return &c.Redis.SentinelPassword },
		},
		{
			Key:     "redis.tls.ca",
			Help:    "PEM file of the authorities that Redis' certificate is checked against; the system's when unset.",
			fieldOf: func(c *Config) any { return &c.Redis.TLS.CA },
		},
		{
			Key:     "redis.tls.cert",
			Help:    "PEM file of the client certificate that Redis asks for.",
			fieldOf: func(c *Config) any { return &c.Redis.TLS.Cert },
		},
		{
			Key:     "redis.tls.key",
			Help:    "PEM file of the client certificate's private key.",
			fieldOf: func(c *Config) any { return &c.Redis.TLS.Key },
		},
		{
			Key: "redis.prefix", Default: "lamplighter", Rule: keyPrefixRule(),
			Help:    "The prefix of every key. Two environments on one Redis need two prefixes.",
			fieldOf: func(c *Config) any { return &c.Redis.Prefix },
		},
		{
			Key: "redis.pool_size", Default: "64", Rule: intRangeRule(4, 10_000),
			Help:    "The most connections per Redis node that this process opens. A worker's drains have as many of their own, and so have writes that wait for replicas.",
			fieldOf: func(c *Config) any { return &c.Redis.PoolSize },
		},
		{
			Key: "redis.wait_replicas", Default: "0", Rule: intRangeRule(0, 10),
			Help:    "How many replicas must have a write before the call is answered: a failover to one of them then loses nothing that was accepted. With fewer replicas available the call is answered 503 after a second. In a Cluster, this is per primary.",
			fieldOf: func(c *Config) any { return &c.Redis.WaitReplicas },
		},
		{
			Key: "redis.waive_checks", Rule: oneOfRule("eviction", "persistence", "version"),
			Help:    "Safety checks of Redis that do not prevent readiness: `eviction` (maxmemory-policy is noeviction), `persistence` (AOF or snapshots are on), `version` (6.2 or newer). Each one waived can lose accepted changes.",
			fieldOf: func(c *Config) any { return &c.Redis.WaiveChecks },
		},
	}
}

func mailSettings() []Setting {
	return []Setting{
		{
			Key: "smtp.disabled", Default: "false",
			Help:    "Runs without mail: no mail says that an endpoint fails. Otherwise `serve` requires `smtp.host` and `smtp.from`.",
			fieldOf: func(c *Config) any { return &c.SMTP.Disabled },
		},
		{
			Key:     "smtp.host",
			Help:    "The mail server that mails are sent through.",
			fieldOf: func(c *Config) any { return &c.SMTP.Host },
		},
		{
			Key: "smtp.port", Default: "587", Rule: intRangeRule(1, 65535),
			Help:    "Its port. 587 is usual with STARTTLS, 465 with TLS from the first byte.",
			fieldOf: func(c *Config) any { return &c.SMTP.Port },
		},
		{
			Key:     "smtp.username",
			Help:    "The account to log in with; none when unset.",
			fieldOf: func(c *Config) any { return &c.SMTP.Username },
		},
		{
			Key: "smtp.password", Secret: true,
			Help:    "The account's password.",
			fieldOf: func(c *Config) any { return &c.SMTP.Password },
		},
		{
			Key: "smtp.tls", Default: "mandatory", Rule: oneOfRule("mandatory", "opportunistic", "none", "implicit"),
			Help:    "Whether mail may be sent unencrypted: never (STARTTLS), when the server offers nothing better, or always; `implicit` uses TLS from the first byte, which is always used on port 465.",
			fieldOf: func(c *Config) any { return &c.SMTP.TLS },
		},
		{
			Key: "smtp.from", Rule: mailboxRule(),
			Help:    "The sender of every mail.",
			fieldOf: func(c *Config) any { return &c.SMTP.From },
		},
		{
			Key: "smtp.timeout", Default: "30s", Rule: durationRangeRule(time.Second, 55*time.Second),
			Help:    "How long the sending of one mail may take before it is tried again later.",
			fieldOf: func(c *Config) any { return &c.SMTP.Timeout },
		},
		{
			Key:     "smtp.ca",
			Help:    "PEM file of the authorities that the mail server's certificate is checked against; the system's when unset.",
			fieldOf: func(c *Config) any { return &c.SMTP.CA },
		},
		{
			Key:     "smtp.dkim.key",
			Help:    "PEM file of the private key (RSA or Ed25519) that signs mails (DKIM). Unset: mails are not signed here, for example because your mail server does it.",
			fieldOf: func(c *Config) any { return &c.SMTP.DKIM.Key },
		},
		{
			Key:     "smtp.dkim.selector",
			Help:    "Names the public key: it is looked up in the TXT record `<selector>._domainkey.<domain>`.",
			fieldOf: func(c *Config) any { return &c.SMTP.DKIM.Selector },
		},
		{
			Key:     "smtp.dkim.domain",
			Help:    "The signing domain; the domain of `smtp.from` when unset.",
			fieldOf: func(c *Config) any { return &c.SMTP.DKIM.Domain },
		},
		{
			Key: "mail.gather_for", Default: "30s", Rule: durationRangeRule(0, 10*time.Minute),
			Help:    "How long a mail waits for others to the same recipient. Mails about more than three incidents become one digest.",
			fieldOf: func(c *Config) any { return &c.Mail.GatherFor },
		},
		{
			Key: "mail.daily_cap", Default: "20", Rule: intRangeRule(0, 10_000),
			Help:    "The most mails that one recipient gets in 24 h. The rest is sent as one digest after that time. 0: no cap.",
			fieldOf: func(c *Config) any { return &c.Mail.DailyCap },
		},
		{
			Key: "mail.new_addresses", Default: "10", Rule: intRangeRule(1, 50),
			Help:    "How many new mail addresses a partner's token may set for one app in 24 h; each gets one confirmation mail. Addresses set by an operator or admin need no confirmation and do not count.",
			fieldOf: func(c *Config) any { return &c.Mail.NewAddresses },
		},
	}
}

func keySettings() []Setting {
	return []Setting{
		{
			Key: "signing.keys", Rule: notEmptyRule(), Reload: true,
			Help:    "PEM files, each a private key with its X.509 certificate, as `lamplighter keys generate` makes them. All are published; per algorithm the newest valid one signs. `serve` requires at least one, and one of them RSA.",
			fieldOf: func(c *Config) any { return &c.Signing.Keys },
		},
		{
			Key: "encryption.key", Secret: true, Rule: encryptionKeyRule(),
			Help:    "Encrypts secrets in Redis; `lamplighter keys encryption` makes one. Losing it loses every webhook secret. Required by `serve`.",
			fieldOf: func(c *Config) any { return &c.Encryption.Key },
		},
		{
			Key: "encryption.older_keys", Secret: true, Rule: encryptionKeyRule(),
			Help:    "Replaced keys that still decrypt what they encrypted.",
			fieldOf: func(c *Config) any { return &c.Encryption.OlderKeys },
		},
		{
			Key: "token.issuer.state_change", Rule: webURLRule(),
			Help:    "The `iss` claim of state-change tokens and the discovery document's `issuer`. When unset it depends on the environment: `https://sod.superoffice.com`, `https://qaonline.superoffice.com` or `https://online.superoffice.com`.",
			fieldOf: func(c *Config) any { return &c.Token.Issuer.StateChange },
		},
		{
			Key: "token.issuer.mirroring", Default: "SuperOffice AS", Rule: notEmptyRule(),
			Help:    "The `iss` claim of tokens sent to mirroring endpoints.",
			fieldOf: func(c *Config) any { return &c.Token.Issuer.Mirroring },
		},
	}
}

func guardSettings() []Setting {
	return []Setting{
		{
			Key:     "guard.allow_cidrs",
			Help:    "Networks that may be dialled although they are not public, on any port. All other private, loopback and reserved addresses are refused.",
			fieldOf: func(c *Config) any { return &c.Guard.AllowCIDRs },
		},
		{
			Key: "guard.allow_http", Default: "false",
			Help:    "Accepts endpoints without TLS. Tokens and signatures then travel in the clear.",
			fieldOf: func(c *Config) any { return &c.Guard.AllowHTTP },
		},
		{
			Key: "guard.allow_ports", Default: "443,8443",
			Help:    "Ports that may be dialled on public addresses.",
			fieldOf: func(c *Config) any { return &c.Guard.AllowPorts },
		},
		{
			Key:     "guard.deny_cidrs",
			Help:    "Networks that are never dialled, whatever `guard.allow_cidrs` says: public ranges of your own that lead to internal hosts.",
			fieldOf: func(c *Config) any { return &c.Guard.DenyCIDRs },
		},
		{
			Key: "guard.deny_hosts", Rule: hostNameRule(),
			Help:    "Host names that are refused in URLs, with their subdomains. To refuse an address, use `guard.deny_cidrs`: other names may lead to it.",
			fieldOf: func(c *Config) any { return &c.Guard.DenyHosts },
		},
		{
			Key: "guard.nat64_prefixes", Rule: nat64PrefixRule(),
			Help:    "NAT64 prefixes of your network besides `64:ff9b::/96`. The IPv4 address inside such an address is checked as if it were dialled itself. This opens nothing.",
			fieldOf: func(c *Config) any { return &c.Guard.NAT64Prefixes },
		},
		{
			Key: "guard.min_rsa_bits", Default: "0", Rule: rsaBitsRule(),
			Help:    "The least length of RSA keys in an endpoint's certificates for calls to go on. With 0, calls go on with any length; a warning and `lamplighter_guard_short_key_hosts` report keys below 2048. An endpoint that is set or tested always needs 2048.",
			fieldOf: func(c *Config) any { return &c.Guard.MinRSABits },
		},
	}
}
