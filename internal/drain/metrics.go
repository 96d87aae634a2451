package drain

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/delivery"
)

type breakerState string

const (
	closed   breakerState = "closed"
	open     breakerState = "open"
	halfOpen breakerState = "half_open"
)

// Metrics of the drainers. A nil *Metrics counts nothing.
type Metrics struct {
	attempts    *prometheus.CounterVec
	duration    prometheus.Histogram
	lag         *prometheus.HistogramVec
	transitions *prometheus.CounterVec
	// working and waiting are the two states of one gauge.
	working, waiting prometheus.Gauge
}

// NewMetrics registers the drainers' metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_delivery_attempts_total", Help: "Attempts to deliver a notification, by what came of them and why.",
		}, []string{"outcome", "reason"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "lamplighter_delivery_attempt_duration_seconds", Help: "Duration of one attempt, from signing to the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}),
		lag: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lamplighter_delivery_lag_seconds",
			Help:    "Time from accepting a change to its delivery; held=\"yes\" when the endpoint was off, paused, failing or refused it before.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 259200},
		}, []string{"held"}),
		transitions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_breaker_transitions_total", Help: "Transitions of endpoints' breakers, by the state entered.",
		}, []string{"to"}),
	}
	drains := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "lamplighter_drains",
		Help: "Mailboxes that this process empties, by whether it works or only waits for answers that are slow.",
	}, []string{"state"})
	m.working, m.waiting = drains.WithLabelValues("working"), drains.WithLabelValues("waiting")
	for _, p := range listAttemptKeys() {
		m.attempts.WithLabelValues(p.outcome.String(), p.reason.String())
	}
	for _, h := range []string{"yes", "no"} {
		m.lag.WithLabelValues(h)
	}
	for _, s := range []breakerState{closed, open, halfOpen} {
		m.transitions.WithLabelValues(string(s))
	}
	return m
}

type attemptKey struct {
	outcome delivery.Outcome
	reason  delivery.Reason
}

// listAttemptKeys lists the combinations that attempts can have.
func listAttemptKeys() []attemptKey {
	out := []attemptKey{
		{delivery.Delivered, delivery.ReasonNone},
		{delivery.Rejected, delivery.ReasonClientError},
		{delivery.Gone, delivery.ReasonGone},
		{delivery.Blocked, delivery.ReasonBlockedAddress},
		{delivery.Aborted, delivery.ReasonOwnFault},
	}
	for _, r := range delivery.AllReasons() {
		switch r {
		case delivery.ReasonNone, delivery.ReasonGone, delivery.ReasonOwnFault, delivery.ReasonWrongKey: // they never come with this outcome
		default:
			out = append(out, attemptKey{delivery.Retryable, r})
		}
	}
	return out
}

func (m *Metrics) observeAttempt(r delivery.Result, lag time.Duration, held bool) {
	if m == nil {
		return
	}
	m.attempts.WithLabelValues(r.Outcome.String(), r.Reason.String()).Inc()
	m.duration.Observe(r.Duration.Seconds())
	if r.Outcome != delivery.Delivered {
		return
	}
	h := "no"
	if held {
		h = "yes"
	}
	m.lag.WithLabelValues(h).Observe(lag.Seconds())
}

func (m *Metrics) setRuns(n load) {
	if m != nil {
		m.working.Set(float64(n.working))
		m.waiting.Set(float64(n.waiting))
	}
}

func (m *Metrics) countTransition(to breakerState) {
	if m != nil {
		m.transitions.WithLabelValues(string(to)).Inc()
	}
}
