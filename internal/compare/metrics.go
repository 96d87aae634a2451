package compare

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Metrics of the comparison. A nil *Metrics counts nothing.
type Metrics struct {
	gaps     *prometheus.CounterVec
	pairs    prometheus.Counter
	steps    *prometheus.CounterVec
	rounds   *prometheus.CounterVec
	last     prometheus.Gauge
	took     prometheus.Gauge
	progress prometheus.Gauge
	hurry    prometheus.Gauge
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help + " The same on every worker: aggregate with max."})
	}
	m := &Metrics{
		gaps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_comparison_gaps_closed_total", Help: "Gaps between apps and their tenants that this process found and closed, by kind. 0 unless Redis lost writes.",
		}, []string{"kind"}),
		pairs: f.NewCounter(prometheus.CounterOpts{
			Name: "lamplighter_comparison_pairs_total", Help: "Pairs of app and tenant that this process compared.",
		}),
		steps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_comparison_steps_total", Help: "Steps of the comparison by this process, by result.",
		}, []string{"result"}),
		rounds: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_comparison_rounds_total", Help: "Rounds over all pairs that this process completed, by pace.",
		}, []string{"pace"}),
		last:     gauge("lamplighter_comparison_completed_timestamp_seconds", "When the last round over all pairs was complete; 0 if never."),
		took:     gauge("lamplighter_comparison_round_seconds", "How long the last complete round took."),
		progress: gauge("lamplighter_comparison_progress_ratio", "Share of the pairs of the last complete round that this round has compared, at most 1."),
		hurry:    gauge("lamplighter_comparison_fast", "1 while a fast round is requested or in progress, else 0."),
	}
	for _, k := range Kinds() {
		m.gaps.WithLabelValues(string(k))
	}
	for _, r := range []string{"ok", "error"} {
		m.steps.WithLabelValues(r)
	}
	for _, p := range []string{"slow", "fast"} {
		m.rounds.WithLabelValues(p)
	}
	return m
}

func (m *Metrics) countClosed(k Kind, n int) {
	if m != nil {
		m.gaps.WithLabelValues(string(k)).Add(float64(n))
	}
}

func (m *Metrics) countCompared(n int) {
	if m != nil {
		m.pairs.Add(float64(n))
	}
}

func (m *Metrics) countStep(ok bool) {
	if m == nil {
		return
	}
	result := "ok"
	if !ok {
		result = "error"
	}
	m.steps.WithLabelValues(result).Inc()
}

func (m *Metrics) noteCompleted(fast bool) {
	if m == nil {
		return
	}
	pace := "slow"
	if fast {
		pace = "fast"
	}
	m.rounds.WithLabelValues(pace).Inc()
}

// setProgress exports the progress of the comparison, whichever process does it.
func (m *Metrics) setProgress(c registry.Comparison) {
	if m == nil {
		return
	}
	if !c.Completed.IsZero() {
		m.last.Set(float64(c.Completed.UnixMilli()) / float64(time.Second/time.Millisecond))
	}
	m.took.Set(c.Took.Seconds())
	m.progress.Set(min(float64(c.Compared)/float64(max(c.Pairs, 1)), 1))
	m.hurry.Set(0)
	if c.Fast || c.WantsFastRound() {
		m.hurry.Set(1)
	}
}
