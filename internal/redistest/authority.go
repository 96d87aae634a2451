package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Authority names PEM files: a CA, and a certificate for 127.0.0.1 that it signed, with its key.
// Server and client may both use it.
type Authority struct{ CA, Cert, Key string }

// Args make a server or a sentinel speak TLS alone to replicas, to its Cluster and at a port of its own; it asks
// clients for a certificate there. Its plain port stays, for the test.
func (a Authority) Args(t testing.TB) []string {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-cert-file", a.Cert, "--tls-key-file", a.Key, "--tls-ca-cert-file", a.CA,
		"--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

// NewAuthority makes one whose certificates end after life.
func NewAuthority(t testing.TB, life time.Duration) Authority {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	caKey, key := keys[0], keys[1]
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		}
	}
	ca := template("test authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf := template("redis")
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var a Authority
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	a.CA = write("ca.pem", "CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	a.Cert = write("cert.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	a.Key = write("key.pem", "PRIVATE KEY", der, err)
	return a
}
