package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// due takes all jobs that are due, in their order.
func due(t *testing.T, s fixture, limit int) string {
	t.Helper()
	ids, err := s.TakeDueJobs(t.Context(), limit, time.Minute)
	noErr(t, "due jobs", err)
	return strings.Join(ids, " ")
}

// A job that is listed is due until somebody takes it, and again when it was said to be; of several workers one gets each.
func TestDueJobs(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		noErr(t, "list", s.RegisterJobs(ctx, "a", "b"))
		noErr(t, "list", s.RegisterJobs(ctx, "c"))
		if got := due(t, s, 2) + "|" + due(t, s, 9) + "|" + due(t, s, 9); got != "a b|c|" && got != "a c|b|" { // within one ms
			t.Errorf("due %q", got)
		}
		noErr(t, "look again", s.RescheduleJob(ctx, "b", 0))
		noErr(t, "look later", s.RescheduleJob(ctx, "a", time.Hour))
		noErr(t, "look after nothing", s.RescheduleJob(ctx, "x", 0))
		noErr(t, "list anew", s.RegisterJobs(ctx, "c"))
		if got := due(t, s, 9); got != "b c" && got != "c b" {
			t.Errorf("due %q", got)
		}
		noErr(t, "end", s.RemoveEndedJob(ctx, "a"))
		noErr(t, "forget", s.ForgetJob(ctx, "b"))
		running, err := s.RunningJobs(ctx, 0, 9)
		noErr(t, "running", err)
		if len(running) != 1 || running[0].ID != "c" || running[0].Listed == 0 {
			t.Errorf("running %+v", running)
		}
		listed, err := s.ListedJobs(ctx, 0, 9)
		noErr(t, "listed", err)
		if len(listed) != 2 || listed[0].ID != "c" || listed[1].ID != "a" {
			t.Errorf("listed %+v", listed)
		}
		older, err := s.ListedJobs(ctx, listed[0].Listed, 9)
		noErr(t, "listed", err)
		if len(older) != 1 || older[0] != listed[1] {
			t.Errorf("behind the first: %+v", older)
		}
	})
}

// A name that nobody made is struck off when it is old, and not before; what ended is forgotten in time, what runs never is.
func TestOldJobs(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		list, running := s.keys.Config(keys.ConfigJobs), s.keys.Config(keys.ConfigJobsDue)
		age := func(id string, d time.Duration) {
			noErr(t, "age", s.rdb.ZAdd(ctx, list, redis.Z{Score: float64(time.Now().Add(-d).UnixMicro()), Member: id}).Err())
		}
		noErr(t, "list", s.RegisterJobs(ctx, "young", "old", "runs", "ended"))
		age("old", 11*time.Minute)
		for _, id := range []string{"young", "old", "unlisted"} {
			noErr(t, "absent", s.DropAbsentJob(ctx, id, time.Hour))
		}
		if got := fmt.Sprint(s.rdb.ZRange(ctx, running, 0, -1).Val()); strings.Contains(got, "old") || !strings.Contains(got, "young") {
			t.Errorf("running %s", got)
		}
		age("runs", 9*24*time.Hour)
		age("ended", 9*24*time.Hour)
		noErr(t, "end", s.RemoveEndedJob(ctx, "ended"))
		noErr(t, "list", s.RegisterJobs(ctx, "new"))
		if got := fmt.Sprint(s.rdb.ZRange(ctx, list, 0, -1).Val()); got != "[runs young new]" {
			t.Errorf("listed %s", got)
		}
	})
}
