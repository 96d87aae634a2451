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

// Born begins an app's life, if the mailbox does not have it or a later one: approvals of the former one
// are put aside (see Former), what waited and was kept of it is removed. Every call that writes does so by
// itself where it must. Errors: ErrGone.
func (s *Store) Born(ctx context.Context, life Life) error { return s.turn(ctx, life, "begin") }

// Died ends an app's life: its approvals are put aside, what waits is removed. birth is the revision of the
// deletion, so that every call of a life before is ErrGone. Errors: ErrGone where the app was made
// again since.
func (s *Store) Died(ctx context.Context, life Life) error { return s.turn(ctx, life, "end") }

func (s *Store) turn(ctx context.Context, life Life, to string) error {
	ks := append(keysOf(s.keys, life.App), s.former(life))
	ks = append(ks, s.keys.AppLife(life.App)...)
	err := s.scripts.life.Run(ctx, s.rdb, ks, "", life.Birth, to, int(flightLife.Seconds()), int(mailboxLife.Seconds())).Err()
	return failure(to+" a life in", life.App, err)
}

// former names the approvals of the life before the given one.
func (s *Store) former(life Life) string {
	return s.keys.App(life.App, keys.AppFormer) + ":" + strconv.FormatInt(life.Birth, 10)
}

// Former reads at most MaxBatch approvals, whichever, of the life that ended with the given birth; none when
// all are cleared away.
func (s *Store) Former(ctx context.Context, life Life) ([]tenant.ID, error) {
	names, err := s.rdb.HRandField(ctx, s.former(life), MaxBatch).Result()
	if err != nil {
		return nil, failure("list former approvals in", life.App, err)
	}
	page := make([]tenant.ID, len(names))
	for i, n := range names {
		page[i] = tenant.ID(n)
	}
	return page, nil
}

// births reads View's list of births; what is none is left out.
func births(list string) []int64 {
	var out []int64
	for text := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}
