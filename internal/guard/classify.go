package guard

import (
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// The ranges below only choose the explanation of a refusal, except for metadataAddrs. What is refused follows from
// the lists of package ssrf.
var (
	sharedSpace     = netip.MustParsePrefix("100.64.0.0/10")
	thisNetwork     = netip.MustParsePrefix("0.0.0.0/8")
	broadcast       = netip.MustParseAddr("255.255.255.255")
	sixToFour       = netip.MustParsePrefix("2002::/16")
	teredo          = netip.MustParsePrefix("2001::/32")
	localNAT64      = netip.MustParsePrefix("64:ff9b:1::/48")
	v4Compatible    = netip.MustParsePrefix("::/96")
	v4Translated    = netip.MustParsePrefix("::ffff:0:0:0/96")
	siteLocal       = netip.MustParsePrefix("fec0::/10")
	uniqueLocal     = netip.MustParsePrefix("fc00::/7")
	azureWireServer = netip.MustParseAddr("168.63.129.16")
)

// metadataAddrs lists the metadata services of clouds, which also give out credentials. A range in Policy.AllowCIDRs
// does not open them; only the single address does. Azure's looks public.
func metadataAddrs() []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google, OpenStack and most others
		netip.MustParseAddr("169.254.169.253"), // AWS resolver
		netip.MustParseAddr("169.254.169.123"), // AWS time
		netip.MustParseAddr("169.254.170.2"),   // AWS ECS task credentials
		netip.MustParseAddr("169.254.170.23"),  // AWS EKS pod identity
		azureWireServer,
		netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
		netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud, classic
		netip.MustParseAddr("fd00:ec2::254"),   // AWS
		netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS pod identity
		netip.MustParseAddr("fd20:ce::254"),    // Google
		netip.MustParseAddr("fe80::a9fe:a9fe"), // OpenStack
		netip.MustParseAddr("fd00:42::42"),     // Scaleway
	}
}

// CheckAddr decides whether one address and port may be dialled. It is pure: no
// name is resolved and nothing is counted. The error is a *BlockedError.
func (g *Guard) CheckAddr(ap netip.AddrPort) error {
	if reason := g.blockReason(ap.Addr()); reason != "" {
		return &BlockedError{Reason: reason, Addr: ap}
	}
	if ap.Port() != 0 && (g.isExempt(ap.Addr()) || slices.Contains(g.policy.AllowPorts, ap.Port())) {
		return nil
	}
	e := g.newPortError(ap.Port())
	e.Addr = ap
	return e
}

// blockReason returns why ip may not be called, or "".
func (g *Guard) blockReason(ip netip.Addr) Reason {
	switch {
	case !ip.IsValid():
		return ReasonReserved
	case ip.Zone() != "":
		return describeAddr(ip.WithZone(""))
	case ip.Is4In6():
		// Never dialled as such: connections to mapped addresses are IPv4.
		return describeAddr(ip)
	case g.isDenied(ip):
		return ReasonDenied
	case ip.IsUnspecified(), ip.IsMulticast(), ip == broadcast:
		return describeAddr(ip)
	case slices.Contains(g.metadata, ip):
		if slices.Contains(g.policy.AllowCIDRs, netip.PrefixFrom(ip, ip.BitLen())) {
			return ""
		}
		return ReasonMetadata
	}
	for _, p := range g.nat64 {
		// Where DNS64 is in use the operator allows the prefix; the address
		// that the gateway will call must then be allowed by itself.
		if !p.Contains(ip) {
			continue
		}
		if inner := g.blockReason(extractNAT64(ip, p.Bits())); inner != "" {
			return inner
		}
	}
	if g.isExempt(ip) {
		return ""
	}
	if isISATAP(ip) && g.blockReason(extractIPv4(ip)) != "" {
		return ReasonTransition
	}
	if g.iana.SafeAddr(ip) == nil {
		return ""
	}
	return describeAddr(ip)
}

// isDenied reports whether the operator's settings refuse ip.
func (g *Guard) isDenied(ip netip.Addr) bool {
	return slices.ContainsFunc(g.policy.DenyCIDRs, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// isISATAP reports whether an interface id says that the last 32 bits are an IPv4 address to tunnel to (RFC 5214),
// whatever the network is.
func isISATAP(ip netip.Addr) bool {
	if !ip.Is6() {
		return false
	}
	b := ip.As16()
	return b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

// isExempt reports whether the policy opens ip on every port.
func (g *Guard) isExempt(ip netip.Addr) bool {
	if g.policy.AllowLoopback && ip.IsLoopback() && !ip.Is4In6() {
		return true
	}
	return slices.ContainsFunc(g.policy.AllowCIDRs, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// describeAddr is the reason for an address that is refused.
func describeAddr(ip netip.Addr) Reason {
	switch {
	case ip.Is4In6():
		return describeEmbedded(ip.Unmap())
	case ssrf.IPv6NAT64Prefix.Contains(ip):
		return describeEmbedded(extractIPv4(ip))
	case ip.IsLoopback():
		return ReasonLoopback
	case ip.IsUnspecified(), thisNetwork.Contains(ip):
		return ReasonUnspecified
	case slices.Contains(metadataAddrs(), ip):
		return ReasonMetadata
	case ip.IsPrivate(), uniqueLocal.Contains(ip), siteLocal.Contains(ip):
		return ReasonPrivate
	case sharedSpace.Contains(ip):
		return ReasonShared
	case ip.IsLinkLocalUnicast():
		return ReasonLinkLocal
	case ip.IsMulticast(), ip == broadcast:
		return ReasonMulticast
	case sixToFour.Contains(ip), teredo.Contains(ip), localNAT64.Contains(ip), v4Compatible.Contains(ip), v4Translated.Contains(ip):
		return ReasonTransition
	}
	return ReasonReserved
}

// describeEmbedded prefers the reason for the IPv4 address inside.
func describeEmbedded(ip netip.Addr) Reason {
	if r := describeAddr(ip); r != ReasonReserved {
		return r
	}
	return ReasonTransition
}

// NAT64Lengths are the lengths that a NAT64 prefix may have (RFC 6052, section 2.2).
func NAT64Lengths() []int { return []int{32, 40, 48, 56, 64, 96} }

// extractNAT64 returns the IPv4 address in an address with a NAT64 prefix of the given length. Bits 64 to 71 are
// skipped.
func extractNAT64(ip netip.Addr, length int) netip.Addr {
	b := ip.As16()
	at := length / 8
	var v4 [4]byte
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4)
}

// extractIPv4 returns the IPv4 address in the last 32 bits.
func extractIPv4(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}
