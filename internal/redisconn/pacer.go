package redisconn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// freeFailures is how many failures in a row are not slowed down, so that a single one costs nothing.
	freeFailures = 3
	paceMin      = 50 * time.Millisecond
	paceMax      = 500 * time.Millisecond
)

// pacer is a go-redis hook that slows down loops that repeat a failing command at once. The task queue's dequeue does so while
// Redis answers errors (loading, out of memory, read-only).
//
// It delays only commands whose context never ends: those of the queue's loops. A caller whose context ends decides about repeats
// itself and gets each error at once. Failures are counted per command and script, because reads may succeed while every write is
// refused.
type pacer struct {
	failures sync.Map // of string to *atomic.Int64; as many as there are commands and scripts
	wait     func(ctx context.Context, d time.Duration)
}

func newPacer() *pacer { return &pacer{wait: sleepContext} }

// DialHook changes nothing.
func (*pacer) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook delays the error of a command that keeps failing.
func (p *pacer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if ctx.Done() == nil {
			p.delayFailure(ctx, commandName(cmd), err)
		}
		return err
	}
}

// ProcessPipelineHook delays the error of a pipeline that keeps failing.
func (p *pacer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if ctx.Done() == nil {
			p.delayFailure(ctx, "pipeline", err)
		}
		return err
	}
}

func (p *pacer) delayFailure(ctx context.Context, command string, err error) {
	v, ok := p.failures.Load(command)
	if !isFault(err) {
		if ok {
			v.(*atomic.Int64).Store(0)
		}
		return
	}
	if !ok {
		v, _ = p.failures.LoadOrStore(command, new(atomic.Int64))
	}
	if d := computeDelay(v.(*atomic.Int64).Add(1)); d > 0 {
		p.wait(ctx, d)
	}
}

// computeDelay returns the delay after the nth failure in a row: none at first, then doubling up to paceMax.
func computeDelay(n int64) time.Duration {
	if n <= freeFailures {
		return 0
	}
	return min(paceMin<<min(n-freeFailures-1, 10), paceMax)
}

// isFault reports whether an error is a fault of Redis or the network, and not an ordinary answer: an absent value, a transaction
// to repeat, a script to load.
func isFault(err error) bool {
	//nolint:errorlint // a sentinel that knows no primary says the same within another error
	return err != nil && err != redis.Nil && !errors.Is(err, redis.TxFailedErr) && !redis.HasErrorPrefix(err, "NOSCRIPT")
}

// commandName names scripts by their hash; the text of an EVAL would be a long key.
func commandName(cmd redis.Cmder) string {
	args := cmd.Args()
	if cmd.Name() == "evalsha" && len(args) > 1 {
		if sha, ok := args[1].(string); ok {
			return sha
		}
	}
	return cmd.Name()
}

func sleepContext(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
