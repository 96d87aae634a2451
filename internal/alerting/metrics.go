package alerting

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Suppression is why a recipient does not get a decided mail. It is a metric label.
type Suppression string

// The closed set of suppressions.
const (
	// SuppressedOff: the endpoint's send_error_emails is off.
	SuppressedOff Suppression = "switched_off"
	// SuppressedNoRecipient: the app has neither error emails nor a technical contact's address.
	SuppressedNoRecipient Suppression = "no_recipient"
	// SuppressedUnsubscribed: the recipient unsubscribed from mail about this app.
	SuppressedUnsubscribed Suppression = "unsubscribed"
	// SuppressedUnconfirmed: a partner set the address, and the recipient has not confirmed it.
	SuppressedUnconfirmed Suppression = "unconfirmed"
	// SuppressedBounced: a mail server permanently refused the address.
	SuppressedBounced Suppression = "bounced"
	// SuppressedNotMailed: it is about a recovery or a close, and the recipient got no mail about the failure.
	SuppressedNotMailed Suppression = "not_told"
)

// AllSuppressions lists the closed set.
func AllSuppressions() []Suppression {
	return []Suppression{SuppressedOff, SuppressedNoRecipient, SuppressedUnsubscribed, SuppressedUnconfirmed, SuppressedBounced, SuppressedNotMailed}
}

// Metrics of the decisions. A nil *Metrics counts nothing.
type Metrics struct {
	suppressed *prometheus.CounterVec
}

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		suppressed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_mails_suppressed_total", Help: "Mails that were decided but not written, by the reason.",
		}, []string{"reason"}),
	}
	for _, s := range AllSuppressions() {
		m.suppressed.WithLabelValues(string(s))
	}
	return m
}

func (m *Metrics) countSuppressed(s Suppression) {
	if m != nil {
		m.suppressed.WithLabelValues(string(s)).Inc()
	}
}
