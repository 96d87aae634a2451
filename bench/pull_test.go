package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// loop runs two pullers against a handler for a moment.
func loop(t *testing.T, h http.Handler, conditional bool) (pace, error) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return closedLoop(2, 10, 0, 200*time.Millisecond, func() (asker, error) {
		return dialPuller(t.Context(), strings.TrimPrefix(server.URL, "http://"), conditional)
	})
}

func TestClosedLoopCountsAnswers(t *testing.T) {
	t.Parallel()
	p, err := loop(t, staticHandler([]byte("{}")), false)
	if err != nil || p.rate <= 0 || p.p50 <= 0 || p.p99 < p.p50 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestClosedLoopRefusesWrongAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusServiceUnavailable, http.StatusNotModified} {
		p, err := loop(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), false)
		if err == nil {
			t.Errorf("status %d was counted: %+v", status, p)
		}
	}
}

func TestConditionalPullerSendsTheTag(t *testing.T) {
	t.Parallel()
	static := httptest.NewServer(staticHandler([]byte("{}")))
	t.Cleanup(static.Close)
	p, err := dialPuller(t.Context(), strings.TrimPrefix(static.URL, "http://"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	tag, status, err := p.get(1, "")
	if err != nil || status != http.StatusOK || tag == "" {
		t.Fatalf("first: %q, %d, %v", tag, status, err)
	}
	if again, status, err := p.get(1, tag); err != nil || status != http.StatusNotModified || again != tag {
		t.Errorf("again: %q, %d, %v", again, status, err)
	}
}
