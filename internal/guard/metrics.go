package guard

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts refusals, of URLs when they are set and of connections.
type Metrics struct {
	blocked map[Reason]prometheus.Counter
	short   *recentHosts
}

// NewMetrics registers lamplighter_guard_blocked_total with a series for each
// Reason, and lamplighter_guard_short_key_hosts. It panics when reg already holds them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lamplighter_guard_blocked_total",
		Help: "URLs and connections refused because of where they lead, by reason.",
	}, []string{"reason"})
	reg.MustRegister(vec)
	m := &Metrics{blocked: make(map[Reason]prometheus.Counter), short: newRecentHosts(rememberShort)}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lamplighter_guard_short_key_hosts",
		Help: "Hosts that this process met within a day with a certificate whose RSA key has less than 2048 bits.",
	}, func() float64 { return float64(m.short.countRecent(time.Now())) }))
	for _, r := range AllReasons() {
		m.blocked[r] = vec.WithLabelValues(string(r))
	}
	return m
}

// countBlocked returns err, and counts it if it is a refusal.
func (g *Guard) countBlocked(err error) error {
	if g.metrics == nil || err == nil {
		return err
	}
	if be, ok := errors.AsType[*BlockedError](err); ok {
		if c, ok := g.metrics.blocked[be.Reason]; ok {
			c.Inc()
		}
	}
	return err
}
