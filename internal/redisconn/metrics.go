package redisconn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// PoolStatser returns statistics of a client's connections; every go-redis client implements it.
type PoolStatser interface {
	PoolStats() *redis.PoolStats
}

// poolCollector reads the pool's own counters at each scrape.
type poolCollector struct {
	pools                       []PoolStatser
	connections, idle           *prometheus.Desc
	requests, timeouts, dropped *prometheus.Desc
	waits, waitSeconds          *prometheus.Desc
}

// NewPoolCollector exports connection pools as lamplighter_redis_pool_…, summed over pools and, for a Cluster, over its nodes.
func NewPoolCollector(pools ...PoolStatser) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &poolCollector{
		pools:       pools,
		connections: desc("lamplighter_redis_pool_connections", "Open connections to Redis."),
		idle:        desc("lamplighter_redis_pool_idle_connections", "Open connections to Redis that no command uses."),
		requests:    desc("lamplighter_redis_pool_requests_total", "Commands that took a connection: found one open (hit) or had to dial (miss).", "result"),
		timeouts:    desc("lamplighter_redis_pool_timeouts_total", "Commands that got no connection in time: the pool is too small or Redis too slow."),
		dropped:     desc("lamplighter_redis_pool_stale_connections_total", "Connections removed because they were broken or idle for too long."),
		waits:       desc("lamplighter_redis_pool_waits_total", "Commands that waited for a connection."),
		waitSeconds: desc("lamplighter_redis_pool_wait_seconds_total", "Time that commands waited for a connection."),
	}
}

// Describe lists the metrics.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect reads the counters.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	var s redis.PoolStats
	for _, pool := range c.pools {
		one := pool.PoolStats()
		s.TotalConns += one.TotalConns
		s.IdleConns += one.IdleConns
		s.Hits += one.Hits
		s.Misses += one.Misses
		s.Timeouts += one.Timeouts
		s.StaleConns += one.StaleConns
		s.WaitCount += one.WaitCount
		s.WaitDurationNs += one.WaitDurationNs
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(c.connections, float64(s.TotalConns))
	gauge(c.idle, float64(s.IdleConns))
	counter(c.requests, float64(s.Hits), "hit")
	counter(c.requests, float64(s.Misses), "miss")
	counter(c.timeouts, float64(s.Timeouts))
	counter(c.dropped, float64(s.StaleConns))
	counter(c.waits, float64(s.WaitCount))
	counter(c.waitSeconds, float64(s.WaitDurationNs)/1e9)
}
