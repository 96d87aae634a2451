package commoncause

import (
	"net/netip"
	"strings"
)

// byName starts the names of networks that are known by a host name only.
const byName = "name "

// NetworkOf is the network of an address: what usually fails together. Public networks are /16 and /32 (IPv6).
// Private networks are /24 and /64, since many of them would fit into one public network.
func NetworkOf(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	near := a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace().Contains(a)
	bits := 16
	switch {
	case !a.IsValid():
		return ""
	case a.Is4() && near:
		bits = 24
	case a.Is6() && near:
		bits = 64
	case a.Is6():
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked().String()
}

// sharedSpace is the address space of carriers' own networks (RFC 6598).
func sharedSpace() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) }

// networkOfName stands for the network of a host that was never dialled: the registered end of its name, as far as
// its form shows. This is two labels, or three when the last two look like "co.uk".
func networkOfName(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return NetworkOf(a)
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	n := 2
	if l := len(labels); l > 2 && len(labels[l-1]) == 2 && len(labels[l-2]) <= 3 {
		n = 3
	}
	return byName + hashName(strings.Join(labels[max(len(labels)-n, 0):], "."))
}

// pickNetwork is the one of a host's two networks that is known by an address, if one is.
func pickNetwork(known, other string) string {
	if other != "" && (known == "" || strings.HasPrefix(known, byName) && !strings.HasPrefix(other, byName)) {
		return other
	}
	return known
}
