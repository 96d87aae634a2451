package interop_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// refusal is a post that a receiver must refuse, and which part of it is wrong.
type refusal struct {
	status int
	part   string
	attempt
}

// refusals lists every forgery and fault a receiver has to withstand. All but the one in question
// is right in each: a Token is never refused for a broken signature of the body, nor the reverse.
func refusals(t *testing.T, p *platform) map[string]refusal {
	t.Helper()
	return map[string]refusal{
		"TamperedBody": {http.StatusUnauthorized, "signature", attempt{alter: func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`"ChangeType":2`), []byte(`"ChangeType":4`), 1)
		}}},
		"StaleTimestamp":  {http.StatusUnauthorized, "signature", attempt{alter: resignedAt(t, -6*time.Minute)}},
		"FutureTimestamp": {http.StatusUnauthorized, "signature", attempt{alter: resignedAt(t, 6*time.Minute)}},
		"NewerTimestampUnderOldSignature": {http.StatusUnauthorized, "signature", attempt{alter: func(req *http.Request, body []byte) []byte {
			resign(t, req, body, time.Now().Add(-6*time.Minute))
			old := header(req, "webhook-signature")
			resign(t, req, body, time.Now())
			req.Header["webhook-signature"] = []string{old}
			return body
		}}},
		"OtherSecret": {http.StatusUnauthorized, "signature", attempt{secrets: []string{oldSecret}}},
		"NoSignature": {http.StatusUnauthorized, "signature", attempt{secrets: []string{}}},
		"OtherWebhookID": {http.StatusUnauthorized, "signature", attempt{alter: func(req *http.Request, body []byte) []byte {
			req.Header["webhook-id"] = []string{"chg_Cust12345_99"}
			return body
		}}},
		"WrongAudience": {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(func(_, tenantID, alg string, now time.Time) (string, error) {
			return p.tokens.MakeToken("another-app", tenantID, alg, now)
		})}},
		"OtherTenant": {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(func(app, _, alg string, now time.Time) (string, error) {
			return p.tokens.MakeToken(app, "Cust54321", alg, now)
		})}},
		"ExpiredToken":     {http.StatusUnauthorized, "token", attempt{tokens: madeAt(t, p, -10*time.Minute)}},
		"TokenOfTheFuture": {http.StatusUnauthorized, "token", attempt{tokens: madeAt(t, p, 10*time.Minute)}},
		"UnknownKid":       {http.StatusUnauthorized, "token", attempt{tokens: newTokens(t, issuer, p.keys.foreign...)}},
		"OtherIssuer":      {http.StatusUnauthorized, "token", attempt{tokens: newTokens(t, "https://online.superoffice.com", p.keys.current...)}},
		"TokenSignedByOthers": {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(func(app, tenantID, alg string, now time.Time) (string, error) {
			good, err := p.tokens.MakeToken(app, tenantID, alg, now)
			if err != nil {
				return "", err
			}
			return flipSignature(good), nil
		})}},
		"PublicKeyAsSecret": {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(p.confuse)}},
		"UnsignedToken":     {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(p.unsigned)}},
		"NoToken": {http.StatusUnauthorized, "token", attempt{tokens: tokensFunc(func(string, string, string, time.Time) (string, error) {
			return "none", nil
		})}},
		"NoJSON": {http.StatusBadRequest, "body", attempt{alter: func(req *http.Request, _ []byte) []byte {
			body := []byte(`{"ChangeType":`)
			resign(t, req, body, time.Now())
			return body
		}}},
	}
}

// checkRefusals posts each of them under each algorithm and compares what the receiver said.
func checkRefusals(t *testing.T, p *platform, r *receiver, algs []partner.TokenAlgorithm) {
	t.Helper()
	sequence := int64(100)
	for name, tc := range refusals(t, p) {
		for _, alg := range algs {
			sequence++
			tc.message, tc.alg = change(tenant.Suspend, sequence), alg
			got := p.post(t, r.url, tc.attempt)
			if got.Status != tc.status || got.Outcome == delivery.Delivered {
				t.Fatalf("%s, %s: %s, status %d (%s), want status %d", name, alg, got.Outcome, got.Status, got.Detail, tc.status)
			}
			if said := r.await(t, "refused", ""); said.Part != tc.part || said.Status != tc.status {
				t.Errorf("%s, %s: refused for its %s (%s) with %d, want for its %s", name, alg, said.Part, said.Why, said.Status, tc.part)
			}
		}
	}
}

// madeAt makes Tokens as of another moment.
func madeAt(t *testing.T, p *platform, off time.Duration) tokensFunc {
	t.Helper()
	tokens := newTokens(t, issuer, p.keys.current...)
	return func(app, tenantID, alg string, now time.Time) (string, error) {
		return tokens.MakeToken(app, tenantID, alg, now.Add(off))
	}
}

func resignedAt(t *testing.T, off time.Duration) func(*http.Request, []byte) []byte {
	t.Helper()
	return func(req *http.Request, body []byte) []byte {
		resign(t, req, body, time.Now().Add(off))
		return body
	}
}

// flipSignature changes a bit in the middle of a token's signature.
func flipSignature(token string) string {
	i := len(token) - 20
	other := byte('A')
	if token[i] == other {
		other = 'B'
	}
	return token[:i] + string(other) + token[i+1:]
}

func claims(app, tenantID string, now time.Time) map[string]any {
	return map[string]any{
		"sub": tenantID, "http://schemes.superoffice.net/identity/ctx": tenantID, "aud": "spn:" + app,
		"iss": issuer, "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
}

// confuse signs with HMAC under the text of the published public key, which anybody can do.
func (p *platform) confuse(app, tenantID, alg string, now time.Time) (string, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(*p.jwks.Load(), &set); err != nil {
		return "", err
	}
	for _, k := range set.Keys {
		if k.Algorithm != alg {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(k.Key)
		if err != nil {
			return "", err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: text},
			(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", k.KeyID))
		if err != nil {
			return "", err
		}
		return jwt.Signed(signer).Claims(claims(app, tenantID, now)).Serialize()
	}
	return "", nil
}

// unsigned makes a token that says it needs no signature.
func (p *platform) unsigned(app, tenantID, _ string, now time.Time) (string, error) {
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "none", "kid": p.keys.current[0].ID()})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims(app, tenantID, now))
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body) + ".", nil
}
