package commoncause

import (
	"net/netip"
	"strings"
)

// byName starts the networks that are told from a name alone.
const byName = "name "

// NetworkOf is the network of an address: what usually breaks as one. Public networks are /16 and /32 (IPv6). Private ones
// lie close together, all of them within what would be one public network: they are /24 and /64.
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

// networkOfName stands for the network of a host that was never dialled: the end of its name that its owner registered, as far as
// that can be told from its looks. Two labels, or three where the last two look like "co.uk".
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

// pickNetwork is the one of two networks of a host that was told from an address, if one was.
func pickNetwork(known, other string) string {
	if other != "" && (known == "" || strings.HasPrefix(known, byName) && !strings.HasPrefix(other, byName)) {
		return other
	}
	return known
}
