package guard

import (
	"fmt"
	"net/netip"
)

// Reason is why something may not be called: a closed set, fit for a label.
// A new reason belongs in Reasons and in explanation too.
type Reason string

// The reasons for which a URL is refused before any address is known.
const (
	ReasonMalformed   Reason = "malformed"   // not an absolute URL, too long, or control characters
	ReasonScheme      Reason = "scheme"      // not https
	ReasonCredentials Reason = "credentials" // user name or password in the URL
	ReasonFragment    Reason = "fragment"    // a part after #
	ReasonHost        Reason = "host"        // not a host name, or an address in disguise
	ReasonPort        Reason = "port"        // a port that is not allowed
)

// The reasons for which an address is refused.
const (
	ReasonLoopback    Reason = "loopback"    // this machine
	ReasonUnspecified Reason = "unspecified" // 0.0.0.0/8 and ::
	ReasonPrivate     Reason = "private"     // RFC 1918 and unique local addresses
	ReasonShared      Reason = "shared"      // carrier-grade NAT
	ReasonLinkLocal   Reason = "link_local"  // 169.254.0.0/16 and fe80::/10
	ReasonMetadata    Reason = "metadata"    // a cloud's metadata service
	ReasonMulticast   Reason = "multicast"   // multicast and broadcast
	ReasonTransition  Reason = "transition"  // IPv4 wrapped in IPv6: mapped, NAT64, 6to4, Teredo
	ReasonReserved    Reason = "reserved"    // documentation, benchmarking and other special uses
	ReasonNetwork     Reason = "network"     // not TCP
	ReasonDenied      Reason = "denied"      // the operator's settings refuse it
)

// AllReasons lists every Reason, for metrics and tests.
func AllReasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonScheme, ReasonCredentials, ReasonFragment, ReasonHost, ReasonPort,
		ReasonLoopback, ReasonUnspecified, ReasonPrivate, ReasonShared, ReasonLinkLocal, ReasonMetadata,
		ReasonMulticast, ReasonTransition, ReasonReserved, ReasonNetwork, ReasonDenied,
	}
}

// IsAboutText reports whether the reason is about the text of a URL, which its writer knows. All other reasons are
// about where it leads.
func (r Reason) IsAboutText() bool {
	switch r {
	case ReasonMalformed, ReasonScheme, ReasonCredentials, ReasonFragment, ReasonHost, ReasonPort:
		return true
	default:
		return false
	}
}

// BlockedError says that a URL or address may not be called. errors.As finds it through the *url.Error and
// *net.OpError of a refused call. Calling again does not help: the URL or the settings must change.
type BlockedError struct {
	// Reason is the category, for metrics and decisions.
	Reason Reason
	// Addr is the refused address, if one was known. Error leaves it out: partners must not learn to which addresses
	// internal names resolve.
	Addr netip.AddrPort
	// detail replaces the explanation of the reason where more is known.
	detail string
}

// Error explains the refusal. It contains neither the URL nor an address that its writer did not write. A partner may
// read it if the reason is IsAboutText.
func (e *BlockedError) Error() string {
	if e.detail != "" {
		return e.detail
	}
	return explainReason(e.Reason)
}

func newBlockedError(reason Reason, format string, args ...any) *BlockedError {
	return &BlockedError{Reason: reason, detail: fmt.Sprintf(format, args...)}
}

func explainReason(r Reason) string {
	const onlyPublic = "; endpoints must be reachable at a public internet address"
	switch r {
	case ReasonMalformed:
		return "this is not a complete URL: it must look like https://host.example/path"
	case ReasonScheme:
		return "the URL must begin with https://"
	case ReasonCredentials:
		return "the URL must not hold a user name or password: notifications are signed, check the signature instead"
	case ReasonFragment:
		return "the URL must not have a part after #, because that part is never sent"
	case ReasonHost:
		return "the host in the URL is neither a valid host name nor a plainly written IP address"
	case ReasonPort:
		return "the port in the URL is not allowed"
	case ReasonLoopback:
		return "the host is the machine itself (loopback address)" + onlyPublic
	case ReasonUnspecified:
		return "the host is the unspecified address" + onlyPublic
	case ReasonPrivate:
		return "the host has a private network address" + onlyPublic
	case ReasonShared:
		return "the host has an address of a provider's internal network (RFC 6598)" + onlyPublic
	case ReasonLinkLocal:
		return "the host has a link-local address" + onlyPublic
	case ReasonMetadata:
		return "the host is a cloud provider's metadata service" + onlyPublic
	case ReasonMulticast:
		return "the host has a multicast or broadcast address" + onlyPublic
	case ReasonTransition:
		return "the host has an IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4 or Teredo); use the IPv4 address or a host name"
	case ReasonReserved:
		return "the host has an address that is reserved for special use" + onlyPublic
	case ReasonNetwork:
		return "only TCP connections are allowed"
	case ReasonDenied:
		return "the host, or one of its addresses, is refused by the settings (guard.deny_hosts, guard.deny_cidrs)"
	}
	return "the address is not allowed"
}
