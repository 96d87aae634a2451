package feed

import "github.com/prometheus/client_golang/prometheus"

// Metrics describe the use of the feed. A nil *Metrics counts nothing.
type Metrics struct {
	gauge  prometheus.Gauge
	counts *prometheus.CounterVec
}

// The closed set of answers.
const (
	answeredSnapshot = "snapshot"
	answeredDelta    = "delta"
	answeredNothing  = "nothing"
)

func answerKind(known int64) string {
	if known == snapshot {
		return answeredSnapshot
	}
	return answeredDelta
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_config_feed_waiters", Help: "Engines that wait for a change of the configuration at this process.",
		}),
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_config_feed_answers_total", Help: "Answers of the configuration feed: all there is, what changed, or that nothing did.",
		}, []string{"answer"}),
	}
	for _, a := range []string{answeredSnapshot, answeredDelta, answeredNothing} {
		m.counts.WithLabelValues(a)
	}
	reg.MustRegister(m.gauge, m.counts)
	return m
}

func (m *Metrics) setWaiters(n int) {
	if m != nil {
		m.gauge.Set(float64(n))
	}
}

func (m *Metrics) countAnswer(kind string) {
	if m != nil {
		m.counts.WithLabelValues(kind).Inc()
	}
}
