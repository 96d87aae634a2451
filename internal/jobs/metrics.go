package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// Counts are the jobs that run, as one count found them.
type Counts struct {
	Open, Failing map[mailbox.JobKind]int
	Oldest        time.Duration
}

// Metrics of jobs. A nil *Metrics counts nothing.
type Metrics struct {
	open, failing *prometheus.GaugeVec
	oldest        prometheus.Gauge
	pages, ended  *prometheus.CounterVec
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	const same = " The same on every worker: aggregate with max."
	m := &Metrics{
		open:    f.NewGaugeVec(prometheus.GaugeOpts{Name: "lamplighter_jobs_open", Help: "Jobs that run, by kind." + same}, []string{"kind"}),
		failing: f.NewGaugeVec(prometheus.GaugeOpts{Name: "lamplighter_jobs_failing", Help: "Jobs whose current page failed, by kind; of the 200 that are due soonest." + same}, []string{"kind"}),
		oldest:  f.NewGauge(prometheus.GaugeOpts{Name: "lamplighter_jobs_oldest_seconds", Help: "For how long the oldest job has run." + same}),
		pages:   f.NewCounterVec(prometheus.CounterOpts{Name: "lamplighter_job_pages_total", Help: "Pages of jobs by this process, by kind and result."}, []string{"kind", "result"}),
		ended:   f.NewCounterVec(prometheus.CounterOpts{Name: "lamplighter_jobs_ended_total", Help: "Jobs that ended in this process, by kind and state."}, []string{"kind", "state"}),
	}
	for _, k := range mailbox.JobKinds() {
		m.open.WithLabelValues(string(k))
		m.failing.WithLabelValues(string(k))
		for _, r := range []string{"ok", "error"} {
			m.pages.WithLabelValues(string(k), r)
		}
		for _, s := range mailbox.JobStates() {
			if s != mailbox.JobRunning {
				m.ended.WithLabelValues(string(k), string(s))
			}
		}
	}
	return m
}

func (m *Metrics) countPage(k mailbox.JobKind, ok bool) {
	if m == nil {
		return
	}
	result := "ok"
	if !ok {
		result = "error"
	}
	m.pages.WithLabelValues(string(k), result).Inc()
}

func (m *Metrics) countEnded(k mailbox.JobKind, s mailbox.JobState) {
	if m != nil {
		m.ended.WithLabelValues(string(k), string(s)).Inc()
	}
}

func (m *Metrics) setCounts(n Counts) {
	if m == nil {
		return
	}
	for _, k := range mailbox.JobKinds() {
		m.open.WithLabelValues(string(k)).Set(float64(n.Open[k]))
		m.failing.WithLabelValues(string(k)).Set(float64(n.Failing[k]))
	}
	m.oldest.Set(n.Oldest.Seconds())
}
