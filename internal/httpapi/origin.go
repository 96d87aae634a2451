package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// corsMaxAge is how long a browser may cache the answer to a preflight, in seconds.
const corsMaxAge = "600"

// Headers that scripts of other origins may send and read.
const (
	corsRequestHeaders = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"
	corsAnswerHeaders  = "ETag, Idempotent-Replayed, Location, Retry-After, X-Request-Id"
)

// allowOrigins lets scripts of the listed origins call the API from a browser, and of no other origin. Credentials that a
// browser adds by itself are never allowed: a script must send its token.
func (a *API) allowOrigins(methods map[string]bool, next http.Handler) http.Handler {
	if len(a.Origins) == 0 {
		return next
	}
	allowed := make([]string, 0, len(methods))
	for m := range methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Values("Origin")
		if len(origin) != 1 || !slices.Contains(a.Origins, origin[0]) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin[0])
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			h.Set("Access-Control-Expose-Headers", corsAnswerHeaders)
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", strings.Join(allowed, ", "))
		h.Set("Access-Control-Allow-Headers", corsRequestHeaders)
		h.Set("Access-Control-Max-Age", corsMaxAge)
		w.WriteHeader(http.StatusNoContent)
	})
}

// withForwardedAddr replaces the connection's address with the caller's, if the connection comes from a trusted proxy.
func (a *API) withForwardedAddr(r *http.Request) *http.Request {
	if len(a.TrustedProxies) == 0 {
		return r
	}
	from := resolveCallerAddr(r.RemoteAddr, r.Header.Values("X-Forwarded-For"), a.TrustedProxies)
	if from == r.RemoteAddr {
		return r
	}
	c := *r
	c.RemoteAddr = from
	return &c
}

// maxHops bounds how many proxies of a chain are followed.
const maxHops = 16

// resolveCallerAddr finds the address of the caller, or of the first proxy that is not trusted. It follows the chain from
// the nearest proxy on, and uses what each trusted proxy says about its own peer. Entries before the first untrusted
// address may be forged. A trusted proxy whose entry cannot be read counts as the caller.
func resolveCallerAddr(remoteAddr string, headers []string, trusted []netip.Prefix) string {
	ap, err := netip.ParseAddrPort(remoteAddr)
	if err != nil || !containsAddr(trusted, ap.Addr()) {
		return remoteAddr
	}
	hops := strings.Split(strings.Join(headers, ","), ",")
	from := remoteAddr
	for i := len(hops) - 1; i >= 0 && len(hops)-i <= maxHops; i-- {
		addr, ok := parseHopAddr(strings.TrimSpace(hops[i]))
		if !ok {
			return from
		}
		from = netip.AddrPortFrom(addr, 0).String()
		if !containsAddr(trusted, addr) {
			return from
		}
	}
	return from
}

// parseHopAddr reads an address, perhaps with a port.
func parseHopAddr(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return addr.Unmap().WithZone(""), err == nil
}

func containsAddr(list []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}
