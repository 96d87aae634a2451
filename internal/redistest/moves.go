package redistest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Moves is a hook that looks at each answer of a client: whether the server wrote anything for it that
// goes to replicas, be it to say the same again. Nobody else may write meanwhile.
type Moves struct {
	t      testing.TB
	server *redis.Client

	mu           sync.Mutex
	moved, still int
}

// NewMoves returns a hook for a client of p.
func NewMoves(t testing.TB, p *Process) *Moves { return &Moves{t: t, server: p.Client(t)} }

// Take returns how many answers moved the replication offset and how many did not, since the last Take.
func (m *Moves) Take() (moved, still int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	moved, still = m.moved, m.still
	m.moved, m.still = 0, 0
	return moved, still
}

func (m *Moves) watch(f func() error) error {
	before := Written(m.t, m.server)
	err := f()
	m.mu.Lock()
	defer m.mu.Unlock()
	if Written(m.t, m.server).Beyond(before) {
		m.moved++
	} else {
		m.still++
	}
	return err
}

// DialHook changes nothing.
func (*Moves) DialHook(next redis.DialHook) redis.DialHook { return next }

// unwatched reports what opens a connection or loads a script, which rests on no key.
func unwatched(cmd redis.Cmder) bool {
	return slices.Contains([]string{"hello", "auth", "client", "select", "script"}, cmd.Name())
}

// ProcessHook watches a command.
func (m *Moves) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if unwatched(cmd) {
			return next(ctx, cmd)
		}
		return m.watch(func() error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook watches a pipeline as a whole.
func (m *Moves) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if unwatched(cmds[0]) {
			return next(ctx, cmds)
		}
		return m.watch(func() error { return next(ctx, cmds) })
	}
}
