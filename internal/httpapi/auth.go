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
	"time"

	"github.com/lamplighter/lamplighter/internal/ratelimit"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// TokenPrefix starts every token that NewToken makes, so that secret scanners find leaked ones.
const TokenPrefix = "lmp_"

const (
	tokenBytes     = 32
	maxTokenLength = 512
)

// NewToken makes a token's secret from a source of randomness.
func NewToken(random io.Reader) (string, error) {
	b := make([]byte, tokenBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// HashToken is the form in which the store holds a token: a plain SHA-256 in hex. A slow hash is not needed, because a
// token has 256 random bits. Looking up a hash leaks nothing about it by its duration.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Tokens finds tokens by their hash.
type Tokens interface {
	// TokenByHash returns registry.ErrNotFound when there is none.
	TokenByHash(ctx context.Context, hash string) (registry.Token, error)
}

// TokenUses records when tokens are used.
type TokenUses interface {
	RecordTokenUse(ctx context.Context, id string, at time.Time) error
}

// usesEvery is the resolution of a token's last use: each process records it once in this time, so that most requests
// cost no more than a look-up.
const usesEvery = time.Minute

// authenticator identifies callers. An address that keeps sending wrong tokens is refused without a look-up. Tokens
// that were valid recently are still looked up, so that one misconfigured caller behind a shared address does not lock
// out the others.
type authenticator struct {
	tokens Tokens
	uses   TokenUses
	store  StoreWatch
	log    *slog.Logger
	// failures are those of an address, siteFailures those of an IPv6 /48.
	failures, siteFailures *ratelimit.Limiter
	// good are the hashes of tokens that were valid recently. noted are the ids of tokens whose use was recorded
	// recently.
	good, noted *ratelimit.Set
}

func newAuthenticator(tokens Tokens, uses TokenUses, store StoreWatch, log *slog.Logger) *authenticator {
	return &authenticator{
		tokens: tokens, uses: uses, store: store, log: log,
		failures: ratelimit.New(failureInterval, failureBurst), siteFailures: ratelimit.New(siteFailureInterval, siteFailureBurst),
		good: ratelimit.NewSet(recentFor, recentTokens), noted: ratelimit.NewSet(usesEvery, recentTokens),
	}
}

const realm = `Bearer realm="lamplighter"`

func unauthorizedProblem(challenge, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, "unauthorized", "A valid token is needed", detail)
	p.challenge = challenge
	return p
}

// identity is the caller's identity.
type identity struct {
	token registry.Token
	role  Role
	hash  string
}

// identifyCaller identifies the caller. It caches nothing, so a revocation holds for the next request.
func (a *authenticator) identifyCaller(r *http.Request, now time.Time) (identity, error) {
	secret, err := readBearerToken(r.Header)
	if err != nil {
		return identity{}, err
	}
	hash := HashToken(secret)
	if wait := a.blockedFor(r, now); wait > 0 && !a.good.Has(hash, now) {
		return identity{}, tooManyRequestsProblem(budgetWrongTokens, "Too many wrong tokens came from this address.", wait)
	}
	token, ended, err := a.lookUpToken(r.Context(), hash, now)
	if err != nil {
		return identity{}, err
	}
	if ended != "" {
		return identity{}, a.rejectToken(r, hash, now, ended)
	}
	role, err := ParseRole(token.Role)
	if err != nil {
		return identity{}, fmt.Errorf("read the role of token %s: %w", token.ID, err)
	}
	a.good.Add(hash, now)
	a.recordTokenUse(r.Context(), token.ID, now)
	return identity{token, role, hash}, nil
}

// lookUpToken looks a token up; ended says why it is not valid.
func (a *authenticator) lookUpToken(ctx context.Context, hash string, now time.Time) (token registry.Token, ended string, err error) {
	token, err = a.tokens.TokenByHash(ctx, hash)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		// the store may have lost the token: then it is not reported as unknown
		return token, "The token is not known.", confirmAbsence(ctx, a.store)
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

// recheckToken returns an error when the token of a long request has expired or was revoked meanwhile.
func (a *authenticator) recheckToken(ctx context.Context, hash string, now time.Time) error {
	_, ended, err := a.lookUpToken(ctx, hash, now)
	if err == nil && ended != "" {
		return unauthorizedProblem(realm+`, error="invalid_token"`, ended)
	}
	return err
}

// recordTokenUse records a token's use, for the list of tokens. A failure is only logged.
func (a *authenticator) recordTokenUse(ctx context.Context, id string, now time.Time) {
	if a.uses == nil || a.noted.Has(id, now) {
		return
	}
	a.noted.Add(id, now)
	if err := a.uses.RecordTokenUse(ctx, id, now); err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "a token's use was not recorded", slog.String("token", id), slog.Any("err", err))
	}
}

// blockedFor is how long the address, or its /48, is refused without a look-up.
func (a *authenticator) blockedFor(r *http.Request, now time.Time) time.Duration {
	wait := a.failures.Peek(callerNetwork(r), now)
	if s := ipv6SiteOf(r.RemoteAddr); s != "" {
		wait = max(wait, a.siteFailures.Peek(s, now))
	}
	return wait
}

// rejectToken counts a wrong token.
func (a *authenticator) rejectToken(r *http.Request, hash string, now time.Time, detail string) error {
	a.good.Remove(hash)
	wait, ok := a.failures.Take(callerNetwork(r), now)
	if s := ipv6SiteOf(r.RemoteAddr); s != "" && ok {
		wait, ok = a.siteFailures.Take(s, now)
	}
	if !ok {
		return tooManyRequestsProblem(budgetWrongTokens, "Too many wrong tokens came from this address.", wait)
	}
	return unauthorizedProblem(realm+`, error="invalid_token"`, detail)
}

// readBearerToken reads the one Authorization header (RFC 6750 section 2.1).
func readBearerToken(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", unauthorizedProblem(realm, "Send the header Authorization: Bearer <token>.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || len(token) > maxTokenLength || !isVisibleASCII(token) {
		return "", unauthorizedProblem(realm+`, error="invalid_request"`, "The Authorization header must be one: Bearer <token>.")
	}
	return token, nil
}

// isVisibleASCII reports whether s is one or more visible ASCII characters.
func isVisibleASCII(s string) bool {
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
