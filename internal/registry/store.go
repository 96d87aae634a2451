package registry

import (
	"crypto/rand"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// Sealer encrypts values that must not be stored in Redis in the clear. aad binds a sealed value to its place.
type Sealer interface {
	Seal(plaintext []byte, aad string) (string, error)
	Open(sealed, aad string) ([]byte, error)
	// Stale reports whether a sealed value should be sealed again with the current key.
	Stale(sealed string) bool
}

// Options configure a Store. The zero value of each retention means its default.
type Options struct {
	// Keys name the keys; the zero value has the default prefix.
	Keys keys.Space
	// Keyring seals webhook secrets. Required.
	Keyring Sealer
	// Durable is the client for writes whose success is returned to a caller, and for reads of the records that are delivered to
	// partners; nil: the same as all others. With a client that waits for replicas, these survive a failover.
	Durable redis.UniversalClient
	// ChangesKeep is how long accepted changes are listed. Default 7 days.
	ChangesKeep time.Duration
	// IdempotencyKeep is how long a repeated call gets the first answer. Default 24 h.
	IdempotencyKeep time.Duration
	// DeliveriesKeep is how many attempts are listed per app. Default 1000.
	DeliveriesKeep int
	// IncidentsKeep is how long closed incidents and recent attempts are listed. Default 90 days.
	IncidentsKeep time.Duration
	// AuditKeep is about how many audit entries are kept. Default 100000.
	AuditKeep int
}

// Defaults of Options.
const (
	DefaultChangesKeep     = 7 * 24 * time.Hour
	DefaultIdempotencyKeep = 24 * time.Hour
	DefaultDeliveriesKeep  = 1000
	DefaultIncidentsKeep   = 90 * 24 * time.Hour
	DefaultAuditKeep       = 100000
)

func (o Options) withDefaults() Options {
	if o.Keys == (keys.Space{}) {
		o.Keys = keys.New("")
	}
	setDefault(&o.ChangesKeep, DefaultChangesKeep)
	setDefault(&o.IdempotencyKeep, DefaultIdempotencyKeep)
	setDefault(&o.DeliveriesKeep, DefaultDeliveriesKeep)
	setDefault(&o.IncidentsKeep, DefaultIncidentsKeep)
	setDefault(&o.AuditKeep, DefaultAuditKeep)
	return o
}

func setDefault[T ~int | ~int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Store is the registry in Redis. It is safe for concurrent use and has no state of its own.
type Store struct {
	rdb redis.UniversalClient
	// durable is rdb or Options.Durable.
	durable redis.UniversalClient
	opts    Options
	keys    keys.Space
	// nonce names one call, so that a repeat by the client library is distinguished from a second call.
	nonce func() string
}

// New returns the registry on rdb, which the caller closes. It panics without a Keyring.
func New(rdb redis.UniversalClient, opts Options) *Store {
	if opts.Keyring == nil {
		panic("registry.New: no Keyring")
	}
	opts = opts.withDefaults()
	durable := opts.Durable
	if durable == nil {
		durable = rdb
	}
	return &Store{rdb: rdb, durable: durable, opts: opts, keys: opts.Keys, nonce: rand.Text}
}

const (
	defaultPage = 100
	maxPage     = 500
)

// clampPageSize returns the number of items of one page: 100 if limit is 0, 500 at most.
func clampPageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// toMillis converts a time to its stored form: milliseconds since 1970, 0 for the zero time.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
