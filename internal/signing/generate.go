package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// GenerateKey makes a private key for alg with a self-signed certificate for
// the common name subject, as PEM text that ParseKey reads. The text is a
// secret: write it to a file that its owner alone can read.
func GenerateKey(alg, subject string, notBefore, notAfter time.Time) ([]byte, error) {
	if subject == "" {
		return nil, errors.New("generate signing key: the certificate needs a subject")
	}
	if !notBefore.Before(notAfter) {
		return nil, fmt.Errorf("generate signing key: the certificate would end (%s) before it begins (%s)",
			notAfter.Format(time.RFC3339), notBefore.Format(time.RFC3339))
	}
	private, err := generatePrivateKey(alg)
	if err != nil {
		return nil, fmt.Errorf("generate signing key: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("make the signing key's certificate: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...), nil
}

func generatePrivateKey(alg string) (crypto.Signer, error) {
	switch alg {
	case RS256:
		key, err := rsa.GenerateKey(rand.Reader, minRSABits)
		if err != nil {
			return nil, fmt.Errorf("make an RSA key: %w", err)
		}
		return key, nil
	case ES256:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make an EC key: %w", err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("unknown algorithm %q: use %s or %s", alg, RS256, ES256)
}
