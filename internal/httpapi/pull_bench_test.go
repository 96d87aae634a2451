package httpapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// running is a store in which every tenant runs.
type running struct{}

func (running) Status(_ context.Context, id tenant.ID) (tenant.Status, error) {
	return tenant.Status{Tenant: id, State: tenant.Running, PublicEndpoint: "online3.superoffice.com"}, nil
}

// sink discards an answer.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkPull is the pull without network and store: a whole answer, and one that says that the
// caller has it.
func BenchmarkPull(b *testing.B) {
	h := httpapi.New(httpapi.Deps{
		Statuses: running{}, ValidFor: time.Hour, Registerer: prometheus.NewRegistry(),
		Log: slog.New(slog.DiscardHandler), // as with log.level info: nothing is written of a pull
	}).PublicHandler()
	known := httptest.NewRecorder()
	h.ServeHTTP(known, httptest.NewRequest(http.MethodGet, "/api/state/Cust12345", nil))
	for name, tag := range map[string]string{"200": "", "304": known.Header().Get("ETag")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest(http.MethodGet, "/api/state/Cust12345", nil)
			if tag != "" {
				r.Header.Set("If-None-Match", tag)
			}
			w := &sink{header: http.Header{}}
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
		})
	}
}
