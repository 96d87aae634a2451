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

// RSABits is how long an RSA key in a certificate must be where an endpoint is set or tested. Calls go on with a shorter one, for those
// that have it already, unless Policy.MinRSABits says otherwise.
const RSABits = 2048

// ShortKeyError says that a certificate, or one that signed it, has an RSA key that is too short.
type ShortKeyError struct{ Bits, Least int }

// Error says how long it is and should be. The numbers are all that it holds.
func (e *ShortKeyError) Error() string {
	return fmt.Sprintf("the certificate, or one that signed it, has an RSA key of %d bits: at least %d are needed", e.Bits, e.Least)
}

// VerifyKeys is for tls.Config.VerifyConnection: it runs once a certificate was found good. It notes a short RSA key, and refuses one
// below Policy.MinRSABits with a *ShortKeyError.
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

// shortestKeyBits is the length of the shortest RSA key in the best of some chains. The last certificate of a chain is trusted for itself.
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

// keyWithin bounds CheckKey, which someone waits for; addresses beyond keyAddresses are not tried.
const (
	keyWithin    = 3 * time.Second
	keyAddresses = 2
)

// CheckKey makes a TLS connection to the host of u, a result of CheckURL, at the addresses that CheckHost found, or at those that the name
// has now, and ends it. The error is a *ShortKeyError; what else may be wrong there is for calls to find, and is no error.
func (g *Guard) CheckKey(ctx context.Context, u *url.URL, addrs []netip.Addr) error {
	port, err := portOf(u)
	if err != nil || u.Scheme != "https" {
		return nil //nolint:nilerr // it is CheckURL's to judge
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

// checkServerKeys judges the keys that a server presents. Nothing is sent to it, so whether it is to be trusted does not matter here; where
// it is, the chains are known by which it is.
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

// presentedChain is a chain of what a server sent, with a last certificate that stands for whatever would be trusted.
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
	// rememberShort is how long a host with a short key counts that is not met again.
	rememberShort = 24 * time.Hour
	// refusalEvery is how often a host counts that is refused again and again.
	refusalEvery = time.Hour
	// mostHosts bounds the memory.
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

// markIfDue reports whether a host was not met for the time that one is remembered, and notes it then.
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
