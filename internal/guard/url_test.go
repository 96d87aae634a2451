package guard_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"unicode"

	"github.com/lamplighter/lamplighter/internal/guard"
)

func TestCheckURLAccepts(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for in, want := range map[string]string{
		"https://partner.example/hook?x=1":                "https://partner.example/hook?x=1",
		"HTTPS://Partner.Example.:8443/Hook":              "https://partner.example:8443/Hook",
		"https://partner.example:/":                       "https://partner.example/",
		"https://partner.example:0443/":                   "https://partner.example:443/",
		"https://my_host.partner.example":                 "https://my_host.partner.example",
		"https://blåbær.example/ø":                        "https://xn--blbr-roah.example/%C3%B8",
		"https://xn--blbr-roah.example/":                  "https://xn--blbr-roah.example/",
		"https://ＰＡＲＴＮＥＲ.example/":                        "https://partner.example/",
		"https://r3---a.partner.example/":                 "https://r3---a.partner.example/",
		"https://8.8.8.8/hook":                            "https://8.8.8.8/hook",
		"https://[2606:4700:4700:0::1111]/":               "https://[2606:4700:4700::1111]/",
		"https://[2606:4700:4700::1111]:8443/":            "https://[2606:4700:4700::1111]:8443/",
		"https://1password.example/":                      "https://1password.example/",
		"https://partner.example/a@b:c":                   "https://partner.example/a@b:c",
		"https://partner.example/?a=ø&b=%zz":              "https://partner.example/?a=%C3%B8&b=%zz",
		"https://partner.example/?a={\"b|^`}":             "https://partner.example/?a=%7B%22b%7C%5E%60%7D",
		"https://partner.example/?-._~!$&'()*+,;=:@/?%20": "https://partner.example/?-._~!$&'()*+,;=:@/?%20",
	} {
		u, err := g.CheckURL(in)
		if err != nil {
			t.Errorf("CheckURL(%q): %v", in, err)
			continue
		}
		if u.String() != want {
			t.Errorf("CheckURL(%q) = %s, want %s", in, u, want)
		}
	}
}

func TestCheckURLRefuses(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for in, want := range map[string]guard.Reason{
		"":                               guard.ReasonMalformed,
		"partner.example/hook":           guard.ReasonMalformed,
		"/hook":                          guard.ReasonMalformed,
		"//partner.example/hook":         guard.ReasonMalformed,
		"https:partner.example":          guard.ReasonMalformed,
		"https:///hook":                  guard.ReasonMalformed,
		"https://:443/hook":              guard.ReasonHost,
		"https://partner.example/%zz":    guard.ReasonMalformed,
		"https://partner.example/a b":    guard.ReasonMalformed,
		"https://partner.example/\r\nX":  guard.ReasonMalformed,
		"https://partner.example/\u202e": guard.ReasonMalformed,
		"https://partner.example/\xff":   guard.ReasonMalformed,
		`https://partner.example\@evil/`: guard.ReasonMalformed,
		"https://ex%61mple.example/":     guard.ReasonMalformed,
		"https://partner.example/" + strings.Repeat("a", 2048):   guard.ReasonMalformed,
		"http://partner.example/":                                guard.ReasonScheme,
		"ftp://partner.example/":                                 guard.ReasonScheme,
		"file:///etc/passwd":                                     guard.ReasonScheme,
		"javascript:alert(1)":                                    guard.ReasonScheme,
		"partner.example:443/hook":                               guard.ReasonScheme,
		"https://kim@partner.example/":                           guard.ReasonCredentials,
		"https://kim:pw@partner.example/":                        guard.ReasonCredentials,
		"https://@partner.example/":                              guard.ReasonCredentials,
		"https://partner.example/#top":                           guard.ReasonFragment,
		"https://partner.example/#":                              guard.ReasonFragment,
		"https://partner.example:80/":                            guard.ReasonPort,
		"https://partner.example:22/":                            guard.ReasonPort,
		"https://partner.example:0/":                             guard.ReasonPort,
		"https://partner.example:65536/":                         guard.ReasonPort,
		"https://partner.example:99999999999999999999/":          guard.ReasonPort,
		"https://8.8.8.8:22/":                                    guard.ReasonPort,
		"https://localhost/":                                     guard.ReasonLoopback,
		"https://LOCALHOST./":                                    guard.ReasonLoopback,
		"https://app.localhost/":                                 guard.ReasonLoopback,
		"https://127.0.0.1/":                                     guard.ReasonLoopback,
		"https://127.0.0.1./":                                    guard.ReasonLoopback,
		"https://１２７.０.０.１/":                                     guard.ReasonLoopback,
		"https://127。0。0。1/":                                     guard.ReasonLoopback,
		"https://[::1]/":                                         guard.ReasonLoopback,
		"https://[::ffff:7f00:1]/":                               guard.ReasonLoopback,
		"https://[::ffff:127.0.0.1]/":                            guard.ReasonLoopback,
		"https://10.0.0.1/":                                      guard.ReasonPrivate,
		"https://[fd00::1]/":                                     guard.ReasonPrivate,
		"https://169.254.169.254/latest/":                        guard.ReasonMetadata,
		"https://[64:ff9b::a9fe:a9fe]/":                          guard.ReasonMetadata,
		"https://[fe80::1%25eth0]/":                              guard.ReasonLinkLocal,
		"https://[2606:4700:4700::1111%25lo]/":                   guard.ReasonLinkLocal,
		"https://2130706433/":                                    guard.ReasonHost,
		"https://0x7f000001/":                                    guard.ReasonHost,
		"https://0x7F.1/":                                        guard.ReasonHost,
		"https://017700000001/":                                  guard.ReasonHost,
		"https://0177.0.0.1/":                                    guard.ReasonHost,
		"https://127.1/":                                         guard.ReasonHost,
		"https://127.0.0.0x1/":                                   guard.ReasonHost,
		"https://8.8.8.08/":                                      guard.ReasonHost,
		"https://1.2.3.4.5/":                                     guard.ReasonHost,
		"https://partner.0/":                                     guard.ReasonHost,
		"https://partner.0x/":                                    guard.ReasonHost,
		"https://256.256.256.256/":                               guard.ReasonHost,
		"https://[8.8.8.8]/":                                     guard.ReasonMalformed,
		"https://[v1.x]/":                                        guard.ReasonMalformed,
		"https://partner..example/":                              guard.ReasonHost,
		"https://partner.example../":                             guard.ReasonHost,
		"https://./":                                             guard.ReasonHost,
		"https://-partner.example/":                              guard.ReasonHost,
		"https://part*ner.example/":                              guard.ReasonHost,
		"https://a,b.example/":                                   guard.ReasonHost,
		"https://xn--a-ecp.ru\u2260/":                            guard.ReasonHost,
		"https://xn--0.example/":                                 guard.ReasonHost,
		"https://" + strings.Repeat("a", 64) + ".example/":       guard.ReasonHost,
		"https://" + strings.Repeat("abcdefg.", 33) + "example/": guard.ReasonHost,
	} {
		u, err := g.CheckURL(in)
		if got := reasonOf(t, err); got != want {
			t.Errorf("CheckURL(%q) = %v, reason %q; want %q", in, u, got, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("CheckURL(%q) repeats the password: %v", in, err)
		}
	}
}

func TestCheckURLUnderPolicies(t *testing.T) {
	t.Parallel()
	dev, web := guard.Policy{AllowLoopback: true}, guard.Policy{AllowHTTP: true}
	lan := guard.Policy{AllowCIDRs: cidrs(t, "10.0.0.0/8")}
	for _, tc := range []struct {
		policy guard.Policy
		url    string
		want   guard.Reason
	}{
		{dev, "http://127.0.0.1:9000/", ""},
		{dev, "http://[::1]:9000/", ""},
		{dev, "http://localhost:9000/", ""},
		{dev, "http://app.localhost:9000/", ""},
		{dev, "http://partner.example/", guard.ReasonScheme},
		{dev, "http://8.8.8.8/", guard.ReasonScheme},
		{dev, "https://10.0.0.1/", guard.ReasonPrivate},
		{dev, "http://[::ffff:127.0.0.1]/", guard.ReasonLoopback},
		{web, "http://partner.example/", ""},
		{web, "http://8.8.8.8/", ""},
		{web, "http://8.8.8.8:8080/", guard.ReasonPort},
		{web, "http://127.0.0.1/", guard.ReasonLoopback},
		{lan, "https://10.1.2.3:9000/", ""},
		{lan, "https://receiver:9000/", ""},
		{lan, "http://10.1.2.3:9000/", guard.ReasonScheme},
		{lan, "https://8.8.8.8:9000/", guard.ReasonPort},
		{lan, "https://192.168.0.1/", guard.ReasonPrivate},
	} {
		if _, err := guard.New(tc.policy, nil).CheckURL(tc.url); reasonOf(t, err) != tc.want {
			t.Errorf("CheckURL(%q) under %+v: %v, want %q", tc.url, tc.policy, err, tc.want)
		}
	}
}

type resolverFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return f(ctx, network, host)
}

func answers(texts ...string) resolverFunc {
	return func(context.Context, string, string) ([]netip.Addr, error) {
		addrs := make([]netip.Addr, len(texts))
		for i, text := range texts {
			addrs[i] = netip.MustParseAddr(text)
		}
		return addrs, nil
	}
}

func parse(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	unknown := resolverFunc(func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	})
	silent := resolverFunc(func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	})
	for name, tc := range map[string]struct {
		resolver guard.Resolver
		url      string
		reason   guard.Reason
		err      error
	}{
		"Public":         {answers("8.8.8.8", "2606:4700:4700::1111"), "https://partner.example/", "", nil},
		"Mapped":         {answers("::ffff:8.8.8.8"), "https://partner.example/", "", nil},
		"Private":        {answers("10.0.0.1"), "https://partner.example/", guard.ReasonPrivate, nil},
		"PrivateMapped":  {answers("::ffff:10.0.0.1"), "https://partner.example/", guard.ReasonPrivate, nil},
		"OneOfMany":      {answers("8.8.8.8", "127.0.0.1"), "https://partner.example/", guard.ReasonLoopback, nil},
		"Port":           {answers("8.8.8.8"), "https://partner.example:22/", guard.ReasonPort, nil},
		"HTTPPort":       {answers("8.8.8.8"), "http://partner.example/", guard.ReasonPort, nil},
		"Unknown":        {unknown, "https://partner.example/", "", guard.ErrNoHost},
		"NoAddress":      {answers(), "https://partner.example/", "", guard.ErrNoHost},
		"Silent":         {silent, "https://partner.example/", "", guard.ErrNoResolver},
		"Literal":        {unknown, "https://8.8.8.8/", "", nil},
		"LiteralPrivate": {unknown, "https://[fd00::1]/", guard.ReasonPrivate, nil},
	} {
		addrs, err := guard.New(guard.Policy{}, nil).CheckHost(t.Context(), tc.resolver, parse(t, tc.url))
		if tc.err != nil {
			if !errors.Is(err, tc.err) {
				t.Errorf("%s: %v, want %v", name, err, tc.err)
			}
			continue
		}
		if got := reasonOf(t, err); got != tc.reason || (err == nil) != (len(addrs) > 0) {
			t.Errorf("%s: addresses %v, reason %q", name, addrs, got)
		}
		if err != nil && strings.Contains(err.Error(), "10.0.0.1") {
			t.Errorf("%s: tells what an internal name resolves to: %v", name, err)
		}
	}
}

func TestCheckHostGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := resolverFunc(func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		g := guard.New(guard.Policy{}, nil)
		if _, err := g.CheckHost(t.Context(), hangs, parse(t, "https://partner.example/")); !errors.Is(err, guard.ErrNoResolver) {
			t.Errorf("a resolver that hangs: %v", err)
		}
		gone := errors.New("the caller left")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, err := g.CheckHost(ctx, hangs, parse(t, "https://partner.example/")); !errors.Is(err, gone) {
			t.Errorf("a caller that left: %v", err)
		}
	})
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{
		"https://partner.example/hook", "https://127.1/", "https://[::ffff:127.0.0.1]:443/", "https://blåbær.example", "https://0x7f.1",
		"https://１２７.０.０.１/", "https://a@b/", "https://a:8443#", "https://[fe80::1%25eth0]/", "https://2130706433", "https://xn--0.example/",
	} {
		f.Add(s)
	}
	g := guard.New(guard.Policy{}, nil)
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := g.CheckURL(raw)
		if reasonOf(t, err) != "" {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Fragment != "" || (u.Port() != "" && u.Port() != "443" && u.Port() != "8443") {
			t.Errorf("CheckURL(%q) = %s", raw, u)
		}
		host := u.Hostname()
		if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsUpper(r) }) || strings.HasSuffix(host, ".") || host == "" {
			t.Errorf("CheckURL(%q): host %q is not in normal form", raw, host)
		}
		if ip, err := netip.ParseAddr(host); err == nil && suspicious(ip) {
			t.Errorf("CheckURL(%q) allows %s", raw, ip)
		}
		// What programs of the C library would read as an address must be one.
		if lastByte := host[len(host)-1]; !strings.Contains(host, ":") && strings.Trim(host, "0123456789.") == "" && lastByte != '.' {
			if _, err := netip.ParseAddr(host); err != nil {
				t.Errorf("CheckURL(%q) allows the disguised address %q", raw, host)
			}
		}
		again, err := g.CheckURL(u.String())
		if err != nil || again.Host != u.Host {
			t.Errorf("CheckURL(%q) = %s, which is then refused or changed: %v, %v", raw, u, again, err)
		}
	})
}
