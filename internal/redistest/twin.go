package redistest

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ErrTwin is what a call fails with that a Twin was told to fail: like a connection that broke, it
// does not say whether the call was applied.
var ErrTwin = errors.New("connection lost")

// Twin is a hook that fails one round trip to Redis, before it was applied or after, and counts them.
// Fail every one of a use case both ways, repeat as its callers would, and nothing may be lost. The
// zero value fails nothing.
type Twin struct {
	mu    sync.Mutex
	armed bool
	left  int
	after bool
	fired bool
}

// Arm makes the nth round trip from now on (from 1) fail.
func (w *Twin) Arm(n int, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.left, w.after, w.fired = true, n, after, false
}

// Disarm lets everything through, and reports whether a round trip failed.
func (w *Twin) Disarm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	return w.fired
}

// fails says how the next round trip goes.
func (w *Twin) fails() (before, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed || w.fired {
		return false, false
	}
	if w.left--; w.left > 0 {
		return false, false
	}
	w.fired = true
	return !w.after, w.after
}

// DialHook changes nothing.
func (w *Twin) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook fails a command.
func (w *Twin) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		before, after := w.fails()
		if before {
			cmd.SetErr(ErrTwin)
			return ErrTwin
		}
		err := next(ctx, cmd)
		if after {
			cmd.SetErr(ErrTwin)
			return ErrTwin
		}
		return err
	}
}

// ProcessPipelineHook fails a pipeline as a whole.
func (w *Twin) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		before, after := w.fails()
		var err error
		if !before {
			err = next(ctx, cmds)
		}
		if before || after {
			for _, cmd := range cmds {
				cmd.SetErr(ErrTwin)
			}
			return ErrTwin
		}
		return err
	}
}
