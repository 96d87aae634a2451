package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t and kid are SHA-1 thumbprints by RFC 7517 and by what receivers pin
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/smallfile"
)

// The algorithms of tokens.
const (
	RS256 = "RS256"
	ES256 = "ES256"
)

const (
	minRSABits = 2048
	// p256Bytes is the length of each half of an ES256 signature.
	p256Bytes = 32
)

// Key is a private key with its certificate. It never prints, and it is safe for concurrent use.
type Key struct {
	source      string
	alg         string
	sum         [sha1.Size]byte // of the certificate
	kid         string
	certificate *x509.Certificate
	chain       []*x509.Certificate // the certificate first
	rsa         *rsa.PrivateKey     // one of the two is set
	ec          *ecdsa.PrivateKey
	header      string // the first segment of a token, with its dot
}

// ID is the key's kid: the certificate's SHA-1 thumbprint in upper-case hex.
func (k *Key) ID() string { return k.kid }

// Algorithm is RS256 or ES256.
func (k *Key) Algorithm() string { return k.alg }

// NotBefore is when the certificate begins to be valid, and the key to sign.
func (k *Key) NotBefore() time.Time { return k.certificate.NotBefore }

// NotAfter is when the certificate ends, and the key stops signing.
func (k *Key) NotAfter() time.Time { return k.certificate.NotAfter }

// Format prints the key's id, whatever the verb, and nothing secret.
func (k *Key) Format(f fmt.State, _ rune) {
	if k == nil {
		_, _ = fmt.Fprint(f, "signing key <nil>")
		return
	}
	_, _ = fmt.Fprint(f, "signing key ", k.kid)
}

// LoadKeys reads the files of the setting signing.keys. Its error names the
// file and what is wrong with it.
func LoadKeys(paths ...string) (*KeySet, error) {
	keys := make([]*Key, 0, len(paths))
	for _, path := range paths {
		text, err := smallfile.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("signing.keys: read key: %w", err)
		}
		key, err := ParseKey(path, text)
		if err != nil {
			return nil, fmt.Errorf("signing.keys: %w", err)
		}
		keys = append(keys, key)
	}
	return NewKeySet(keys...)
}

// ParseKey reads one PEM text that holds a private key (PKCS#8, PKCS#1 or SEC 1;
// RSA of at least 2048 bits, or EC P-256) and its certificate, optionally with
// the chain above it. source names the text in errors.
func ParseKey(source string, text []byte) (*Key, error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", source, err)
	}
	key.source = source
	return key, nil
}

func parseKey(text []byte) (*Key, error) {
	private, certificates, err := readPEMBlocks(text)
	if err != nil {
		return nil, err
	}
	key := &Key{}
	public, err := key.setPrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := key.setCertificate(public, certificates); err != nil {
		return nil, err
	}
	return key, key.prepareHeader()
}

// readPEMBlocks finds the one private key and the certificates of a PEM text.
func readPEMBlocks(text []byte) (private any, certificates []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("read its certificate: %w", err)
			}
			certificates = append(certificates, c)
			continue
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // EC PARAMETERS and the like
		}
		if private != nil {
			return nil, nil, errors.New("it holds more than one private key: use one file for each")
		}
		if private, err = parsePrivateKey(block); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case private == nil:
		return nil, nil, errors.New("it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); keys generate makes one with its certificate")
	case len(certificates) == 0:
		return nil, nil, errors.New("it holds no certificate (-----BEGIN CERTIFICATE-----): append the key's X.509 certificate to the file")
	}
	return private, certificates, nil
}

func parsePrivateKey(block *pem.Block) (key any, err error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, errors.New("its private key is protected by a passphrase: decrypt it, for example with openssl pkey")
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("its private key has the form %q: use PKCS#8, PKCS#1 or SEC 1, for example by openssl pkey", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("read its private key: %w", err)
	}
	return key, nil
}

func (k *Key) setPrivateKey(private any) (crypto.PublicKey, error) {
	switch p := private.(type) {
	case *rsa.PrivateKey:
		if bits := p.N.BitLen(); bits < minRSABits {
			return nil, fmt.Errorf("its RSA key has %d bits: at least %d are needed", bits, minRSABits)
		}
		p.Precompute()
		k.alg, k.rsa = RS256, p
		return &p.PublicKey, nil
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("its EC key is on the curve %s: only P-256 is supported", p.Curve.Params().Name)
		}
		k.alg, k.ec = ES256, p
		return &p.PublicKey, nil
	}
	return nil, fmt.Errorf("its private key is a %T: only RSA and EC P-256 are supported", private)
}

// setCertificate takes the certificate that belongs to the key, and the others in their order as its chain.
func (k *Key) setCertificate(public crypto.PublicKey, certificates []*x509.Certificate) error {
	for _, c := range certificates {
		own, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if ok && own.Equal(public) && k.certificate == nil {
			k.certificate = c
			k.chain = append([]*x509.Certificate{c}, k.chain...)
			continue
		}
		k.chain = append(k.chain, c)
	}
	if k.certificate == nil {
		return errors.New("its certificate belongs to another private key")
	}
	return nil
}

func (k *Key) prepareHeader() error {
	k.sum = sha1.Sum(k.certificate.Raw) //nolint:gosec // see the import
	var x5t string
	k.kid, x5t = formatThumbprints(k.sum)
	header, err := json.Marshal(struct {
		Type       string `json:"typ"`
		Algorithm  string `json:"alg"`
		KeyID      string `json:"kid"`
		Thumbprint string `json:"x5t"`
	}{"JWT", k.alg, k.kid, x5t})
	if err != nil {
		return fmt.Errorf("prepare the token header: %w", err)
	}
	k.header = base64.RawURLEncoding.EncodeToString(header) + "."
	return nil
}

// formatThumbprints spells one SHA-1 as receivers expect it in kid and in x5t.
func formatThumbprints(sum [sha1.Size]byte) (kid, x5t string) {
	return strings.ToUpper(hex.EncodeToString(sum[:])), base64.RawURLEncoding.EncodeToString(sum[:])
}

// signInput returns the JWS signature over input. A predictable or repeated ECDSA nonce would reveal the key. So the
// nonce is derived from key and digest (RFC 6979), which needs no random source and is a fifth faster
// (BenchmarkToken).
func (k *Key) signInput(input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	if k.rsa != nil {
		signature, err := rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, digest[:])
		if err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", k.kid, err)
		}
		return signature, nil
	}
	der, err := k.ec.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", k.kid, err)
	}
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", k.kid, err)
	}
	signature := make([]byte, 2*p256Bytes)
	parts.R.FillBytes(signature[:p256Bytes])
	parts.S.FillBytes(signature[p256Bytes:])
	return signature, nil
}
