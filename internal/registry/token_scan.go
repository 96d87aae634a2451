package registry

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// tokenScan is the result of reading all tokens, page by page.
type tokenScan struct {
	role string
	// last is the token of the role that was added last, read before everything else. A token that is added while the pages are
	// read, and may be missing in them, changes it.
	last string
	docs map[string]string
	// all are the tokens that can be read, unreadable is the error of one that cannot.
	all        []Token
	unreadable error
	// good: a token of the role is valid now.
	good bool
	now  time.Time
}

// scanTokens reads all tokens for a call about one role.
func (s *Store) scanTokens(ctx context.Context, role string) (*tokenScan, error) {
	l := &tokenScan{role: role}
	var err error
	if l.last, err = s.rdb.HGet(ctx, s.keys.Config(keys.ConfigTokenLast), role).Result(); err != nil && !isRedisNil(err) {
		return nil, wrapError(err, "read the last token of role %s", role)
	}
	if l.now, err = s.rdb.Time(ctx).Result(); err != nil {
		return nil, wrapError(err, "read the time")
	}
	if l.docs, err = s.readConfigHash(ctx, keys.ConfigTokens); err != nil {
		return nil, wrapError(err, "read all tokens")
	}
	for _, doc := range l.docs {
		t, err := decodeToken(doc)
		if err != nil {
			l.unreadable = err
			continue
		}
		l.all = append(l.all, t)
		l.good = l.good || t.Role == role && t.Valid(l.now)
	}
	return l, nil
}

// unrevokedIDs lists the tokens of the role that are not revoked.
func (l *tokenScan) unrevokedIDs() []string {
	var ids []string
	for _, t := range l.all {
		if t.Role == l.role && t.RevokedAt.IsZero() {
			ids = append(ids, t.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// forgettableTokens maps tokens that ended long ago to their documents. It leaves out the token of each role that ended last, so
// that a role that was once set up stays known. The choice depends only on the tokens, so that all processes keep the same one.
func (l *tokenScan) forgettableTokens() map[string]string {
	end := func(t Token) int64 { return cmp.Or(toMillis(t.RevokedAt), toMillis(t.ExpiresAt), math.MaxInt64) }
	last := map[string]Token{}
	for _, t := range l.all {
		if n, ok := last[t.Role]; !ok || cmp.Or(cmp.Compare(end(t), end(n)), strings.Compare(t.ID, n.ID)) > 0 {
			last[t.Role] = t
		}
	}
	out := map[string]string{}
	for _, t := range l.all {
		old := end(t) < l.now.Add(-endedTokensKeep).UnixMilli()
		if old && (last[t.Role].ID != t.ID || t.Role == l.role) && len(out) < forgetMax {
			out[t.ID] = l.docs[t.ID]
		}
	}
	return out
}

// buildForgetArgs lists tokens to remove with their documents and the hashes of their secret parts.
func (s *Store) buildForgetArgs(ctx context.Context, forget map[string]string) ([]any, error) {
	if len(forget) == 0 {
		return nil, nil
	}
	hashes, err := s.readConfigHash(ctx, keys.ConfigTokenHashes)
	if err != nil {
		return nil, wrapError(err, "read the hashes of all tokens")
	}
	of := make(map[string]string, len(forget))
	for hash, id := range hashes {
		if _, ok := forget[id]; ok {
			of[id] = hash
		}
	}
	args := make([]any, 0, 3*len(forget))
	for id, doc := range forget {
		args = append(args, id, doc, of[id])
	}
	return args, nil
}

// revokeExcessTokens revokes tokens of a partner whose app is about to be deleted, except for as many as the deletion itself
// revokes. These writes do not wait for replicas: the deletion does, and a replica that has it also has what came before.
func (s *Store) revokeExcessTokens(ctx context.Context, ids []string, actor Actor) ([]string, error) {
	for len(ids) > revokeMax {
		n := min(len(ids)-revokeMax, pipelineMax)
		calls := make([]call, n)
		for i, id := range ids[:n] {
			calls[i] = call{
				keys: s.configKeys(keys.ConfigTokens, keys.ConfigAudit),
				args: []any{id, s.opts.AuditKeep, actor.Name, actor.Role, actor.RequestID, ""},
			}
		}
		for i, cmd := range revokeToken.runMany(ctx, s.rdb, calls) {
			if err := cmd.Err(); err != nil {
				return nil, wrapError(err, "revoke token %s", ids[i])
			}
		}
		ids = ids[n:]
	}
	return ids, nil
}

// partnerRole is the role of a partner's tokens.
func partnerRole(id partner.ClientID) string { return "partner:" + string(id) }

// readConfigHash reads a HASH of the settings page by page: a field that exists during the whole read is included.
func (s *Store) readConfigHash(ctx context.Context, key keys.ConfigKey) (map[string]string, error) {
	out := map[string]string{}
	for cursor := uint64(0); ; {
		pairs, next, err := s.rdb.HScan(ctx, s.keys.Config(key), cursor, "", maxPage).Result()
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			out[pairs[i]] = pairs[i+1]
		}
		if cursor = next; cursor == 0 {
			return out, nil
		}
	}
}
