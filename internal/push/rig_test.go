package push_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

const (
	tokenText = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LWNsYWltcw.c2VjcmV0LXNpZ25hdHVyZQ"
	query     = "?code=hush-hush-function-key"
	whsec     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// tokens hands out one text, and remembers what was asked.
type tokens struct {
	mu    sync.Mutex
	err   error
	asked []string
}

func (k *tokens) MakeToken(clientID, tenantID, alg string, _ time.Time) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = []string{clientID, tenantID, alg}
	return tokenText, k.err
}

func key(t testing.TB, text string) signing.WebhookKey {
	t.Helper()
	k, err := signing.ParseWebhookSecret(secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pusher posts through the real guard, loopback allowed.
func pusher(t testing.TB, timeout time.Duration, roots *x509.CertPool) *push.Pusher {
	t.Helper()
	g := guard.New(guard.Policy{AllowLoopback: true}, nil)
	return guarded(t, g, wire.Options{RootCAs: roots}, push.Options{Timeout: timeout, Version: "1.2.3"})
}

// guarded posts through g over real connections.
func guarded(t testing.TB, g *guard.Guard, w wire.Options, p push.Options) *push.Pusher {
	t.Helper()
	w.Dial = g.Dialer().DialContext
	c := wire.New(w)
	t.Cleanup(c.Close)
	if p.Wire, p.Check = c, g.CheckURL; p.Tokens == nil {
		p.Tokens = &tokens{}
	}
	return push.New(p)
}

// over posts by a transport of the test's.
func over(rt http.RoundTripper, timeout time.Duration) *push.Pusher {
	return push.New(push.Options{Wire: wiretest.Over{RoundTripper: rt}, Check: url.Parse, Tokens: &tokens{}, Timeout: timeout})
}

func target(t testing.TB, url string) push.Target {
	return push.Target{ClientID: "app1", URL: url, TokenAlgorithm: partner.RS256, WebhookKeys: []signing.WebhookKey{key(t, whsec)}}
}

func message(c tenant.ChangeType) delivery.Message {
	m := delivery.Message{
		ClientID: "app1", WebhookID: "chg_Cust12345_1795449600000", Sequence: 1795449600000, Superseded: 3, Attempts: 2,
		Change: tenant.Change{
			ID: "chg_Cust12345_1795449600000", Tenant: "Cust12345", Type: c, Sequence: 1795449600000,
			VersionName: "Release 8.4 R08", FileVersion: "8.4.12.1234",
		},
	}
	if c == tenant.Move {
		m.Change.PublicEndpoint = "sod3.superoffice.com"
	}
	return m
}

// clean fails the test when a result shows what must not leave the service.
func clean(t testing.TB, r delivery.Result) {
	t.Helper()
	for _, text := range []string{r.Detail, r.Excerpt} {
		for _, hidden := range []string{tokenText, "c2VjcmV0", query[1:], "hush-hush", whsec, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
			if strings.Contains(text, hidden) {
				t.Errorf("%q shows %q", text, hidden)
			}
		}
	}
}

// raw is a receiver that is given bare connections.
func raw(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one request as it was sent.
func readRequest(c net.Conn) (head, body string) {
	br := bufio.NewReader(c)
	length := 0
	var b strings.Builder
	for {
		line, err := br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			break
		}
		if n, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && n == "Content-Length" {
			length, _ = strconv.Atoi(v)
		}
	}
	buf := make([]byte, length)
	_, _ = io.ReadFull(br, buf)
	return b.String(), string(buf)
}

// answering sends text to each request and leaves the connection open until the peer ends it.
func answering(text string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

// authority makes server certificates.
type authority struct {
	testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{TB: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// server serves TLS with a certificate for a name or address until notAfter.
func (a *authority) server(name string, notAfter time.Time, change func(*tls.Config), handle func(net.Conn)) string {
	a.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	if err != nil {
		a.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
	if change != nil {
		change(cfg)
	}
	return "https://" + raw(a, func(conn net.Conn) {
		c := tls.Server(conn, cfg)
		if c.HandshakeContext(a.Context()) == nil {
			handle(c)
		}
	})
}

// failingTransport fails every request alike.
type failingTransport struct{ err error }

func (f failingTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// hanging is a transport on which nothing happens until the request's end.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

func zeroes() io.Reader { return bytes.NewReader(make([]byte, 1<<20)) }
