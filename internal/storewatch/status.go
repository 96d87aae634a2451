package storewatch

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// change is how the store differs from the one with which the process began.
type change int

const (
	inOrder change = iota
	gone
	other
)

// listBlockingChanges lists the changes after which the store must not be used.
func listBlockingChanges() []change { return []change{gone, other} }

// String returns the change as answers and metrics spell it.
func (c change) String() string {
	return [...]string{"in_order", "gone", "other"}[c]
}

// FoundStates lists how a process may find the store: as it should be, or changed.
func FoundStates() []string {
	return []string{inOrder.String(), wentBackText, gone.String(), other.String()}
}

// wentBackText is how answers spell a store that lost writes.
const wentBackText = "went_back"

// operatorMessage says what is wrong, and what to do.
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

// asError returns the change as the error of a refused use of the store.
func (c change) asError() error { return fmt.Errorf("%w: %s", ErrChanged, c) }

// status is what a process knows of the store.
type status struct {
	changed change
	// wentBack: the store lost writes, and has not been accepted since.
	wentBack bool
}

// stateName returns the status as one word.
func (s status) stateName() string {
	if s.changed == inOrder && s.wentBack {
		return wentBackText
	}
	return s.changed.String()
}

// applyCheck returns the status, and what the process remembers, after a check.
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

// Metrics of a Watch. A nil *Metrics exports nothing.
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
			Name: "lamplighter_store_went_back", Help: "1 after this process saw that the store lost acknowledged writes, until the store is accepted.",
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
