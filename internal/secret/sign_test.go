package secret_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/secret"
)

func signingKey(t testing.TB, c string) secret.Key {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignedTexts(t *testing.T) {
	t.Parallel()
	a, b := signingKey(t, "a"), signingKey(t, "b")
	text := secret.NewKeyring(a).Sign("unsubscribe", []byte("app1|kim"))
	if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("%s needs escaping in a URL", text)
	}
	for name, r := range map[string]*secret.Keyring{"Same": secret.NewKeyring(a), "Older": secret.NewKeyring(b, a)} {
		if got, err := r.Verify("unsubscribe", text); err != nil || string(got) != "app1|kim" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := secret.NewKeyring(a).Verify("unsubscribe", base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, secret.ErrTampered) {
			t.Fatalf("octet %d altered: %v", i, err)
		}
		raw[i] ^= 1
	}
	for name, tt := range map[string]struct {
		r             *secret.Keyring
		purpose, text string
		want          error
	}{
		"OtherKey": {secret.NewKeyring(b), "unsubscribe", text, secret.ErrTampered}, "OtherPurpose": {secret.NewKeyring(a), "confirm", text, secret.ErrTampered},
		"Short": {secret.NewKeyring(a), "unsubscribe", "abcd", secret.ErrMalformed}, "NotBase64": {secret.NewKeyring(a), "unsubscribe", "%%%", secret.ErrMalformed},
		"Padded": {secret.NewKeyring(a), "unsubscribe", text + "=", secret.ErrMalformed}, "Empty": {secret.NewKeyring(a), "unsubscribe", "", secret.ErrMalformed},
	} {
		if got, err := tt.r.Verify(tt.purpose, tt.text); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %q, %v, want %v", name, got, err, tt.want)
		}
	}
}
