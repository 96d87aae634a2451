package queue

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// collectWithin is how long a scrape waits for Redis. A scraper must get all other metrics in time,
// especially when Redis hangs.
const collectWithin = 500 * time.Millisecond

// Collector reports the queues' lengths. It reads them at each scrape; when Redis does not answer in time,
// it reports those that it last read.
type Collector struct {
	inspector *asynq.Inspector
	namespace string
	tasks     *prometheus.Desc
	latency   *prometheus.Desc
	up        *prometheus.Desc
	at        *prometheus.Desc

	mu sync.Mutex
	// known is what was last read of each queue, and read is when all of them were read.
	known map[Kind]*asynq.QueueInfo
	read  time.Time
	// reading is the read in progress, nil for none. There is one at a time; the client's deadlines end it.
	reading *queueReading
}

// queueReading is one read of all queues.
type queueReading struct {
	done chan struct{}
	// ok is set before done is closed.
	ok bool
}

// NewCollector returns a Collector on a shared Redis client.
func NewCollector(rdb redis.UniversalClient, namespace string) *Collector {
	return &Collector{
		inspector: asynq.NewInspectorFromRedisClient(rdb), namespace: namespace, known: map[Kind]*asynq.QueueInfo{},
		tasks:   prometheus.NewDesc("lamplighter_queue_tasks", "Tasks in a queue by state. Cluster-wide: aggregate with max.", []string{"queue", "state"}, nil),
		latency: prometheus.NewDesc("lamplighter_queue_latency_seconds", "Age of the oldest pending task of a queue. Cluster-wide: aggregate with max.", []string{"queue"}, nil),
		up:      prometheus.NewDesc("lamplighter_queue_collector_up", "1 when the queues could be read at this scrape.", nil, nil),
		at:      prometheus.NewDesc("lamplighter_queue_collected_timestamp_seconds", "When the queues, as shown, were last read; 0 if never.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.tasks
	ch <- c.latency
	ch <- c.up
	ch <- c.at
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	up, at := 0.0, 0.0
	if c.refreshLengths() {
		up = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, info := range c.known {
		for state, n := range map[string]int{
			"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry, "archived": info.Archived,
		} {
			gauge(c.tasks, float64(n), string(k), state)
		}
		gauge(c.latency, info.Latency.Seconds(), string(k))
	}
	if !c.read.IsZero() {
		at = float64(c.read.UnixMilli()) / float64(time.Second/time.Millisecond)
	}
	gauge(c.up, up)
	gauge(c.at, at)
}

// refreshLengths reads the queues, or waits for a read in progress, for collectWithin at most. It reports
// whether they were read.
func (c *Collector) refreshLengths() bool {
	c.mu.Lock()
	r := c.reading
	if r == nil {
		r = &queueReading{done: make(chan struct{})}
		c.reading = r
		go c.readQueues(r)
	}
	c.mu.Unlock()
	t := time.NewTimer(collectWithin)
	defer t.Stop()
	select {
	case <-r.done:
		return r.ok
	case <-t.C:
		return false
	}
}

// readQueues reads all queues.
func (c *Collector) readQueues(r *queueReading) {
	found, err := c.fetchQueueInfos()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.known, c.read, r.ok = found, time.Now(), true
	}
	c.reading = nil
	close(r.done)
}

// fetchQueueInfos reads each queue. asynq does not know a queue that had no task yet; it counts as empty.
func (c *Collector) fetchQueueInfos() (map[Kind]*asynq.QueueInfo, error) {
	names, err := c.inspector.Queues()
	if err != nil {
		return nil, err
	}
	found := map[Kind]*asynq.QueueInfo{}
	var errs []error
	for _, k := range []Kind{Fanout, Drain, ForwardMail, Probe} {
		found[k] = &asynq.QueueInfo{}
		if name := AsynqName(c.namespace, k); slices.Contains(names, name) {
			info, err := c.inspector.GetQueueInfo(name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found[k] = info
		}
	}
	return found, errors.Join(errs...)
}
