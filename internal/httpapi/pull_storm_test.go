package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// stuck is a store of statuses that answers when it is told to.
type stuck struct{ answer chan struct{} }

func (s *stuck) Status(ctx context.Context, id tenant.ID) (tenant.Status, error) {
	select {
	case <-s.answer:
		return tenant.Status{Tenant: id, State: tenant.Running}, nil
	case <-ctx.Done():
		return tenant.Status{}, ctx.Err()
	}
}

// pulled is an answer to a pull, and how long it took.
type pulled struct {
	*httptest.ResponseRecorder
	took time.Duration
}

// storm asks n times at once and hands each answer to answers.
func (h *harness) storm(ctx context.Context, n int, answers chan<- pulled) {
	for range n {
		go func() {
			start, rec := time.Now(), httptest.NewRecorder()
			h.handler.ServeHTTP(rec, request{method: "GET", path: "/api/state/Cust1"}.make().WithContext(ctx))
			answers <- pulled{rec, time.Since(start)}
		}()
	}
	synctest.Wait()
}

const (
	stormInFlight = 2
	stormWaiting  = 32 * stormInFlight
)

// besieged runs f with a store that is stuck, in a bubble.
func besieged(t *testing.T, f func(t *testing.T, h *harness, s *stuck)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{answer: make(chan struct{})}
		f(t, newHarness(t, func(d *deps) { d.Statuses, d.StatesInFlight = s, stormInFlight }).withApp(t), s)
	})
}

// TestPullStorm: as many as may read do, as many as may wait do so for a moment, all others are turned
// away at once; meanwhile nothing else is any slower.
func TestPullStorm(t *testing.T) {
	besieged(t, func(t *testing.T, h *harness, s *stuck) {
		answers := make(chan pulled, 1000)
		h.storm(t.Context(), 200, answers)
		if got := len(answers); got != 200-stormInFlight-stormWaiting {
			t.Errorf("%d were answered at once", got)
		}
		start := time.Now()
		h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "partner:app1"})
		h.want(t, 202, request{method: "POST", path: "/v1/state-changes", role: "platform", body: changeLine(1)})
		h.want(t, 200, request{method: "GET", path: "/login/.well-known/jwks"})
		ops := httptest.NewRecorder()
		h.api.OpsHandler(httpapi.OpsOptions{Readiness: func(context.Context) []httpapi.Check { return nil }}).ServeHTTP(ops, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		if took := time.Since(start); ops.Code != 200 || took != 0 {
			t.Errorf("/healthz = %d; all together took %v", ops.Code, took)
		}
		<-time.After(time.Second)
		waits := map[string]bool{}
		for range 200 - stormInFlight {
			a := <-answers
			if a.Code != 503 || a.took != 0 && a.took != 250*time.Millisecond {
				t.Fatalf("after %v: %d %s", a.took, a.Code, a.Body)
			}
			waits[a.Header().Get("Retry-After")] = true
			if !strings.Contains(a.Body.String(), `"urn:lamplighter:problem:overloaded"`) {
				t.Errorf("body %s", a.Body)
			}
		}
		for seconds := range waits {
			if n, err := strconv.Atoi(seconds); err != nil || n < 1 || n > 4 || len(waits) < 2 {
				t.Errorf("Retry-After: %v", waits)
			}
		}
		close(s.answer)
		for range stormInFlight {
			if a := <-answers; a.Code != 200 {
				t.Errorf("who was in got %d %s", a.Code, a.Body)
			}
		}
		h.want(t, 200, request{method: "GET", path: "/api/state/Cust1"})
		h.hasMetric(t, "lamplighter_pulls_shed_total 198", `lamplighter_http_requests_total{code="503",method="GET",route="/api/state/{tenant}"} 198`)
	})
}

// TestPullBurst: waiting pulls are answered in their order, and none is refused.
func TestPullBurst(t *testing.T) {
	besieged(t, func(t *testing.T, h *harness, s *stuck) {
		answers := make(chan pulled, 1000)
		h.storm(t.Context(), stormInFlight+stormWaiting, answers)
		for n := range stormInFlight + stormWaiting {
			<-time.After(time.Millisecond)
			s.answer <- struct{}{}
			if a := <-answers; a.Code != 200 || a.took != time.Duration(n+1)*time.Millisecond {
				t.Fatalf("after %v: %d %s", a.took, a.Code, a.Body)
			}
		}
		h.hasMetric(t, "lamplighter_pulls_shed_total 0")
	})
}

// TestPullsThatAreGivenUp leave their places to others, whether they read or wait.
func TestPullsThatAreGivenUp(t *testing.T) {
	besieged(t, func(t *testing.T, h *harness, s *stuck) {
		answers := make(chan pulled, 1000)
		for range 3 {
			ctx, leave := context.WithCancel(t.Context())
			h.storm(ctx, stormInFlight+stormWaiting, answers)
			if len(answers) > 0 {
				t.Fatalf("%d were turned away", len(answers))
			}
			leave()
			for range stormInFlight + stormWaiting {
				<-answers
			}
		}
		close(s.answer)
		h.want(t, 200, request{method: "GET", path: "/api/state/Cust1"})
		h.hasMetric(t, "lamplighter_pulls_shed_total 0")
	})
}

// slowTaker takes an answer when it is told to.
type slowTaker struct {
	*httptest.ResponseRecorder
	take chan struct{}
}

func (w *slowTaker) Write(b []byte) (int, error) {
	<-w.take
	return w.ResponseRecorder.Write(b)
}

// TestSlowTakersHoldNobodyUp: a place is given back before the answer is written.
func TestSlowTakersHoldNobodyUp(t *testing.T) {
	besieged(t, func(t *testing.T, h *harness, s *stuck) {
		close(s.answer)
		take := make(chan struct{})
		for range 2 * stormInFlight {
			go h.handler.ServeHTTP(&slowTaker{httptest.NewRecorder(), take}, request{method: "GET", path: "/api/state/Cust1"}.make())
		}
		synctest.Wait()
		h.want(t, 200, request{method: "GET", path: "/api/state/Cust1"})
		close(take)
	})
}

// hasMetric fails where a line is not among the metrics.
func (h *harness) hasMetric(t *testing.T, lines ...string) {
	t.Helper()
	text := h.metricsText(t)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
}
