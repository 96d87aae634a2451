package probe

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Metrics of probes and of the endpoints' health. A nil *Metrics counts nothing.
type Metrics struct {
	probes   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	delay    *prometheus.HistogramVec
	hanging  prometheus.Gauge
	cluster  *clusterCollector
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		probes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_probes_total", Help: "Probes and tests of integration endpoints, by what they found.",
		}, []string{"endpoint", "result"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lamplighter_probe_duration_seconds", Help: "Duration of probes.", Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}, []string{"endpoint"}),
		delay: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lamplighter_probe_delay_seconds", Help: "How long after it was due a probe began.", Buckets: []float64{.5, 1, 2, 5, 10, 30, 60, 300},
		}, []string{"endpoint"}),
		hanging: f.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_probes_hanging", Help: "Probes of this process that have waited for an answer for more than 200 ms and keep no other waiting.",
		}),
		cluster: newClusterCollector(),
	}
	for _, k := range listProbedKinds() {
		for _, r := range health.AllReasons() {
			m.probes.WithLabelValues(k.String(), string(r))
		}
		m.duration.WithLabelValues(k.String())
		m.delay.WithLabelValues(k.String())
	}
	reg.MustRegister(m.cluster)
	return m
}

func (m *Metrics) countProbe(k partner.EndpointKind, f health.Finding) {
	if m == nil {
		return
	}
	m.probes.WithLabelValues(k.String(), string(f.Reason)).Inc()
	if f.Reason != health.NoTenant {
		m.duration.WithLabelValues(k.String()).Observe(f.Duration.Seconds())
	}
}

// observeDelay records how late a probe is, unless its endpoint was never probed before.
func (m *Metrics) observeDelay(k partner.EndpointKind, due, now time.Time) {
	if m != nil && !due.IsZero() {
		m.delay.WithLabelValues(k.String()).Observe(max(now.Sub(due), 0).Seconds())
	}
}

func (m *Metrics) setHanging(n int) {
	if m != nil {
		m.hanging.Set(float64(n))
	}
}

func (m *Metrics) setSummary(doc []byte) {
	if m != nil {
		m.cluster.current.Store(decodeSummary(doc))
	}
}

const (
	summaryFormat = 1
	// maxEnding limits the series that name an app.
	maxEnding = 500
	// endingWithin is how long before its end a certificate gets a series of its own.
	endingWithin = 21 * 24 * time.Hour
)

// summary is the integration endpoints' health at one look. The holder of the lease shares it with the other
// processes as JSON.
type summary struct {
	Format int                              `json:"v"`
	Health map[string]map[health.Status]int `json:"health"`
	// Off counts switched-off endpoints by who switched them off.
	Off    map[string]map[health.SwitchedOffBy]int `json:"off,omitempty"`
	Ending []endingCertificate                     `json:"ending,omitempty"`
	// Overflow counts certificates beyond maxEnding.
	Overflow int `json:"overflow,omitempty"`
	// partial says that something could not be read.
	partial bool
}

// endingCertificate is a certificate that ends soon.
type endingCertificate struct {
	App      partner.ClientID `json:"app"`
	Endpoint string           `json:"endpoint"`
	Ends     int64            `json:"ends"`
}

func newSummary() *summary {
	s := &summary{Format: summaryFormat, Health: map[string]map[health.Status]int{}, Off: map[string]map[health.SwitchedOffBy]int{}}
	for _, k := range listProbedKinds() {
		s.Off[k.String()] = map[health.SwitchedOffBy]int{}
		s.Health[k.String()] = map[health.Status]int{}
	}
	return s
}

func (s *summary) add(app partner.ClientID, k partner.EndpointKind, a health.Assessment, now time.Time) {
	s.Health[k.String()][a.Status]++
	if a.Status == health.StatusOff && a.By != "" {
		s.Off[k.String()][a.By]++
	}
	if a.Status == health.StatusOff || a.CertificateEnds.IsZero() || a.CertificateEnds.Sub(now) > endingWithin {
		return
	}
	if len(s.Ending) >= maxEnding {
		s.Overflow++
		return
	}
	s.Ending = append(s.Ending, endingCertificate{App: app, Endpoint: k.String(), Ends: a.CertificateEnds.Unix()})
}

func (s *summary) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil { // maps of numbers always marshal
		panic("probe: marshal summary: " + err.Error())
	}
	return b
}

// decodeSummary reads the format of encode; nil, or another format, is an empty summary.
func decodeSummary(b []byte) *summary {
	s := newSummary()
	if json.Unmarshal(b, s) != nil || s.Format != summaryFormat {
		return newSummary()
	}
	return s
}

// clusterCollector exports the summary of the last look, whichever process made it.
type clusterCollector struct {
	current                         atomic.Pointer[summary]
	statuses, off, ending, overflow *prometheus.Desc
}

func newClusterCollector() *clusterCollector {
	const clusterWide = " Cluster-wide, the same on every worker: aggregate with max."
	c := &clusterCollector{
		statuses: prometheus.NewDesc("lamplighter_integration_endpoints",
			"Integration endpoints of all apps by how they are."+clusterWide, []string{"endpoint", "health"}, nil),
		off: prometheus.NewDesc("lamplighter_integration_endpoints_off",
			"Integration endpoints that were switched off, by whom."+clusterWide, []string{"endpoint", "by"}, nil),
		ending: prometheus.NewDesc("lamplighter_endpoint_certificate_expiry_timestamp_seconds",
			"When the TLS certificate of an integration endpoint ends; absent until 21 days before."+clusterWide, []string{"client_id", "endpoint"}, nil),
		overflow: prometheus.NewDesc("lamplighter_endpoint_certificates_dropped",
			"Certificates that end soon beyond the series that name them."+clusterWide, nil, nil),
	}
	c.current.Store(newSummary())
	return c
}

// Describe implements prometheus.Collector.
func (c *clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.statuses
	ch <- c.off
	ch <- c.ending
	ch <- c.overflow
}

// Collect implements prometheus.Collector.
func (c *clusterCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.current.Load()
	for _, k := range listProbedKinds() {
		for _, w := range health.AllStatuses() {
			ch <- prometheus.MustNewConstMetric(c.statuses, prometheus.GaugeValue, float64(s.Health[k.String()][w]), k.String(), string(w))
		}
	}
	for _, k := range listProbedKinds() {
		for _, by := range health.AllSwitchedOffBy() {
			ch <- prometheus.MustNewConstMetric(c.off, prometheus.GaugeValue, float64(s.Off[k.String()][by]), k.String(), string(by))
		}
	}
	for _, e := range s.Ending {
		ch <- prometheus.MustNewConstMetric(c.ending, prometheus.GaugeValue, float64(e.Ends), string(e.App), e.Endpoint)
	}
	ch <- prometheus.MustNewConstMetric(c.overflow, prometheus.GaugeValue, float64(s.Overflow))
}
