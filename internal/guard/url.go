package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// maxURLLength is what servers and mail clients reliably accept.
	maxURLLength = 2048
	// maxHostLength and maxLabelLength are the limits of DNS.
	maxHostLength  = 253
	maxLabelLength = 63
	// resolveTimeout bounds CheckHost, for which a caller waits.
	resolveTimeout = 3 * time.Second
)

// CheckURL checks a URL by its text alone, without resolving its host. It returns the URL in normal form: lower-case
// ASCII host without a final dot, no empty port, only ASCII. The error is a *BlockedError. CheckHost and each
// connection check the host's addresses. While AllowCIDRs might permit a port, every port passes here. Refusals are
// counted.
func (g *Guard) CheckURL(raw string) (*url.URL, error) {
	u, err := g.parseURL(raw)
	if err != nil {
		return nil, g.countBlocked(err)
	}
	return u, nil
}

func (g *Guard) parseURL(raw string) (*url.URL, error) {
	if err := checkText(raw); err != nil {
		return nil, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's message quotes the text, which may contain a password.
		return nil, &BlockedError{Reason: ReasonMalformed}
	}
	if err := g.checkParts(u); err != nil {
		return nil, err
	}
	if strings.Contains(raw, "#") {
		return nil, &BlockedError{Reason: ReasonFragment}
	}
	return u, nil
}

// checkParts checks u and brings its host into normal form.
func (g *Guard) checkParts(u *url.URL) error {
	switch {
	case u.Scheme == "":
		return &BlockedError{Reason: ReasonMalformed}
	case u.Scheme != "https" && u.Scheme != "http":
		return &BlockedError{Reason: ReasonScheme}
	case u.User != nil:
		return &BlockedError{Reason: ReasonCredentials}
	case u.Host == "" || u.Opaque != "":
		return &BlockedError{Reason: ReasonMalformed}
	case u.Fragment != "":
		return &BlockedError{Reason: ReasonFragment}
	}
	host, ip, err := normalizeHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return err
	}
	port, err := portOf(u)
	if err != nil {
		return err
	}
	loopback := g.policy.AllowLoopback && (isLocalhost(host) || ip.IsLoopback())
	if u.Scheme == "http" && !g.policy.AllowHTTP && !loopback {
		return &BlockedError{Reason: ReasonScheme}
	}
	if err := g.checkTarget(host, netip.AddrPortFrom(ip, port)); err != nil {
		return err
	}
	u.Host = joinHost(host, ip, u.Port())
	u.RawQuery = encodeQuery(u.RawQuery)
	return nil
}

// encodeQuery encodes what RFC 3986 (section 3.4) does not allow in a query, as url.URL does in a path. Users type
// letters beyond ASCII, and servers refuse them unencoded. A percent sign stays as it is.
func encodeQuery(raw string) string {
	if !strings.ContainsFunc(raw, func(r rune) bool { return r >= utf8.RuneSelf || !isQueryByte(byte(r)) }) {
		return raw
	}
	var b strings.Builder
	for i := range len(raw) {
		if isQueryByte(raw[i]) {
			b.WriteByte(raw[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", raw[i])
		}
	}
	return b.String()
}

// isQueryByte reports whether a byte may stand in a query.
func isQueryByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/?%", c) >= 0
}

// checkTarget checks what the host's text alone shows.
func (g *Guard) checkTarget(host string, ap netip.AddrPort) error {
	if ap.Addr().IsValid() {
		return g.CheckAddr(ap)
	}
	if isLocalhost(host) && !g.hasExemptions() {
		return &BlockedError{Reason: ReasonLoopback}
	}
	if g.isDeniedHost(host) {
		return &BlockedError{Reason: ReasonDenied}
	}
	if !strings.Contains(host, ".") && !g.hasExemptions() {
		return newBlockedError(ReasonHost, "the host name in the URL has no dot: such names belong to internal networks")
	}
	if !g.hasExemptions() && !slices.Contains(g.policy.AllowPorts, ap.Port()) {
		return g.newPortError(ap.Port())
	}
	return nil
}

// isDeniedHost reports whether the operator's settings refuse a host name, or a domain that it belongs to.
func (g *Guard) isDeniedHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return slices.ContainsFunc(g.policy.DenyHosts, func(d string) bool {
		return host == d || strings.HasSuffix(host, "."+d)
	})
}

// hasExemptions reports whether some addresses are open on every port. The port of a host name can then not be
// checked by the name alone.
func (g *Guard) hasExemptions() bool {
	return g.policy.AllowLoopback || len(g.policy.AllowCIDRs) > 0
}

// checkText refuses texts that are not URLs.
func checkText(raw string) error {
	switch {
	case raw == "":
		return newBlockedError(ReasonMalformed, "the URL is empty")
	case len(raw) > maxURLLength:
		return newBlockedError(ReasonMalformed, "the URL is longer than %d bytes", maxURLLength)
	case !utf8.ValidString(raw):
		return newBlockedError(ReasonMalformed, "the URL is not valid UTF-8")
	case strings.ContainsFunc(raw, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return newBlockedError(ReasonMalformed, "the URL contains a space or an invisible character; percent-encode it or remove it")
	case strings.Contains(raw, `\`):
		return newBlockedError(ReasonMalformed, `the URL contains a backslash; use / instead`)
	}
	return nil
}

// normalizeHost returns the host as lower-case ASCII, and its address if it is
// written as one. Old spellings of IPv4 addresses (decimal, octal, hexadecimal,
// shortened) are refused, because programs disagree on what they mean.
func normalizeHost(host string, brackets bool) (string, netip.Addr, error) {
	if brackets {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() {
			return "", netip.Addr{}, &BlockedError{Reason: ReasonHost}
		}
		if ip.Zone() != "" {
			return "", netip.Addr{}, newBlockedError(ReasonLinkLocal, "the address in the URL names a network interface (the part after %%), which has no meaning elsewhere")
		}
		return ip.String(), ip, nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if !isASCII(name) || strings.Contains(name, "xn--") {
		ascii, err := nameProfile().ToASCII(name)
		if err != nil {
			return "", netip.Addr{}, newBlockedError(ReasonHost, "the host name in the URL is not a valid internationalised name")
		}
		name = strings.TrimSuffix(ascii, ".")
		if spoken, err := idna.Punycode.ToUnicode(name); err != nil || IsConfusing(spoken) {
			return "", netip.Addr{}, newBlockedError(ReasonHost, "the host name in the URL mixes scripts, or looks like a name in other letters: it could be mistaken for another host")
		}
	}
	if !isValidName(name) {
		return "", netip.Addr{}, &BlockedError{Reason: ReasonHost}
	}
	if endsInNumber(name) {
		ip, err := netip.ParseAddr(name)
		if err != nil {
			return "", netip.Addr{}, newBlockedError(ReasonHost, "the host in the URL is an unusual spelling of an IP address; write it as four decimal numbers, such as 192.0.2.1")
		}
		return name, ip, nil
	}
	return name, netip.Addr{}, nil
}

// nameProfile maps names as browsers do, and checks what DNS can hold.
func nameProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
		idna.StrictDomainName(true), idna.CheckHyphens(false), idna.CheckJoiners(true))
}

// isValidName accepts host names, with underscores since real hosts have them.
func isValidName(name string) bool {
	if name == "" || len(name) > maxHostLength {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabelLength || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// endsInNumber reports whether resolvers may read the name as an IPv4 address:
// when its last label is a decimal, octal or hexadecimal number.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// portOf returns the port that will be dialled.
func portOf(u *url.URL) (uint16, error) {
	text := u.Port()
	switch {
	case text == "" && u.Scheme == "http":
		return 80, nil
	case text == "":
		return 443, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, newBlockedError(ReasonPort, "the port in the URL must be a number from 1 to 65535")
	}
	return uint16(port), nil
}

func joinHost(host string, ip netip.Addr, port string) string {
	if ip.Is6() {
		host = "[" + host + "]"
	}
	if port == "" {
		return host
	}
	return host + ":" + strings.TrimLeft(port, "0")
}

// Resolver finds a host's addresses. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ErrNoHost reports a host name that does not exist, or has no address. ErrNoResolver says that this is unknown,
// because no name server answered within three seconds.
var (
	ErrNoHost     = errors.New("the host name does not exist, or has no address")
	ErrNoResolver = errors.New("no name server says whether the host name exists")
)

// CheckHost resolves the host of u, a result of CheckURL, checks every address and returns them. One blocked address
// is enough for a *BlockedError. Otherwise the error is ErrNoHost, ErrNoResolver or that of a ctx that ended.
// Refusals are counted.
func (g *Guard) CheckHost(ctx context.Context, resolver Resolver, u *url.URL) ([]netip.Addr, error) {
	port, err := portOf(u)
	if err != nil {
		return nil, g.countBlocked(err)
	}
	if g.isDeniedHost(u.Hostname()) {
		return nil, g.countBlocked(&BlockedError{Reason: ReasonDenied})
	}
	addrs, err := lookUpHost(ctx, resolver, u.Hostname())
	switch dns, ok := errors.AsType[*net.DNSError](err); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("resolve the endpoint's host: %w", context.Cause(ctx))
	case err == nil && len(addrs) == 0, ok && dns.IsNotFound:
		return nil, ErrNoHost
	case err != nil:
		return nil, ErrNoResolver
	}
	for i, ip := range addrs {
		// Resolvers give IPv4 addresses in mapped form, but dial them as IPv4.
		addrs[i] = ip.Unmap()
		if err := g.CheckAddr(netip.AddrPortFrom(addrs[i], port)); err != nil {
			return nil, g.countBlocked(err)
		}
	}
	return addrs, nil
}

var errResolveTimeout = errors.New("name resolution took too long")

func lookUpHost(ctx context.Context, resolver Resolver, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resolveTimeout, errResolveTimeout)
	defer cancel()
	return resolver.LookupNetIP(ctx, "ip", absoluteName(host))
}
