package guard

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts refusals, of URLs when they are set and of connections.
type Metrics struct {
	blocked map[Reason]prometheus.Counter
}

// NewMetrics registers lamplighter_guard_blocked_total with a series for each
// Reason. It panics when reg already holds it.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lamplighter_guard_blocked_total",
		Help: "URLs and connections refused because of where they lead, by reason.",
	}, []string{"reason"})
	reg.MustRegister(vec)
	m := &Metrics{blocked: make(map[Reason]prometheus.Counter)}
	for _, r := range Reasons() {
		m.blocked[r] = vec.WithLabelValues(string(r))
	}
	return m
}

// counted passes err on, counting it if it is a refusal.
func (g *Guard) counted(err error) error {
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
