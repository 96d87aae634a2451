package mailbox_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func server(t testing.TB) (*miniredis.Miniredis, redis.UniversalClient) {
	t.Helper()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	return mr, rdb
}

// seeds are worlds that a mistake in the scripts was once found in; a seed that a run of
// TestWorldOfFreshSeeds reports belongs here.
func seeds() []uint64 {
	return []uint64{
		1, 2, 3, 4, // nothing in particular
		13357876925209879108,                     // an approval with a top read before the last dismissal
		6113742834177264075, 2575790272994439146, // finish re-sent brings no wake-up
		5802632613574904779, 691220853681670371, // a non-owner makes a tenant due
		12365042482492110729, 16535434786770759071, // a deposit leaves its tenant in back-off
		13431863321898917864, 12237331155379591185, 17350044286557652956, // a repeat answered with a wake-up that was consumed
		12433995267731276909, // the gate was opened between a begin that was refused and its repeat
	}
}

const worldSteps = 300

func runSeed(t *testing.T, mr *miniredis.Miniredis, rdb redis.UniversalClient, seed uint64) *world {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t.Context(), t, mr, rdb, func(n int, _ string) int { return random.IntN(n) })
	for range worldSteps {
		w.step()
	}
	w.settleDown()
	return w
}

func TestWorldOfKnownSeeds(t *testing.T) {
	t.Parallel()
	mr, rdb := server(t)
	for _, seed := range seeds() {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { runSeed(t, mr, rdb, seed) })
	}
}

func TestWorldOfFreshSeeds(t *testing.T) {
	t.Parallel()
	mr, rdb := server(t)
	for range 10 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { runSeed(t, mr, rdb, seed) })
	}
}

// The same world with every choice drawn by rapid, which shrinks what it finds.
func TestWorldOfRapid(t *testing.T) {
	t.Parallel()
	mr, rdb := server(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t.Context(), rt, mr, rdb, func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) })
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			w.step()
		}
		w.settleDown()
	})
}
