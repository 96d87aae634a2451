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
	// ioTimeout bounds the writing of a command, and the reading of its answer: far more than any
	// script takes, and less than the leases that a stuck connection would let run out.
	ioTimeout = 3 * time.Second
	// maxRetries repeats a command after a broken connection. Each script of the service may run
	// twice, so that this is safe.
	maxRetries = 2
	// defaultPoolSize is enough for the drains of a busy worker, whose commands take well below a
	// millisecond each.
	defaultPoolSize = 64
	// maxIdle closes what a burst opened.
	maxIdle = 5 * time.Minute
)

// Options say how to reach Redis.
type Options struct {
	// URL is in one of the forms of ParseAddress.
	URL secret.Text
	// Username and Password replace those of URL when not empty.
	Username string
	Password secret.Text
	// SentinelUsername and SentinelPassword log in to the sentinels.
	SentinelUsername string
	SentinelPassword secret.Text
	// CAFile replaces the system's roots; CertFile and KeyFile are a client certificate. All are
	// PEM, and matter for TLS alone.
	CAFile, CertFile, KeyFile string
	// PoolSize is the most connections per node; 0: 64.
	PoolSize int
	// WaitReplicas is how many replicas must confirm each write, or it fails with a ReplicasError;
	// 0: none.
	WaitReplicas int
	// ClaimReplicas is how many replicas should have what the work rests on that is claimed; where they are missing it goes on
	// after a moment. 0: none.
	ClaimReplicas int
	// Faults counts what fails; nil: nobody does.
	Faults *FaultCounter
	// Seen is told of each certificate by which a server, or a sentinel, proved itself; nil: nobody is.
	Seen func(*x509.Certificate)
	// ClientName shows in CLIENT LIST, such as "lamplighter".
	ClientName string
}

// New makes a client. It does not connect: the first command does, and each later one does
// again after a loss. The caller closes it.
//
// A command ends when its context does. Commands that never end by their context are paced
// while they fail: see pacer.
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
		// CLIENT SETINFO would be one more right that an ACL user needs, and is new in Redis 7.2.
		DisableIdentity: true,
		DialTimeout:     dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		// One dial per try of a command: go-redis would otherwise dial five times for each.
		DialerRetries: 1, MaxRetries: maxRetries,
		PoolSize: o.PoolSize, ConnMaxIdleTime: maxIdle,
		// Asks for notices of one hosted product's maintenance, which other servers refuse.
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
	if o.Faults != nil { // before all others, so that it sees what callers do
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

// tlsConfig is nil without TLS. The name that certificates are checked against is each host's
// own: go-redis fills it in for every connection.
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
