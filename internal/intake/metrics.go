package intake

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

type result string

const (
	resultAccepted result = "accepted"
	resultReplayed result = "replayed"
	resultError    result = "error"
	resultInvalid  result = "invalid"
	// resultOutOfOrder is final: a newer change of the source was accepted before.
	resultOutOfOrder result = "out_of_order"
)

// Metrics of the intake. A nil *Metrics counts nothing.
type Metrics struct{ changes *prometheus.CounterVec }

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{changes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "lamplighter_state_changes_total", Help: "State changes reported by the platform, by type and by what became of them.",
	}, []string{"change_type", "result"})}
	for _, c := range tenant.AllChangeTypes() {
		for _, r := range []result{resultAccepted, resultReplayed, resultError, resultOutOfOrder} {
			m.changes.WithLabelValues(c.String(), string(r))
		}
	}
	m.changes.WithLabelValues(unknownType, string(resultInvalid))
	return m
}

// unknownType labels changes that were refused before their type was known.
const unknownType = "unknown"

func (m *Metrics) countChange(c tenant.ChangeType, r result) {
	if m != nil {
		m.changes.WithLabelValues(c.String(), string(r)).Inc()
	}
}

// CountRefused counts changes that were refused as malformed.
func (m *Metrics) CountRefused(n int) {
	if m != nil {
		m.changes.WithLabelValues(unknownType, string(resultInvalid)).Add(float64(n))
	}
}
