package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// clientCertificate is the pair of files by which Redis authenticates this process. It is read again when a file changes, so that
// a renewed certificate needs no restart. If the new files cannot be read, the old pair stays in use.
type clientCertificate struct {
	cert, key string

	mu      sync.Mutex
	current *tls.Certificate
	// stamps are the files' modification times when current was read.
	stamps [2]time.Time
}

// loadClientCertificate returns an error for a pair that cannot be used now.
func loadClientCertificate(cert, key string) (*clientCertificate, error) {
	c := &clientCertificate{cert: cert, key: key}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("read redis.tls.cert and redis.tls.key: %w", err)
	}
	if end := c.current.Leaf.NotAfter; !time.Now().Before(end) {
		return nil, fmt.Errorf("redis.tls.cert: the certificate in %s ended on %s: renew it", cert, end.UTC().Format(time.RFC3339))
	}
	return c, nil
}

func (c *clientCertificate) read() error {
	stamps := c.modTimes()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return err
		}
	}
	c.current, c.stamps = &pair, stamps
	return nil
}

// modTimes returns the files' modification times; a missing file has none.
func (c *clientCertificate) modTimes() (stamps [2]time.Time) {
	for i, name := range []string{c.cert, c.key} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = info.ModTime()
		}
	}
	return stamps
}

// latestPair returns the pair that is on disk now.
func (c *clientCertificate) latestPair() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.modTimes() != c.stamps {
		// Half a renewal fails to read; the next handshake tries again.
		_ = c.read()
	}
	return c.current
}

// ForHandshake implements tls.Config.GetClientCertificate.
func (c *clientCertificate) ForHandshake(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.latestPair(), nil
}

// certificateCollector exports when the client certificate expires.
type certificateCollector struct {
	cert *clientCertificate
	desc *prometheus.Desc
}

// NewCertificateCollector exports when the client certificate of o expires: never, without one.
func NewCertificateCollector(o Options) (prometheus.Collector, error) {
	c := &certificateCollector{desc: prometheus.NewDesc(
		"lamplighter_redis_certificate_expiry_timestamp_seconds", "When the client certificate for Redis expires; infinite without one.", nil, nil)}
	if o.CertFile != "" {
		var err error
		if c.cert, err = loadClientCertificate(o.CertFile, o.KeyFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ClientCertificateExpiry returns when the client certificate of o expires; zero without one.
func ClientCertificateExpiry(o Options) (time.Time, error) {
	if o.CertFile == "" {
		return time.Time{}, nil
	}
	c, err := loadClientCertificate(o.CertFile, o.KeyFile)
	if err != nil {
		return time.Time{}, err
	}
	return c.current.Leaf.NotAfter, nil
}

// Describe implements prometheus.Collector.
func (c *certificateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *certificateCollector) Collect(ch chan<- prometheus.Metric) {
	end := math.Inf(1)
	if c.cert != nil {
		end = float64(c.cert.latestPair().Leaf.NotAfter.Unix())
	}
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, end)
}
