package fanout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// Metrics of fan-outs. A nil *Metrics counts nothing.
type Metrics struct {
	duration   prometheus.Histogram
	superseded prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "lamplighter_fanout_duration_seconds", Help: "Duration of one fan-out of a batch of tenants to every app that approved them.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		superseded: f.NewCounter(prometheus.CounterOpts{
			Name: "lamplighter_superseded_total", Help: "Pending notifications replaced by a newer change before they were delivered.",
		}),
	}
}

func (m *Metrics) observeFanout(d time.Duration) {
	if m != nil {
		m.duration.Observe(d.Seconds())
	}
}

func (m *Metrics) countSuperseded(d mailbox.DepositResult) {
	if m != nil {
		m.superseded.Add(float64(d.Replaced))
	}
}
