package secret_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lamplighter/lamplighter/internal/secret"
)

const place = "app/app1/webhook_secret"

func newKey(t testing.TB, fill byte) secret.Key {
	t.Helper()
	key, err := secret.ParseKey(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func seal(t testing.TB, r *secret.Keyring, plaintext string) string {
	t.Helper()
	sealed, err := r.Seal([]byte(plaintext), place)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{7}, 32)
	key, err := secret.ParseKey(" " + base64.StdEncoding.EncodeToString(raw) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(raw); key.ID() != hex.EncodeToString(sum[:4]) {
		t.Errorf("key id = %q, want the first 8 hex digits of %x", key.ID(), sum)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"Empty":     {" \n", "is empty"},
		"Hex":       {hex.EncodeToString(raw), "hexadecimal"},
		"NotBase64": {"this is *not* base64", "not standard base64"},
		"URLBase64": {base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32)), "not standard base64"},
		"Short":     {base64.StdEncoding.EncodeToString(raw[:31]), "31 bytes"},
		"Long":      {base64.StdEncoding.EncodeToString(append(raw, 1)), "33 bytes"},
	} {
		_, err := secret.ParseKey(tc.in)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		msg := err.Error()
		if !strings.Contains(msg, tc.want) || !strings.Contains(msg, "encryption.key") || !strings.Contains(msg, "openssl rand -base64 32") {
			t.Errorf("%s: unhelpful: %s", name, msg)
		}
		if in := strings.TrimSpace(tc.in); in != "" && strings.Contains(msg, in) {
			t.Errorf("%s: repeats the input: %s", name, msg)
		}
	}
}

func TestGenerateKeyIsAccepted(t *testing.T) {
	t.Parallel()
	text, err := secret.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ParseKey(text.Reveal()); err != nil {
		t.Errorf("ParseKey refuses what GenerateKey made: %v", err)
	}
	broken := errors.New("no entropy")
	if _, err := secret.GenerateKey(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a failing source gives %v", err)
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	r := secret.NewKeyring(newKey(t, 1))
	for _, plaintext := range []string{"", "x", confidential, strings.Repeat("long ", 10_000)} {
		sealed := seal(t, r, plaintext)
		if !regexp.MustCompile(`^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$`).MatchString(sealed) {
			t.Fatalf("sealed = %q", sealed)
		}
		if again := seal(t, r, plaintext); again == sealed {
			t.Error("two seals of one value are equal: the nonce was repeated")
		}
		got, err := r.Open(sealed, place)
		if err != nil || string(got) != plaintext {
			t.Errorf("Open = %q, %v; want %q", got, err, plaintext)
		}
	}
}

func TestOpenRefusesEveryAlteredByte(t *testing.T) {
	t.Parallel()
	r := secret.NewKeyring(newKey(t, 1))
	sealed := seal(t, r, confidential)
	for i := range sealed {
		altered := []byte(sealed)
		altered[i] = 'A'
		if altered[i] == sealed[i] {
			altered[i] = 'B'
		}
		if got, err := r.Open(string(altered), place); err == nil {
			t.Errorf("byte %d altered: opened as %q", i, got)
		}
		if got, err := r.Open(sealed[:i], place); err == nil {
			t.Errorf("cut after %d bytes: opened as %q", i, got)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r, other := secret.NewKeyring(newKey(t, 1)), secret.NewKeyring(newKey(t, 2))
	sealed := seal(t, r, confidential)
	for name, tc := range map[string]struct {
		ring       *secret.Keyring
		sealed, at string
		want       error
		mentions   string
	}{
		"OtherPlace": {r, sealed, "app/app2/webhook_secret", secret.ErrTampered, "app2"},
		"OtherKey":   {other, sealed, place, secret.ErrUnknownKey, newKey(t, 1).ID()},
		"Altered":    {r, sealed[:len(sealed)-4] + "AAAA", place, secret.ErrTampered, place},
		"Plaintext":  {r, confidential, place, secret.ErrMalformed, place},
		"Empty":      {r, "", place, secret.ErrMalformed, place},
		"NewFormat":  {r, "v2" + sealed[2:], place, secret.ErrMalformed, "version"},
		"NoKeyID":    {r, "v1.xyz.AAAA", place, secret.ErrMalformed, "key id"},
		"UpperKeyID": {r, "v1." + strings.ToUpper("abcdef01") + sealed[11:], place, secret.ErrUnknownKey, place},
		"NoBody":     {r, sealed[:12], place, secret.ErrMalformed, "body"},
		"ShortBody":  {r, sealed[:30], place, secret.ErrMalformed, "body"},
		"Padded":     {r, sealed + "=", place, secret.ErrMalformed, "body"},
	} {
		got, err := tc.ring.Open(tc.sealed, tc.at)
		if !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s: Open = %q, %v; want %v", name, got, err, tc.want)
			continue
		}
		if !strings.Contains(err.Error(), tc.mentions) || strings.Contains(err.Error(), confidential) {
			t.Errorf("%s: message %q", name, err)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before := secret.NewKeyring(newKey(t, 1))
	old := seal(t, before, confidential)
	after := secret.NewKeyring(newKey(t, 2), newKey(t, 1), newKey(t, 1))
	if got, err := after.Open(old, place); err != nil || string(got) != confidential {
		t.Errorf("an older key opens nothing: %q, %v", got, err)
	}
	fresh := seal(t, after, confidential)
	if _, err := before.Open(fresh, place); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("sealed with an older key: %v", err)
	}
	if !after.Stale(old) || after.Stale(fresh) || !after.Stale("not sealed") {
		t.Error("Stale does not tell current from older keys")
	}
}

func TestKeysNeverPrint(t *testing.T) {
	t.Parallel()
	key := newKey(t, 1)
	ring := secret.NewKeyring(key)
	type holder struct {
		key  secret.Key
		ring *secret.Keyring
		keys []secret.Key
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		if got := fmt.Sprintf(verb+verb, key, ring); got != "[redacted][redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
		// The cipher's state is a struct of arrays, all of which begin with
		// the key: sixteen bytes 1.
		got := fmt.Sprintf(verb, holder{key, ring, []secret.Key{key}})
		for _, leak := range []string{"1 1 1 1", "16843009", "0x1010101", "01010101"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s of a struct prints %s", verb, got)
			}
		}
	}
}

func TestNewKeyringRefusesZeroKey(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	secret.NewKeyring(newKey(t, 1), secret.Key{})
}

// genuine was sealed with newKey(1) for place when the format was fixed.
const genuine = "v1.72cd6e84.Nln9Ef2GvE0C1CPE2tEa-bXcteQ1Zzv030e18SH-0Qiv7x9BkjHbgZn7O7g8c1GzTA"

func TestOpenReadsStoredValues(t *testing.T) {
	t.Parallel()
	got, err := secret.NewKeyring(newKey(t, 1)).Open(genuine, place)
	if err != nil || string(got) != confidential {
		t.Errorf("Open = %q, %v: values stored in format v1 are lost", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	ring := secret.NewKeyring(newKey(f, 1))
	f.Add(genuine)
	f.Add("v1.00000000.AAAA")
	f.Fuzz(func(t *testing.T, sealed string) {
		got, err := ring.Open(sealed, place)
		if err == nil && sealed != genuine {
			t.Errorf("forged %q opens as %q", sealed, got)
		}
		if err != nil && !errors.Is(err, secret.ErrMalformed) && !errors.Is(err, secret.ErrUnknownKey) && !errors.Is(err, secret.ErrTampered) {
			t.Errorf("untyped error %v", err)
		}
	})
}
