package config

import (
	"net/netip"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// Config is every setting of one deployment. A field is set by the setting of the same name in
// Settings, where its default and range stand; Load returns none that breaks them.
type Config struct {
	// Environment is sod, stage or online: the platform environment this deployment serves.
	Environment string
	// Roles are what this process does: api, worker or both.
	Roles []string
	// Listen is the address of the admin and public API.
	Listen string
	// OpsListen is the address of metrics, health and readiness.
	OpsListen string
	// OpsPprof adds Go's profiler to OpsListen.
	OpsPprof bool
	// PublicListen is an address for the public API alone, empty for none.
	PublicListen string
	// PublicURL is how the public API is reached from outside, without a trailing slash.
	PublicURL string
	// BootstrapToken becomes the first admin token when there is none.
	BootstrapToken secret.Text
	// ShutdownTimeout is how long running work may take to settle after a stop signal.
	ShutdownTimeout time.Duration

	HTTP       HTTP
	Log        Log
	Redis      Redis
	SMTP       SMTP
	Mail       Mail
	Signing    Signing
	Encryption Encryption
	Token      Token
	Guard      Guard
	State      State
	Delivery   Delivery
	Breaker    Breaker
	Incident   Incident
	Probe      Probe
	Licences   Licences
	Retention  Retention
	Audit      Audit
}

// HTTP says who may speak to the API, and for whom.
type HTTP struct {
	// CORS are the origins whose scripts may call the API from a browser; none when empty.
	CORS []string
	// TrustedProxies are believed about the address that a request comes from.
	TrustedProxies []netip.Prefix
	// MaxConnections is how many connections each listener of the API has at most.
	MaxConnections int
	// ConnectionsPerAddress is how many of them one address has at most; half of them when 0.
	ConnectionsPerAddress int
}

// Log says what is logged and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string
	// Format is json or text.
	Format string
}

// Redis says where all state is kept.
type Redis struct {
	// URL may hold a password, so it is a secret as a whole.
	URL secret.Text
	// Username and Password, when set, replace those in URL.
	Username string
	Password secret.Text
	// SentinelUsername and SentinelPassword are for the sentinels themselves.
	SentinelUsername string
	SentinelPassword secret.Text
	TLS              RedisTLS
	// Prefix starts every key.
	Prefix string
	// PoolSize is the most connections per Redis node.
	PoolSize int
	// WaitReplicas is how many replicas must have a change before it is answered as accepted.
	WaitReplicas int
	// WaiveChecks are the safety checks that do not count against readiness.
	WaiveChecks []string
}

// RedisTLS are PEM files for a TLS connection to Redis; they matter for rediss URLs alone.
type RedisTLS struct {
	// CA replaces the system's roots when set.
	CA string
	// Cert and Key are the client certificate; both or neither.
	Cert, Key string
}

// SMTP says how mail leaves.
type SMTP struct {
	// Disabled says that this deployment knowingly sends no mail.
	Disabled bool
	Host     string
	Port     int
	Username string
	Password secret.Text
	// TLS is mandatory, opportunistic or none.
	TLS string
	// From is the sender, as an address or "Name <address>".
	From string
	// Timeout bounds the sending of one mail, from dial to the server's last answer.
	Timeout time.Duration
	// CA replaces the system's roots when set: a PEM file.
	CA   string
	DKIM DKIM
}

// DKIM says how mail is signed; without a Key it is not.
type DKIM struct {
	// Key is a PEM file.
	Key string
	// Selector names the public key in the DNS. Domain is that of SMTP.From when empty.
	Selector, Domain string
}

// Mail bounds what one recipient gets.
type Mail struct {
	// GatherFor is how long a mail waits for others to the same recipient.
	GatherFor time.Duration
	// DailyCap is the most mails in 24 h, 0 for no cap.
	DailyCap int
	// NewAddresses is how many addresses a day a partner may set for an app that were not there.
	NewAddresses int
}

// Signing names the keys that sign tokens.
type Signing struct {
	// Keys are PEM files, each a private key with its certificate.
	Keys []string
}

// Encryption holds the keys of what is encrypted at rest, as secret.ParseKey reads them.
type Encryption struct {
	// Key seals and opens.
	Key secret.Text
	// OlderKeys open only, until everything is sealed anew.
	OlderKeys []secret.Text
}

// Token says what the tokens for partners claim.
type Token struct{ Issuer Issuer }

// Issuer is the `iss` claim, by use.
type Issuer struct {
	// StateChange is never empty: it follows Environment unless set.
	StateChange string
	Mirroring   string
}

// Guard says which addresses may be dialled beyond the public internet over HTTPS, and which of it may not.
type Guard struct {
	AllowCIDRs    []netip.Prefix
	AllowHTTP     bool
	AllowPorts    []uint16
	DenyCIDRs     []netip.Prefix
	DenyHosts     []string
	NAT64Prefixes []netip.Prefix
	// MinRSABits is how long RSA keys in certificates must be for calls to go on, 0 for any length.
	MinRSABits int
}

// State is about the pull.
type State struct {
	// ValidFor is the length of a validity cell.
	ValidFor time.Duration
	// InFlight is how many pulls are at Redis at once.
	InFlight int
}

// Delivery paces the pushes.
type Delivery struct {
	// Timeout bounds one attempt, from dial to the end of the answer.
	Timeout time.Duration
	// InFlightPerApp and InFlight bound the attempts running at once, per app and per process.
	InFlightPerApp, InFlight int
	// Drainers bounds the mailboxes that one process empties at once, DrainersWaiting those besides whose
	// drain only waits for answers.
	Drainers, DrainersWaiting int
	// ConnectionMaxAge is how long a connection to an endpoint serves.
	ConnectionMaxAge time.Duration
	// RetrySchedule is the wait after each failure of a notification; its last step repeats.
	RetrySchedule []time.Duration
	// SwitchOffAfter is how long an endpoint may fail before it is switched off; 0: never.
	SwitchOffAfter time.Duration
	// DrainBudget is how long one drain keeps a mailbox before it queues up again.
	DrainBudget time.Duration
	// EntryLease and OwnerLease bound a claim and the ownership of a mailbox after a crash.
	EntryLease, OwnerLease time.Duration
	// Grace is how late a wake-up may be before another is armed.
	Grace time.Duration
	// Sweep is how often lost wake-ups and owed fan-outs are looked for.
	Sweep time.Duration
}

// Breaker is each endpoint's circuit breaker.
type Breaker struct {
	// Failures in a row open it.
	Failures int
	// OpenFor is the first cool-down, OpenForMax the longest.
	OpenFor, OpenForMax time.Duration
}

// Incident says when people are told.
type Incident struct {
	OpenAfter, RecoverAfter time.Duration
	// RemindAfter counts from the opening of the incident.
	RemindAfter []time.Duration
}

// Probe paces the probes of integration endpoints.
type Probe struct {
	// Interval is the time between two probes of an endpoint that is well; 0: none.
	Interval time.Duration
	// BackoffMax is the longest wait between two probes of one that fails.
	BackoffMax time.Duration
	// InFlight bounds the probes that one process makes at once.
	InFlight int
	// ClockTolerance is how far the clock behind a signed answer may be off.
	ClockTolerance time.Duration
	// QuietFrom and QuietTo, as ParseClockTime reads them, are by the clock of TimeZone.
	QuietFrom, QuietTo, TimeZone string
}

// Licences says what the platform's endpoints need.
type Licences struct {
	// Required are items "<endpoint>=<licence>", at most one per integration endpoint.
	Required []string
}

// Audit says what becomes of the audit outside Redis.
type Audit struct {
	// WriteTo is where its entries are written out; empty for nowhere.
	WriteTo string
}

// Retention bounds what is kept: ages, and numbers where the type says so.
type Retention struct {
	Changes, Idempotency time.Duration
	// Deliveries is per app.
	Deliveries int
	Incidents  time.Duration
	Audit      int
}
