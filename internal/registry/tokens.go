package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// endedTokensKeep is how long a revoked or expired token is still listed.
const endedTokensKeep = 90 * 24 * time.Hour

// The scripts of tokens.
var (
	createToken = newScript("create_token")
	readToken   = newScript("token")
	revokeToken = newScript("revoke_token")
)

// storedToken is a token as stored. Revoked is the last member: a script edits it in place.
type storedToken struct {
	Format  int    `json:"v"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	Created int64  `json:"c"`
	Expires int64  `json:"e"`
	Revoked int64  `json:"r"`
}

func decodeToken(doc string) (Token, error) {
	var t storedToken
	if err := decodeJSON(doc, &t, &t.Format); err != nil {
		return Token{}, fmt.Errorf("token: %w", err)
	}
	if t.ID == "" || t.Role == "" {
		return Token{}, fmt.Errorf("%w: a token without id or role", ErrUnreadable)
	}
	return Token{
		ID: t.ID, Name: t.Name, Role: t.Role, CreatedAt: fromMillis(t.Created),
		ExpiresAt: fromMillis(t.Expires), RevokedAt: fromMillis(t.Revoked),
	}, nil
}

// Valid reports whether the token admits anybody at a time: neither revoked nor expired. A zero
// ExpiresAt never expires.
func (t Token) Valid(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// CreateToken adds a token under the hash of its secret part; the secret itself never comes
// here. created is false when this very token exists already, and, with onlyIfNone, when a token
// of its role is good now: of several processes that bring a first token, one succeeds. A token
// that was revoked or has expired does not come back, but another may follow it. Errors: ErrConflict when id or hash belongs to
// another token; ErrUnreadable.
func (s *Store) CreateToken(ctx context.Context, t Token, hash string, onlyIfNone bool) (created bool, err error) {
	doc, err := json.Marshal(storedToken{
		Format: format, ID: t.ID, Name: t.Name, Role: t.Role, Created: millis(t.CreatedAt), Expires: millis(t.ExpiresAt),
		Revoked: millis(t.RevokedAt),
	})
	if err != nil {
		return false, fmt.Errorf("encode token %s: %w", t.ID, err)
	}
	first := "0"
	if onlyIfNone {
		first = "1"
	}
	n, err := createToken.run(ctx, s.rdb, s.configKeys(keys.ConfigTokens, keys.ConfigTokenHashes),
		t.ID, hash, doc, t.Role, first, endedTokensKeep.Milliseconds()).Int()
	switch {
	case err != nil:
		return false, failure(err, "create token %s", t.ID)
	case n == 2:
		return false, fmt.Errorf("create token %s: its id or its secret is in use: %w", t.ID, ErrConflict)
	default:
		return n == 1, nil
	}
}

// TokenByHash finds a token by the hash of its secret part, revoked and expired ones included:
// ask Token.Valid. Errors: ErrNotFound, ErrUnreadable.
func (s *Store) TokenByHash(ctx context.Context, hash string) (Token, error) {
	doc, err := readToken.run(ctx, s.rdb, s.configKeys(keys.ConfigTokens, keys.ConfigTokenHashes), hash).Text()
	if err != nil {
		return Token{}, failure(err, "read token")
	}
	return decodeToken(doc)
}

// Tokens lists all tokens, oldest first, revoked and expired ones of the last 90 days included.
// Errors: ErrUnreadable.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	docs, err := s.rdb.HVals(ctx, s.keys.Config(keys.ConfigTokens)).Result()
	if err != nil {
		return nil, failure(err, "list tokens")
	}
	out := make([]Token, 0, len(docs))
	for _, doc := range docs {
		t, err := decodeToken(doc)
		if err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// RevokeToken ends a token; a repeat changes nothing. Errors: ErrNotFound, ErrUnreadable.
func (s *Store) RevokeToken(ctx context.Context, id string) error {
	n, err := revokeToken.run(ctx, s.rdb, s.configKeys(keys.ConfigTokens), id).Int()
	if err != nil {
		return failure(err, "revoke token %s", id)
	}
	if n == 2 {
		return fmt.Errorf("revoke token %s: %w", id, ErrNotFound)
	}
	return nil
}
