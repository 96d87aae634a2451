package guard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/guard"
)

// TestDenied: what the operator's settings refuse is refused when it is set and when it is dialled, whatever else is allowed.
func TestDenied(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{
		AllowCIDRs: cidrs(t, "10.0.0.0/8", "169.254.169.254/32"), AllowHTTP: true,
		DenyCIDRs: cidrs(t, "8.8.4.0/24", "2606:2800:220:1::/64", "10.1.0.0/16", "169.254.169.254/32"), DenyHosts: []string{"corp.example", "Db.Partner.Example"},
	}, nil)
	for url, want := range map[string]guard.Reason{
		"https://8.8.4.4/": guard.ReasonDenied, "https://8.8.8.8/": "", "https://[2606:2800:220:1::a01:203]/": guard.ReasonDenied, "https://[2606:2800:220:2::1]/": "",
		"https://10.1.2.3/": guard.ReasonDenied, "https://10.2.2.3/": "", "https://169.254.169.254/": guard.ReasonDenied,
		"https://[64:ff9b::8.8.4.4]/": guard.ReasonDenied,
		"https://corp.example/":       guard.ReasonDenied, "https://CORP.example./": guard.ReasonDenied, "https://a.b.corp.example/": guard.ReasonDenied,
		"https://notcorp.example/": "", "https://corp.example.com/": "", "https://db.partner.example/": guard.ReasonDenied, "https://partner.example/": "",
	} {
		_, err := g.CheckURL(url)
		if got := reasonOf(t, err); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
	for _, ip := range []string{"8.8.4.4", "::ffff:8.8.4.4", "10.1.2.3"} {
		if _, err := g.CheckHost(t.Context(), answers(ip), parse(t, "https://partner.example/")); reasonOf(t, err) != guard.ReasonDenied {
			t.Errorf("a name at %s: %v", ip, err)
		}
	}
	if err := g.Control("tcp4", "8.8.4.4:443", nil); reasonOf(t, err) != guard.ReasonDenied {
		t.Errorf("a connection: %v", err)
	}
	for _, host := range []string{"corp.example:443", "x.corp.example.:443"} {
		if _, err := g.Dialer().DialContext(t.Context(), "tcp", host); reasonOf(t, err) != guard.ReasonDenied {
			t.Errorf("dialled %s: %v", host, err)
		}
	}
	client := g.Client(0, guard.TransportOptions{})
	if _, err := get(t, client, "https://x.corp.example/"); reasonOf(t, err) != guard.ReasonDenied {
		t.Errorf("a request: %v", err)
	}
}

// TestOwnNAT64: what an operator's gateway would call is judged, at each place that RFC 6052 has for it.
func TestOwnNAT64(t *testing.T) {
	t.Parallel()
	for prefix, forms := range map[string][2]string{ // of 10.1.2.3, and of 8.8.8.8
		"2606:db8::/32":              {"2606:db8:0a01:0203::", "2606:db8:0808:0808::"},
		"2606:db8:100::/40":          {"2606:db8:010a:0102:0003::", "2606:db8:0108:0808:0008::"},
		"2606:db8:122::/48":          {"2606:db8:122:0a01:0002:0300::", "2606:db8:122:0808:0008:0800::"},
		"2606:db8:122:300::/56":      {"2606:db8:122:030a:0001:0203::", "2606:db8:122:0308:0008:0808::"},
		"2606:db8:122:344::/64":      {"2606:db8:122:344:000a:0102:0300::", "2606:db8:122:344:0008:0808:0800::"},
		"2606:db8:122:344::/96":      {"2606:db8:122:344::10.1.2.3", "2606:db8:122:344::8.8.8.8"},
		"2606:2800:220:1:64:64::/96": {"2606:2800:220:1:64:64:a01:203", "2606:2800:220:1:64:64:808:808"},
	} {
		own, plain := guard.New(guard.Policy{NAT64Prefixes: cidrs(t, prefix)}, nil), guard.New(guard.Policy{}, nil)
		for i, form := range forms {
			ip := netip.AddrPortFrom(netip.MustParseAddr(form), 443)
			if err := plain.CheckAddr(ip); err != nil {
				t.Fatalf("%s is not public: %v", form, err)
			}
			want := []guard.Reason{guard.ReasonPrivate, ""}[i]
			if got := reasonOf(t, own.CheckAddr(ip)); got != want {
				t.Errorf("%s behind %s: %q, want %q", form, prefix, got, want)
			}
		}
	}
	opens := guard.New(guard.Policy{NAT64Prefixes: cidrs(t, "64:ff9b:1::/48")}, nil)
	if err := opens.CheckAddr(netip.MustParseAddrPort("[64:ff9b:1:808:8:800::]:443")); err == nil {
		t.Error("naming a prefix opens it")
	}
}

// TestNamesNeedADot: names without one are those of an inner network, and only where such networks are admitted may URLs have them.
func TestNamesNeedADot(t *testing.T) {
	t.Parallel()
	strict, admits := guard.New(guard.Policy{}, nil), guard.New(guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8")}, nil)
	for _, url := range []string{"https://redis/", "https://redis./", "https://VAULT:8443/x", "https://xn--bcher-kva/"} {
		if _, err := strict.CheckURL(url); reasonOf(t, err) != guard.ReasonHost {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := admits.CheckURL(url); err != nil {
			t.Errorf("%s, where inner networks are admitted: %v", url, err)
		}
	}
}

// TestOfText: what speaks of a URL's text is apart from what speaks of where it leads.
func TestOfText(t *testing.T) {
	t.Parallel()
	text := 0
	for _, r := range guard.AllReasons() {
		if r.IsAboutText() {
			text++
		}
	}
	if text != 6 || guard.ReasonDenied.IsAboutText() || guard.ReasonLoopback.IsAboutText() {
		t.Errorf("%d reasons speak of the text", text)
	}
	if errors.Is(guard.ErrNoHost, guard.ErrNoResolver) {
		t.Error("a name that does not exist and a silent name server are one")
	}
}

// TestRefusalsAreNews: a host that is refused each time that it is tried counts once an hour, others beside it.
func TestRefusalsAreNews(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	g := guard.New(guard.Policy{DenyHosts: []string{"corp.example"}}, guard.NewMetrics(reg))
	for range 3 {
		for _, host := range []string{"a.corp.example:443", "b.corp.example:443", "10.1.2.3:443"} {
			if _, err := g.Dialer().DialContext(t.Context(), "tcp", host); reasonOf(t, err) == "" {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			counted += m.GetCounter().GetValue()
		}
	}
	if counted != 3 {
		t.Errorf("counted %v refusals, want one of each host", counted)
	}
}
