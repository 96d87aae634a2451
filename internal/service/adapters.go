package service

import (
	"context"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// hostChecker checks endpoint URLs with the resolver that deliveries use.
type hostChecker struct {
	*guard.Guard

	resolver guard.Resolver
}

// CheckHost implements httpapi.AddressChecker.
func (a hostChecker) CheckHost(ctx context.Context, u *url.URL) ([]netip.Addr, error) {
	return a.Guard.CheckHost(ctx, a.resolver, u)
}

// errorReports records what engines report, with the idempotency keys of changes.
type errorReports struct {
	store *registry.IncidentStore
	keep  time.Duration
}

// Report implements httpapi.ErrorReports.
func (e *errorReports) Report(
	ctx context.Context, app partner.ClientID, kind partner.EndpointKind, key string, reports []registry.Report,
) ([]bool, error) {
	return e.store.RecordReports(ctx, app, kind, key, e.keep, reports)
}

// keyCollector exports when signing keys end.
type keyCollector struct {
	keys *signing.KeySet
	desc *prometheus.Desc
}

func newKeyCollector(k *signing.KeySet) *keyCollector {
	return &keyCollector{keys: k, desc: prometheus.NewDesc(
		"lamplighter_signing_key_expiry_timestamp_seconds", "When a signing key's certificate ends.", []string{"kid", "alg"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *keyCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *keyCollector) Collect(ch chan<- prometheus.Metric) {
	for _, e := range c.keys.Expiry() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(e.NotAfter.UnixMilli())/float64(time.Second/time.Millisecond), e.KeyID, e.Algorithm)
	}
}
