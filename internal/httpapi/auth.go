package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// TokenUses notes when tokens are used.
type TokenUses interface {
	TokenUsed(ctx context.Context, id string, at time.Time) error
}

// usesEvery is how coarse the time of a token's last use is: each process notes it so often, so
// that a look-up stays the one thing that a request costs.
const usesEvery = time.Minute

// authenticator finds out who calls. An address that keeps presenting wrong tokens is refused
// without a look-up; tokens that were good lately are looked up all the same, so that one
// misconfigured caller behind a shared address locks nobody else out.
type authenticator struct {
	tokens Tokens
	uses   TokenUses
	store  StoreWatch
	log    *slog.Logger
	// failures are those of an address, siteFailures those of an IPv6 /48.
	failures, siteFailures *limiter
	// good are the hashes of tokens that were good lately, noted the ids of those whose use was.
	good, noted *recent
}

func newAuthenticator(tokens Tokens, uses TokenUses, store StoreWatch, log *slog.Logger) *authenticator {
	return &authenticator{
		tokens: tokens, uses: uses, store: store, log: log,
		failures: newLimiter(failureInterval, failureBurst), siteFailures: newLimiter(siteFailureInterval, siteFailureBurst),
		good: newRecent(recentFor), noted: newRecent(usesEvery),
	}
}

const realm = `Bearer realm="lamplighter"`

func unauthorized(challenge, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, "unauthorized", "A valid token is needed", detail)
	p.challenge = challenge
	return p
}

// identity is who calls.
type identity struct {
	token registry.Token
	role  Role
	hash  string
}

// authenticate finds out who calls. Nothing is cached: a revocation holds for the next request.
func (a *authenticator) authenticate(r *http.Request, now time.Time) (identity, error) {
	secret, err := bearer(r.Header)
	if err != nil {
		return identity{}, err
	}
	hash := HashToken(secret)
	if wait := a.mustWait(r, now); wait > 0 && !a.good.has(hash, now) {
		return identity{}, tooMany(budgetWrongTokens, "Too many wrong tokens came from this address.", wait)
	}
	token, ended, err := a.find(r.Context(), hash, now)
	if err != nil {
		return identity{}, err
	}
	if ended != "" {
		return identity{}, a.refuse(r, hash, now, ended)
	}
	role, err := ParseRole(token.Role)
	if err != nil {
		return identity{}, fmt.Errorf("read the role of token %s: %w", token.ID, err)
	}
	a.good.add(hash, now)
	a.note(r.Context(), token.ID, now)
	return identity{token, role, hash}, nil
}

// find looks a token up; ended says why it is not good.
func (a *authenticator) find(ctx context.Context, hash string, now time.Time) (token registry.Token, ended string, err error) {
	token, err = a.tokens.TokenByHash(ctx, hash)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		// a store that lost its tokens is no reason to throw one away
		return token, "The token is not known.", confirm(ctx, a.store)
	case err != nil:
		return token, "", fmt.Errorf("look up the token: %w", err)
	case !token.RevokedAt.IsZero():
		return token, "The token was revoked.", nil
	case !token.Valid(now):
		return token, "The token has expired.", nil
	default:
		return token, "", nil
	}
}

// still is the error of a long request whose token has ended meanwhile.
func (a *authenticator) still(ctx context.Context, hash string, now time.Time) error {
	_, ended, err := a.find(ctx, hash, now)
	if err == nil && ended != "" {
		return unauthorized(realm+`, error="invalid_token"`, ended)
	}
	return err
}

// note writes down a token's use. It is for people to look at: a failure harms nobody.
func (a *authenticator) note(ctx context.Context, id string, now time.Time) {
	if a.uses == nil || a.noted.has(id, now) {
		return
	}
	a.noted.add(id, now)
	if err := a.uses.TokenUsed(ctx, id, now); err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "a token's use was not noted", slog.String("token", id), slog.Any("err", err))
	}
}

// mustWait is how long the address, or its /48, is refused without a look-up.
func (a *authenticator) mustWait(r *http.Request, now time.Time) time.Duration {
	wait := a.failures.peek(remote(r), now)
	if s := siteName(r.RemoteAddr); s != "" {
		wait = max(wait, a.siteFailures.peek(s, now))
	}
	return wait
}

// refuse counts a wrong token.
func (a *authenticator) refuse(r *http.Request, hash string, now time.Time, detail string) error {
	a.good.remove(hash)
	wait, ok := a.failures.take(remote(r), now)
	if s := siteName(r.RemoteAddr); s != "" && ok {
		wait, ok = a.siteFailures.take(s, now)
	}
	if !ok {
		return tooMany(budgetWrongTokens, "Too many wrong tokens came from this address.", wait)
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
	recentTokens = 20_000
	recentFor    = 10 * time.Minute
)

// recent remembers what happened lately, by name: at least the last recentTokens of them.
type recent struct {
	keep time.Duration

	mu   sync.Mutex
	seen generations[time.Time]
}

func newRecent(keep time.Duration) *recent {
	return &recent{keep: keep, seen: generations[time.Time]{size: recentTokens}}
}

func (s *recent) has(name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.seen.get(name)
	return ok && now.Sub(at) < s.keep
}

func (s *recent) add(name string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.put(name, now)
}

func (s *recent) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.remove(name)
}
