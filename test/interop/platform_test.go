package interop_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

const (
	issuer   = "https://sod.superoffice.com"
	clientID = "0f3c9a6b1d2e4f50817263544536271a"
	customer = tenant.ID("Cust12345")

	// exampleSecret is the one of Standard Webhooks' own test vectors, oldSecret another.
	exampleSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	oldSecret     = "whsec_bGFtcGxpZ2h0ZXIgaXMgb25seSB0ZXN0aW5nIGhlcmU="

	requestTimeout = 10 * time.Second
)

// keyring holds the keys of all the platforms of a test: those that sign, those that follow them
// in a rotation, and those of a stranger.
type keyring struct{ current, next, foreign []*signing.Key }

func newKeyring(t *testing.T) keyring {
	t.Helper()
	now := time.Now()
	pair := func(since time.Duration) []*signing.Key {
		return []*signing.Key{newKey(t, signing.RS256, now.Add(-since)), newKey(t, signing.ES256, now.Add(-since))}
	}
	return keyring{current: pair(2 * time.Hour), next: pair(time.Hour), foreign: pair(time.Hour)}
}

func newKey(t *testing.T, alg string, notBefore time.Time) *signing.Key {
	t.Helper()
	text, err := signing.GenerateKey(alg, "interop", notBefore, notBefore.Add(24*time.Hour))
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	key, err := signing.ParseKey(alg, text)
	if err != nil {
		t.Fatalf("parse key: %v", err)
	}
	return key
}

func newTokens(t *testing.T, iss string, keys ...*signing.Key) *signing.TokenIssuer {
	t.Helper()
	tokens, err := signing.NewTokenIssuer(newKeySet(t, keys...), iss)
	if err != nil {
		t.Fatalf("prepare tokens: %v", err)
	}
	return tokens
}

func newKeySet(t *testing.T, keys ...*signing.Key) *signing.KeySet {
	t.Helper()
	set, err := signing.NewKeySet(keys...)
	if err != nil {
		t.Fatalf("make key set: %v", err)
	}
	return set
}

// platform publishes keys where receivers look for them, and sends as the service does.
type platform struct {
	keys   keyring
	server *httptest.Server
	jwks   atomic.Pointer[[]byte]
	tokens *signing.TokenIssuer
}

func newPlatform(t *testing.T, keys keyring) *platform {
	t.Helper()
	p := &platform{keys: keys, tokens: newTokens(t, issuer, keys.current...)}
	set := newKeySet(t, keys.current...)
	p.publish(set)
	mux := http.NewServeMux()
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	document, err := signing.BuildDiscovery(issuer, p.server.URL, set.Algorithms())
	if err != nil {
		t.Fatalf("make discovery document: %v", err)
	}
	mux.HandleFunc("GET /login/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { answer(w, document) })
	mux.HandleFunc("GET /login/.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) { answer(w, *p.jwks.Load()) })
	return p
}

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func (p *platform) publish(set *signing.KeySet) {
	document := set.JWKS()
	p.jwks.Store(&document)
}

func (p *platform) discoveryURL() string {
	return p.server.URL + "/login/.well-known/openid-configuration"
}

// rotate publishes the next keys beside the current ones and signs with them from then on.
func (p *platform) rotate(t *testing.T) {
	t.Helper()
	all := append(append([]*signing.Key{}, p.keys.current...), p.keys.next...)
	p.publish(newKeySet(t, all...))
	p.tokens = newTokens(t, issuer, all...)
}

// attempt is one post, and what is done to it on the way.
type attempt struct {
	message delivery.Message
	alg     partner.TokenAlgorithm
	secrets []string
	tokens  push.Tokens                        // nil: the platform's
	alter   func(*http.Request, []byte) []byte // nil: nothing; returns the body to send
}

// post sends through the real Pusher and the real guard.
func (p *platform) post(t *testing.T, url string, a attempt) delivery.Result {
	t.Helper()
	g := guard.New(guard.Policy{AllowLoopback: true}, nil)
	client := wire.New(wire.Options{Dial: g.Dialer().DialContext})
	defer client.Close()
	var carrier push.Wire = client
	if a.alter != nil {
		transport := g.Transport(guard.TransportOptions{})
		defer transport.CloseIdleConnections()
		carrier = wiretest.Over{RoundTripper: altering{transport, a.alter}}
	}
	if a.tokens == nil {
		a.tokens = p.tokens
	}
	if a.alg == "" {
		a.alg = partner.RS256
	}
	if a.secrets == nil {
		a.secrets = []string{exampleSecret}
	}
	target := push.Target{ClientID: clientID, URL: url, TokenAlgorithm: a.alg, WebhookKeys: webhookKeys(t, a.secrets...)}
	pusher := push.New(push.Options{Wire: carrier, Check: g.CheckURL, Tokens: a.tokens, Timeout: requestTimeout, Version: "1.0.0"})
	return pusher.Post(t.Context(), target, a.message)
}

func webhookKeys(t *testing.T, secrets ...string) []signing.WebhookKey {
	t.Helper()
	var keys []signing.WebhookKey
	for _, s := range secrets {
		key, err := signing.ParseWebhookSecret(secret.New(s))
		if err != nil {
			t.Fatalf("parse webhook secret: %v", err)
		}
		keys = append(keys, key)
	}
	return keys
}

// altering stands between the Pusher and the network.
type altering struct {
	next  http.RoundTripper
	alter func(*http.Request, []byte) []byte
}

func (a altering) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_ = req.Body.Close()
	req = req.Clone(req.Context())
	body = a.alter(req, body)
	req.Body, req.GetBody, req.ContentLength = io.NopCloser(bytes.NewReader(body)), nil, int64(len(body))
	return a.next.RoundTrip(req)
}

// resign makes the webhook headers fit body again, as of a moment.
func resign(t *testing.T, req *http.Request, body []byte, at time.Time) {
	t.Helper()
	id := header(req, "webhook-id")
	req.Header["webhook-timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
	req.Header["webhook-signature"] = []string{signing.SignWebhook(webhookKeys(t, exampleSecret), id, at, body)}
}

// header reads a header that was set in lower case, as the Pusher does.
func header(req *http.Request, name string) string {
	for _, value := range req.Header[name] {
		return value
	}
	return ""
}

// tokensFunc makes the Token in a way of its own.
type tokensFunc func(clientID, tenant, alg string, now time.Time) (string, error)

func (f tokensFunc) MakeToken(clientID, tenant, alg string, now time.Time) (string, error) {
	return f(clientID, tenant, alg, now)
}

// change makes a notification as a drain would claim it.
func change(ct tenant.ChangeType, sequence int64) delivery.Message {
	c := tenant.Change{
		ID: tenant.FormatChangeID(customer, sequence), Tenant: customer, Type: ct, Sequence: sequence,
		VersionName: "Release_10.3.8_2024.08.30-01", FileVersion: "10.3.8.2024",
	}
	if ct == tenant.Move {
		c.PublicEndpoint = "sod3.superoffice.com"
	}
	return delivery.Message{ClientID: clientID, Change: c, WebhookID: c.ID, Sequence: sequence}
}
