package queue

import (
	"slices"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Collector reports the queues' lengths when scraped.
type Collector struct {
	inspector *asynq.Inspector
	namespace string
	tasks     *prometheus.Desc
	latency   *prometheus.Desc
	up        *prometheus.Desc
}

// NewCollector returns a Collector on a shared Redis client.
func NewCollector(rdb redis.UniversalClient, namespace string) *Collector {
	return &Collector{
		inspector: asynq.NewInspectorFromRedisClient(rdb), namespace: namespace,
		tasks:   prometheus.NewDesc("lamplighter_queue_tasks", "Tasks in a queue by state. Cluster-wide: aggregate with max.", []string{"queue", "state"}, nil),
		latency: prometheus.NewDesc("lamplighter_queue_latency_seconds", "Age of the oldest pending task of a queue. Cluster-wide: aggregate with max.", []string{"queue"}, nil),
		up:      prometheus.NewDesc("lamplighter_queue_collector_up", "1 when the queues could be read at this scrape.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.tasks
	ch <- c.latency
	ch <- c.up
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	up := 0.0
	if known, err := c.inspector.Queues(); err == nil {
		up = 1
		for _, k := range []Kind{Fanout, Drain, Mail, Probe} {
			if !c.collect(ch, k, known) {
				up = 0
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up)
}

// collect reports one queue; one that had no task yet is not known to asynq, and empty.
func (c *Collector) collect(ch chan<- prometheus.Metric, k Kind, known []string) (ok bool) {
	name, info := Name(c.namespace, k), &asynq.QueueInfo{}
	if slices.Contains(known, name) {
		var err error
		if info, err = c.inspector.GetQueueInfo(name); err != nil {
			return false
		}
	}
	for state, n := range map[string]int{
		"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry, "archived": info.Archived,
	} {
		ch <- prometheus.MustNewConstMetric(c.tasks, prometheus.GaugeValue, float64(n), string(k), state)
	}
	ch <- prometheus.MustNewConstMetric(c.latency, prometheus.GaugeValue, info.Latency.Seconds(), string(k))
	return true
}
