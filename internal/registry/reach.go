package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// The scripts with which processes share what they saw of the hosts that they call.
var (
	shareReach     = newScript("reach")
	putCommonCause = newScript("common_cause")
)

const (
	// reachKeep is how long a report is kept after its process ended: a new process learns from it what failed before.
	reachKeep = 10 * time.Minute
	// reachMost bounds the reports: many more than processes run.
	reachMost = 48
	// causeKeep is how long the newest common cause is kept unless it is written again: it must be longer than a common cause
	// lasts.
	causeKeep = 31 * 24 * time.Hour
)

// Reach is what processes saw of the hosts that they call, by Redis's clock.
type Reach struct {
	Now time.Time
	// Cause is the newest common cause as stored, empty for none.
	Cause   string
	Reports []string
}

// ShareReach stores what this process saw for the others, and reads the reports of all.
func (s *Store) ShareReach(ctx context.Context, process, report string) (Reach, error) {
	const what = "share which hosts are reached"
	ks := s.configKeys(keys.ConfigReach, keys.ConfigCommonCause)
	v, err := shareReach.run(ctx, s.rdb, ks, process, report, reachKeep.Milliseconds(), reachMost).Slice()
	if err != nil {
		return Reach{}, wrapError(err, what)
	}
	if len(v) < 2 {
		return Reach{}, fmt.Errorf("%s: %w", what, newAnswerError(shareReach, v))
	}
	now, ok := v[0].(int64)
	texts := make([]string, len(v)-1)
	for i := range texts {
		text, is := v[i+1].(string)
		texts[i], ok = text, ok && is
	}
	if !ok {
		return Reach{}, fmt.Errorf("%s: %w", what, newAnswerError(shareReach, v))
	}
	return Reach{Now: fromMillis(now), Cause: texts[0], Reports: texts[1:]}, nil
}

// PutCommonCause writes a common cause if the stored one is still was, and reports whether it did.
func (s *Store) PutCommonCause(ctx context.Context, was, next string) (bool, error) {
	n, err := putCommonCause.run(ctx, s.rdb, []string{s.keys.Config(keys.ConfigCommonCause)}, was, next, causeKeep.Milliseconds()).Int()
	return n == 1, wrapError(err, "write the common cause")
}
