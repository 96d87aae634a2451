package httpapi

import (
	"net/http"
	"net/netip"
)

// callerNetwork is the network of a request's caller to which limits apply.
func callerNetwork(r *http.Request) string { return addressName(r.RemoteAddr) }

// addressName is an IPv4 address, or the IPv6 /64, which usually belongs to one subscriber.
func addressName(addr string) string { return networkOf(addr, 64) }

// ipv6SiteOf is the IPv6 /48 of an address, empty for IPv4. One site may have a whole /48.
func ipv6SiteOf(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err != nil || ap.Addr().Unmap().Is4() {
		return ""
	}
	return networkOf(addr, 48)
}

func networkOf(addr string, bits int) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "unknown"
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
