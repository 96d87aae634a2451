package signing_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/signing"
)

var claims = signing.Claims{Tenant: "Cust12345", ClientID: "app1", Issuer: "https://online.superoffice.com"}

// verify checks a token as a receiver does: with the key that the JWKS holds
// under the token's kid.
func verify(t testing.TB, set *signing.KeySet, token string) (header, claims map[string]any) {
	t.Helper()
	var jwks jose.JSONWebKeySet
	if err := json.Unmarshal(set.JWKS(), &jwks); err != nil {
		t.Fatal(err)
	}
	jws := must(jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256}))(t)
	body := must(jws.Verify(&jwks))(t)
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(token, ".")
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(first))(t), &header); err != nil {
		t.Fatal(err)
	}
	return header, claims
}

func TestToken(t *testing.T) {
	t.Parallel()
	now := start.Add(time.Hour)
	for _, alg := range []string{signing.RS256, signing.ES256} {
		k := keyFor(t, alg)
		set := must(signing.NewKeySet(k, key(t, ecPEM(t, start, end))))(t)
		header, body := verify(t, set, must(signing.SignToken(k, claims, now))(t))
		sum := must(hex.DecodeString(k.ID()))(t)
		wantHeader := map[string]any{"typ": "JWT", "alg": alg, "kid": k.ID(), "x5t": base64.RawURLEncoding.EncodeToString(sum)}
		if diff := cmp.Diff(wantHeader, header); diff != "" {
			t.Errorf("%s header: %s", alg, diff)
		}
		wantBody := map[string]any{
			"sub": "Cust12345", "http://schemes.superoffice.net/identity/ctx": "Cust12345", "aud": "spn:app1",
			"iss": "https://online.superoffice.com",
			"nbf": float64(now.Unix() - 60), "iat": float64(now.Unix()), "exp": float64(now.Unix() + 300),
		}
		if diff := cmp.Diff(wantBody, body); diff != "" {
			t.Errorf("%s claims: %s", alg, diff)
		}
	}
}

func TestTokenOfES256IsAlwaysWellFormed(t *testing.T) {
	t.Parallel()
	// One signature in 128 has a half that begins with a zero byte.
	k := keyFor(t, signing.ES256)
	set := must(signing.NewKeySet(k))(t)
	for range 400 {
		verify(t, set, must(signing.SignToken(k, claims, start))(t))
	}
}

func TestTokenNonce(t *testing.T) {
	t.Parallel()
	nonce := must(signing.NewNonce(strings.NewReader("0123456789abcdef")))(t)
	if nonce != "30313233343536373839616263646566" || !regexp.MustCompile(`^[0-9A-F]{32}$`).MatchString(nonce) {
		t.Errorf("nonce = %s", nonce)
	}
	k := keyFor(t, signing.ES256)
	c := claims
	c.Nonce = nonce
	if _, body := verify(t, must(signing.NewKeySet(k))(t), must(signing.SignToken(k, c, start))(t)); body["nonce"] != nonce {
		t.Errorf("claims = %v", body)
	}
	broken := errors.New("no entropy")
	if _, err := signing.NewNonce(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a failing source gives %v", err)
	}
}

func TestTokenRefusesMissingClaims(t *testing.T) {
	t.Parallel()
	k := keyFor(t, signing.ES256)
	for name, c := range map[string]signing.Claims{
		"Tenant": {ClientID: "a", Issuer: "i"}, "ClientID": {Tenant: "t", Issuer: "i"}, "Issuer": {Tenant: "t", ClientID: "a"},
	} {
		if token, err := signing.SignToken(k, c, start); err == nil {
			t.Errorf("without %s: %s", name, token)
		}
	}
}

func tokens(t testing.TB, keys ...*signing.Key) *signing.TokenIssuer {
	t.Helper()
	return must(signing.NewTokenIssuer(must(signing.NewKeySet(keys...))(t), "issuer"))(t)
}

func TestTokensDifferByWhatTheySay(t *testing.T) {
	t.Parallel()
	now := start.Add(time.Hour)
	keys := must(signing.NewKeySet(keyFor(t, signing.RS256), keyFor(t, signing.ES256)))(t)
	seen := make(map[string]string)
	for _, issuer := range []string{"a", "b"} {
		src := must(signing.NewTokenIssuer(keys, issuer))(t)
		for _, clientID := range []string{"app1", "app2"} {
			for _, tenant := range []string{"Cust1", "Cust2"} {
				for _, alg := range []string{signing.RS256, signing.ES256} {
					token := must(src.MakeToken(clientID, tenant, alg, now))(t)
					what := strings.Join([]string{issuer, clientID, tenant, alg}, " ")
					if other, ok := seen[token]; ok {
						t.Errorf("%s got the token of %s", what, other)
					}
					seen[token] = what
					header, body := verify(t, keys, token)
					if header["alg"] != alg || body["aud"] != "spn:"+clientID || body["sub"] != tenant || body["iss"] != issuer {
						t.Errorf("%s got %v %v", what, header, body)
					}
				}
			}
		}
	}
}

func TestTokensFollowTheRotation(t *testing.T) {
	t.Parallel()
	next := start.Add(time.Hour)
	older, newer := key(t, ecPEM(t, start, end)), key(t, ecPEM(t, next, end))
	src := tokens(t, older, newer)
	keys := must(signing.NewKeySet(older, newer))(t)
	before := must(src.MakeToken("app1", "Cust1", signing.ES256, next.Add(-time.Second)))(t)
	after := must(src.MakeToken("app1", "Cust1", signing.ES256, next))(t)
	if h, _ := verify(t, keys, before); h["kid"] != older.ID() {
		t.Errorf("before the rotation: %v", h)
	}
	if h, _ := verify(t, keys, after); h["kid"] != newer.ID() {
		t.Errorf("after the rotation: %v", h)
	}
}

func TestTokensWithoutASigner(t *testing.T) {
	t.Parallel()
	src := tokens(t, keyFor(t, signing.ES256))
	if _, err := src.MakeToken("app1", "Cust1", signing.RS256, start); !errors.Is(err, signing.ErrNoSigner) {
		t.Errorf("err = %v", err)
	}
	if _, err := src.MakeToken("", "Cust1", signing.ES256, start); err == nil {
		t.Error("no client id: accepted")
	}
	if _, err := signing.NewTokenIssuer(nil, "issuer"); err == nil {
		t.Error("no keys: accepted")
	}
}

func BenchmarkToken(b *testing.B) {
	for _, alg := range []string{signing.RS256, signing.ES256} {
		b.Run(alg, func(b *testing.B) {
			k := keyFor(b, alg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signing.SignToken(k, claims, start); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestNoncedTokens(t *testing.T) {
	t.Parallel()
	k := keyFor(t, signing.ES256)
	set := must(signing.NewKeySet(k))(t)
	tokens := must(signing.NewTokenIssuer(set, "SuperOffice AS"))(t)
	seen := map[string]bool{}
	for range 20 {
		token, nonce, err := tokens.MakeNoncedToken("app1", "Cust12345", signing.ES256, start)
		if err != nil {
			t.Fatal(err)
		}
		_, body := verify(t, set, token)
		if seen[nonce] || body["nonce"] != nonce || body["iss"] != "SuperOffice AS" || body["aud"] != "spn:app1" || body["sub"] != "Cust12345" {
			t.Fatalf("nonce %s, claims %v", nonce, body)
		}
		seen[nonce] = true
	}
	if _, _, err := tokens.MakeNoncedToken("app1", "Cust12345", signing.RS256, start); !errors.Is(err, signing.ErrNoSigner) {
		t.Errorf("without a key: %v", err)
	}
}
