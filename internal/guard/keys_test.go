package guard_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lamplighter/lamplighter/internal/guard"
)

// issued is a certificate with its key, signed by another one or by itself.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func issue(t testing.TB, key crypto.Signer, by *issued, ca bool) *issued {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: ca, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	if ca {
		c.Subject.CommonName, c.KeyUsage = time.Now().String(), x509.KeyUsageCertSign
	}
	signer := issued{c, key}
	if by != nil {
		signer = *by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer.cert, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// serveTLS presents a chain until the test ends.
func serveTLS(t testing.TB, chain ...*issued) *url.URL {
	t.Helper()
	c := tls.Certificate{PrivateKey: chain[0].key}
	for _, i := range chain {
		c.Certificate = append(c.Certificate, i.cert.Raw)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				if s, ok := conn.(*tls.Conn); ok {
					_ = s.SetDeadline(time.Now().Add(5 * time.Second))
					if _, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
						_, _ = s.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return &url.URL{Scheme: "https", Host: l.Addr().String(), Path: "/"}
}

// TestShortKeys: an endpoint that is set or tested needs RSA keys of 2048 bits, in its certificate and in those that signed it. Calls go on with
// shorter ones, counted and told once, until the settings ask for more.
func TestShortKeys(t *testing.T) {
	t.Parallel()
	root := issue(t, ecKey(t), nil, true)
	short := issue(t, rsaKey(t, 1024), root, true)
	for name, c := range map[string]struct {
		chain []*issued
		bits  int // 0: long enough
	}{
		"RSA1024":           {[]*issued{issue(t, rsaKey(t, 1024), root, false)}, 1024},
		"RSA2047":           {[]*issued{issue(t, rsaKey(t, 2047), root, false)}, 2047},
		"RSA2048":           {[]*issued{issue(t, rsaKey(t, 2048), root, false)}, 0},
		"ECDSA":             {[]*issued{issue(t, ecKey(t), root, false)}, 0},
		"ShortIntermediate": {[]*issued{issue(t, ecKey(t), short, false), short}, 1024},
		"SelfSigned1024":    {[]*issued{issue(t, rsaKey(t, 1024), nil, false)}, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serveTLS(t, c.chain...)
			roots := x509.NewCertPool()
			roots.AddCert(root.cert)
			var told []int
			reg := prometheus.NewRegistry()
			policy := guard.Policy{AllowLoopback: true, ShortKey: func(_ string, bits int) { told = append(told, bits) }}
			g := guard.New(policy, guard.NewMetrics(reg))
			for _, at := range [][]netip.Addr{nil, {netip.MustParseAddr("127.0.0.1")}} {
				if short, _ := errors.AsType[*guard.ShortKeyError](g.CheckKey(t.Context(), u, at)); bitsOf(short) != c.bits {
					t.Errorf("set, at %v: %v", at, short)
				}
			}
			if name == "SelfSigned1024" { // no call reaches it
				return
			}
			for range 2 {
				if _, err := get(t, g.Client(5*time.Second, guard.TransportOptions{RootCAs: roots, FreshTLS: true}), u.String()); err != nil {
					t.Fatalf("a call: %v", err)
				}
			}
			if want := min(c.bits, 1); len(told) != want || testutil.CollectAndCount(reg, "lamplighter_guard_short_key_hosts") != 1 {
				t.Errorf("told of %v", told)
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "lamplighter_guard_short_key_hosts" && f.GetMetric()[0].GetGauge().GetValue() != float64(min(c.bits, 1)) {
					t.Errorf("gauge %v", f.GetMetric()[0])
				}
			}
			policy.MinRSABits = 2048
			_, err = get(t, guard.New(policy, nil).Client(5*time.Second, guard.TransportOptions{RootCAs: roots}), u.String())
			if refused, _ := errors.AsType[*guard.ShortKeyError](err); bitsOf(refused) != c.bits {
				t.Errorf("with guard.min_rsa_bits a call ends with %v", err)
			}
		})
	}
}

func bitsOf(e *guard.ShortKeyError) int {
	if e == nil {
		return 0
	}
	return e.Bits
}
