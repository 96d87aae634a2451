package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics of all loops. A nil *Metrics counts nothing.
type Metrics struct {
	last     *prometheus.GaugeVec
	rounds   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

// The results of a round.
const (
	resultComplete   = "complete"
	resultIncomplete = "incomplete"
)

// NewMetrics registers the metrics; declareSeries adds the series of a loop.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		last: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_loop_last_complete_timestamp_seconds",
			Help: "When a loop last completed a round without a store error, in any process; 0 if never. The same on every worker: aggregate with max.",
		}, []string{"loop"}),
		rounds: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_loop_rounds_total", Help: "Rounds of a loop that this process ended, by result.",
		}, []string{"loop", "result"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lamplighter_loop_round_seconds", Help: "Duration of the rounds of a loop that this process ran from start to end.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 2.5, 5, 15, 60},
		}, []string{"loop"}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_loop_failures_total", Help: "What this process could not do in a loop and skipped until the next round, by what failed: single items, or whole steps.",
		}, []string{"loop", "what"}),
	}
}

func (m *Metrics) declareSeries(loop string) {
	if m == nil {
		return
	}
	m.last.WithLabelValues(loop)
	m.duration.WithLabelValues(loop)
	for _, r := range []string{resultComplete, resultIncomplete} {
		m.rounds.WithLabelValues(loop, r)
	}
	for _, w := range []string{"item", "step"} {
		m.failures.WithLabelValues(loop, w)
	}
}

func (m *Metrics) countFailures(loop string, things int, step bool) {
	if m == nil {
		return
	}
	m.failures.WithLabelValues(loop, "item").Add(float64(things))
	if step {
		m.failures.WithLabelValues(loop, "step").Inc()
	}
}

func (m *Metrics) countRound(loop string, took time.Duration, whole, complete bool) {
	if m == nil {
		return
	}
	result := resultIncomplete
	if complete {
		result = resultComplete
	}
	m.rounds.WithLabelValues(loop, result).Inc()
	if whole {
		m.duration.WithLabelValues(loop).Observe(took.Seconds())
	}
}

func (m *Metrics) setCompleted(loop string, at time.Time) {
	if m != nil && !at.IsZero() {
		m.last.WithLabelValues(loop).Set(float64(at.UnixMilli()) / float64(time.Second/time.Millisecond))
	}
}
