package interop_test

import (
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
)

const mirroringIssuer = "SuperOffice AS"

// mirror is the mirroring service in Python and how it is probed.
type mirror struct {
	*receiver

	base string
	keys []*rsa.PublicKey
}

func startMirror(t *testing.T, p *platform) *mirror {
	t.Helper()
	m := &mirror{receiver: start(t, []string{python(t), "mirroring.py"}, "DISCOVERY_URL="+p.discoveryURL(), "ISSUER="+mirroringIssuer)}
	m.base = strings.TrimSuffix(m.url, "/hook") + "/Mirroring.svc/"
	for _, text := range m.listening.PublicKeys {
		key, err := partner.ParsePublicKey(text)
		if err != nil {
			t.Fatalf("read the public key as partners have it: %v", err)
		}
		m.keys = append(m.keys, key)
	}
	if len(m.keys) != 2 {
		t.Fatalf("the service named %d keys", len(m.keys))
	}
	return m
}

// probe makes one probe through the real guard.
func (m *mirror) probe(t *testing.T, tokens probe.Tokens, mode string, timeout time.Duration, keys ...*rsa.PublicKey) health.Finding {
	t.Helper()
	client := guard.New(guard.Policy{AllowLoopback: true}, nil).Client(0, guard.TransportOptions{FreshTLS: true})
	prober := probe.NewProber(probe.ProberOptions{Client: client, Tokens: tokens, Timeout: timeout, Tolerance: 5 * time.Minute, Version: "1.0.0"})
	return prober.Probe(t.Context(), probe.Target{
		ClientID: clientID, Kind: partner.Mirroring, URL: m.base + mode, Tenant: customer, TokenAlgorithm: partner.RS256, Keys: keys,
	})
}

// A mirroring service written from the partners' documentation alone passes the two-way trust: it
// believes the platform's token, and the platform believes its signature, under either of two keys.
func TestMirroringTrust(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, newKeyring(t))
	m := startMirror(t, p)
	tokens := newTokens(t, mirroringIssuer, p.keys.current...)
	for _, mode := range []string{"ok", "rotated"} {
		f := m.probe(t, tokens, mode, requestTimeout, m.keys...)
		if f.Reason != health.Healthy || f.Status != 200 || f.Duration <= 0 {
			t.Fatalf("%s: %+v", mode, f)
		}
		if got := m.await(t, "authenticated", ""); got.Tenant != string(customer) {
			t.Errorf("%s: the service believed it was called for %q", mode, got.Tenant)
		}
	}
	t.Run("TheServiceDoubtsAStranger", func(t *testing.T) {
		f := m.probe(t, newTokens(t, mirroringIssuer, p.keys.foreign...), "ok", requestTimeout, m.keys...)
		if f.Reason != health.NotSuccessful {
			t.Errorf("with a key that is not published: %+v", f)
		}
		m.await(t, "distrusted", "")
		f = m.probe(t, newTokens(t, "somebody else", p.keys.current...), "ok", requestTimeout, m.keys...)
		if f.Reason != health.NotSuccessful || f.Excerpt != "token refused" || strings.Contains(f.Detail, "token refused") {
			t.Errorf("as another issuer: %+v", f)
		}
	})
}

// Each wrong answer has a reason and words of its own.
func TestMirroringWrongAnswers(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, newKeyring(t))
	m := startMirror(t, p)
	tokens := newTokens(t, mirroringIssuer, p.keys.current...)
	if f := m.probe(t, tokens, "ok", requestTimeout, m.keys...); f.Reason != health.Healthy {
		t.Fatalf("before anything goes wrong: %+v", f) // and its nonce is there to be replayed
	}
	words := map[string]string{}
	for _, tc := range []struct {
		mode   string
		reason health.Reason
		status int
		says   string
		keys   []*rsa.PublicKey
	}{
		{"wrong-key", health.WrongKey, 200, "does not fit any public key", m.keys},
		{"rotated", health.WrongKey, 200, "does not fit any public key", m.keys[:1]},
		{"ok", health.NoPublicKey, 200, "no public key is registered", nil},
		{"old-minute", health.StaleMinute, 200, "behind by", m.keys},
		{"fast-clock", health.StaleMinute, 200, "ahead by", m.keys},
		{"replay", health.WrongNonce, 200, "another nonce", m.keys},
		{"no-token", health.NoToken, 200, "no SignedApplicationToken", m.keys},
		{"bad-token", health.BadToken, 200, "NONCE.yyyyMMddHHmm.BASE64", m.keys},
		{"fault-200", health.Fault, 200, "with status 200, although", m.keys},
		{"fault", health.Fault, 500, "SOAP Fault", m.keys},
		{"get-only", health.GETOnly, 405, "does not take POST", m.keys},
		{"not-found", health.NotFound, 404, "answers a POST with 404", m.keys},
		{"html", health.HTML, 200, "web page", m.keys},
		{"error-page", health.ServerError, 500, "an error of its own", m.keys},
		{"json", health.NotSOAP, 200, "not SOAP 1.1", m.keys},
		{"soap-1-2", health.SOAP12, 200, "SOAP 1.2", m.keys},
		{"dtd", health.UnsafeXML, 200, "document type", m.keys},
		{"gigabyte", health.TooLarge, 200, "larger than any answer", m.keys},
		{"half-closed", health.HalfClosed, 200, "closed its side", m.keys},
		{"half-closed-at-once", health.HalfClosed, 0, "closed its side", m.keys},
		{"trickling", health.Trickling, 200, "so slowly", m.keys},
		{"silent", health.Timeout, 0, "no answer came", m.keys},
		{"not-http", health.NotHTTP, 0, "not HTTP", m.keys},
	} {
		timeout := requestTimeout
		if tc.reason == health.Trickling || tc.reason == health.Timeout {
			timeout = time.Second
		}
		f := m.probe(t, tokens, tc.mode, timeout, tc.keys...)
		if f.Reason != tc.reason || f.Status != tc.status || !strings.Contains(f.Detail, tc.says) {
			t.Errorf("%s: %s, status %d: %s", tc.mode, f.Reason, f.Status, f.Detail)
		}
		if f.Duration > timeout+5*time.Second {
			t.Errorf("%s took %v", tc.mode, f.Duration)
		}
		for _, hidden := range []string{"Object reference", "You have created", "/etc/passwd", "127.0.0.1"} {
			if strings.Contains(f.Detail, hidden) {
				t.Errorf("%s: the words show %q of the answer", tc.mode, hidden)
			}
		}
		if reason, again := words[f.Detail]; again && reason != string(f.Reason) {
			t.Errorf("%s and %s are told in the same words", reason, f.Reason)
		}
		words[f.Detail] = string(f.Reason)
		t.Logf("%-20s %-17s %s", tc.mode, f.Reason, f.Detail)
	}
}
