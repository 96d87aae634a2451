package guard_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/guard"
)

func get(t *testing.T, client *http.Client, target string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// tlsServer starts a receiver whose certificate is good for example.com, and
// returns options that trust it.
func tlsServer(t *testing.T, h http.HandlerFunc) (*httptest.Server, guard.TransportOptions) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv, guard.TransportOptions{RootCAs: pool}
}

func TestClientReachesWhatIsAllowed(t *testing.T) {
	t.Parallel()
	srv, opts := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.Header.Get("Accept-Encoding"))
	})
	client := guard.New(guard.Policy{AllowLoopback: true}, nil).Client(time.Minute, opts)
	resp, err := get(t, client, srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "HTTP/2.0 " {
		t.Errorf("the receiver saw %q, want HTTP/2.0 without compression", body)
	}
	client.CloseIdleConnections()
}

func TestClientRefusesAtTheDial(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	srv, opts := tlsServer(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// The range makes names and ports pass CheckURL, so that only the dial is left.
	policy := guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8")}
	reg := prometheus.NewRegistry()
	client := guard.New(policy, guard.NewMetrics(reg)).Client(time.Minute, opts)
	_, err = get(t, client, "https://localhost:"+port+"/")
	be, ok := errors.AsType[*guard.BlockedError](err)
	if !ok || be.Reason != guard.ReasonLoopback || !be.Addr.Addr().IsLoopback() {
		t.Fatalf("err = %v (%+v)", err, be)
	}
	if _, ok := errors.AsType[*url.Error](err); !ok || calls.Load() != 0 {
		t.Errorf("%T, %d calls", err, calls.Load())
	}
	if n := counted(t, reg, guard.ReasonLoopback); n < 1 {
		t.Errorf("counted %v refusals", n)
	}
}

func TestClientChecksTheURLAgain(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
	t.Cleanup(srv.Close)
	client := guard.New(guard.Policy{AllowCIDRs: cidrs(t, "127.0.0.0/8")}, nil).Client(time.Minute, guard.TransportOptions{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if got := reasonOf(t, err); got != guard.ReasonScheme {
		t.Errorf("plain http: reason %q", got)
	}
}

func TestClientDoesNotFollowRedirects(t *testing.T) {
	t.Parallel()
	srv, opts := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	resp, err := get(t, guard.New(guard.Policy{AllowLoopback: true}, nil).Client(time.Minute, opts), srv.URL)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("resp = %v, %v", resp, err)
	}
}

func TestClientBoundsHeaders(t *testing.T) {
	t.Parallel()
	srv, opts := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Huge", strings.Repeat("a", 128<<10))
	})
	if _, err := get(t, guard.New(guard.Policy{AllowLoopback: true}, nil).Client(time.Minute, opts), srv.URL); err == nil {
		t.Error("accepted 128 KiB of headers")
	}
}

func TestClientRefusesOldTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	opts := guard.TransportOptions{RootCAs: pool}
	if _, err := get(t, guard.New(guard.Policy{AllowLoopback: true}, nil).Client(time.Minute, opts), srv.URL); err == nil {
		t.Error("spoke TLS 1.1")
	}
}

func TestTransportOptions(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	tr := g.Transport(guard.TransportOptions{})
	if tr.Proxy != nil || tr.MaxIdleConnsPerHost != 32 || tr.IdleConnTimeout <= 0 || tr.TLSHandshakeTimeout <= 0 ||
		!tr.ForceAttemptHTTP2 || tr.MaxResponseHeaderBytes != 64<<10 || tr.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Errorf("defaults: %+v", tr)
	}
	tr = g.Transport(guard.TransportOptions{MaxIdleConnsPerHost: 7, IdleConnTimeout: time.Second})
	if tr.MaxIdleConnsPerHost != 7 || tr.IdleConnTimeout != time.Second {
		t.Errorf("options ignored: %d, %s", tr.MaxIdleConnsPerHost, tr.IdleConnTimeout)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for _, tc := range []struct {
		network, address string
		want             guard.Reason
	}{
		{"tcp4", "8.8.8.8:443", ""},
		{"tcp6", "[2606:4700:4700::1111]:443", ""},
		{"tcp4", "127.0.0.1:443", guard.ReasonLoopback},
		{"tcp6", "[fe80::1%eth0]:443", guard.ReasonLinkLocal},
		{"udp4", "8.8.8.8:443", guard.ReasonNetwork},
		{"unix", "/run/redis.sock", guard.ReasonNetwork},
		{"tcp", "8.8.8.8:443", guard.ReasonNetwork},
		{"tcp4", "partner.example:443", guard.ReasonReserved},
	} {
		if got := reasonOf(t, g.Control(tc.network, tc.address, nil)); got != tc.want {
			t.Errorf("Control(%s, %s): reason %q, want %q", tc.network, tc.address, got, tc.want)
		}
	}
}

func TestDialerRefusesOtherNetworks(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := guard.New(guard.Policy{AllowLoopback: true}, nil).Dialer().DialContext(ctx, "udp", "127.0.0.1:53")
	if err == nil {
		_ = conn.Close()
	}
	if got := reasonOf(t, err); got != guard.ReasonNetwork {
		t.Errorf("udp: reason %q", got)
	}
}

func counted(t *testing.T, reg *prometheus.Registry, reason guard.Reason) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "lamplighter_guard_blocked_total" && m.GetLabel()[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no series for %q", reason)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	g := guard.New(guard.Policy{}, guard.NewMetrics(reg))
	for _, r := range guard.AllReasons() {
		if n := counted(t, reg, r); n != 0 {
			t.Errorf("%s starts at %v", r, n)
		}
	}
	if _, err := g.CheckURL("https://partner.example/"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.CheckURL("ftp://partner.example/"); err == nil {
		t.Fatal("ftp accepted")
	}
	if _, err := g.CheckHost(t.Context(), answers("10.0.0.1"), parse(t, "https://partner.example/")); err == nil {
		t.Fatal("a private address accepted")
	}
	_ = g.CheckAddr(netip.MustParseAddrPort("127.0.0.1:1"))
	for r, want := range map[guard.Reason]float64{guard.ReasonScheme: 1, guard.ReasonPrivate: 1, guard.ReasonLoopback: 0} {
		if n := counted(t, reg, r); n != want {
			t.Errorf("%s = %v, want %v", r, n, want)
		}
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	seen := make(map[string]guard.Reason)
	for _, r := range guard.AllReasons() {
		text := (&guard.BlockedError{Reason: r}).Error()
		if other, ok := seen[text]; ok || len(text) < 20 {
			t.Errorf("%s is explained as %q, like %q", r, text, other)
		}
		seen[text] = r
	}
	if other := (&guard.BlockedError{Reason: "other"}).Error(); seen[other] != "" {
		t.Errorf("an unknown reason is explained as %s", seen[other])
	}
}
