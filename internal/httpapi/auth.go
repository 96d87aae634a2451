package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// TokenPrefix starts every token that NewToken makes, so that scanners find leaked ones.
const TokenPrefix = "lmp_"

const (
	tokenBytes     = 32
	maxTokenLength = 512
)

// NewToken makes a token's secret out of a source of randomness.
func NewToken(random io.Reader) (string, error) {
	b := make([]byte, tokenBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// HashToken is what stands for a token in the store: a plain SHA-256 in hex, because a token has
// 256 random bits and looking a hash up compares nothing that a caller could time.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Tokens finds tokens by their hash.
type Tokens interface {
	// TokenByHash returns registry.ErrNotFound when there is none.
	TokenByHash(ctx context.Context, hash string) (registry.Token, error)
}

// Limits of failed authentication per address: ten at once, then one in six seconds.
const (
	failureInterval = 6 * time.Second
	failureBurst    = 10
)

// authenticator finds out who calls. An address that keeps presenting wrong tokens is refused
// without a look-up; tokens that were good lately are looked up all the same, so that one
// misconfigured caller behind a shared address locks nobody else out.
type authenticator struct {
	tokens   Tokens
	failures *limiter
	good     recent
}

func newAuthenticator(tokens Tokens) *authenticator {
	return &authenticator{tokens: tokens, failures: newLimiter(failureInterval, failureBurst)}
}

const realm = `Bearer realm="lamplighter"`

func unauthorized(challenge, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, "unauthorized", "A valid token is needed", detail)
	p.challenge = challenge
	return p
}

// authenticate returns the caller's token and role. Nothing is cached: a revocation holds for the
// next request.
func (a *authenticator) authenticate(r *http.Request, now time.Time) (registry.Token, Role, error) {
	secret, err := bearer(r.Header)
	if err != nil {
		return registry.Token{}, Role{}, err
	}
	from, hash := remote(r), HashToken(secret)
	if wait := a.failures.peek(from, now); wait > 0 && !a.good.has(hash, now) {
		return registry.Token{}, Role{}, tooMany("Too many wrong tokens came from this address.", wait)
	}
	token, err := a.tokens.TokenByHash(r.Context(), hash)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return registry.Token{}, Role{}, a.refuse(from, hash, now, "The token is not known.")
	case err != nil:
		return registry.Token{}, Role{}, fmt.Errorf("look up the token: %w", err)
	case !token.RevokedAt.IsZero() && !token.RevokedAt.After(now):
		return registry.Token{}, Role{}, a.refuse(from, hash, now, "The token was revoked.")
	case !token.ExpiresAt.IsZero() && !token.ExpiresAt.After(now):
		return registry.Token{}, Role{}, a.refuse(from, hash, now, "The token has expired.")
	}
	role, err := ParseRole(token.Role)
	if err != nil {
		return registry.Token{}, Role{}, fmt.Errorf("read the role of token %s: %w", token.ID, err)
	}
	a.good.add(hash, now)
	return token, role, nil
}

func (a *authenticator) refuse(from, hash string, now time.Time, detail string) error {
	a.good.remove(hash)
	if wait, ok := a.failures.take(from, now); !ok {
		return tooMany("Too many wrong tokens came from this address.", wait)
	}
	return unauthorized(realm+`, error="invalid_token"`, detail)
}

// bearer reads the one Authorization header (RFC 6750 section 2.1).
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", unauthorized(realm, "Send the header Authorization: Bearer <token>.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || len(token) > maxTokenLength || !visible(token) {
		return "", unauthorized(realm+`, error="invalid_request"`, "The Authorization header must be one: Bearer <token>.")
	}
	return token, nil
}

// visible reports whether s is one or more visible ASCII characters.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

const (
	recentTokens = 1024
	recentFor    = 10 * time.Minute
)

// recent remembers the hashes of tokens that were good lately.
type recent struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (s *recent) has(hash string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.seen[hash]
	return ok && now.Sub(at) < recentFor
}

func (s *recent) add(hash string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil || len(s.seen) >= recentTokens {
		s.seen = map[string]time.Time{}
	}
	s.seen[hash] = now
}

func (s *recent) remove(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, hash)
}
