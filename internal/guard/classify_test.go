package guard_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/guard"
)

// reasonOf returns the reason of a refusal, "" for no refusal.
func reasonOf(t testing.TB, err error) guard.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	be, ok := errors.AsType[*guard.BlockedError](err)
	if !ok {
		t.Fatalf("%v is no BlockedError", err)
	}
	return be.Reason
}

func cidrs(t testing.TB, texts ...string) []netip.Prefix {
	t.Helper()
	prefixes, err := guard.ParseCIDRs(texts)
	if err != nil {
		t.Fatal(err)
	}
	return prefixes
}

// special holds each special range with its reason. The addresses just outside
// are in neighbours.
func special() map[string]guard.Reason {
	return map[string]guard.Reason{
		"0.0.0.0/8": guard.ReasonUnspecified, "10.0.0.0/8": guard.ReasonPrivate, "100.64.0.0/10": guard.ReasonShared,
		"127.0.0.0/8": guard.ReasonLoopback, "169.254.0.0/16": guard.ReasonLinkLocal, "172.16.0.0/12": guard.ReasonPrivate,
		"192.0.0.0/24": guard.ReasonReserved, "192.0.2.0/24": guard.ReasonReserved, "192.88.99.0/24": guard.ReasonReserved,
		"192.168.0.0/16": guard.ReasonPrivate, "198.18.0.0/15": guard.ReasonReserved, "198.51.100.0/24": guard.ReasonReserved,
		"203.0.113.0/24": guard.ReasonReserved, "224.0.0.0/4": guard.ReasonMulticast, "240.0.0.0/5": guard.ReasonReserved,
		"::1/128": guard.ReasonLoopback, "::/128": guard.ReasonUnspecified, "100::/64": guard.ReasonReserved,
		"2001::/32": guard.ReasonTransition, "2001:2::/48": guard.ReasonReserved, "2001:db8::/32": guard.ReasonReserved,
		"2002::/16": guard.ReasonTransition, "3fff::/20": guard.ReasonReserved, "5f00::/16": guard.ReasonReserved,
		"64:ff9b:1::/48": guard.ReasonTransition, "fc00::/7": guard.ReasonPrivate, "fe80::/10": guard.ReasonLinkLocal,
		"fec0::/10": guard.ReasonPrivate, "ff00::/8": guard.ReasonMulticast, "4000::/3": guard.ReasonReserved,
	}
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

func TestClassifySpecialRanges(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for text, want := range special() {
		p := netip.MustParsePrefix(text)
		for _, ip := range []netip.Addr{p.Addr(), last(p)} {
			if got := reasonOf(t, g.CheckAddr(netip.AddrPortFrom(ip, 443))); got != want {
				t.Errorf("%s in %s: reason %q, want %q", ip, text, got, want)
			}
		}
	}
}

func TestClassifyNeighbours(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for _, text := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
		"192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "8.8.8.8", "168.63.129.15", "168.63.129.17",
		"2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "2001:db7:ffff::1", "2001:db9::", "2001:ffff::1", "2003::",
		"3ffe:ffff::1", "3fff:1000::", "2606:4700:4700::1111",
	} {
		if err := g.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestClassifyDisguises(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for text, want := range map[string]guard.Reason{
		"255.255.255.255": guard.ReasonMulticast, "169.254.169.254": guard.ReasonMetadata, "169.254.170.2": guard.ReasonMetadata,
		"168.63.129.16": guard.ReasonMetadata, "100.100.100.200": guard.ReasonMetadata, "192.0.0.192": guard.ReasonMetadata,
		"fd00:ec2::254": guard.ReasonMetadata, "fd20:ce::254": guard.ReasonMetadata,
		"::ffff:127.0.0.1": guard.ReasonLoopback, "::ffff:10.0.0.1": guard.ReasonPrivate, "::ffff:169.254.169.254": guard.ReasonMetadata,
		"::ffff:8.8.8.8": guard.ReasonTransition, "::127.0.0.1": guard.ReasonTransition, "::8.8.8.8": guard.ReasonTransition,
		"::ffff:0:8.8.8.8": guard.ReasonTransition, "64:ff9b::127.0.0.1": guard.ReasonLoopback, "64:ff9b::a9fe:a9fe": guard.ReasonMetadata,
		"64:ff9b::8.8.8.8": guard.ReasonTransition, "2002:7f00:1::1": guard.ReasonTransition, "2001:0:7f00:1::1": guard.ReasonTransition,
		"fe80::1%eth0": guard.ReasonLinkLocal, "2606:4700:4700::1111%1": guard.ReasonReserved, "::1%lo": guard.ReasonLoopback,
	} {
		if got := reasonOf(t, g.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(text), 443))); got != want {
			t.Errorf("%s: reason %q, want %q", text, got, want)
		}
	}
	if got := reasonOf(t, g.CheckAddr(netip.AddrPort{})); got != guard.ReasonReserved {
		t.Errorf("the zero AddrPort: reason %q", got)
	}
}

func TestClassifyPorts(t *testing.T) {
	t.Parallel()
	strict := guard.Policy{}
	for _, tc := range []struct {
		policy guard.Policy
		target string
		want   guard.Reason
	}{
		{strict, "8.8.8.8:443", ""},
		{strict, "8.8.8.8:8443", ""},
		{strict, "8.8.8.8:80", guard.ReasonPort},
		{strict, "8.8.8.8:22", guard.ReasonPort},
		{strict, "8.8.8.8:0", guard.ReasonPort},
		{guard.Policy{AllowHTTP: true}, "8.8.8.8:80", ""},
		{guard.Policy{AllowPorts: []uint16{9000}}, "8.8.8.8:9000", ""},
		{guard.Policy{AllowPorts: []uint16{9000}}, "8.8.8.8:443", guard.ReasonPort},
		{guard.Policy{AllowPorts: []uint16{0}}, "8.8.8.8:0", guard.ReasonPort},
		{guard.Policy{AllowHTTP: true, AllowPorts: []uint16{443}}, "8.8.8.8:80", guard.ReasonPort},
	} {
		if got := reasonOf(t, guard.New(tc.policy, nil).CheckAddr(netip.MustParseAddrPort(tc.target))); got != tc.want {
			t.Errorf("%s under %+v: reason %q, want %q", tc.target, tc.policy, got, tc.want)
		}
	}
}

func TestClassifyExemptions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		policy guard.Policy
		target string
		want   guard.Reason
	}{
		{"RangeAnyPort", guard.Policy{AllowCIDRs: cidrs(t, "10.1.0.0/16")}, "10.1.2.3:9999", ""},
		{"RangeNoMore", guard.Policy{AllowCIDRs: cidrs(t, "10.1.0.0/16")}, "10.2.0.0:443", guard.ReasonPrivate},
		{"PublicRangeAnyPort", guard.Policy{AllowCIDRs: cidrs(t, "8.8.8.0/24")}, "8.8.8.8:9999", ""},
		{"PortZero", guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8")}, "10.1.2.3:0", guard.ReasonPort},
		{"SingleAddress", guard.Policy{AllowCIDRs: cidrs(t, "10.1.2.3")}, "10.1.2.3:80", ""},
		{"MappedRange", guard.Policy{AllowCIDRs: cidrs(t, "::ffff:10.0.0.0/104")}, "10.1.2.3:80", ""},
		{"MappedAddress", guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8", "::/0")}, "[::ffff:10.1.2.3]:80", guard.ReasonPrivate},
		{"UnmaskedRange", guard.Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}}, "10.200.0.1:80", ""},
		{"EverythingButMetadata", guard.Policy{AllowCIDRs: cidrs(t, "0.0.0.0/0")}, "169.254.169.254:80", guard.ReasonMetadata},
		{"EverythingButAzure", guard.Policy{AllowCIDRs: cidrs(t, "0.0.0.0/0")}, "168.63.129.16:80", guard.ReasonMetadata},
		{"EverythingButMulticast", guard.Policy{AllowCIDRs: cidrs(t, "0.0.0.0/0", "::/0")}, "[ff02::1]:80", guard.ReasonMulticast},
		{"EverythingButUnspecified", guard.Policy{AllowCIDRs: cidrs(t, "0.0.0.0/0", "::/0")}, "0.0.0.0:80", guard.ReasonUnspecified},
		{"MetadataByItself", guard.Policy{AllowCIDRs: cidrs(t, "169.254.169.254")}, "169.254.169.254:80", ""},
		{"NAT64Public", guard.Policy{AllowCIDRs: cidrs(t, "64:ff9b::/96")}, "[64:ff9b::8.8.8.8]:443", ""},
		{"NAT64Loopback", guard.Policy{AllowCIDRs: cidrs(t, "64:ff9b::/96")}, "[64:ff9b::127.0.0.1]:443", guard.ReasonLoopback},
		{"NAT64Metadata", guard.Policy{AllowCIDRs: cidrs(t, "64:ff9b::/96")}, "[64:ff9b::a9fe:a9fe]:443", guard.ReasonMetadata},
		{"Loopback", guard.Policy{AllowLoopback: true}, "127.0.0.1:9999", ""},
		{"Loopback6", guard.Policy{AllowLoopback: true}, "[::1]:9999", ""},
		{"LoopbackMapped", guard.Policy{AllowLoopback: true}, "[::ffff:127.0.0.1]:9999", guard.ReasonLoopback},
		{"LoopbackNAT64", guard.Policy{AllowLoopback: true}, "[64:ff9b::127.0.0.1]:9999", guard.ReasonLoopback},
		{"LoopbackNoMore", guard.Policy{AllowLoopback: true}, "10.0.0.1:443", guard.ReasonPrivate},
		{"LoopbackPublicPort", guard.Policy{AllowLoopback: true}, "8.8.8.8:80", guard.ReasonPort},
	} {
		if got := reasonOf(t, guard.New(tc.policy, nil).CheckAddr(netip.MustParseAddrPort(tc.target))); got != tc.want {
			t.Errorf("%s: reason %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestPolicyIsCopied(t *testing.T) {
	t.Parallel()
	p := guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8"), AllowPorts: []uint16{443}}
	g := guard.New(p, nil)
	p.AllowCIDRs[0], p.AllowPorts[0] = netip.MustParsePrefix("127.0.0.0/8"), 22
	if got := reasonOf(t, g.CheckAddr(netip.MustParseAddrPort("127.0.0.1:22"))); got != guard.ReasonLoopback {
		t.Errorf("a later change of the caller's slices opened loopback: %q", got)
	}
}

func TestParseCIDRs(t *testing.T) {
	t.Parallel()
	got := cidrs(t, " 10.1.2.3/8 ", "192.0.2.1", "::1", "::ffff:10.0.0.0/104")
	want := "10.0.0.0/8 192.0.2.1/32 ::1/128 10.0.0.0/8"
	texts := make([]string, len(got))
	for i, p := range got {
		texts[i] = p.String()
	}
	if strings.Join(texts, " ") != want {
		t.Errorf("prefixes = %v, want %s", texts, want)
	}
	for _, text := range []string{"", "10.0.0.0/33", "partner.example", "fe80::1%eth0", "10.0.0"} {
		if _, err := guard.ParseCIDRs([]string{text}); err == nil || !strings.Contains(err.Error(), "guard.allow_cidrs") {
			t.Errorf("ParseCIDRs(%q) = %v", text, err)
		}
	}
}

// suspicious is an oracle that shares nothing with the guard's lists.
func suspicious(ip netip.Addr) bool {
	if ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip.Zone() != "" || ip.Is4In6() {
		return true
	}
	b := ip.AsSlice()
	if ip.Is4() {
		return b[0] == 0 || b[0] >= 240 || b[0] == 100 && b[1]&0xc0 == 64 || b[0] == 192 && b[1] == 0 && (b[2] == 0 || b[2] == 2) ||
			b[0] == 198 && (b[1]&0xfe == 18 || b[1] == 51 && b[2] == 100) || b[0] == 203 && b[1] == 0 && b[2] == 113 ||
			b[0] == 168 && b[1] == 63 && b[2] == 129 && b[3] == 16
	}
	return b[0]&0xe0 != 0x20 || b[0] == 0x20 && (b[1] == 2 || b[1] == 1 && (b[2] <= 1 || b[2] == 0x0d && b[3] == 0xb8)) || b[0] == 0x3f && b[1] == 0xff && b[2]&0xf0 == 0
}

func FuzzClassify(f *testing.F) {
	for text := range special() {
		p := netip.MustParsePrefix(text)
		f.Add(p.Addr().AsSlice(), uint16(443))
		f.Add(last(p).AsSlice(), uint16(8443))
	}
	f.Add([]byte{8, 8, 8, 8}, uint16(80))
	g := guard.New(guard.Policy{}, nil)
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		reason := reasonOf(t, g.CheckAddr(netip.AddrPortFrom(ip, port)))
		allowed := !suspicious(ip) && (port == 443 || port == 8443)
		if reason == "" && !allowed {
			t.Errorf("%s port %d is allowed", ip, port)
		}
		if reason == guard.ReasonPort && (port == 443 || port == 8443) {
			t.Errorf("%s port %d is refused for its port", ip, port)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	g := guard.New(guard.Policy{AllowCIDRs: cidrs(b, "10.0.0.0/8")}, nil)
	target := netip.MustParseAddrPort("93.184.216.34:443")
	for b.Loop() {
		if err := g.CheckAddr(target); err != nil {
			b.Fatal(err)
		}
	}
}
