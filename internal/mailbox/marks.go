package mailbox

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Mark is what a mailbox stores about one tenant.
type Mark struct {
	Tenant   tenant.ID
	Approved bool
	// Known is the highest tenant sequence deposited, Again that its status will be deposited again.
	Known int64
	Again bool
	// Unreadable: the mark is of another version.
	Unreadable bool
}

func decodeMark(t tenant.ID, text string) Mark {
	n, again := strings.CutSuffix(text, "*")
	known, err := strconv.ParseInt(n, 10, 64)
	return Mark{Tenant: t, Approved: true, Known: known, Again: again, Unreadable: err != nil || known < 0}
}

// ReadMarks pages through an app's marks, in no order, each at least once while its tenant stays approved. A page holds about
// limit marks, and more if Redis stores a small mailbox compactly. An empty cursor starts; an empty next one ends.
func (s *Store) ReadMarks(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []Mark, next string, err error) {
	var at uint64
	if cursor != "" {
		if at, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", ErrCursor
		}
	}
	pairs, at, err := s.rdb.HScan(ctx, s.keys.App(app, keys.AppTenants), at, "", int64(limit)).Result()
	if err != nil {
		return nil, "", wrapError("compare", app, err)
	}
	page = make([]Mark, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		page = append(page, decodeMark(tenant.ID(pairs[i]), pairs[i+1]))
	}
	if at != 0 {
		next = strconv.FormatUint(at, 10)
	}
	return page, next, nil
}

// ReadMarksOf reads the marks of tenants in the mailboxes of apps, pipelined: out[i] are those of batches[i].
func (s *Store) ReadMarksOf(ctx context.Context, batches []MarkQuery) ([][]Mark, error) {
	out, cmds := make([][]Mark, len(batches)), make([]*redis.SliceCmd, len(batches))
	// Each command holds its own error.
	_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, b := range batches {
			cmds[i] = p.HMGet(ctx, s.keys.App(b.App, keys.AppTenants), toFieldNames(b.Tenants)...)
		}
		return nil
	})
	for i, b := range batches {
		values, err := cmds[i].Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // one broken mailbox must not keep the others from being read
			for _, t := range b.Tenants {
				out[i] = append(out[i], Mark{Tenant: t, Unreadable: true})
			}
			continue
		}
		if err != nil {
			return nil, wrapError("read marks of", b.App, err)
		}
		out[i] = make([]Mark, len(values))
		for j, v := range values {
			if text, ok := v.(string); ok {
				out[i][j] = decodeMark(b.Tenants[j], text)
			} else {
				out[i][j] = Mark{Tenant: b.Tenants[j]}
			}
		}
	}
	return out, nil
}

// MarkQuery names tenants of an app whose marks ReadMarksOf reads.
type MarkQuery struct {
	App     partner.ClientID
	Tenants []tenant.ID
}

func toFieldNames(ts []tenant.ID) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = string(t)
	}
	return out
}
