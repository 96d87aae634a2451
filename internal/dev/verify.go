package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// maxDocument limits the discovery document and the key set.
	maxDocument = 1 << 20
	// clockLeeway is how far this clock and the sender's may differ; in the demo they are the same.
	clockLeeway = time.Minute
)

// notification is the body of a notification.
type notification struct {
	ChangeType        int
	ContextIdentifier string
	VersionName       string
	FileVersion       string
	PublicEndpoint    string
	Token             string
}

// changeName is the change type as the platform's documentation calls it.
func (n *notification) changeName() string {
	names := []string{"Upgrade", "BackupRestored", "Suspend", "Resume", "Delete", "Move"}
	if n.ChangeType < 0 || n.ChangeType >= len(names) {
		return "change type " + strconv.Itoa(n.ChangeType)
	}
	return names[n.ChangeType]
}

// pushProof is what was verified of a notification.
type pushProof struct {
	notification

	algorithm, keyID string
	// signed says that the webhook signature was checked, which needs the app's secret.
	signed bool
}

// tokenClaims are the claims of a token that a receiver checks.
type tokenClaims struct {
	jwt.Claims

	Context string `json:"http://schemes.superoffice.net/identity/ctx"`
}

// verifier checks notifications as a partner does: keys by discovery, the token by go-jose, the signature by the
// Standard Webhooks library. It is safe for concurrent use.
type verifier struct {
	discovery string
	client    *http.Client

	mu      sync.Mutex
	issuer  string
	keys    jose.JSONWebKeySet
	secrets map[string]*webhooks.Webhook
}

// newVerifier trusts the discovery document at a URL.
func newVerifier(discovery string) *verifier {
	return &verifier{
		discovery: discovery, client: &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second},
		secrets: map[string]*webhooks.Webhook{},
	}
}

// addSecret stores an app's webhook secret.
func (v *verifier) addSecret(app, secret string) error {
	w, err := webhooks.NewWebhook(secret)
	if err != nil {
		return errors.New("not a webhook secret: whsec_ and base64") // the cause may contain parts of it
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets[app] = w
	return nil
}

func (v *verifier) appWebhook(app string) *webhooks.Webhook {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.secrets[app]
}

// verifyPush checks a notification to an app. Its error says which check failed.
func (v *verifier) verifyPush(ctx context.Context, app string, h http.Header, body []byte, now time.Time) (*pushProof, error) {
	p := &pushProof{}
	if w := v.appWebhook(app); w != nil {
		if err := w.Verify(body, h); err != nil {
			return nil, fmt.Errorf("webhook signature: %w", err)
		}
		p.signed = true
	}
	if err := json.Unmarshal(body, &p.notification); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	token, err := jwt.ParseSigned(p.Token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	p.algorithm, p.keyID = token.Headers[0].Algorithm, token.Headers[0].KeyID
	key, issuer, err := v.findKey(ctx, p.keyID)
	if err != nil {
		return nil, err
	}
	var c tokenClaims
	if err := token.Claims(key, &c); err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	expected := jwt.Expected{Issuer: issuer, Subject: p.ContextIdentifier, AnyAudience: jwt.Audience{"spn:" + app}, Time: now}
	if err := c.ValidateWithLeeway(expected, clockLeeway); err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	if c.Context != p.ContextIdentifier {
		return nil, errors.New("token: its context identifier is not the body's")
	}
	return p, nil
}

// findKey finds the public key of a kid, and fetches the keys when it is new, so that a rotation of keys works.
func (v *verifier) findKey(ctx context.Context, kid string) (*jose.JSONWebKey, string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.keys.Key(kid); len(found) > 0 {
		return &found[0], v.issuer, nil
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := v.fetchJSON(ctx, v.discovery, &doc); err != nil {
		return nil, "", fmt.Errorf("discovery document: %w", err)
	}
	var keys jose.JSONWebKeySet
	if err := v.fetchJSON(ctx, doc.JWKSURI, &keys); err != nil {
		return nil, "", fmt.Errorf("JWKS: %w", err)
	}
	v.issuer, v.keys = doc.Issuer, keys
	found := keys.Key(kid)
	if len(found) == 0 {
		return nil, "", errors.New("token: its kid is not in the JWKS")
	}
	return &found[0], v.issuer, nil
}

func (v *verifier) fetchJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(into)
}
