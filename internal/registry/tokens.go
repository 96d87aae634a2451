package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

const (
	// endedTokensKeep is how long a revoked or expired token is still listed.
	endedTokensKeep = 90 * 24 * time.Hour
	// tokensMax bounds how many tokens are stored: adding one and listing them read all.
	tokensMax = 10_000
	// forgetMax is how many ended tokens one call removes, revokeMax how many tokens of a partner are revoked in one step.
	forgetMax, revokeMax = 50, 200
	// tokenTries bounds how often a call reads all tokens again because others are added meanwhile.
	tokenTries = 20
)

// The scripts of tokens.
var (
	createToken = newScript("create_token")
	readToken   = newScript("token")
	revokeToken = newScript("revoke_token")
)

// storedToken is a token as stored. Revoked is the last member, because a script edits it in place.
type storedToken struct {
	Format  int    `json:"v"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	Prefix  string `json:"p,omitempty"`
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
		ID: t.ID, Name: t.Name, Role: t.Role, Prefix: t.Prefix, CreatedAt: fromMillis(t.Created),
		ExpiresAt: fromMillis(t.Expires), RevokedAt: fromMillis(t.Revoked),
	}, nil
}

// Valid reports whether the token is accepted at a time: neither revoked nor expired. A zero ExpiresAt never expires.
func (t Token) Valid(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// CreateToken adds a token under the hash of its secret part; the secret itself is never passed to this package. created is false
// if this very token exists already, and, with onlyIfNone, if a token of its role is valid now: of several processes that add a
// first token, one succeeds. A token that was revoked or has expired is not restored, but another may follow it. The write is
// audited. Errors: ErrConflict if id or hash belongs to another token; ErrTooMany; ErrUnreadable.
func (s *Store) CreateToken(ctx context.Context, t Token, hash string, onlyIfNone bool, actor Actor) (created bool, err error) {
	doc, err := json.Marshal(storedToken{
		Format: format, ID: t.ID, Name: t.Name, Role: t.Role, Prefix: t.Prefix, Created: toMillis(t.CreatedAt),
		Expires: toMillis(t.ExpiresAt), Revoked: toMillis(t.RevokedAt),
	})
	if err != nil {
		return false, fmt.Errorf("encode token %s: %w", t.ID, err)
	}
	words, err := encodeAuditedToken(t)
	if err != nil {
		return false, err
	}
	ks := s.configKeys(keys.ConfigTokens, keys.ConfigTokenHashes, keys.ConfigTokenUses, keys.ConfigAudit, keys.ConfigTokenLast)
	for range tokenTries {
		look, err := s.scanTokens(ctx, t.Role)
		if err != nil {
			return false, fmt.Errorf("create token %s: %w", t.ID, err)
		}
		last := "*"
		if onlyIfNone {
			if look.unreadable != nil {
				return false, fmt.Errorf("create token %s: %w", t.ID, look.unreadable)
			}
			if look.good {
				return false, nil
			}
			last = look.last
		}
		args := []any{
			t.ID, hash, doc, t.Role, last, tokensMax, s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID, words,
		}
		forget, err := s.buildForgetArgs(ctx, look.forgettableTokens())
		if err != nil {
			return false, fmt.Errorf("create token %s: %w", t.ID, err)
		}
		n, err := createToken.run(ctx, s.durable, ks, append(args, forget...)...).Int()
		switch {
		case err != nil:
			return false, wrapError(err, "create token %s", t.ID)
		case n == 2:
			return false, fmt.Errorf("create token %s: its id or its secret is in use: %w", t.ID, ErrConflict)
		case n == 3:
			return false, fmt.Errorf("create token %s: %d tokens exist: %w", t.ID, tokensMax, ErrTooMany)
		case n != 4:
			return n == 1, nil
		}
	}
	return false, fmt.Errorf("create token %s: other tokens of role %s are being added: %w", t.ID, t.Role, ErrConflict)
}

// HasValidToken reports whether a role has a valid token.
func (s *Store) HasValidToken(ctx context.Context, role string) (bool, error) {
	look, err := s.scanTokens(ctx, role)
	return look.good, err
}

// encodeAuditedToken encodes a token as the audit shows it.
func encodeAuditedToken(t Token) (string, error) {
	b, err := json.Marshal(struct {
		Name      string    `json:"name"`
		Role      string    `json:"role"`
		Prefix    string    `json:"prefix,omitempty"`
		ExpiresAt time.Time `json:"expires_at,omitzero"`
	}{t.Name, t.Role, t.Prefix, t.ExpiresAt.UTC()})
	if err != nil {
		return "", fmt.Errorf("describe token %s: %w", t.ID, err)
	}
	return string(b), nil
}

// TokenByHash finds a token by the hash of its secret part, including revoked and expired ones; see Token.Valid. Errors:
// ErrNotFound, ErrUnreadable.
func (s *Store) TokenByHash(ctx context.Context, hash string) (Token, error) {
	doc, err := readToken.run(ctx, s.rdb, s.configKeys(keys.ConfigTokens, keys.ConfigTokenHashes), hash).Text()
	if err != nil {
		return Token{}, wrapError(err, "read token")
	}
	return decodeToken(doc)
}

// Tokens lists all tokens, oldest first, including revoked and expired ones of the last 90 days, with the time each was last
// used. Errors: ErrUnreadable.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	docs, err := s.readConfigHash(ctx, keys.ConfigTokens)
	if err != nil {
		return nil, wrapError(err, "list tokens")
	}
	uses, err := s.readConfigHash(ctx, keys.ConfigTokenUses)
	if err != nil {
		return nil, wrapError(err, "list the uses of tokens")
	}
	out := make([]Token, 0, len(docs))
	for _, doc := range docs {
		t, err := decodeToken(doc)
		if err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		t.LastUsedAt = parseLastUse(uses[t.ID])
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Token reads one token, ended or not, with the time it was last used. Errors: ErrNotFound,
// ErrUnreadable.
func (s *Store) Token(ctx context.Context, id string) (Token, error) {
	doc, err := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigTokens), id).Result()
	if err != nil {
		return Token{}, wrapError(err, "read token %s", id)
	}
	t, err := decodeToken(doc)
	if err != nil {
		return Token{}, err
	}
	used, err := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigTokenUses), id).Result()
	if err != nil && !isRedisNil(err) {
		return Token{}, wrapError(err, "read the last use of token %s", id)
	}
	t.LastUsedAt = parseLastUse(used)
	return t, nil
}

// parseLastUse parses a stored use; one that cannot be read counts as none.
func parseLastUse(ms string) time.Time {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return fromMillis(n)
}

// RecordTokenUse stores when a token was last used. A caller that calls it rarely, such as once a minute, gets times of that
// precision. Of several processes the last write stands.
func (s *Store) RecordTokenUse(ctx context.Context, id string, at time.Time) error {
	err := s.rdb.HSet(ctx, s.keys.Config(keys.ConfigTokenUses), id, toMillis(at)).Err()
	return wrapError(err, "record a use of token %s", id)
}

// RevokeToken ends a token; a repeat changes nothing and is not audited again. Errors:
// ErrNotFound, ErrUnreadable.
func (s *Store) RevokeToken(ctx context.Context, id string, actor Actor) error {
	t, err := s.Token(ctx, id)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	words, err := encodeAuditedToken(t)
	if err != nil {
		return err
	}
	n, err := revokeToken.run(ctx, s.durable, s.configKeys(keys.ConfigTokens, keys.ConfigAudit), id,
		s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID, words).Int()
	if err != nil {
		return wrapError(err, "revoke token %s", id)
	}
	if n == 2 {
		return fmt.Errorf("revoke token %s: %w", id, ErrNotFound)
	}
	return nil
}
