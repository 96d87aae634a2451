package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/smallfile"
)

const (
	// dialTimeout bounds TCP and TLS handshakes.
	dialTimeout = 5 * time.Second
	// ioTimeout bounds writing a command, and reading its answer. It is far more than any script takes, and less than the leases
	// that would expire on a stuck connection.
	ioTimeout = 3 * time.Second
	// maxRetries is how often a command is repeated after a broken connection. Each script of the service may run twice, so that
	// is safe.
	maxRetries = 2
	// defaultPoolSize is enough for the drains of a busy worker, whose commands take far less than a millisecond each.
	defaultPoolSize = 64
	// maxIdle is after how long an idle connection is closed, such as after a burst.
	maxIdle = 5 * time.Minute
)

// Options configure the connection to Redis.
type Options struct {
	// URL is in one of the forms of ParseAddress.
	URL secret.Text
	// Username and Password replace those of URL when not empty.
	Username string
	Password secret.Text
	// SentinelUsername and SentinelPassword authenticate at the sentinels.
	SentinelUsername string
	SentinelPassword secret.Text
	// CAFile replaces the system's roots; CertFile and KeyFile are a client certificate. All are PEM files, and are only used
	// with TLS.
	CAFile, CertFile, KeyFile string
	// PoolSize is the most connections per node; 0: 64.
	PoolSize int
	// WaitReplicas is how many replicas must confirm each write; otherwise it fails with a ReplicasError. 0: none.
	WaitReplicas int
	// ClaimReplicas is how many replicas should have the data on which claimed work depends. If they are missing, the work
	// continues after a moment. 0: none.
	ClaimReplicas int
	// Faults counts failed commands; nil: they are not counted.
	Faults *FaultCounter
	// Seen is called with each certificate of a server or sentinel; nil: no call.
	Seen func(*x509.Certificate)
	// ClientName is the name in CLIENT LIST, such as "lamplighter".
	ClientName string
}

// New returns a client. It does not connect: the first command does, and after a lost connection the next command connects again.
// The caller closes the client.
//
// A command ends when its context does. Commands whose context never ends are slowed down while they fail: see pacer.
func New(o Options) (redis.UniversalClient, error) {
	a, err := ParseAddress(o.URL.Reveal())
	if err != nil {
		return nil, err
	}
	u := &redis.UniversalOptions{
		Addrs: a.Hosts, DB: a.DB, MasterName: a.Master, IsClusterMode: a.Mode == Cluster,
		Username: a.username, Password: a.password,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword.Reveal(),
		ClientName: o.ClientName,
		// CLIENT SETINFO would require one more right of an ACL user, and is new in Redis 7.2.
		DisableIdentity: true,
		DialTimeout:     dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		// One dial per attempt of a command: by default go-redis dials five times for each.
		DialerRetries: 1, MaxRetries: maxRetries,
		PoolSize: o.PoolSize, ConnMaxIdleTime: maxIdle,
		// This requests maintenance notices of one hosted product, which other servers refuse.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.PoolSize == 0 {
		u.PoolSize = defaultPoolSize
	}
	if o.Username != "" {
		u.Username = o.Username
	}
	if !o.Password.IsZero() {
		u.Password = o.Password.Reveal()
	}
	if u.TLSConfig, err = tlsConfig(a, o); err != nil {
		return nil, err
	}
	rdb := redis.NewUniversalClient(u)
	if o.Faults != nil { // before all others, so that it counts what callers get
		rdb.AddHook(o.Faults)
	}
	if o.WaitReplicas > 0 {
		addReplicaHook(rdb, o.WaitReplicas)
	}
	if o.ClaimReplicas > 0 {
		addClaimHook(rdb, o.ClaimReplicas)
	}
	rdb.AddHook(newPacer())
	return rdb, nil
}

// tlsConfig returns nil without TLS. go-redis sets the host name for the verification of certificates for every connection.
func tlsConfig(a Address, o Options) (*tls.Config, error) {
	if !a.TLS {
		if o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" {
			return nil, errors.New("redis.tls is set, but redis.url has no TLS: use rediss:// or remove redis.tls")
		}
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Seen != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o.Seen(s.PeerCertificates[0])
			return nil
		}
	}
	if o.CAFile != "" {
		pem, err := smallfile.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read redis.tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read redis.tls.ca: %s holds no PEM certificate", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("redis.tls.cert and redis.tls.key go together: set both or neither")
	}
	if o.CertFile != "" {
		pair, err := loadClientCertificate(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		c.GetClientCertificate = pair.ForHandshake
	}
	return c, nil
}
