package signing

import (
	"crypto/rand"
	"errors"
	"time"
)

// TokenIssuer makes the tokens of one issuer. It is safe for concurrent use.
//
// Each token is new. A cached one could be used again only for the same app and tenant within a few minutes, which is
// rare, and the cache would cost every delivery something.
type TokenIssuer struct {
	keys   *KeySet
	issuer string
}

// NewTokenIssuer makes a TokenIssuer.
func NewTokenIssuer(keys *KeySet, issuer string) (*TokenIssuer, error) {
	if keys == nil || issuer == "" {
		return nil, errors.New("prepare tokens: keys and issuer are both needed")
	}
	return &TokenIssuer{keys: keys, issuer: issuer}, nil
}

// MakeToken makes a token for the app and tenant under the key that signs with alg at now. The error
// wraps ErrNoSigner when no key fits.
func (t *TokenIssuer) MakeToken(clientID, tenant, alg string, now time.Time) (string, error) {
	key, err := t.keys.Signer(alg, now)
	if err != nil {
		return "", err
	}
	return SignToken(key, Claims{Tenant: tenant, ClientID: clientID, Issuer: t.issuer}, now)
}

// MakeNoncedToken returns a new token for the app and tenant with a nonce, which the receiver must sign and send
// back. The error wraps ErrNoSigner when no key fits.
func (t *TokenIssuer) MakeNoncedToken(clientID, tenant, alg string, now time.Time) (token, nonce string, err error) {
	key, err := t.keys.Signer(alg, now)
	if err != nil {
		return "", "", err
	}
	if nonce, err = NewNonce(rand.Reader); err != nil {
		return "", "", err
	}
	token, err = SignToken(key, Claims{Tenant: tenant, ClientID: clientID, Issuer: t.issuer, Nonce: nonce}, now)
	return token, nonce, err
}
