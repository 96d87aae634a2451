package guard_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/lamplighter/lamplighter/internal/guard"
)

// nameServer answers every question with what answers says, over UDP on loopback.
type nameServer struct {
	conn    net.PacketConn
	answers func(name string) []netip.Addr
}

func startNameServer(t testing.TB, answers func(name string) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn, answers}
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve() }()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		for _, ip := range s.answers(strings.TrimSuffix(q.Name.String(), ".")) {
			switch {
			case q.Type == dnsmessage.TypeA && ip.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
			case q.Type == dnsmessage.TypeAAAA && !ip.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
			}
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = s.conn.WriteTo(packed, from)
		}
	}
}

var errNotReally = errors.New("permitted, and not really connected to")

// countingDialer is the guard's own dialer with one more step: what the guard permits is counted and
// not connected to.
func countingDialer(g *guard.Guard, r *net.Resolver, dialled *atomic.Int64) *guard.Dialer {
	d := g.Dialer()
	inner := d.Control
	d.Resolver, d.FallbackDelay = r, -1
	d.Control = func(network, address string, c syscall.RawConn) error {
		if err := inner(network, address, c); err != nil {
			return err
		}
		dialled.Add(1)
		return errNotReally
	}
	return d
}

// TestNothingSpecialIsDialled tries every spelling of addresses out of every special range, as the
// host of a URL and as what a name resolves to, through the check of a URL and through the dialer.
func TestNothingSpecialIsDialled(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	var target atomic.Value
	resolver := startNameServer(t, func(string) []netip.Addr { return []netip.Addr{target.Load().(netip.Addr)} })
	var dialled atomic.Int64
	dialer := countingDialer(g, resolver, &dialled)
	random := rand.New(rand.NewPCG(1, 2))
	forms, passed, names := 0, 0, 0
	for _, p := range registry() {
		for _, ip := range []netip.Addr{p.Addr(), last(p), within(random, p), within(random, p)} {
			target.Store(ip)
			spellings := v6Forms(ip)
			if ip.Is4() {
				spellings = v4Forms(ip)
			}
			for _, host := range spellings {
				forms++
				u, err := g.CheckURL("https://" + host + "/")
				if err != nil {
					continue
				}
				passed++
				_, _ = dialer.DialContext(t.Context(), "tcp", net.JoinHostPort(u.Hostname(), "443"))
			}
			if !registered(ip.Unmap()) {
				continue // a resolver's mapped answer is dialled as the public IPv4 address it is
			}
			names++
			_, err := dialer.DialContext(t.Context(), "tcp", "rebound.example:443")
			if reasonOf(t, err) == "" {
				t.Errorf("a name that resolves to %s: %v", ip, err)
			}
			if _, err := g.CheckHost(t.Context(), resolver, parse(t, "https://rebound.example/")); reasonOf(t, err) == "" {
				t.Errorf("CheckHost lets %s pass", ip)
			}
		}
	}
	if n := dialled.Load(); n != 0 || forms < 3000 || names < 190 {
		t.Errorf("forms tried %d, names %d, dialled %d", forms, names, n)
	}
	t.Logf("forms tried %d (%d passed as text), names resolved %d, dialled %d", forms, passed, names, dialled.Load())
	// The counter counts: a public address is dialled.
	target.Store(netip.MustParseAddr("8.8.8.8"))
	if _, err := dialer.DialContext(t.Context(), "tcp", "partner.example:443"); !errors.Is(err, errNotReally) || dialled.Load() != 1 {
		t.Errorf("a public address: %v, dialled %d", err, dialled.Load())
	}
}

// within picks an address of a range.
func within(random *rand.Rand, p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= byte(random.UintN(2)) << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// TestRebinding answers with a public address when the URL is set and with loopback, where somebody
// listens, when it is called.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	number, _ := strconv.ParseUint(port, 10, 16)
	var asked atomic.Int64
	resolver := startNameServer(t, func(string) []netip.Addr {
		if asked.Add(1) <= 2 { // A and AAAA of the check
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	g := guard.New(guard.Policy{AllowHTTP: true, AllowPorts: []uint16{uint16(number)}}, nil)
	u, err := g.CheckURL("http://rebound.example:" + port + "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.CheckHost(t.Context(), resolver, u); err != nil {
		t.Fatalf("the check: %v", err)
	}
	dialer := g.Dialer()
	dialer.Resolver = resolver
	conn, err := dialer.DialContext(t.Context(), "tcp", u.Host)
	if err == nil {
		_ = conn.Close()
	}
	if got := reasonOf(t, err); got != guard.ReasonLoopback || calls.Load() != 0 {
		t.Errorf("the dial: %v, %d calls", err, calls.Load())
	}
}

// TestProxiesOfTheEnvironmentAreNotUsed sets each variable that names one to a listener of ours.
func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	var calls atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
		t.Setenv(strings.ToLower(name), proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	client := guard.New(guard.Policy{AllowHTTP: true}, nil).Client(time.Minute, guard.TransportOptions{})
	for _, target := range []string{"http://10.0.0.1/", "https://10.0.0.1/", "http://127.0.0.1/"} {
		if _, err := get(t, client, target); reasonOf(t, err) == "" {
			t.Errorf("%s: %v", target, err)
		}
	}
	if calls.Load() != 0 {
		t.Errorf("the proxy was called %d times", calls.Load())
	}
}

// FuzzForms spells any address in any form: what the registries call special is never dialled.
func FuzzForms(f *testing.F) {
	for _, p := range registry() {
		b := p.Addr().AsSlice()
		f.Add(b, uint8(0), false)
		f.Add(last(p).AsSlice(), uint8(7), true)
	}
	g := guard.New(guard.Policy{}, nil)
	f.Fuzz(func(t *testing.T, raw []byte, form uint8, inner bool) {
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		spellings := v6Forms(ip)
		special := registered(ip)
		if ip.Is4() {
			spellings = v4Forms(ip)
		} else if inner { // an IPv4 address in the last bits
			v4 := netip.AddrFrom4([4]byte(raw[12:]))
			spellings, special = v4Forms(v4), registered(v4)
		}
		host := spellings[int(form)%len(spellings)]
		u, err := g.CheckURL("https://" + host + "/")
		if err != nil {
			return
		}
		to, err := netip.ParseAddr(u.Hostname())
		if err != nil {
			t.Fatalf("%q passes as the name %q", host, u.Hostname())
		}
		if special || registered(to) {
			t.Errorf("%q is dialled as %s", host, to)
		}
		if err := g.Control(network(to), netip.AddrPortFrom(to, 443).String(), nil); err != nil {
			t.Errorf("%q passes as text and not at the dial: %v", host, err)
		}
	})
}

func network(ip netip.Addr) string {
	if ip.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// TestNamesAreLookedUpAbsolute: a search list must not complete a stranger's name.
func TestNamesAreLookedUpAbsolute(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	u, err := g.CheckURL("https://partner.example.:8443/hook")
	if err != nil {
		t.Fatal(err)
	}
	var asked names
	if _, err := g.CheckHost(t.Context(), &asked, u); err != nil {
		t.Fatal(err)
	}
	if want := (names{"partner.example."}); !slices.Equal(asked, want) || u.Host != "partner.example:8443" {
		t.Errorf("asked for %q, host %s", asked, u.Host)
	}

	var questions atomic.Int64
	d := g.Dialer()
	d.Resolver = startNameServer(t, func(name string) []netip.Addr {
		if questions.Add(1); name != "partner.example" {
			t.Errorf("asked for %q", name)
		}
		return nil
	})
	_, err = d.DialContext(t.Context(), "tcp", "partner.example:443")
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || dns.Name != "partner.example" || !dns.IsNotFound {
		t.Errorf("%#v", err)
	}
	if n := questions.Load(); n != 2 { // A and AAAA
		t.Errorf("%d questions for one name", n)
	}
	for address, want := range map[string]guard.Reason{"127.0.0.1:443": guard.ReasonLoopback, "[::1]:443": guard.ReasonLoopback} {
		if _, err := g.Dialer().DialContext(t.Context(), "tcp", address); reasonOf(t, err) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := g.Dialer().DialContext(t.Context(), "tcp", "no port"); err == nil {
		t.Error("an address without a port")
	}
}

// TestLookUpsAtOnceShareNoError: who looks a name up at the same time as others gets the same error from the resolver,
// and reads and shows it on its own. The race detector judges.
func TestLookUpsAtOnceShareNoError(t *testing.T) {
	t.Parallel()
	const callers = 20
	d := guard.New(guard.Policy{}, nil).Dialer()
	d.Resolver = startNameServer(t, func(string) []netip.Addr {
		<-time.After(20 * time.Millisecond) // meanwhile the others join the look-up
		return nil
	})
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			_, err := d.DialContext(t.Context(), "tcp", "partner.example:443")
			if dns, ok := errors.AsType[*net.DNSError](err); !ok || dns.Name != "partner.example" {
				t.Errorf("%#v", err)
			}
		})
	}
	work.Wait()
}

// names remembers the names that it was asked for.
type names []string

// LookupNetIP implements guard.Resolver.
func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	*n = append(*n, host)
	return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
}
