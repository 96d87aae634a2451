package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrNoSigner reports that no configured key can sign with an algorithm now: there is none, or no certificate is
// valid now.
var ErrNoSigner = errors.New("no signing key")

// KeySet holds the configured keys. It is safe for concurrent use.
type KeySet struct{ current atomic.Pointer[keyList] }

// keyList is the content of a KeySet. It is immutable.
type keyList struct {
	list []*Key
	jwks []byte
}

// NewKeySet makes a KeySet. It needs at least one key, and keys that differ.
func NewKeySet(list ...*Key) (*KeySet, error) {
	if len(list) == 0 {
		return nil, errors.New("signing.keys is empty: name at least one key file; keys generate makes one")
	}
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(list))}
	sources := make(map[string]string, len(list))
	for _, k := range list {
		if other, ok := sources[k.kid]; ok {
			return nil, fmt.Errorf("signing.keys: %s and %s hold the same certificate: remove one of them", other, k.source)
		}
		sources[k.kid] = k.source
		set.Keys = append(set.Keys, k.publicJWK())
	}
	document, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("prepare the JWKS: %w", err)
	}
	s := &KeySet{}
	s.current.Store(&keyList{list: slices.Clone(list), jwks: document})
	return s, nil
}

// Replace takes over the keys of another set: from now on only they sign and are published.
func (s *KeySet) Replace(by *KeySet) { s.current.Store(by.current.Load()) }

// publicJWK is the public part of the key as receivers load it.
func (k *Key) publicJWK() jose.JSONWebKey {
	return jose.JSONWebKey{
		Key:                       k.certificate.PublicKey,
		KeyID:                     k.kid,
		Algorithm:                 k.alg,
		Use:                       "sig",
		Certificates:              k.chain,
		CertificateThumbprintSHA1: k.sum[:],
	}
}

// Signer returns the key that signs with alg at now: of those whose certificate
// is valid the one whose validity began last. The error wraps ErrNoSigner and
// says why there is none.
func (s *KeySet) Signer(alg string, now time.Time) (*Key, error) {
	var best *Key
	var reasons []string
	for _, k := range s.current.Load().list {
		switch {
		case k.alg != alg:
		case now.Before(k.NotBefore()):
			reasons = append(reasons, fmt.Sprintf("%s is valid from %s", k.kid, k.NotBefore().UTC().Format(time.RFC3339)))
		case !now.Before(k.NotAfter()):
			reasons = append(reasons, fmt.Sprintf("%s expired at %s", k.kid, k.NotAfter().UTC().Format(time.RFC3339)))
		case best == nil || k.NotBefore().After(best.NotBefore()):
			best = k
		}
	}
	if best != nil {
		return best, nil
	}
	if len(reasons) == 0 {
		return nil, fmt.Errorf("%w for %s: add one to signing.keys", ErrNoSigner, alg)
	}
	return nil, fmt.Errorf("%w for %s is valid now: %s: add one to signing.keys", ErrNoSigner, alg, strings.Join(reasons, "; "))
}

// Algorithms lists the algorithms of the configured keys, sorted.
func (s *KeySet) Algorithms() []string {
	algs := make([]string, 0, 2)
	for _, k := range s.current.Load().list {
		algs = append(algs, k.alg)
	}
	slices.Sort(algs)
	return slices.Compact(algs)
}

// KeyExpiry says when a key may sign, for metrics and checks.
type KeyExpiry struct {
	KeyID     string
	Algorithm string
	NotBefore time.Time
	NotAfter  time.Time
}

// Expiry lists the validity of every configured key, in the order configured.
func (s *KeySet) Expiry() []KeyExpiry {
	keys := s.current.Load().list
	list := make([]KeyExpiry, len(keys))
	for i, k := range keys {
		list[i] = KeyExpiry{KeyID: k.kid, Algorithm: k.alg, NotBefore: k.NotBefore(), NotAfter: k.NotAfter()}
	}
	return list
}

// JWKS returns the JSON Web Key Set with every configured key, expired and
// future ones too. The result is the caller's.
func (s *KeySet) JWKS() []byte { return bytes.Clone(s.current.Load().jwks) }

// BuildDiscovery returns the discovery document, which leads receivers from the issuer to the JWKS. publicURL is the
// base URL of the public listener.
func BuildDiscovery(issuer, publicURL string, algs []string) ([]byte, error) {
	document, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, strings.TrimSuffix(publicURL, "/") + "/login/.well-known/jwks", []string{"id_token"}, []string{"public"}, algs})
	if err != nil {
		return nil, fmt.Errorf("prepare the discovery document: %w", err)
	}
	return document, nil
}
