package mailbox

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// How long a deleted app's claims and counters are kept.
const (
	flightLife  = 24 * time.Hour
	mailboxLife = 91 * 24 * time.Hour
)

// BeginLife begins an app's life, unless the mailbox has it or a later one already. The approvals of the former life are put
// aside (see ReadFormerApprovals); what was pending and kept for it is removed. Every call that writes does so itself if needed.
// Errors: ErrGone.
func (s *Store) BeginLife(ctx context.Context, life Life) error {
	return s.changeLife(ctx, life, "begin")
}

// EndLife ends an app's life: its approvals are put aside, what is pending is removed. The birth of life is the revision of the
// deletion, so that every call of an earlier life returns ErrGone. Errors: ErrGone if the app was made again since.
func (s *Store) EndLife(ctx context.Context, life Life) error { return s.changeLife(ctx, life, "end") }

func (s *Store) changeLife(ctx context.Context, life Life, to string) error {
	ks := append(mailboxKeys(s.keys, life.App), s.formerKey(life))
	ks = append(ks, s.keys.AppLife(life.App)...)
	err := s.scripts.life.Run(ctx, s.rdb, ks, "", life.Birth, to, int(flightLife.Seconds()), int(mailboxLife.Seconds())).Err()
	return wrapError(to+" a life in", life.App, err)
}

// formerKey names the approvals of the life before the given one.
func (s *Store) formerKey(life Life) string {
	return s.keys.App(life.App, keys.AppFormer) + ":" + strconv.FormatInt(life.Birth, 10)
}

// ReadFormerApprovals reads at most MaxBatch approvals, in no order, of the life that ended with the given birth. It returns none
// when all are removed.
func (s *Store) ReadFormerApprovals(ctx context.Context, life Life) ([]tenant.ID, error) {
	names, err := s.rdb.HRandField(ctx, s.formerKey(life), MaxBatch).Result()
	if err != nil {
		return nil, wrapError("list former approvals in", life.App, err)
	}
	page := make([]tenant.ID, len(names))
	for i, n := range names {
		page[i] = tenant.ID(n)
	}
	return page, nil
}

// parseBirths parses the list of births in a view; values that are no birth are left out.
func parseBirths(list string) []int64 {
	var out []int64
	for text := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}
