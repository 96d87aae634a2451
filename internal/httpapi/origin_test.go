package httpapi_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

const portal = "https://portal.example"

func TestNoScriptOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	for _, method := range []string{"GET", "OPTIONS"} {
		rec := h.answer(request{method: method, path: "/v1/apps", role: "admin", header: map[string]string{"Origin": portal, "Access-Control-Request-Method": "GET"}})
		for name := range rec.Header() {
			if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
				t.Errorf("%s is answered with %s", method, name)
			}
		}
	}
}

func TestScriptsOfNamedOrigins(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(d *deps) { d.Origins = []string{"https://other.example", portal} }).withApp(t)
	preflight := request{method: "OPTIONS", path: "/v1/apps/app1", header: map[string]string{"Origin": portal, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}}
	rec := h.answer(preflight)
	got := rec.Header()
	if rec.Code != http.StatusNoContent || got.Get("Access-Control-Allow-Origin") != portal || got.Get("Vary") != "Origin" || got.Get("Access-Control-Max-Age") == "" {
		t.Errorf("preflight = %d %v", rec.Code, got)
	}
	for header, wants := range map[string][]string{"Access-Control-Allow-Methods": {"PATCH", "PUT", "DELETE", "GET", "POST"}, "Access-Control-Allow-Headers": {"Authorization", "If-Match", "Idempotency-Key"}} {
		for _, want := range wants {
			if !strings.Contains(got.Get(header), want) {
				t.Errorf("%s = %s, want %s in it", header, got.Get(header), want)
			}
		}
	}
	rec = h.do(request{method: "GET", path: "/v1/apps/app1", role: "admin", header: map[string]string{"Origin": portal}})
	if rec.Code != 200 || rec.Header().Get("Access-Control-Allow-Origin") != portal || !strings.Contains(rec.Header().Get("Access-Control-Expose-Headers"), "ETag") {
		t.Errorf("= %d %v", rec.Code, rec.Header())
	}
	if rec.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Error("credentials of the browser are allowed")
	}
	if rec := h.answer(request{method: "GET", path: "/v1/apps/app1", header: map[string]string{"Origin": portal}}); rec.Code != 401 || rec.Header().Get("Access-Control-Allow-Origin") != portal {
		t.Errorf("without a token = %d %v", rec.Code, rec.Header())
	}
	for _, stranger := range []string{"https://portal.example.evil.example", "http://portal.example", "https://PORTAL.example", "null", "*", ""} {
		preflight.header["Origin"] = stranger
		if rec := h.answer(preflight); rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Access-Control-Allow-Origin") != "" || rec.Header().Get("Vary") != "Origin" {
			t.Errorf("%q = %d %v", stranger, rec.Code, rec.Header())
		}
	}
}

// TestCallerBehindProxies counts wrong tokens per address: the eleventh of one address is 429.
func TestCallerBehindProxies(t *testing.T) {
	t.Parallel()
	trust := func(cidrs ...string) func(*deps) {
		return func(d *deps) {
			for _, c := range cidrs {
				d.TrustedProxies = append(d.TrustedProxies, netip.MustParsePrefix(c))
			}
		}
	}
	for name, test := range map[string]struct {
		trusted []string
		// a and b are X-Forwarded-For as two callers' requests arrive.
		from, a, b string
		same       bool
	}{
		"NobodyTrusted":        {nil, "10.0.0.1:1", "192.0.2.1", "192.0.2.2", true},
		"Trusted":              {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1", "192.0.2.2", false},
		"OtherTrusted":         {[]string{"10.1.0.0/16"}, "10.0.0.1:1", "192.0.2.1", "192.0.2.2", true},
		"Invented":             {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1, 203.0.113.9", "192.0.2.2, 203.0.113.9", true},
		"InventedProxies":      {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1, 10.9.9.9, 203.0.113.9", "192.0.2.2, 10.9.9.9, 203.0.113.9", true},
		"Chain":                {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1, 10.0.0.2", "192.0.2.2, 10.0.0.2", false},
		"UnreadableFromProxy":  {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1, unknown", "192.0.2.2, unknown", true},
		"Nothing":              {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "", "", true},
		"WithPort":             {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1:5", "192.0.2.1:6", true},
		"IPv6":                 {[]string{"fd00::/8"}, "[fd00::1]:1", "2001:db8:1::1", "2001:db8:2::1", false},
		"IPv6Neighbours":       {[]string{"fd00::/8"}, "[fd00::1]:1", "[2001:db8:1::1]:4", "2001:db8:1::2", true},
		"MappedProxy":          {[]string{"10.0.0.0/8"}, "[::ffff:10.0.0.1]:1", "192.0.2.1", "192.0.2.2", false},
		"OnlyTrusted":          {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "10.0.0.7", "10.0.0.8", false},
		"BeyondWhatIsFollowed": {[]string{"10.0.0.0/8"}, "10.0.0.1:1", "192.0.2.1" + strings.Repeat(",10.0.0.2", 20), "192.0.2.2" + strings.Repeat(",10.0.0.2", 20), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, trust(test.trusted...))
			send := func(forwarded string) int {
				r := request{method: "GET", path: "/v1/apps", from: test.from, header: map[string]string{"Authorization": "Bearer lmp_wrong"}}
				if forwarded != "" {
					r.header["X-Forwarded-For"] = forwarded
				}
				return h.do(r).Code
			}
			for range 11 {
				send(test.a)
			}
			if got := send(test.a); got != 429 {
				t.Fatalf("the first caller's twelfth = %d", got)
			}
			if got := send(test.b); (got == 429) != test.same {
				t.Errorf("the second caller's first = %d, want the same limit: %v", got, test.same)
			}
		})
	}
}
