package mailbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

//go:embed lua/*.lua
var sources embed.FS

// scripts are the mailbox's state changes; each runs with the prelude before it.
type scripts struct {
	deposit, admit, dismiss, begin, exchange, finish, change, open, beat, drop, view, inspect *redis.Script
}

func load() scripts {
	prelude := source("prelude")
	script := func(name string) *redis.Script { return redis.NewScript(prelude + source(name)) }
	return scripts{
		deposit: script("deposit"), admit: script("admit"), dismiss: script("dismiss"), begin: script("begin"),
		exchange: script("exchange"), finish: script("finish"), change: script("switch"), open: script("open"),
		beat: script("beat"), drop: script("drop"), view: script("view"), inspect: script("inspect"),
	}
}

func source(name string) string {
	b, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil { // embedded at build time
		panic("mailbox: " + err.Error())
	}
	return string(b)
}

// keysOf lists an app's keys in the order of the prelude.
func keysOf(k keys.Space, app partner.ClientID) []string {
	return []string{
		k.App(app, keys.AppTenants), k.App(app, keys.AppWaiting), k.App(app, keys.AppDue),
		k.App(app, keys.AppFlight), k.App(app, keys.AppMailbox),
	}
}

// failure names what failed on which mailbox; a script's own refusal becomes ErrFormat.
func failure(what string, app partner.ClientID, err error) error {
	if err == nil {
		return nil
	}
	if isFormat(err) {
		return fmt.Errorf("%s mailbox of app %s: %w: %w", what, app, ErrFormat, err)
	}
	return fmt.Errorf("%s mailbox of app %s: %w", what, app, err)
}

// isFormat recognises the scripts' FORMAT error code, which is a protocol word, not prose.
func isFormat(err error) bool {
	var re redis.Error
	return errors.As(err, &re) && strings.HasPrefix(re.Error(), "FORMAT ")
}

// fits bounds what one call to Redis holds: what a script unpacks must fit Lua's stack.
func fits(what string, app partner.ClientID, n int) error {
	if n > MaxBatch {
		return fmt.Errorf("%s mailbox of app %s: %d at once, at most %d", what, app, n, MaxBatch)
	}
	return nil
}

// answered is a script's answer, with its error. A call that Redis took but that too few replicas
// confirmed has both.
func answered(cmd *redis.Cmd) ([]any, error) {
	v, _ := cmd.Val().([]any)
	return v, cmd.Err()
}

// counted is answered of a script whose answer is a number; 0 where there is none.
func counted(cmd *redis.Cmd) (int, error) {
	n, _ := cmd.Val().(int64)
	return int(n), cmd.Err()
}

// pipelineArgs bounds about how many values one round trip carries.
const pipelineArgs = 40 * MaxBatch

// pipelined runs one script on many mailboxes, in one round trip where they are not too many. Where a
// later round trip fails, what the earlier ones answered is told: they were applied.
func pipelined(ctx context.Context, rdb redis.UniversalClient, s *redis.Script, calls []call) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, 0, len(calls))
	for len(calls) > 0 {
		n, args := 0, 0
		for n < len(calls) && args < pipelineArgs {
			args += len(calls[n].keys) + len(calls[n].args)
			n++
		}
		some, err := pipeline(ctx, rdb, s, calls[:n])
		if err != nil && len(cmds) == 0 {
			return nil, err
		}
		if err != nil {
			for range calls {
				failed := redis.NewCmd(ctx)
				failed.SetErr(err)
				cmds = append(cmds, failed)
			}
			return cmds, nil
		}
		cmds, calls = append(cmds, some...), calls[n:]
	}
	return cmds, nil
}

// pipeline runs one script on mailboxes in one round trip. A pipelined EVALSHA has no fallback of
// its own: the calls to servers that do not know the script are repeated once after loading it.
func pipeline(ctx context.Context, rdb redis.UniversalClient, s *redis.Script, calls []call) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(calls))
	at := make([]int, len(calls))
	for i := range calls {
		at[i] = i
	}
	for attempt := 0; ; attempt++ {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range at {
				cmds[i] = s.EvalSha(ctx, p, calls[i].keys, calls[i].args...)
			}
			return nil
		})
		at = slices.DeleteFunc(at, func(i int) bool { return !redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") })
		if len(at) == 0 || attempt > 0 {
			if err != nil && ctx.Err() != nil {
				return nil, fmt.Errorf("run scripts: %w", err)
			}
			return cmds, nil
		}
		if err := s.Load(ctx, rdb).Err(); err != nil {
			return nil, fmt.Errorf("load script: %w", err)
		}
	}
}

type call struct {
	keys []string
	args []any
}
