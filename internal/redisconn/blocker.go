package redisconn

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Blocker is a go-redis hook that refuses every command that names a key while it is blocked. Nothing is then read from, or
// written to, a server whose data must not be used. Every command gets the reason at once, whichever loop it comes from. The zero
// value does not block. It is safe for concurrent use.
type Blocker struct{ reason atomic.Pointer[error] }

// Block refuses commands from now on, with an error. Commands in progress are not cancelled.
func (g *Blocker) Block(reason error) { g.reason.Store(&reason) }

// Unblock allows commands again.
func (g *Blocker) Unblock() { g.reason.Store(nil) }

type bypassKey struct{}

// Bypass returns a context whose commands are allowed while the Blocker blocks: for checks of the data, and for calls that make
// the data usable again.
func (*Blocker) Bypass(ctx context.Context) context.Context {
	return context.WithValue(ctx, bypassKey{}, true)
}

// blockedError returns the reason why a command is refused, nil if it is allowed.
func (g *Blocker) blockedError(ctx context.Context, cmds ...redis.Cmder) error {
	reason := g.reason.Load()
	if reason == nil || ctx.Value(bypassKey{}) != nil || !slices.ContainsFunc(cmds, namesKeys) {
		return nil
	}
	return *reason
}

// namesKeys reports whether a command is about data. The others connect, or ask about the server.
func namesKeys(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "select", "client", "readonly", "ping", "info", "config", "time", "cluster", "command", "wait":
		return false
	default:
		return true
	}
}

// DialHook changes nothing.
func (*Blocker) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook refuses one command.
func (g *Blocker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.blockedError(ctx, cmd); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook refuses all commands of a pipeline if one of them is refused.
func (g *Blocker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := g.blockedError(ctx, cmds...); err != nil {
			for _, c := range cmds {
				c.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}
