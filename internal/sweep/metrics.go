package sweep

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Metrics of the loops, and the cluster-wide gauges that one of them counts. A nil *Metrics counts nothing.
type Metrics struct {
	byLoop  *loop.Metrics
	cluster *clusterCollector
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{byLoop: loop.NewMetrics(reg), cluster: newClusterCollector()}
	reg.MustRegister(m.cluster)
	return m
}

// Loops returns the metrics of loops, for loops of other packages.
func (m *Metrics) Loops() *loop.Metrics { return m.loopMetrics() }

func (m *Metrics) loopMetrics() *loop.Metrics {
	if m == nil {
		return nil
	}
	return m.byLoop
}

func (m *Metrics) setSummary(doc []byte) {
	if m != nil {
		m.cluster.current.Store(decodeSummary(doc))
	}
}

// clusterCollector exports the summary that was counted last, in any process.
type clusterCollector struct {
	current                                                           atomic.Pointer[summary]
	apps, waiting, oldest, diverged, breakers, incidents              *prometheus.Desc
	failing, endpointWaiting, overflow, outbox, oldestMailDesc        *prometheus.Desc
	pendingFanouts, stuck, oldestFanout, fanoutPairs, endpointTenants *prometheus.Desc
}

const clusterWide = " Cluster-wide, the same on every worker: aggregate with max."

func newClusterCollector() *clusterCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help+clusterWide, labels, nil)
	}
	c := &clusterCollector{
		apps:            desc("lamplighter_apps", "Apps by condition.", "condition"),
		waiting:         desc("lamplighter_waiting_notifications", "Waiting notifications, by the condition of their app.", "condition"),
		oldest:          desc("lamplighter_oldest_waiting_seconds", "Age of the oldest waiting notification, by the condition of its app.", "condition"),
		diverged:        desc("lamplighter_diverged_tenants", "Pairs of app and tenant with something waiting in the app's mailbox, by the condition of the app; those of lamplighter_owed_pairs are not included.", "condition"),
		breakers:        desc("lamplighter_breakers", "Breakers by state, of the endpoints that are on.", "state"),
		incidents:       desc("lamplighter_incidents_open", "Open incidents by endpoint.", "endpoint"),
		failing:         desc("lamplighter_endpoint_failing", "1 for each failing endpoint; absent when healthy.", "client_id", "endpoint"),
		endpointWaiting: desc("lamplighter_endpoint_waiting", "Waiting notifications of each app that is failing or behind; absent otherwise.", "client_id"),
		endpointTenants: desc("lamplighter_endpoint_diverged_tenants", "Tenants whose present state each app that is failing or behind has not received; absent otherwise.", "client_id"),
		overflow:        desc("lamplighter_endpoint_exceptions_dropped", "Failing or waiting endpoints that have no series of their own because there are too many."),
		outbox:          desc("lamplighter_outbox_mails", "Mails that are to be sent."),
		pendingFanouts:  desc("lamplighter_fanouts_owed", "Tenants with a pending fan-out; some may be complete already."),
		stuck:           desc("lamplighter_fanouts_stuck", "Tenants whose fan-out has been pending for more than 15 minutes: something makes it fail."),
		oldestFanout:    desc("lamplighter_oldest_owed_fanout_seconds", "How long the oldest pending fan-out has been pending; its pairs wait in no mailbox yet."),
		fanoutPairs:     desc("lamplighter_owed_pairs", "Pairs of app and tenant whose fan-out is pending; they wait in no mailbox yet."),
		oldestMailDesc:  desc("lamplighter_outbox_oldest_seconds", "How long the most overdue mail has been waiting; 0 when no mail is overdue."),
	}
	c.current.Store(newSummary())
	return c
}

// Describe implements prometheus.Collector.
func (c *clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.apps, c.waiting, c.oldest, c.diverged, c.breakers, c.incidents, c.failing, c.endpointWaiting, c.overflow, c.outbox, c.oldestMailDesc, c.oldestFanout,
		c.fanoutPairs, c.endpointTenants, c.pendingFanouts, c.stuck,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *clusterCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.current.Load()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, cond := range listConditions() {
		gauge(c.apps, float64(s.Apps[cond]), string(cond))
		gauge(c.waiting, float64(s.Waiting[cond]), string(cond))
		gauge(c.oldest, s.Oldest[cond], string(cond))
		gauge(c.diverged, float64(s.Diverged[cond]), string(cond))
	}
	for _, state := range []string{"closed", "open", "half_open"} {
		gauge(c.breakers, float64(s.Breakers[state]), state)
	}
	for _, k := range partner.AllEndpointKinds() {
		gauge(c.incidents, float64(s.Open[k.String()]), k.String())
	}
	for _, e := range s.Failing {
		gauge(c.failing, e.Value, string(e.App), e.Endpoint)
	}
	for _, e := range s.Behind {
		gauge(c.endpointWaiting, e.Value, string(e.App))
	}
	for _, e := range s.Tenants {
		gauge(c.endpointTenants, e.Value, string(e.App))
	}
	gauge(c.overflow, float64(s.Overflow))
	gauge(c.outbox, float64(s.Outbox))
	gauge(c.oldestMailDesc, s.OldestMail)
	gauge(c.oldestFanout, s.OldestFanout)
	gauge(c.fanoutPairs, float64(s.FanoutPairs))
	gauge(c.pendingFanouts, float64(s.PendingFanouts))
	gauge(c.stuck, float64(s.Stuck))
}
