package redisconn

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

const (
	// monitorEvery is short enough for an alert, and costs Redis a few commands.
	monitorEvery = 15 * time.Second
	// monitorWithin bounds one inspection.
	monitorWithin = 5 * time.Second
)

// Monitor inspects Redis regularly, and exports the result: a server that was fit at the start may be failed over, reconfigured
// or full an hour later.
type Monitor struct {
	rdb    redis.UniversalClient
	waived []Check
	log    *slog.Logger
	// told are the problems that were logged last, so that each is logged only once.
	told map[Check]bool

	failing                  *prometheus.GaugeVec
	used, limit, ratio, skew prometheus.Gauge
	inspected                prometheus.Gauge
	// percent is how full Redis was at the last inspection.
	percent atomic.Int64
}

// NewMonitor registers the metrics. Waived checks count as passed.
func NewMonitor(rdb redis.UniversalClient, reg prometheus.Registerer, log *slog.Logger, waived ...Check) *Monitor {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	m := &Monitor{
		rdb: rdb, waived: waived, log: log, told: map[Check]bool{},
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_redis_check_failing", Help: "1 for each safety check that Redis fails, as this process last saw it; 0 when it passes or is waived.",
		}, []string{"check"}),
		used:      gauge("lamplighter_redis_memory_used_bytes", "Memory that Redis uses; of a Cluster, that of the fullest primary."),
		limit:     gauge("lamplighter_redis_memory_limit_bytes", "maxmemory of that server; 0 for none."),
		ratio:     gauge("lamplighter_redis_memory_used_ratio", "Memory that Redis uses as a share of its maxmemory; 0 where there is none."),
		skew:      gauge("lamplighter_redis_clock_skew_seconds", "How far the clock of this process is ahead of that of Redis."),
		inspected: gauge("lamplighter_redis_inspected_timestamp_seconds", "When this process last inspected Redis; 0 if never."),
	}
	reg.MustRegister(m.failing)
	for _, c := range Checks() {
		m.failing.WithLabelValues(string(c)).Set(0)
	}
	return m
}

// Run inspects at once and then every 15 s, until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	tick := time.NewTicker(monitorEvery)
	defer tick.Stop()
	for {
		m.exportReport(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// MemoryPercent returns how much of its maxmemory Redis used at the last inspection; 0 before the first, and without a limit.
func (m *Monitor) MemoryPercent() int { return int(m.percent.Load()) }

// exportReport exports one report. If the server does not answer, all metrics stay as they are, and inspected becomes old.
func (m *Monitor) exportReport(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, monitorWithin)
	defer cancel()
	r, err := Inspect(ctx, m.rdb)
	if err != nil || r.Loading {
		return // readiness and the queue collector report it
	}
	m.inspected.SetToCurrentTime()
	m.used.Set(float64(r.MemoryUsed))
	m.limit.Set(float64(r.MemoryLimit))
	m.ratio.Set(r.Fullness())
	m.percent.Store(int64(100 * r.Fullness()))
	m.skew.Set(r.Skew.Seconds())
	now := map[Check]bool{}
	for _, p := range append(r.Problems(m.waived...), r.Warnings()...) {
		now[p.Check] = true
		if !m.told[p.Check] {
			m.log.WarnContext(ctx, "redis is not as it should be", "check", string(p.Check), "detail", p.Explanation)
		}
	}
	for _, c := range Checks() {
		v := 0.0
		if now[c] {
			v = 1
		}
		m.failing.WithLabelValues(string(c)).Set(v)
	}
	m.told = now
}
