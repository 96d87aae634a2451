package config

import (
	"net/netip"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// Config has every setting of one deployment. A field is set by the setting of the same name in AllSettings, which
// has its default and range. Load returns only valid ones.
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
	// PublicListen is an address that serves only the public API, empty for none.
	PublicListen string
	// PublicURL is the URL of the public API from outside, without a trailing slash.
	PublicURL string
	// BootstrapToken becomes the first admin token when there is none.
	BootstrapToken secret.Text
	// ShutdownTimeout bounds the settling of running work after a stop signal.
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

// HTTP says who may call the API, and through which proxies.
type HTTP struct {
	// CORS are the origins whose scripts may call the API from a browser; none when empty.
	CORS []string
	// TrustedProxies are proxies whose statement of a request's address is trusted.
	TrustedProxies []netip.Prefix
	// MaxConnections is the most connections of each listener of the API.
	MaxConnections int
	// ConnectionsPerAddress is the most of them from one address; half of MaxConnections when 0.
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
	// SentinelUsername and SentinelPassword are for the sentinels.
	SentinelUsername string
	SentinelPassword secret.Text
	TLS              RedisTLS
	// Prefix starts every key.
	Prefix string
	// PoolSize is the most connections per Redis node.
	PoolSize int
	// WaitReplicas is how many replicas must have a write before it is answered as accepted.
	WaitReplicas int
	// WaiveChecks are the safety checks that do not count for readiness.
	WaiveChecks []string
}

// RedisTLS are PEM files for a TLS connection to Redis. They are used only with rediss URLs.
type RedisTLS struct {
	// CA replaces the system's roots when set.
	CA string
	// Cert and Key are the client certificate; both or neither.
	Cert, Key string
}

// SMTP says how mails are sent.
type SMTP struct {
	// Disabled says that this deployment sends no mail.
	Disabled bool
	Host     string
	Port     int
	Username string
	Password secret.Text
	// TLS is mandatory, opportunistic or none.
	TLS string
	// From is the sender, as an address or "Name <address>".
	From string
	// Timeout bounds the sending of one mail, from dialling to the server's last answer.
	Timeout time.Duration
	// CA replaces the system's roots when set: a PEM file.
	CA   string
	DKIM DKIM
}

// DKIM says how mail is signed; without a Key it is not signed.
type DKIM struct {
	// Key is a PEM file.
	Key string
	// Selector names the public key in the DNS. Domain is the domain of SMTP.From when empty.
	Selector, Domain string
}

// Mail limits what one recipient gets.
type Mail struct {
	// GatherFor is how long a mail waits for other mails to the same recipient.
	GatherFor time.Duration
	// DailyCap is the most mails in 24 h, 0 for no cap.
	DailyCap int
	// NewAddresses is how many new addresses a partner may set for an app per day.
	NewAddresses int
}

// Signing names the keys that sign tokens.
type Signing struct {
	// Keys are PEM files, each a private key with its certificate.
	Keys []string
}

// Encryption has the keys for encryption at rest, in the format of secret.ParseKey.
type Encryption struct {
	// Key encrypts and decrypts.
	Key secret.Text
	// OlderKeys only decrypt, until everything is encrypted with Key.
	OlderKeys []secret.Text
}

// Token sets claims of the tokens for partners.
type Token struct{ Issuer Issuer }

// Issuer is the `iss` claim, by use.
type Issuer struct {
	// StateChange is never empty: it depends on Environment unless set.
	StateChange string
	Mirroring   string
}

// Guard says which addresses may be dialled besides public ones over HTTPS, and which public ones may not.
type Guard struct {
	AllowCIDRs    []netip.Prefix
	AllowHTTP     bool
	AllowPorts    []uint16
	DenyCIDRs     []netip.Prefix
	DenyHosts     []string
	NAT64Prefixes []netip.Prefix
	// MinRSABits is the least length of RSA keys in certificates for calls to go on, 0 for any length.
	MinRSABits int
}

// State configures the pull.
type State struct {
	// ValidFor is the length of a validity interval.
	ValidFor time.Duration
	// InFlight is how many pulls use Redis at once.
	InFlight int
}

// Delivery configures the notifications.
type Delivery struct {
	// Timeout bounds one attempt, from dialling to the end of the answer.
	Timeout time.Duration
	// InFlightPerApp and InFlight limit the attempts in flight, per app and per process.
	InFlightPerApp, InFlight int
	// Drainers limits the mailboxes that one process empties at once. DrainersWaiting limits those whose drain only
	// waits for answers; they are not counted in Drainers.
	Drainers, DrainersWaiting int
	// ConnectionMaxAge is how long a connection to an endpoint is used.
	ConnectionMaxAge time.Duration
	// RetrySchedule is the wait after each failure of a notification; its last step repeats.
	RetrySchedule []time.Duration
	// SwitchOffAfter is how long an endpoint may fail before it is switched off; 0: never.
	SwitchOffAfter time.Duration
	// DrainBudget is how long one drain keeps a mailbox before other mailboxes get a turn.
	DrainBudget time.Duration
	// EntryLease and OwnerLease are how long a claim and the ownership of a mailbox last after a crash.
	EntryLease, OwnerLease time.Duration
	// Grace is how late a wake-up may be before another is armed.
	Grace time.Duration
	// Sweep is how often the loops look for lost wake-ups and pending fan-outs.
	Sweep time.Duration
}

// Breaker is each endpoint's circuit breaker.
type Breaker struct {
	// Failures is how many failures in a row open the circuit.
	Failures int
	// OpenFor is the first cool-down, OpenForMax the longest.
	OpenFor, OpenForMax time.Duration
}

// Incident says when mails about an incident are sent.
type Incident struct {
	OpenAfter, RecoverAfter time.Duration
	// RemindAfter counts from the opening of the incident.
	RemindAfter []time.Duration
}

// Probe configures the probes of integration endpoints.
type Probe struct {
	// Interval is the time between two probes of a healthy endpoint; 0: no probes.
	Interval time.Duration
	// BackoffMax is the longest wait between two probes of a failing endpoint.
	BackoffMax time.Duration
	// InFlight limits the probes that one process makes at once.
	InFlight int
	// ClockTolerance is how far the clock behind a signed answer may be off.
	ClockTolerance time.Duration
	// QuietFrom and QuietTo, in the format of ParseClockTime, are local times of TimeZone.
	QuietFrom, QuietTo, TimeZone string
}

// Licences says which licences the platform's endpoints need.
type Licences struct {
	// Required are items "<endpoint>=<licence>", at most one per integration endpoint.
	Required []string
}

// Audit configures the copy of the audit log outside Redis.
type Audit struct {
	// WriteTo is where audit entries are written; empty for nowhere.
	WriteTo string
}

// Retention limits what is kept: by age, or by number if the type is int.
type Retention struct {
	Changes, Idempotency time.Duration
	// Deliveries is per app.
	Deliveries int
	Incidents  time.Duration
	Audit      int
}
