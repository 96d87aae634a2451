package guard

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// RSABits is the least length of an RSA key in a certificate when an endpoint is set or tested. Calls to existing
// endpoints go on with a shorter one, unless Policy.MinRSABits forbids it.
const RSABits = 2048

// ShortKeyError says that a certificate, or one that signed it, has an RSA key that is too short.
type ShortKeyError struct{ Bits, Least int }

// Error states the present and the required length, and nothing else.
func (e *ShortKeyError) Error() string {
	return fmt.Sprintf("the certificate, or one that signed it, has an RSA key of %d bits: at least %d are needed", e.Bits, e.Least)
}

// VerifyKeys is for tls.Config.VerifyConnection, which runs after the certificate was verified. It records a short
// RSA key, and refuses one below Policy.MinRSABits with a *ShortKeyError.
func (g *Guard) VerifyKeys(s tls.ConnectionState) error {
	bits := shortestKeyBits(s.VerifiedChains)
	if bits >= RSABits {
		g.short.remove(s.ServerName)
		return nil
	}
	if g.short.markSeen(s.ServerName, time.Now()) && g.policy.ShortKey != nil {
		g.policy.ShortKey(s.ServerName, bits)
	}
	if bits < g.policy.MinRSABits {
		return &ShortKeyError{bits, g.policy.MinRSABits}
	}
	return nil
}

// noRSA stands for a chain without RSA keys.
const noRSA = 1 << 20

// shortestKeyBits is the shortest RSA key in the best of some chains. The last certificate of a chain is trusted and
// not counted.
func shortestKeyBits(chains [][]*x509.Certificate) int {
	best := 0
	for _, chain := range chains {
		least := noRSA
		for _, c := range chain[:max(len(chain)-1, min(len(chain), 1))] {
			if key, ok := c.PublicKey.(*rsa.PublicKey); ok {
				least = min(least, key.N.BitLen())
			}
		}
		best = max(best, least)
	}
	if len(chains) == 0 {
		return noRSA
	}
	return best
}

// keyWithin bounds CheckKey, for which a caller waits; addresses beyond keyAddresses are not tried.
const (
	keyWithin    = 3 * time.Second
	keyAddresses = 2
)

// CheckKey makes a TLS connection to the host of u, a result of CheckURL, and closes it. It uses the addresses that
// CheckHost found, or the present ones of the name. The error is a *ShortKeyError. Other faults are left to calls and
// are no error here.
func (g *Guard) CheckKey(ctx context.Context, u *url.URL, addrs []netip.Addr) error {
	port, err := portOf(u)
	if err != nil || u.Scheme != "https" {
		return nil //nolint:nilerr // CheckURL checks that
	}
	ctx, cancel := context.WithTimeout(ctx, keyWithin)
	defer cancel()
	hosts := []string{u.Hostname()}
	if len(addrs) > 0 {
		hosts = hosts[:0]
		for _, ip := range addrs[:min(len(addrs), keyAddresses)] {
			hosts = append(hosts, ip.String())
		}
	}
	for _, host := range hosts {
		conn, err := g.Dialer().DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			continue
		}
		err = g.checkServerKeys(ctx, conn, u.Hostname())
		_ = conn.Close()
		if short, ok := errors.AsType[*ShortKeyError](err); ok {
			return short
		}
	}
	return nil
}

// checkServerKeys checks the keys that a server presents. Nothing is sent to the server, so its certificate need not
// be trusted. If it is trusted, the verified chains are used.
func (g *Guard) checkServerKeys(ctx context.Context, conn net.Conn, host string) error {
	least := max(RSABits, g.policy.MinRSABits)
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host,
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			leaf, rest := s.PeerCertificates[0], x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				rest.AddCert(c)
			}
			chains, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Intermediates: rest})
			if err != nil {
				chains = [][]*x509.Certificate{presentedChain(s.PeerCertificates)}
			}
			if bits := shortestKeyBits(chains); bits < least {
				return &ShortKeyError{bits, least}
			}
			return nil
		},
	}
	if err := tls.Client(conn, cfg).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

// presentedChain is the chain that a server sent, with an added last certificate in place of the trusted one.
func presentedChain(certs []*x509.Certificate) []*x509.Certificate {
	chain := certs[:1:1]
	for _, c := range certs[1:] {
		if !bytes.Equal(c.RawSubject, c.RawIssuer) {
			chain = append(chain, c)
		}
	}
	return append(chain, certs[0])
}

// recentHosts remembers hosts for a time.
type recentHosts struct {
	keep time.Duration
	mu   sync.Mutex
	seen map[string]time.Time
}

func newRecentHosts(keep time.Duration) *recentHosts {
	return &recentHosts{keep: keep, seen: map[string]time.Time{}}
}

const (
	// rememberShort is how long a host with a short key counts after it was last met.
	rememberShort = 24 * time.Hour
	// refusalEvery is the least time between two counted refusals of a host.
	refusalEvery = time.Hour
	// mostHosts limits the memory.
	mostHosts = 10_000
)

// markSeen reports whether the host is new.
func (k *recentHosts) markSeen(host string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, known := k.seen[host]
	if !known && len(k.seen) >= mostHosts {
		return false
	}
	k.seen[host] = now
	return !known || now.Sub(at) >= k.keep
}

// markIfDue reports whether a host was not marked within the time kept, and marks it then.
func (k *recentHosts) markIfDue(host string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at, known := k.seen[host]; known && now.Sub(at) < k.keep {
		return false
	}
	if len(k.seen) >= mostHosts {
		clear(k.seen)
	}
	k.seen[host] = now
	return true
}

func (k *recentHosts) remove(host string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, host)
}

func (k *recentHosts) countRecent(now time.Time) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for host, at := range k.seen {
		if now.Sub(at) >= k.keep {
			delete(k.seen, host)
		}
	}
	return len(k.seen)
}
