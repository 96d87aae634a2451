package probe_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/soap"
)

const (
	tokenText = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LWNsYWltcw.c2VjcmV0LXNpZ25hdHVyZQ"
	nonceText = "0123456789ABCDEF0123456789ABCDEF"
)

// tokens hands out one token with one nonce.
type tokens struct{ err error }

func (k tokens) MakeNoncedToken(string, string, string, time.Time) (token, nonce string, err error) {
	return tokenText, nonceText, k.err
}

// prober probes through the real guard, loopback allowed.
func prober(timeout time.Duration, roots *x509.CertPool) *probe.Prober {
	return with(guard.New(guard.Policy{AllowLoopback: true}, nil).Client(0, guard.TransportOptions{RootCAs: roots, FreshTLS: true}), timeout)
}

func with(c *http.Client, timeout time.Duration) *probe.Prober {
	return probe.NewProber(probe.ProberOptions{Client: c, Tokens: tokens{}, Timeout: timeout, Tolerance: 5 * time.Minute, Version: "1.2.3"})
}

func target(k partner.EndpointKind, url string) probe.Target {
	return probe.Target{ClientID: "app1", Kind: k, URL: url, Tenant: "Cust12345", TokenAlgorithm: partner.RS256}
}

func envelope(body string) string {
	return `<s:Envelope xmlns:s="` + soap.Namespace + `"><s:Body>` + body + `</s:Body></s:Envelope>`
}

const fault = `<s:Fault><faultcode>s:Client</faultcode><faultstring>no such action</faultstring></s:Fault>`

// serving answers every request alike.
func serving(t testing.TB, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// want compares what was found with a reason.
func want(t testing.TB, f health.Finding, r health.Reason) {
	t.Helper()
	if f.Reason != r || f.Detail == "" {
		t.Errorf("found %s (%s), want %s", f.Reason, f.Detail, r)
	}
}

// certified is a TLS server with a certificate of its own making.
type certified struct {
	name        string
	from, until time.Time
	config      func(*tls.Config)
}

func (c certified) start(t testing.TB, handler http.Handler) (url string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: c.from, NotAfter: c.until, IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(c.name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{c.name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if c.config != nil {
		c.config(s.TLS)
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return s.URL, roots
}
