package redisconn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// answer is an error as Redis answers it.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

// timed runs one command through the pacer and returns how long its error took.
func timed(p *pacer, ctx context.Context, err error, args ...any) time.Duration { //nolint:revive // the pacer is what the test is about
	began := time.Now()
	hook := p.ProcessHook(func(context.Context, redis.Cmder) error { return err })
	if got := hook(ctx, redis.NewCmd(ctx, args...)); !errors.Is(got, err) {
		panic("the pacer changed the error")
	}
	return time.Since(began)
}

func TestPacerSlowsLoopsThatKeepFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, forever := newPacer(), context.Background()
		oom := answer("OOM command not allowed")
		for i, want := range []time.Duration{0, 0, 0, 50, 100, 200, 400, 500, 500} {
			if got := timed(p, forever, oom, "evalsha", "aa"); got != want*time.Millisecond {
				t.Errorf("failure %d waited %v, want %v ms", i+1, got, int(want))
			}
		}
		if got := timed(p, t.Context(), oom, "evalsha", "aa"); got != 0 {
			t.Errorf("a caller whose context ends waited %v", got)
		}
		if got := timed(p, forever, oom, "evalsha", "bb"); got != 0 {
			t.Errorf("another script waited %v", got)
		}
		timed(p, forever, nil, "get", "x")
		if got := timed(p, forever, oom, "evalsha", "aa"); got != paceMax {
			t.Errorf("after another command's success: %v, want %v", got, paceMax)
		}
		timed(p, forever, redis.Nil, "evalsha", "aa")
		if got := timed(p, forever, oom, "evalsha", "aa"); got != 0 {
			t.Errorf("after its own success: %v, want none", got)
		}
	})
}

func TestPacerSlowsPipelines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hook := newPacer().ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return answer("LOADING") })
		began := time.Now()
		for range freeFailures + 1 {
			_ = hook(context.Background(), nil)
		}
		if got := time.Since(began); got != paceMin {
			t.Errorf("waited %v in all, want %v", got, paceMin)
		}
	})
}

func TestOrdinaryAnswersAreNoFailures(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, redis.Nil, redis.TxFailedErr, answer("NOSCRIPT No matching script")} {
		if isFault(err) {
			t.Errorf("%v counts as a failure", err)
		}
	}
	for _, err := range []error{answer("READONLY"), answer("ERR"), errors.New("dial"), redis.ErrClosed} {
		if !isFault(err) {
			t.Errorf("%v does not count as a failure", err)
		}
	}
}

func TestPaceNeverOverflows(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{10, 100, 1 << 40} {
		if got := computeDelay(n); got != paceMax {
			t.Errorf("pace(%d) = %v", n, got)
		}
	}
}
