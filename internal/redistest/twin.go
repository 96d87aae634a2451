package redistest

import (
	"context"
	"errors"
	"runtime"
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
	// where are the functions that were under way at the round trip that failed.
	where []string
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

// Where names the functions that were under way at the round trip that failed last.
func (w *Twin) Where() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.where
}

// functions are those under way.
func functions() []string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var out []string
	for {
		f, more := frames.Next()
		out = append(out, f.Function)
		if !more {
			return out
		}
	}
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
	w.fired, w.where = true, functions()
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
