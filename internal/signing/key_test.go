package signing_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

var (
	start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	end   = start.AddDate(1, 0, 0)
)

// RSA keys take long to make, so tests share them.
var (
	rsaPEM = sync.OnceValues(func() ([]byte, error) { return signing.GenerateKey(signing.RS256, "test", start, end) })
	rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ecPEM(t testing.TB, notBefore, notAfter time.Time) []byte {
	t.Helper()
	return must(signing.GenerateKey(signing.ES256, "test", notBefore, notAfter))(t)
}

func key(t testing.TB, text []byte) *signing.Key {
	t.Helper()
	return must(signing.ParseKey("test.pem", text))(t)
}

func keyFor(t testing.TB, alg string) *signing.Key {
	t.Helper()
	if alg == signing.RS256 {
		return key(t, must(rsaPEM())(t))
	}
	return key(t, ecPEM(t, start, end))
}

// certificate makes one for private that begins at start.
func certificate(t testing.TB, private crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: start, NotAfter: end}
	der := must(x509.CreateCertificate(rand.Reader, template, template, private.Public(), private))(t)
	return block("CERTIFICATE", der)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestThumbprintsOfTheDocumentedKey(t *testing.T) {
	t.Parallel()
	raw := must(hex.DecodeString("b0ad4c0bfd8913b8040f3e8ad16a91f585222c33"))(t)
	kid, x5t := signing.Thumbprints([sha1.Size]byte(raw))
	if kid != "B0AD4C0BFD8913B8040F3E8AD16A91F585222C33" || x5t != "sK1MC_2JE7gEDz6K0WqR9YUiLDM" {
		t.Errorf("kid %s, x5t %s", kid, x5t)
	}
}

func TestParseKeyForms(t *testing.T) {
	t.Parallel()
	r, e := must(rsaKey())(t), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	other := certificate(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t))
	pkcs8 := func(k any) []byte { return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k))(t)) }
	sec1 := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))(t))
	for name, tc := range map[string]struct {
		text []byte
		alg  string
	}{
		"PKCS8RSA":         {join(pkcs8(r), certificate(t, r)), signing.RS256},
		"PKCS1":            {join(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), certificate(t, r)), signing.RS256},
		"PKCS8EC":          {join(pkcs8(e), certificate(t, e)), signing.ES256},
		"SEC1":             {join(sec1, certificate(t, e)), signing.ES256},
		"OpenSSLEC":        {join(block("EC PARAMETERS", []byte{6, 8, 42}), sec1, certificate(t, e)), signing.ES256},
		"CertificateFirst": {join(certificate(t, e), sec1), signing.ES256},
		"Chain":            {join(other, sec1, certificate(t, e)), signing.ES256},
		"BagAttributes":    {join([]byte("Bag Attributes\n  localKeyID: 01\n"), sec1, []byte("subject=x\n"), certificate(t, e)), signing.ES256},
	} {
		k, err := signing.ParseKey(name, tc.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k.Algorithm() != tc.alg || !k.NotBefore().Equal(start) || !k.NotAfter().Equal(end) {
			t.Errorf("%s: %s from %s to %s", name, k.Algorithm(), k.NotBefore(), k.NotAfter())
		}
	}
}

func TestParseKeyFindsItsCertificate(t *testing.T) {
	t.Parallel()
	e := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	own := certificate(t, e)
	other := certificate(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t))
	k := key(t, join(other, block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))(t)), own))
	decoded, _ := pem.Decode(own)
	if want := strings.ToUpper(fmt.Sprintf("%x", sha1.Sum(decoded.Bytes))); k.ID() != want {
		t.Errorf("kid = %s, want the thumbprint of its own certificate, %s", k.ID(), want)
	}
}

func TestParseKeySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r, e := must(rsaKey())(t), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	e384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(k any) []byte { return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k))(t)) }
	legacy := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")})
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"Empty":              {nil, "no private key"},
		"NotPEM":             {[]byte("hello"), "no private key"},
		"CertificateAlone":   {certificate(t, e), "no private key"},
		"KeyAlone":           {pkcs8(e), "no certificate"},
		"OtherCertificate":   {join(pkcs8(e), certificate(t, e384)), "another private key"},
		"TwoKeys":            {join(pkcs8(e), pkcs8(r), certificate(t, e)), "more than one private key"},
		"SmallRSA":           {join([]byte(smallRSA), certificate(t, r)), "1024 bits"},
		"OtherCurve":         {join(pkcs8(e384), certificate(t, e384)), "P-384"},
		"OtherAlgorithm":     {join(pkcs8(ed), certificate(t, e)), "only RSA and EC P-256"},
		"Encrypted":          {join(block("ENCRYPTED PRIVATE KEY", []byte("x")), certificate(t, e)), "passphrase"},
		"EncryptedOldStyle":  {join(legacy, certificate(t, e)), "passphrase"},
		"OpenSSH":            {join(block("OPENSSH PRIVATE KEY", []byte("x")), certificate(t, e)), "OPENSSH"},
		"DamagedKey":         {join(block("PRIVATE KEY", []byte("x")), certificate(t, e)), "read its private key"},
		"DamagedCertificate": {join(pkcs8(e), block("CERTIFICATE", []byte("x"))), "read its certificate"},
	} {
		_, err := signing.ParseKey("keys/a.pem", tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "keys/a.pem") {
			t.Errorf("%s: %v, want it to name the file and %q", name, err, tc.want)
		}
	}
}

func TestLoadKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem")}
	for _, p := range paths {
		if err := os.WriteFile(p, ecPEM(t, start, end), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(must(signing.LoadKeys(paths...))(t).Expiry()); got != 2 {
		t.Errorf("%d keys loaded", got)
	}
	for name, tc := range map[string]struct {
		paths []string
		want  []string
	}{
		"None":    {nil, []string{"signing.keys", "keys generate"}},
		"Missing": {[]string{paths[0], filepath.Join(dir, "c.pem")}, []string{"signing.keys", "c.pem"}},
		"Twice":   {[]string{paths[0], paths[0]}, []string{"signing.keys", "same certificate", "a.pem"}},
	} {
		_, err := signing.LoadKeys(tc.paths...)
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", name, err, want)
			}
		}
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{signing.RS256, signing.ES256} {
		k := keyFor(t, alg)
		if k.Algorithm() != alg || !k.NotBefore().Equal(start) || !k.NotAfter().Equal(end) || len(k.ID()) != 40 {
			t.Errorf("%s: %v %s from %s to %s", alg, k, k.Algorithm(), k.NotBefore(), k.NotAfter())
		}
	}
	for name, err := range map[string]error{
		"Algorithm": generateError("HS256", "x", start, end),
		"Subject":   generateError(signing.ES256, "", start, end),
		"Order":     generateError(signing.ES256, "x", end, start),
		"NoTime":    generateError(signing.ES256, "x", start, start),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func generateError(alg, subject string, from, to time.Time) error {
	_, err := signing.GenerateKey(alg, subject, from, to)
	return err
}

func TestKeysNeverPrint(t *testing.T) {
	t.Parallel()
	e := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	k := key(t, join(block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))(t)), certificate(t, e)))
	raw := must(e.Bytes())(t)
	type holder struct {
		key *signing.Key
		set *signing.KeySet
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		if got := fmt.Sprintf(verb, k); got != "signing key "+k.ID() {
			t.Errorf("%s prints %s", verb, got)
		}
		got := fmt.Sprintf(verb, holder{k, must(signing.NewKeySet(k))(t)})
		for _, leak := range []string{new(big.Int).SetBytes(raw).String(), hex.EncodeToString(raw), strings.Trim(fmt.Sprintf("%d", raw), "[]")} {
			if strings.Contains(got, leak) {
				t.Errorf("%s of a struct shows the key: %s", verb, got)
			}
		}
	}
	if got := fmt.Sprint((*signing.Key)(nil)); got != "signing key <nil>" {
		t.Errorf("nil prints %s", got)
	}
}

// smallRSA has 1024 bits, which crypto/rsa no longer makes by itself.
const smallRSA = `-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQC255RhzogQo2A3qidj7zER1L2i5xquDrUwBz3O6G1y7ZzGfFoP
EOU4TRqV0PWMo0ZP2CB9u8UfXZx4TxrH/1BBG3XqRH7HzaDxwCXkk6ERdqIrk/IP
znmLCuRGqetuzssWQeotz3O64VbGBZXjR7nJMYERSPQez6bTFJUOCR2E2QIDAQAB
AoGAaF6rQEiPQhdIL1tsEM2LzaX89Hk1sz73S0nGjkv5MIzAWk7ZQSGd+0ucMQNF
KxR8adFlcPn12Rkc0VYqbReWniliqAPJNcPnxxhhVIE24fPSJYOvhtEdEaA9NE5/
dEzfJ8rfnKbF0AC3YSVIYrqmBtMPxdDBsakq/9pPhGy2m0UCQQDcdtkZVvufKQEI
XeVxco2W6dPF9c9HD1AX0Ms0h9rfSEFJATTJnSm5khl5XwcX+JKwQGRDkEnRSzmy
dDuLFEovAkEA1GLijEOEmQA2imSS5WXr1MtGd1lMkNXJvm+EDvm90F4u/zLBp23a
eToKX7/UvQpANg7T99ic45noDmDShKRHdwJBANjA+L3TKVzYga1qM9WQXOkNSCsP
fBVPVt2zaLZjA6wXbCiMyQuYO5e5rtYHuf+1YvNqu6k5yXm+ziFH6erZrf0CQDCi
IBxcTZ23dcXE9/o9l34XuiAUO7siqVrJMGU5fOSc3IgleEC9n/yIdN2uEKnlEgUO
6izj1jEsCf5Y33vuHksCQCmtO5TN+lw5lONXS7jfEAIl/to8ZNcW9WFHrCnFR04k
bVvHiMImHhUSWxxZJQWG+A1WNVt79445wmHSjJTWW2E=
-----END RSA PRIVATE KEY-----
`
