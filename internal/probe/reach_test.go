package probe_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
)

// reach notes what it is told.
type reach struct {
	mu   sync.Mutex
	told []string
}

func (r *reach) NoteAddress(_ string, at netip.Addr) { r.note("dialled " + at.String()) }
func (r *reach) NoteAnswer(string)                   { r.note("answered") }
func (r *reach) NoteFailure(string)                  { r.note("failed") }

func (r *reach) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

// Any HTTP answer to a probe is one, and the address of the host is told; a probe that was given up or refused tells nothing.
func TestReach(t *testing.T) {
	t.Parallel()
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	open := guard.New(guard.Policy{AllowLoopback: true}, nil).Client(0, guard.TransportOptions{})
	given, cancel := context.WithCancel(t.Context())
	cancel()
	failed := func(err error) *http.Client { return &http.Client{Transport: failing{err}} }
	for name, tc := range map[string]struct {
		ctx    context.Context
		client *http.Client
		url    string
		want   string
	}{
		"Well":       {t.Context(), open, serving(t, 200, envelope("")), "dialled 127.0.0.1, answered"},
		"Broken":     {t.Context(), open, serving(t, 500, "no"), "dialled 127.0.0.1, answered"},
		"Hangs":      {t.Context(), open, hang.URL, "dialled 127.0.0.1, failed"},
		"NoListener": {t.Context(), open, gone.URL, "dialled 127.0.0.1, failed"},
		"NoRoute":    {t.Context(), failed(os.NewSyscallError("connect", syscall.ENETUNREACH)), "https://x.example/", "failed"},
		"NoResolver": {t.Context(), failed(&net.DNSError{Name: "x.example"}), "https://x.example/", "failed"},
		"NoSuchName": {t.Context(), failed(&net.DNSError{Name: "x.example", IsNotFound: true}), "https://x.example/", "failed"},
		"Refused":    {t.Context(), failed(&guard.BlockedError{Reason: guard.ReasonPrivate}), "https://x.example/", ""},
		"GivenUp":    {given, open, hang.URL, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &reach{}
			p := probe.NewProber(probe.ProberOptions{Client: tc.client, Tokens: tokens{}, Timeout: time.Second, Tolerance: time.Minute, Version: "1", Reach: r})
			p.Probe(tc.ctx, target(partner.ERPSync, tc.url))
			if got := strings.Join(r.told, ", "); got != tc.want {
				t.Errorf("told %q, want %q", got, tc.want)
			}
		})
	}
}
