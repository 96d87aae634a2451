package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unmatched is the route label of requests that no route takes.
const unmatched = "none"

// otherMethod is the method label of methods that no route has.
const otherMethod = "other"

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	panics   prometheus.Counter
	// shed counts pulls that were refused because of overload.
	shed prometheus.Counter
	// budgets counts refusals by budget and role.
	budgets *prometheus.CounterVec
}

// newMetrics registers the package's metrics. Route is a pattern of the table, never a path. The
// series of every route's success and of the answers that alerts watch exist from the start.
func newMetrics(reg prometheus.Registerer, routes []route) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_http_requests_total", Help: "Requests answered, by route pattern, method and status code.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lamplighter_http_request_duration_seconds", Help: "Time from a request's headers to the end of its answer.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
		}, []string{"route", "method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lamplighter_http_panics_total", Help: "Handlers that panicked; each was answered with 500.",
		}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lamplighter_pulls_shed_total", Help: "Status pulls answered 503 because too many were reading or waiting, or because they waited too long.",
		}),
	}
	m.budgets = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lamplighter_budget_refusals_total", Help: "Requests refused because their caller had used up a budget, by budget and the token's role; none without a token.",
	}, []string{"budget", "role"})
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.panics, m.shed, m.budgets)
	}
	for _, r := range routes {
		m.duration.WithLabelValues(r.pattern, r.method)
		for _, code := range append(alertedCodes(r), r.success...) {
			m.requests.WithLabelValues(r.pattern, r.method, strconv.Itoa(code))
		}
	}
	for _, budget := range allBudgets() {
		m.budgets.WithLabelValues(budget, noRole)
		for _, role := range AllRoles() {
			m.budgets.WithLabelValues(budget, role.String())
		}
	}
	m.duration.WithLabelValues(unmatched, otherMethod)
	for _, code := range []int{http.StatusNotFound, http.StatusMethodNotAllowed} {
		m.requests.WithLabelValues(unmatched, otherMethod, strconv.Itoa(code))
	}
	return m
}

// alertedCodes are the codes that alerts look for. Their series exist from the start, because Prometheus sees an increase
// from 0 to 1 only if there was a 0.
func alertedCodes(r route) []int {
	codes := []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if r.pattern == "/v1/state-changes" {
		codes = append(codes, http.StatusUnauthorized, http.StatusForbidden)
	}
	return codes
}

func (m *metrics) observeRequest(route, method string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

// routeSeries are one route's series, looked up once.
type routeSeries struct {
	duration prometheus.Observer
	// byCode holds those of its successes; others are rare.
	byCode   map[int]prometheus.Counter
	requests *prometheus.CounterVec
}

func (m *metrics) seriesFor(r route) routeSeries {
	own := prometheus.Labels{"route": r.pattern, "method": r.method}
	s := routeSeries{duration: m.duration.With(own), byCode: map[int]prometheus.Counter{}, requests: m.requests.MustCurryWith(own)}
	for _, code := range r.success {
		s.byCode[code] = s.requests.WithLabelValues(strconv.Itoa(code))
	}
	return s
}

func (s routeSeries) observeRequest(code int, took time.Duration) {
	c, ok := s.byCode[code]
	if !ok {
		c = s.requests.WithLabelValues(strconv.Itoa(code))
	}
	c.Inc()
	s.duration.Observe(took.Seconds())
}

// methodLabel keeps the label a closed set.
func methodLabel(method string) string {
	known := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	if slices.Contains(known, method) {
		return method
	}
	return otherMethod
}

// noRole is the role label of a request without a valid token.
const noRole = "none"

// countRefusal counts an answer that names a budget.
func (m *metrics) countRefusal(p *Problem, role RoleKind) {
	if p.Budget == "" {
		return
	}
	name := noRole
	if role != 0 {
		name = role.String()
	}
	m.budgets.WithLabelValues(p.Budget, name).Inc()
}
