package registry

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one embedded Lua script. All keys of a run MUST be in one hash slot.
type script struct {
	name string
	lua  *redis.Script
}

// newScript loads lua/<name>.lua, after the files that it uses. It panics if there is no such file, which is fixed at build time.
func newScript(name string, after ...string) *script {
	var text []byte
	for _, n := range append(after, name) {
		b, err := sources.ReadFile("lua/" + n + ".lua")
		if err != nil {
			panic("registry: " + err.Error())
		}
		text = append(text, b...)
	}
	return &script{name: name, lua: redis.NewScript(string(text))}
}

// run executes the script once, and sends its text if Redis does not know it.
func (s *script) run(ctx context.Context, rdb redis.UniversalClient, keys []string, args ...any) *redis.Cmd {
	return s.lua.Run(ctx, rdb, keys, args...)
}

// call is one run of a script within a pipeline.
type call struct {
	keys []string
	args []any
}

const (
	// pipelineMax bounds the commands of one round trip, and so the memory for their answers.
	pipelineMax = 1000
	// repairs is how often a pipeline loads a script that Redis does not know (after a restart, failover or flush).
	repairs = 3
)

// runMany executes the script once per call, pipelined, and returns the answers in the order of calls; each holds its own error.
// A pipelined EVALSHA has no fallback of its own: if Redis does not know the script, it is loaded and only those calls are
// repeated. So calls of one runMany must not depend on each other's order.
func (s *script) runMany(ctx context.Context, rdb redis.UniversalClient, calls []call) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	for start := 0; start < len(calls); start += pipelineMax {
		todo := make([]int, 0, pipelineMax)
		for i := start; i < min(start+pipelineMax, len(calls)); i++ {
			todo = append(todo, i)
		}
		for attempt := 0; len(todo) > 0; attempt++ {
			s.sendPipeline(ctx, rdb, calls, cmds, todo)
			if todo = s.listUnloaded(cmds, todo); len(todo) == 0 || attempt == repairs {
				break
			}
			if err := s.lua.Load(ctx, rdb).Err(); err != nil {
				for _, i := range todo {
					cmds[i].SetErr(fmt.Errorf("load script %s: %w", s.name, err))
				}
				break
			}
		}
	}
	return cmds
}

func (s *script) sendPipeline(ctx context.Context, rdb redis.UniversalClient, calls []call, cmds []*redis.Cmd, todo []int) {
	// The pipeline's error is the error of its first failed command, which the commands hold as well.
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range todo {
			cmds[i] = s.lua.EvalSha(ctx, p, calls[i].keys, calls[i].args...)
		}
		return nil
	})
}

// listUnloaded lists those of todo that Redis could not run because it does not know the script.
func (*script) listUnloaded(cmds []*redis.Cmd, todo []int) []int {
	var again []int
	for _, i := range todo {
		if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
			again = append(again, i)
		}
	}
	return again
}

// wrapError adds the operation that failed. Scripts refuse a stored value that they cannot read with the error code FORMAT; that,
// and a key of another type, become ErrUnreadable.
func wrapError(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	switch {
	case isRedisNil(err):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case redis.HasErrorPrefix(err, "FORMAT"), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("%s: %w: %w", what, ErrUnreadable, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// isRedisNil reports Redis's answer that a value is absent. It compares directly, because a wrapped error may hold the same
// answer of a sentinel that knows no primary. In that case nothing is known about the value.
func isRedisNil(err error) bool {
	return err == redis.Nil //nolint:errorlint // see above
}

// newAnswerError returns the error for an answer that does not have the form in the script's header.
func newAnswerError(s *script, v any) error {
	return fmt.Errorf("%w: script %s answered %T", errAnswer, s.name, v)
}

var errAnswer = errors.New("unexpected answer")
