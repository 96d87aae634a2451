package signing

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

// DefaultTokenCacheEntries bounds a TokenCache; at about 1 KB a token, 50 MB
// when full.
const DefaultTokenCacheEntries = 50_000

// Tokens makes the tokens of one issuer, and reuses them. It is safe for
// concurrent use.
type Tokens struct {
	keys   *KeySet
	issuer string
	cache  *TokenCache
}

// NewTokens makes a Tokens; several may share one cache.
func NewTokens(keys *KeySet, issuer string, cache *TokenCache) (*Tokens, error) {
	if keys == nil || issuer == "" || cache == nil {
		return nil, errors.New("prepare tokens: keys, issuer and cache are all needed")
	}
	return &Tokens{keys: keys, issuer: issuer, cache: cache}, nil
}

// For returns a token for the app and tenant under the key that signs with alg
// at now. It is one made earlier if that is still valid for longer than
// mustOutlive, which should be the request timeout; with mustOutlive of five
// minutes or more every token is new. The error wraps ErrNoSigner when no key
// fits.
func (t *Tokens) For(clientID, tenant, alg string, now time.Time, mustOutlive time.Duration) (string, error) {
	key, err := t.keys.Signer(alg, now)
	if err != nil {
		return "", err
	}
	id := tokenID{clientID: clientID, tenant: tenant, issuer: t.issuer, kid: key.kid}
	if token, ok := t.cache.get(id, now, mustOutlive); ok {
		return token, nil
	}
	// Signing happens outside the cache's lock. Two callers may sign the same
	// token at once, which costs a signature and no more.
	token, err := Token(key, Claims{Tenant: tenant, ClientID: clientID, Issuer: t.issuer}, now)
	if err != nil {
		return "", err
	}
	t.cache.put(id, token, now)
	return token, nil
}

// Nonced returns a new token for the app and tenant that carries a nonce, which the receiver has to
// sign and send back. The error wraps ErrNoSigner when no key fits.
func (t *Tokens) Nonced(clientID, tenant, alg string, now time.Time) (token, nonce string, err error) {
	key, err := t.keys.Signer(alg, now)
	if err != nil {
		return "", "", err
	}
	if nonce, err = NewNonce(rand.Reader); err != nil {
		return "", "", err
	}
	token, err = Token(key, Claims{Tenant: tenant, ClientID: clientID, Issuer: t.issuer, Nonce: nonce}, now)
	return token, nonce, err
}

// tokenID is all that distinguishes tokens of one moment; kid implies the
// algorithm.
type tokenID struct{ clientID, tenant, issuer, kid string }

type cachedToken struct {
	token  string
	issued time.Time
}

// TokenCache keeps tokens in two generations: when the young one is full, or
// older than a token's life, it becomes the old one and the old one is dropped.
// So it is bounded, forgets in one step, and keeps what is used. It is safe for
// concurrent use.
type TokenCache struct {
	perGeneration int

	mu         sync.Mutex
	young, old map[tokenID]cachedToken
	since      time.Time // of young
}

// NewTokenCache makes a cache of at most maxEntries tokens; fewer than 2 count
// as 2.
func NewTokenCache(maxEntries int) *TokenCache {
	return &TokenCache{perGeneration: max(maxEntries/2, 1), young: make(map[tokenID]cachedToken)}
}

// Len is the number of tokens held, usable or not.
func (c *TokenCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.young) + len(c.old)
}

func (c *TokenCache) get(id tokenID, now time.Time, mustOutlive time.Duration) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, young := c.young[id]
	if !young {
		var ok bool
		if e, ok = c.old[id]; !ok {
			return "", false
		}
	}
	// exp counts whole seconds. After the clock was set back a token may not
	// have begun yet.
	expires := e.issued.Truncate(time.Second).Add(tokenLife)
	if expires.Sub(now) <= mustOutlive || now.Before(e.issued.Add(-tokenBackdate)) {
		return "", false
	}
	if !young {
		c.insert(id, e, now)
	}
	return e.token, true
}

func (c *TokenCache) put(id tokenID, token string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(id, cachedToken{token: token, issued: now}, now)
}

// insert puts e into the young generation. The caller holds mu.
func (c *TokenCache) insert(id tokenID, e cachedToken, now time.Time) {
	age := now.Sub(c.since)
	if _, present := c.young[id]; age >= tokenLife || age < 0 || len(c.young) >= c.perGeneration && !present {
		c.young, c.old = make(map[tokenID]cachedToken), c.young
		c.since = now
	}
	delete(c.old, id)
	c.young[id] = e
}
