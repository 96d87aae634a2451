package signing_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/signing"
)

func TestSigner(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	older := key(t, ecPEM(t, start, start.Add(10*day)))
	newer := key(t, ecPEM(t, start.Add(5*day), start.Add(20*day)))
	short := key(t, ecPEM(t, start.Add(6*day), start.Add(7*day)))
	for _, keys := range [][]*signing.Key{{older, newer, short}, {short, newer, older}} {
		set := must(signing.NewKeySet(keys...))(t)
		for _, tc := range []struct {
			at   time.Duration
			want *signing.Key
		}{
			{-time.Second, nil},
			{0, older},
			{5*day - time.Second, older},
			{5 * day, newer},
			{6 * day, short},
			{7*day - time.Second, short},
			{7 * day, newer},
			{20*day - time.Second, newer},
			{20 * day, nil},
		} {
			got, err := set.Signer(signing.ES256, start.Add(tc.at))
			if got != tc.want {
				t.Errorf("after %s: %v signs, want %v (%v)", tc.at, got, tc.want, err)
			}
			if (tc.want == nil) != errors.Is(err, signing.ErrNoSigner) {
				t.Errorf("after %s: err = %v", tc.at, err)
			}
		}
	}
}

func TestSignerSaysWhyThereIsNone(t *testing.T) {
	t.Parallel()
	k := key(t, ecPEM(t, start, end))
	set := must(signing.NewKeySet(k))(t)
	for name, tc := range map[string]struct {
		alg  string
		now  time.Time
		want string
	}{
		"NoneMade": {signing.RS256, start, "RS256"},
		"Future":   {signing.ES256, start.Add(-time.Hour), "is valid from 2026-11-24T12:00:00Z"},
		"Past":     {signing.ES256, end, "expired at 2027-11-24T12:00:00Z"},
		"Unknown":  {"none", start, "none"},
	} {
		_, err := set.Signer(tc.alg, tc.now)
		if !errors.Is(err, signing.ErrNoSigner) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "signing.keys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	r, e := keyFor(t, signing.RS256), keyFor(t, signing.ES256)
	expired := key(t, ecPEM(t, start.AddDate(-2, 0, 0), start.AddDate(-1, 0, 0)))
	set := must(signing.NewKeySet(r, e, expired))(t)

	var members struct{ Keys []map[string]any }
	if err := json.Unmarshal(set.JWKS(), &members); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{
		{"alg", "e", "kid", "kty", "n", "use", "x5c", "x5t"},
		{"alg", "crv", "kid", "kty", "use", "x", "x5c", "x5t", "y"},
		{"alg", "crv", "kid", "kty", "use", "x", "x5c", "x5t", "y"},
	} {
		got := make([]string, 0, len(want))
		for name := range members.Keys[i] {
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("members of key %d: %s", i, diff)
		}
	}
	if first := members.Keys[0]; first["kty"] != "RSA" || first["use"] != "sig" || first["alg"] != "RS256" || first["kid"] != r.ID() {
		t.Errorf("RSA key = %v", first)
	}

	var parsed jose.JSONWebKeySet
	if err := json.Unmarshal(set.JWKS(), &parsed); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*signing.Key{r, e, expired} {
		found := parsed.Key(k.ID())
		if len(found) != 1 || !found[0].Valid() || !found[0].IsPublic() || found[0].Algorithm != k.Algorithm() {
			t.Fatalf("%v is published as %+v", k, found)
		}
		own, ok := found[0].Certificates[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !own.Equal(found[0].Key) {
			t.Errorf("%v: x5c is not the key's certificate", k)
		}
	}
	if text := string(set.JWKS()); strings.Contains(text, `"d":`) || strings.Contains(text, `"p":`) {
		t.Error("the JWKS holds private members")
	}
}

func TestJWKSBelongsToTheCaller(t *testing.T) {
	t.Parallel()
	set := must(signing.NewKeySet(key(t, ecPEM(t, start, end))))(t)
	clear(set.JWKS())
	if !json.Valid(set.JWKS()) {
		t.Error("a caller altered the published keys")
	}
}

func TestExpiryAndAlgorithms(t *testing.T) {
	t.Parallel()
	r, e, e2 := keyFor(t, signing.RS256), keyFor(t, signing.ES256), keyFor(t, signing.ES256)
	set := must(signing.NewKeySet(r, e2, e))(t)
	want := []signing.KeyExpiry{
		{KeyID: r.ID(), Algorithm: "RS256", NotBefore: start, NotAfter: end},
		{KeyID: e2.ID(), Algorithm: "ES256", NotBefore: start, NotAfter: end},
		{KeyID: e.ID(), Algorithm: "ES256", NotBefore: start, NotAfter: end},
	}
	if diff := cmp.Diff(want, set.Expiry()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ES256", "RS256"}, set.Algorithms()); diff != "" {
		t.Error(diff)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"https://lamp.example", "https://lamp.example/"} {
		var got map[string]any
		if err := json.Unmarshal(must(signing.BuildDiscovery("https://online.superoffice.com", base, []string{"RS256"}))(t), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"issuer":                                "https://online.superoffice.com",
			"jwks_uri":                              "https://lamp.example/login/.well-known/jwks",
			"response_types_supported":              []any{"id_token"},
			"subject_types_supported":               []any{"public"},
			"id_token_signing_alg_values_supported": []any{"RS256"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	before, after := keyFor(t, signing.ES256), keyFor(t, signing.ES256)
	set := must(signing.NewKeySet(before))(t)
	tokens := must(signing.NewTokenIssuer(set, "https://issuer.example"))(t)
	set.Replace(must(signing.NewKeySet(after))(t))
	signer := must(set.Signer(signing.ES256, start))(t)
	if signer.ID() != after.ID() || strings.Contains(string(set.JWKS()), before.ID()) {
		t.Errorf("after Replace %s signs, want %s; JWKS %s", signer.ID(), after.ID(), set.JWKS())
	}
	token := must(tokens.MakeToken("app1", "Cust1", signing.ES256, start))(t)
	head, _, _ := strings.Cut(token, ".")
	if text := must(base64.RawURLEncoding.DecodeString(head))(t); !strings.Contains(string(text), after.ID()) {
		t.Errorf("header of a token after Replace: %s", text)
	}
}
