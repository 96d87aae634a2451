package partner

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// MinKeyBits is the smallest RSA key accepted from a partner.
const MinKeyBits = 2048

const maxKeyBits = 8192

var errKeyForm = errors.New(`must be an RSA public key, as PEM ("-----BEGIN PUBLIC KEY-----") or as <RSAKeyValue><Modulus>…</Modulus><Exponent>…</Exponent></RSAKeyValue>`)

// CheckPublicKey reports why a public key, as partners send it, is not accepted.
func CheckPublicKey(s string) error {
	_, err := ParsePublicKey(s)
	return err
}

// ParsePublicKey reads an RSA public key from PEM (PKIX or PKCS#1) or from the RSAKeyValue form
// of XML Signature (section 4.5.2.2). XML is not parsed: only the exact three elements are
// accepted, so entities and DTDs never reach a parser.
func ParsePublicKey(s string) (*rsa.PublicKey, error) {
	if len(s) > MaxKeyLength {
		return nil, fmt.Errorf("must be at most %d characters", MaxKeyLength)
	}
	s = strings.TrimSpace(s)
	var key *rsa.PublicKey
	var err error
	switch {
	case strings.HasPrefix(s, "-----BEGIN "):
		key, err = parsePEM(s)
	case strings.HasPrefix(s, "<RSAKeyValue>"):
		key, err = parseRSAKeyValue(s)
	default:
		err = errKeyForm
	}
	if err != nil {
		return nil, err
	}
	switch bits := key.N.BitLen(); {
	case bits < MinKeyBits:
		return nil, fmt.Errorf("has %d bits; at least %d are needed", bits, MinKeyBits)
	case bits > maxKeyBits:
		return nil, fmt.Errorf("has %d bits; at most %d are accepted", bits, maxKeyBits)
	case key.E < 3 || key.E&1 == 0 || key.N.Bit(0) == 0:
		return nil, errors.New("has a modulus or exponent that is not valid for RSA")
	}
	return key, nil
}

// KeyInfo describes a public key, so that it can be compared.
type KeyInfo struct {
	// Fingerprint is the SHA-256 of the key's PKIX form, in lower-case hex, whatever form it was
	// sent in: openssl pkey -pubin -outform DER | sha256sum prints the same.
	Fingerprint string `json:"fingerprint" doc:"SHA-256 of the key's DER form in hex."`
	Bits        int    `json:"bits"`
}

// DescribeKeys describes public keys in their order. One that cannot be read has an empty KeyInfo.
func DescribeKeys(texts []string) []KeyInfo {
	infos := make([]KeyInfo, len(texts))
	for i, text := range texts {
		key, err := ParsePublicKey(text)
		if err != nil {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil { // an RSA key of these sizes always marshals
			continue
		}
		sum := sha256.Sum256(der)
		infos[i] = KeyInfo{Fingerprint: hex.EncodeToString(sum[:]), Bits: key.N.BitLen()}
	}
	return infos
}

func parsePEM(s string) (*rsa.PublicKey, error) {
	block, rest := pem.Decode([]byte(s))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errKeyForm
	}
	switch block.Type {
	case "PUBLIC KEY":
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errKeyForm
		}
		key, ok := k.(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("must be an RSA key")
		}
		return key, nil
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, errKeyForm
		}
		return key, nil
	default:
		return nil, errors.New("must be a public key: the PEM block is of another type")
	}
}

func parseRSAKeyValue(s string) (*rsa.PublicKey, error) {
	rest := strings.NewReplacer("\r", "", "\n", "", "\t", "", " ", "").Replace(s)
	var fields [2]string
	for i, step := range []struct{ open, end string }{
		{"<RSAKeyValue><Modulus>", "</Modulus>"},
		{"<Exponent>", "</Exponent>"},
	} {
		after, ok := strings.CutPrefix(rest, step.open)
		if !ok {
			return nil, errKeyForm
		}
		fields[i], rest, ok = strings.Cut(after, step.end)
		if !ok {
			return nil, errKeyForm
		}
	}
	if rest != "</RSAKeyValue>" {
		return nil, errKeyForm
	}
	n, err := base64.StdEncoding.DecodeString(fields[0])
	if err != nil {
		return nil, errKeyForm
	}
	e, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(e) == 0 || len(e) > 4 {
		return nil, errKeyForm
	}
	exp := new(big.Int).SetBytes(e).Int64()
	if exp > 1<<31-1 {
		return nil, errKeyForm
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp)}, nil
}
