package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Policy says what may be called beyond public addresses by https. The zero
// Policy is the strict one.
type Policy struct {
	// AllowCIDRs opens special ranges on every port, for receivers in the operator's own network. Multicast and
	// unspecified addresses stay closed. A metadata address stays closed unless it is listed by itself.
	AllowCIDRs []netip.Prefix
	// AllowHTTP permits plain http to every permitted address.
	AllowHTTP bool
	// AllowPorts are the ports of public addresses; empty means 443 and 8443,
	// and 80 with AllowHTTP.
	AllowPorts []uint16
	// AllowLoopback permits loopback addresses on every port, by http too. It
	// is meant for development.
	AllowLoopback bool
	// DenyCIDRs are refused whatever else is allowed: public ranges that lead to internal hosts.
	DenyCIDRs []netip.Prefix
	// DenyHosts are refused by name, with their subdomains: ASCII host names.
	DenyHosts []string
	// NAT64Prefixes are the operator's own, besides the well-known one. For an address in one of them, the IPv4
	// address inside must be allowed by itself. They open nothing.
	NAT64Prefixes []netip.Prefix
	// MinRSABits is the least length of RSA keys in certificates for a call to go on; 0 leaves the check to TLS.
	MinRSABits int
	// Resolver resolves dialled names; nil for the machine's resolver.
	Resolver *net.Resolver
	// ShortKey, if set, is called for a host whose certificate has an RSA key shorter than RSABits, when that is
	// first seen.
	ShortKey func(host string, bits int)
}

// Guard applies a Policy. It is safe for concurrent use.
type Guard struct {
	policy   Policy
	metadata []netip.Addr
	nat64    []netip.Prefix
	iana     *ssrf.Guardian
	metrics  *Metrics
	short    *recentHosts
	// refused remembers hosts that were refused when dialled.
	refused *recentHosts
}

// New makes a Guard. A nil metrics counts nothing.
func New(p Policy, metrics *Metrics) *Guard {
	if len(p.AllowPorts) == 0 {
		p.AllowPorts = []uint16{443, 8443}
		if p.AllowHTTP {
			p.AllowPorts = append(p.AllowPorts, 80)
		}
	}
	p.AllowPorts = slices.Clone(p.AllowPorts)
	p.AllowCIDRs, p.DenyCIDRs = normalizePrefixes(p.AllowCIDRs), normalizePrefixes(p.DenyCIDRs)
	p.DenyHosts = slices.Clone(p.DenyHosts)
	for i, host := range p.DenyHosts {
		p.DenyHosts[i] = strings.Trim(strings.ToLower(host), ".")
	}
	short := newRecentHosts(rememberShort)
	if metrics != nil {
		short = metrics.short
	}
	return &Guard{
		policy:   p,
		metadata: metadataAddrs(),
		nat64:    append([]netip.Prefix{ssrf.IPv6NAT64Prefix}, p.NAT64Prefixes...),
		short:    short,
		refused:  newRecentHosts(refusalEvery),
		iana: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(),
			ssrf.WithDeniedV4Prefixes(netip.PrefixFrom(azureWireServer, 32))),
		metrics: metrics,
	}
}

// ParseCIDRs reads the setting guard.allow_cidrs: prefixes such as 10.0.0.0/8,
// or single addresses.
func ParseCIDRs(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
			prefixes = append(prefixes, normalizePrefix(netip.PrefixFrom(ip, ip.BitLen())))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("guard.allow_cidrs: %q is neither a range like 10.0.0.0/8 nor an address: %w", text, err)
		}
		prefixes = append(prefixes, normalizePrefix(p))
	}
	return prefixes, nil
}

func normalizePrefixes(list []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = normalizePrefix(p)
	}
	return out
}

// normalizePrefix writes an IPv4-mapped range as the IPv4 range it means, and clears the host bits.
func normalizePrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// Control is for net.Dialer: it runs after name resolution, on each address
// that is about to be connected to. Refusals are counted.
func (g *Guard) Control(network, address string, c syscall.RawConn) error {
	return g.countBlocked(g.checkDial(network, address, c))
}

func (g *Guard) checkDial(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &BlockedError{Reason: ReasonNetwork}
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &BlockedError{Reason: ReasonReserved}
	}
	return g.CheckAddr(ap)
}

// Dialer connects only to permitted addresses.
type Dialer struct {
	net.Dialer

	guard *Guard
}

// Dialer returns a dialer that checks every connection as Control does. Repeated refusals of one host are counted
// once an hour.
func (g *Guard) Dialer() *Dialer {
	return &Dialer{net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Control: g.checkDial, Resolver: g.policy.Resolver}, g}
}

// DialContext resolves a name without the machine's search list, so that a partner's name is never completed to one
// of the operator's domains.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if d.guard.isDeniedHost(host) {
		return nil, d.countRefusal(host, &BlockedError{Reason: ReasonDenied})
	}
	conn, err := d.Dialer.DialContext(ctx, network, net.JoinHostPort(absoluteName(host), port))
	return conn, d.countRefusal(host, withoutFinalDot(err))
}

// withoutFinalDot shows the name of a failed look-up without the dot that absoluteName added. Look-ups of one name at
// once share their error, so it is not changed.
func withoutFinalDot(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	if dns, ok := errors.AsType[*net.DNSError](op.Err); ok {
		own := *dns
		own.Name = strings.TrimSuffix(dns.Name, ".")
		op.Err = &own
	}
	return err
}

// countRefusal returns err, and counts a refusal that is new.
func (d *Dialer) countRefusal(host string, err error) error {
	if _, ok := errors.AsType[*BlockedError](err); ok && d.guard.refused.markIfDue(host, time.Now()) {
		return d.guard.countBlocked(err)
	}
	return err //nolint:wrapcheck // the same errors as of a net.Dialer
}

// absoluteName returns a name in the form that is resolved without a search list. Addresses stay as they are, and so
// do names of this machine, which no search list completes.
func absoluteName(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || strings.HasSuffix(host, ".") || isLocalhost(host) {
		return host
	}
	return host + "."
}

func (g *Guard) newPortError(port uint16) *BlockedError {
	names := make([]string, len(g.policy.AllowPorts))
	for i, p := range g.policy.AllowPorts {
		names[i] = strconv.Itoa(int(p))
	}
	return newBlockedError(ReasonPort, "port %d is not allowed; use one of these: %s", port, strings.Join(names, ", "))
}
