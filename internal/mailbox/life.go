package mailbox

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// How long a deleted app's claims and counters outlive it.
const (
	flightLife  = 24 * time.Hour
	mailboxLife = 91 * 24 * time.Hour
)

// BeginLife begins an app's life, if the mailbox does not have it or a later one: approvals of the former one
// are put aside (see Former), what waited and was kept of it is removed. Every call that writes does so by
// itself where it must. Errors: ErrGone.
func (s *Store) BeginLife(ctx context.Context, life Life) error {
	return s.changeLife(ctx, life, "begin")
}

// EndLife ends an app's life: its approvals are put aside, what waits is removed. birth is the revision of the
// deletion, so that every call of a life before is ErrGone. Errors: ErrGone where the app was made
// again since.
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

// ReadFormerApprovals reads at most MaxBatch approvals, whichever, of the life that ended with the given birth; none when
// all are cleared away.
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

// parseBirths reads View's list of births; what is none is left out.
func parseBirths(list string) []int64 {
	var out []int64
	for text := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}
