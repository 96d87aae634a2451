package dev_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/dev"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
)

const issuer = "https://sod.superoffice.com"

// platform signs as the service does, and publishes its keys.
type platform struct {
	keys      *signing.KeySet
	discovery string
	secret    secret.Text
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	var made []*signing.Key
	now := time.Now()
	for _, alg := range []string{signing.RS256, signing.ES256} {
		text, err := signing.GenerateKey(alg, "test", now.Add(-time.Hour), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		key, err := signing.ParseKey("test", text)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, key)
	}
	set, err := signing.NewKeySet(made...)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{keys: set, secret: secret.New("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32)))}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	doc, err := signing.BuildDiscovery(issuer, server.URL, set.Algorithms())
	if err != nil {
		t.Fatal(err)
	}
	p.discovery = server.URL + "/login/.well-known/openid-configuration"
	mux.HandleFunc("/login/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) })
	mux.HandleFunc("/login/.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set.JWKS()) })
	return p
}

// push is what the platform would send.
type push struct {
	alg, audience, tenant, issuer string
	tokenTenant                   string
	at                            time.Time
	sequence                      int64
	key                           secret.Text
}

func (p *platform) push(t *testing.T, change func(*push)) (http.Header, []byte) {
	t.Helper()
	s := push{alg: signing.RS256, audience: "app1", tenant: "Cust1", issuer: issuer, at: time.Now(), sequence: 7, key: p.secret}
	if change != nil {
		change(&s)
	}
	if s.tokenTenant == "" {
		s.tokenTenant = s.tenant
	}
	key, err := p.keys.Signer(s.alg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := signing.SignToken(key, signing.Claims{Tenant: s.tokenTenant, ClientID: s.audience, Issuer: s.issuer}, s.at)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"ChangeType": 5, "ContextIdentifier": s.tenant, "VersionName": "v", "FileVersion": "f", "PublicEndpoint": "sod4.superoffice.com", "Token": token,
	})
	if err != nil {
		t.Fatal(err)
	}
	webhookKey, err := signing.ParseWebhookSecret(s.key)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", "chg_1")
	h.Set("webhook-timestamp", strconv.FormatInt(s.at.Unix(), 10))
	h.Set("webhook-signature", signing.SignWebhook([]signing.WebhookKey{webhookKey}, "chg_1", s.at, body))
	h.Set("x-state-sequence", strconv.FormatInt(s.sequence, 10))
	h.Set("x-state-superseded", "2")
	return h, body
}

func TestVerifierRefusesWhatIsNotProven(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	other := newPlatform(t)
	for name, tc := range map[string]struct {
		change func(*push)
		tamper func(http.Header, []byte) []byte
		want   string
	}{
		"RS256":         {nil, nil, ""},
		"ES256":         {func(s *push) { s.alg = signing.ES256 }, nil, ""},
		"OtherAudience": {func(s *push) { s.audience = "app2" }, nil, "token: "},
		"OtherIssuer":   {func(s *push) { s.issuer = "https://online.superoffice.com" }, nil, "token: "},
		"OtherTenant":   {func(s *push) { s.tokenTenant = "Cust2" }, nil, "token: "},
		"Expired":       {func(s *push) { s.at = s.at.Add(-7 * time.Minute) }, nil, "webhook signature"},
		"OtherSecret": {func(s *push) {
			s.key = secret.New("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("z"), 32)))
		}, nil, "webhook signature"},
		"AlteredBody":    {nil, func(_ http.Header, b []byte) []byte { return bytes.Replace(b, []byte(`"v"`), []byte(`"w"`), 1) }, "webhook signature"},
		"NoSignature":    {nil, func(h http.Header, b []byte) []byte { h.Del("webhook-signature"); return b }, "webhook signature"},
		"UnknownAppKeys": {nil, nil, "kid is not in the JWKS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := p
			if name == "UnknownAppKeys" {
				from = other
			}
			v := dev.NewVerifier(p.discovery)
			t.Cleanup(v.Close)
			if err := v.Trust("app1", from.secret.Reveal()); err != nil {
				t.Fatal(err)
			}
			h, body := from.push(t, tc.change)
			if tc.tamper != nil {
				body = tc.tamper(h, body)
			}
			signed, err := v.Verify(t.Context(), "app1", h, body, time.Now())
			switch {
			case tc.want == "" && (err != nil || !signed):
				t.Errorf("refused: %v (signed %v)", err, signed)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestVerifierChecksTheTokenWithoutASecret(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	v := dev.NewVerifier(p.discovery)
	t.Cleanup(v.Close)
	h, body := p.push(t, nil)
	if signed, err := v.Verify(t.Context(), "app1", h, body, time.Now()); err != nil || signed {
		t.Errorf("signed %v, %v", signed, err)
	}
	if _, err := v.Verify(t.Context(), "app1", h, body, time.Now().Add(10*time.Minute)); err == nil {
		t.Error("an expired Token was accepted")
	}
	if _, err := v.Verify(t.Context(), "app1", h, []byte("{"), time.Now()); err == nil {
		t.Error("a broken body was accepted")
	}
	if err := v.Trust("app1", "whsec_!"); err == nil || strings.Contains(err.Error(), "!") {
		t.Errorf("a broken secret: %v", err)
	}
}

// lines is an output that tests read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func post(t *testing.T, url string, h http.Header, body []byte) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, h)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// mustPost fails the test unless the answer has a status and says something.
func mustPost(t *testing.T, url string, h http.Header, body []byte, status int, want string) {
	t.Helper()
	got, answer, err := post(t, url, h, body)
	if err != nil || got != status || !strings.Contains(answer, want) {
		t.Fatalf("POST %s: %d %q %v, want %d %q", url, got, answer, err, status, want)
	}
}

func TestReceiverStopsStartsAndSaysWhatItVerified(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	out := &lines{}
	s, err := dev.NewStage(t.Context(), p.discovery, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	mustPost(t, s.Desk+"/start", nil, nil, 200, "started")
	mustPost(t, s.Desk+"/start", nil, nil, 200, "started") // again: nothing changes
	hook := s.Hook("app1")

	h, body := p.push(t, nil)
	mustPost(t, hook, h, body, 200, "")
	mustPost(t, s.Desk+"/secrets/app1", nil, []byte(`{"client_id":"app1","webhook_secret":"`+p.secret.Reveal()+`"}`), 200, "checks the signatures")
	mustPost(t, hook, h, body, 200, "")
	h2, body2 := p.push(t, func(s *push) { s.sequence = 6 })
	mustPost(t, hook, h2, body2, 200, "")
	mustPost(t, hook, h, append(body, ' '), 401, "not proven")
	if !s.Told("app1", "Cust1") || s.Told("app1", "Cust1") || s.Told("app2", "Cust1") {
		t.Error("a verified push is told once, and only for its app")
	}

	mustPost(t, s.Desk+"/stop", nil, nil, 200, "stopped")
	mustPost(t, s.Desk+"/stop", nil, nil, 200, "stopped")
	if _, _, err := post(t, hook, h, body); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped receiver: %v, want a refused connection", err)
	}
	mustPost(t, s.Desk+"/start", nil, nil, 200, "started")
	if s.Hook("app1") != hook {
		t.Errorf("it moved to %s", s.Hook("app1"))
	}
	mustPost(t, hook, h, body, 200, "")

	for _, want := range []string{
		"verified  app1 got Move of Cust1 to sod4.superoffice.com: Token ok (RS256, key ", "signature not checked", "in order, replaces 2 older",
		"signature ok, told again", "signature ok, older than what it knows: dropped", "unproven  app1 got a notification and refused it: webhook signature",
		"knows the webhook secret of app1", "stopped: its port refuses",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), p.secret.Reveal()) || strings.Contains(out.String(), "%!") {
		t.Errorf("a secret or a broken format:\n%s", out)
	}
}

func TestDeskRefuses(t *testing.T) {
	t.Parallel()
	s, err := dev.NewStage(t.Context(), "http://127.0.0.1:1/", &lines{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	mustPost(t, s.Desk+"/secrets/app1", nil, []byte(`{"title":"not found"}`), 400, "no whsec_")
	mustPost(t, s.Desk+"/mails", nil, nil, 405, "")
	mustPost(t, s.Desk+"/start", nil, nil, 200, "started")
	hook := s.Hook("app1")
	mustPost(t, s.Desk+"/stop", nil, nil, 200, "stopped")
	taken, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(hook, "http://"), "/hook/app1"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	mustPost(t, s.Desk+"/start", nil, nil, 503, "another program listens on")
}
