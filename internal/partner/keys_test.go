package partner_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func pemOf(t testing.TB, typ string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

func pkix(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	return pemOf(t, "PUBLIC KEY", der, err)
}

func xmlOf(n, e []byte) string {
	return "<RSAKeyValue><Modulus>" + base64.StdEncoding.EncodeToString(n) + "</Modulus><Exponent>" +
		base64.StdEncoding.EncodeToString(e) + "</Exponent></RSAKeyValue>"
}

// rsaKey makes a public key of a size without the cost of finding primes.
func rsaKey(bits, e int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: e}
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	key := rsaKey(2048, 65537)
	n, e := key.N.Bytes(), []byte{1, 0, 1}
	for name, text := range map[string]string{
		"PKIX":        pkix(t, key),
		"PKCS1":       pemOf(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(key), nil),
		"Spaced":      "\n  " + pkix(t, key) + "\n\n",
		"CRLF":        strings.ReplaceAll(pkix(t, key), "\n", "\r\n"),
		"XML":         xmlOf(n, e),
		"XMLLines":    strings.ReplaceAll(xmlOf(n, e), "><", ">\r\n\t<"),
		"XMLLeading0": xmlOf(append([]byte{0}, n...), append([]byte{0}, e...)),
	} {
		got, err := partner.ParsePublicKey(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !got.Equal(key) {
			t.Errorf("%s: another key came out", name)
		}
		if err := partner.CheckPublicKey(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	t.Parallel()
	key := rsaKey(2048, 65537)
	n, e := key.N.Bytes(), []byte{1, 0, 1}
	good := xmlOf(n, e)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Empty":            "",
		"Text":             "my key",
		"Certificate":      pemOf(t, "CERTIFICATE", []byte{1}, nil),
		"PrivateKey":       pemOf(t, "RSA PRIVATE KEY", []byte{1}, nil),
		"BrokenPEM":        "-----BEGIN PUBLIC KEY-----\nAAAA\n",
		"WrongDER":         pemOf(t, "PUBLIC KEY", []byte{1, 2, 3}, nil),
		"WrongPKCS1":       pemOf(t, "RSA PUBLIC KEY", []byte{1, 2, 3}, nil),
		"TwoKeys":          pkix(t, key) + pkix(t, key),
		"EC":               pkix(t, &ec.PublicKey),
		"Small":            pkix(t, rsaKey(2047, 65537)),
		"SmallXML":         xmlOf(rsaKey(1024, 65537).N.Bytes(), e),
		"Huge":             xmlOf(rsaKey(8200, 65537).N.Bytes(), e),
		"EvenModulus":      xmlOf(append(append([]byte{}, n[:len(n)-1]...), 4), e),
		"Exponent1":        xmlOf(n, []byte{1}),
		"EvenExponent":     xmlOf(n, []byte{1, 0, 0}),
		"HugeExponent":     xmlOf(n, []byte{255, 255, 255, 255}),
		"LongExponent":     xmlOf(n, []byte{1, 0, 0, 0, 1}),
		"NoExponent":       xmlOf(n, nil),
		"NoModulus":        xmlOf(nil, e),
		"BadBase64":        strings.Replace(good, "</Modulus>", "!</Modulus>", 1),
		"Trailing":         good + "<x/>",
		"Swapped":          "<RSAKeyValue><Exponent>AQAB</Exponent><Modulus>AAAA</Modulus></RSAKeyValue>",
		"PrivateXML":       strings.Replace(good, "</RSAKeyValue>", "<D>AAAA</D></RSAKeyValue>", 1),
		"Doctype":          `<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>` + good,
		"Entity":           strings.Replace(good, "<Modulus>", "<Modulus>&y;", 1),
		"Unclosed":         strings.TrimSuffix(good, "</RSAKeyValue>"),
		"UnclosedExponent": "<RSAKeyValue><Modulus>AAAA</Modulus><Exponent>AQAB",
		"TooLong":          strings.Repeat("x", partner.MaxKeyLength+1),
	} {
		if got, err := partner.ParsePublicKey(text); err == nil || got != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	key := rsaKey(2048, 65537)
	f.Add(pkix(f, key))
	f.Add(xmlOf(key.N.Bytes(), []byte{1, 0, 1}))
	f.Add("<RSAKeyValue><Modulus></Modulus><Exponent></Exponent></RSAKeyValue>")
	f.Add("-----BEGIN PUBLIC KEY-----")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := partner.ParsePublicKey(s)
		if err != nil {
			if len(s) > 60 && strings.Contains(err.Error(), s) {
				t.Error("the error repeats the input")
			}
			return
		}
		if b := key.N.BitLen(); b < partner.MinKeyBits || b > 8192 || key.E < 3 || key.E%2 == 0 || key.N.Bit(0) == 0 {
			t.Errorf("accepted %d bits, exponent %d", b, key.E)
		}
	})
}

// A key has one fingerprint in whatever form it was sent.
func TestDescribeKeys(t *testing.T) {
	t.Parallel()
	key := rsaKey(3072, 65537)
	got := partner.DescribeKeys([]string{pkix(t, key), xmlOf(key.N.Bytes(), []byte{1, 0, 1}), "no key"})
	if got[0] != got[1] || got[0].Bits != 3072 || len(got[0].Fingerprint) != 64 || got[2] != (partner.KeyInfo{}) {
		t.Errorf("%+v", got)
	}
	if other := partner.DescribeKeys([]string{pkix(t, rsaKey(2048, 65537))}); other[0].Fingerprint == got[0].Fingerprint {
		t.Error("two keys of one fingerprint")
	}
}
