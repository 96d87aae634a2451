package causewatch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/commoncause"
)

// Metrics of the watch. A nil *Metrics shows nothing.
type Metrics struct{ since, hosts prometheus.Gauge }

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	const clusterWide = " Cluster-wide, the same on every process: aggregate with max."
	return &Metrics{
		since: f.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_common_cause_since_timestamp_seconds",
			Help: "Since when so many hosts fail on the connection at once, while none answers, that the cause may be the service's own; 0 when they do not." + clusterWide,
		}),
		hosts: f.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_common_cause_hosts", Help: "Hosts that began to fail on the connection and of which none answered since." + clusterWide,
		}),
	}
}

func (m *Metrics) setEpisode(e commoncause.Episode, hosts int) {
	if m == nil {
		return
	}
	since := 0.0
	if e.IsOngoing() {
		since = float64(e.Since.UnixMilli()) / 1000
	}
	m.since.Set(since)
	m.hosts.Set(float64(hosts))
}
