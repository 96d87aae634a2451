package mailer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/lamplighter/lamplighter/internal/incident"
)

// Result is the result of an attempt to send a mail, a metric label.
type Result string

// The closed set of results.
const (
	// ResultSent: a mail server accepted it.
	ResultSent Result = "sent"
	// ResultDeferred: it is tried again later.
	ResultDeferred Result = "deferred"
	// ResultRefused: a mail server permanently refused it.
	ResultRefused Result = "refused"
	// ResultExpired: it was tried for 5 days without success.
	ResultExpired Result = "expired"
	// ResultUnwanted: the recipient unsubscribed while it was pending, or refuses confirmations.
	ResultUnwanted Result = "unwanted"
	// ResultDropped: a confirmation whose mail queue was full, or which waited for 5 days without being tried.
	ResultDropped Result = "dropped"
	// ResultUnreadable: this version cannot read or compose the stored mail.
	ResultUnreadable Result = "unreadable"
)

// AllResults lists the closed set.
func AllResults() []Result {
	return []Result{ResultSent, ResultDeferred, ResultRefused, ResultExpired, ResultUnwanted, ResultDropped, ResultUnreadable}
}

// KindDigest labels a digest.
const KindDigest incident.Kind = "digest"

// kindUnknown labels a mail that this version cannot read.
const kindUnknown incident.Kind = "unknown"

// Metrics of the mailer. A nil *Metrics counts nothing.
type Metrics struct {
	mails       *prometheus.CounterVec
	connections *prometheus.CounterVec
	breakerOpen prometheus.Gauge
}

// NewMetrics registers the mailer's metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		mails: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_mails_total", Help: "Tries to send a mail, by what the mail says and what came of it.",
		}, []string{"kind", "result"}),
		connections: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_smtp_connections_total", Help: "Connections that were made to the mail server, with greeting and login, by result.",
		}, []string{"result"}),
		breakerOpen: f.NewGauge(prometheus.GaugeOpts{
			Name: "lamplighter_smtp_breaker_open", Help: "1 while this process leaves a mail server alone that did not answer. Aggregate with max.",
		}),
	}
	for _, r := range []string{"ok", "error"} {
		m.connections.WithLabelValues(r)
	}
	for _, k := range append(incident.AllKinds(), KindDigest, kindUnknown) {
		for _, r := range AllResults() {
			m.mails.WithLabelValues(string(k), string(r))
		}
	}
	return m
}

func (m *Metrics) countMail(k incident.Kind, r Result) {
	if m == nil {
		return
	}
	if k == "" {
		k = kindUnknown
	}
	m.mails.WithLabelValues(string(k), string(r)).Inc()
}

func (m *Metrics) countConnection(ok bool) {
	switch {
	case m == nil:
	case ok:
		m.connections.WithLabelValues("ok").Inc()
	default:
		m.connections.WithLabelValues("error").Inc()
	}
}

func (m *Metrics) setBreakerOpen(open bool) {
	switch {
	case m == nil:
	case open:
		m.breakerOpen.Set(1)
	default:
		m.breakerOpen.Set(0)
	}
}
