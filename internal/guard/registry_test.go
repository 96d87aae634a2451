package guard_test

import (
	_ "embed"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lamplighter/lamplighter/internal/guard"
)

//go:embed testdata/special.txt
var specialText string

// registry holds the ranges of testdata/special.txt. It shares nothing with the guard's own lists.
var registry = sync.OnceValue(func() []netip.Prefix {
	var out []netip.Prefix
	for line := range strings.Lines(specialText) {
		if text, _, _ := strings.Cut(line, "|"); !strings.HasPrefix(line, "#") {
			out = append(out, netip.MustParsePrefix(strings.TrimSpace(text)))
		}
	}
	return out
})

// registered reports whether the registries call an address special.
func registered(ip netip.Addr) bool {
	for _, p := range registry() {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func TestRegistryAndItsNeighbours(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	refused, allowed := 0, 0
	for _, p := range registry() {
		for _, ip := range []netip.Addr{p.Addr(), p.Addr().Next(), last(p).Prev(), last(p)} {
			if !p.Contains(ip) {
				continue
			}
			refused++
			if g.CheckAddr(netip.AddrPortFrom(ip, 443)) == nil {
				t.Errorf("%s in %s is allowed", ip, p)
			}
		}
		for _, ip := range []netip.Addr{p.Addr().Prev(), last(p).Next()} {
			if !ip.IsValid() || registered(ip) || ip.Is6() && !netip.MustParsePrefix("2000::/3").Contains(ip) {
				continue
			}
			allowed++
			if err := g.CheckAddr(netip.AddrPortFrom(ip, 443)); err != nil {
				t.Errorf("%s just outside %s: %v", ip, p, err)
			}
		}
	}
	if len(registry()) < 50 || refused < 120 || allowed < 30 {
		t.Errorf("only %d ranges, %d refused, %d allowed: the file is cut", len(registry()), refused, allowed)
	}
	t.Logf("%d ranges, %d addresses within refused, %d just outside allowed", len(registry()), refused, allowed)
}

// v4Forms are spellings that some program reads as the IPv4 address.
func v4Forms(ip netip.Addr) []string {
	b := ip.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	wide := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r - '0' + '０'
			}
			return r
		}, s)
	}
	dotted := ip.String()
	return []string{
		dotted, dotted + ".", "%" + fmt.Sprintf("%02x", dotted[0]) + dotted[1:], wide(dotted),
		strings.ReplaceAll(dotted, ".", "。"), strings.ReplaceAll(dotted, ".", "．"), strings.ReplaceAll(dotted, ".", "｡"),
		strconv.FormatUint(uint64(n), 10), fmt.Sprintf("0x%x", n), fmt.Sprintf("0X%08X", n), fmt.Sprintf("0%o", n),
		fmt.Sprintf("%#o.%#o.%#o.%#o", b[0], b[1], b[2], b[3]), fmt.Sprintf("%04o.%04o.%04o.%04o", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%#x.%#x.%#x.%#x", b[0], b[1], b[2], b[3]), fmt.Sprintf("%#x.%d.%#o.%d", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%d.%d.%d", b[0], b[1], n&0xffff), fmt.Sprintf("%d.%d", b[0], n&0xffffff), fmt.Sprintf("%#x.%d", b[0], n&0xffffff),
		fmt.Sprintf("%d.%d.%d.%d", int(b[0])+256, b[1], b[2], b[3]),
		"[::ffff:" + dotted + "]", "[::" + dotted + "]", "[::ffff:0:" + dotted + "]", "[64:ff9b::" + dotted + "]",
		fmt.Sprintf("[::ffff:%x:%x]", n>>16, n&0xffff), fmt.Sprintf("[0:0:0:0:0:FFFF:%X:%X]", n>>16, n&0xffff),
		fmt.Sprintf("[64:ff9b:1::%x:%x]", n>>16, n&0xffff), fmt.Sprintf("[2002:%x:%x::1]", n>>16, n&0xffff),
		fmt.Sprintf("[2001:0:%x:%x::]", n>>16, n&0xffff), fmt.Sprintf("[2001:0:4136:e378:8000:63bf:%x:%x]", ^n>>16, ^n&0xffff),
		fmt.Sprintf("[2606:4700::5efe:%x:%x]", n>>16, n&0xffff), fmt.Sprintf("[2606:4700::200:5efe:%x:%x]", n>>16, n&0xffff),
		fmt.Sprintf("[fe80::5efe:%x:%x]", n>>16, n&0xffff),
		"[" + dotted + "]", "user@" + dotted, "partner.example@" + dotted, dotted + "%00.partner.example", dotted + "%2f.partner.example",
	}
}

func v6Forms(ip netip.Addr) []string {
	full := ip.StringExpanded()
	return []string{"[" + ip.String() + "]", "[" + full + "]", "[" + strings.ToUpper(full) + "]", "[" + ip.String() + "%25eth0]", "[" + ip.String() + "%eth0]", ip.String()}
}
