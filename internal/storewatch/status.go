package storewatch

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// change is how the store differs from the one that a process began with.
type change int

const (
	inOrder change = iota
	gone
	other
)

// listBlockingChanges lists those that keep the store from being used.
func listBlockingChanges() []change { return []change{gone, other} }

// String is the change in answers and metrics.
func (c change) String() string {
	return [...]string{"in_order", "gone", "other"}[c]
}

// operatorMessage say what is wrong, and what to do.
func (c change) operatorMessage() string {
	const next = "; nothing is accepted or delivered: restore the right data, or accept it as it is with lamplighter store accept"
	switch c {
	case gone:
		return "the store lost its identity, and with it probably everything" + next
	case other:
		return "the store has another identity: it is not the one that this process began with" + next
	default:
		return ""
	}
}

// asError is the change as an error of whatever would use the store.
func (c change) asError() error { return fmt.Errorf("%w: %s", ErrChanged, c) }

// status is what a process knows of the store.
type status struct {
	changed change
	// wentBack: the store lost writes, and was not accepted since.
	wentBack bool
}

// stateName is the status in one word.
func (s status) stateName() string {
	if s.changed == inOrder && s.wentBack {
		return "went_back"
	}
	return s.changed.String()
}

// applyCheck is what a look makes of a status, and of what the process remembers.
func (s status) applyCheck(l registry.StoreCheck, m registry.StoreMemory) (status, registry.StoreMemory) {
	switch l.Match {
	case registry.StoreGone:
		return status{changed: gone, wentBack: s.wentBack}, m
	case registry.StoreOther:
		return status{changed: other, wentBack: s.wentBack}, m
	case registry.StoreTaken:
		return status{}, l.Now
	default:
		return status{wentBack: s.wentBack || l.Lower}, l.Now
	}
}

// Metrics of a Watch. A nil *Metrics shows nothing.
type Metrics struct {
	changed  *prometheus.GaugeVec
	wentBack prometheus.Gauge
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		changed: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_store_changed", Help: "1 while this process refuses the store because it lost its identity (gone) or has another (other).",
		}, []string{"reason"}),
		wentBack: f.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_store_went_back", Help: "1 from when this process saw the store lose acknowledged writes until the store is accepted.",
		}),
	}
	m.setStatus(status{})
	return m
}

func (m *Metrics) setStatus(s status) {
	if m == nil {
		return
	}
	for _, c := range listBlockingChanges() {
		m.changed.WithLabelValues(c.String()).Set(boolToFloat(s.changed == c))
	}
	m.wentBack.Set(boolToFloat(s.wentBack))
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
