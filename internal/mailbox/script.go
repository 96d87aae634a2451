package mailbox

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

//go:embed lua/*.lua
var sources embed.FS

// scripts are the mailbox's Lua scripts; each begins with the prelude and the other files that it uses.
type scripts struct {
	deposit, admit, dismiss, begin, exchange, finish, change, open, recall, beat, life, clear, view, inspect *redis.Script

	jobMake, jobClear, jobClaim, jobSettle, jobCancel, walk, retell *redis.Script
}

func loadScripts() scripts {
	script := func(names ...string) *redis.Script {
		text := []string{readScriptSource("prelude")}
		for _, n := range names {
			text = append(text, readScriptSource(n))
		}
		return redis.NewScript(strings.Join(text, ""))
	}
	return scripts{
		deposit: script("entries", "wake", "deposit"), admit: script("admit"), dismiss: script("dismiss"), begin: script("wake", "begin"),
		exchange: script("entries", "exchange"), finish: script("wake", "finish"), change: script("entries", "recalls", "wake", "switch"),
		open: script("entries", "recalls", "wake", "open"), recall: script("entries", "recalls", "recall"),
		beat: script("beat"), life: script("life"), clear: script("job", "clear"), view: script("entries", "view"), inspect: script("entries", "inspect"),
		jobMake: script("job", "job_make"), jobClear: script("job", "job_clear"), jobClaim: script("job", "job_claim"),
		jobSettle: script("job", "job_settle"), jobCancel: script("job", "job_cancel"), walk: script("walk"),
		retell: redis.NewScript(buildRetellSource()),
	}
}

// buildRetellSource makes the script deposit a function of retell, so that a page is deposited and counted in one step.
func buildRetellSource() string {
	return readScriptSource("prelude") + readScriptSource("entries") + readScriptSource("wake") + readScriptSource("job") + "local function deposit()\n" + readScriptSource("deposit") + "\nend\n" + readScriptSource("retell")
}

func readScriptSource(name string) string {
	b, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil { // embedded at build time
		panic("mailbox: " + err.Error())
	}
	return string(b)
}

// keysPerMailbox is the number of keys that mailboxKeys returns.
const keysPerMailbox = 5

// mailboxKeys lists an app's keys in the order of the prelude.
func mailboxKeys(k keys.Space, app partner.ClientID) []string {
	return []string{
		k.App(app, keys.AppTenants), k.App(app, keys.AppWaiting), k.App(app, keys.AppDue),
		k.App(app, keys.AppFlight), k.App(app, keys.AppMailbox),
	}
}

// wrapError adds the operation and the app to an error. A script's refusal of a format, and a key of another type, become
// ErrFormat.
func wrapError(what string, app partner.ClientID, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case redis.HasErrorPrefix(err, "FORMAT"), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("%s mailbox of app %s: %w: %w", what, app, ErrFormat, err)
	case redis.HasErrorPrefix(err, "GONE"):
		return fmt.Errorf("%s mailbox of app %s: %w: %w", what, app, ErrGone, err)
	}
	return fmt.Errorf("%s mailbox of app %s: %w", what, app, err)
}

// isUnborn reports the scripts' error that the mailbox belongs to an earlier life of the app.
func isUnborn(err error) bool { return redis.HasErrorPrefix(err, "UNBORN") }

// checkBatchSize limits one call to Redis: the values that a script unpacks must fit Lua's stack.
func checkBatchSize(what string, app partner.ClientID, n int) error {
	if n > MaxBatch {
		return fmt.Errorf("%s mailbox of app %s: %d at once, at most %d", what, app, n, MaxBatch)
	}
	return nil
}

// readSliceAnswer returns a script's answer and its error. A call that Redis applied but that too few replicas confirmed has
// both.
func readSliceAnswer(cmd *redis.Cmd) ([]any, error) {
	v, _ := cmd.Val().([]any)
	return v, cmd.Err()
}

// readCountAnswer is readSliceAnswer for a script that answers a number; 0 if there is none.
func readCountAnswer(cmd *redis.Cmd) (int, error) {
	n, _ := cmd.Val().(int64)
	return int(n), cmd.Err()
}

// call is one run of a script on one mailbox.
type call struct {
	life Life
	// args makes the arguments, of which there are size. It is called for each round trip that carries them, so that the
	// arguments of many calls are not in memory at once.
	size int
	args func() []any
}

// newCall returns a call with few arguments, which are ready.
func newCall(life Life, args ...any) call {
	return call{life: life, size: len(args), args: func() []any { return args }}
}

// pipelineArgs limits how many values one round trip carries, approximately.
const pipelineArgs = 40 * MaxBatch

// runMany runs one script on many mailboxes, in one round trip if they are not too many. answer gets the result of each call, in
// their order, and must not keep it. If a round trip fails, its calls and all later ones get the error; earlier ones were
// applied.
func (s *Store) runMany(ctx context.Context, sc *redis.Script, calls []call, answer func(i int, cmd *redis.Cmd)) {
	for at := 0; at < len(calls); {
		n, args := 0, 0
		for at+n < len(calls) && args < pipelineArgs {
			args += keysPerMailbox + calls[at+n].size
			n++
		}
		cmds, err := s.runPipeline(ctx, sc, calls[at:at+n])
		if err != nil {
			failed := redis.NewCmd(ctx)
			failed.SetErr(err)
			for i := range calls[at:] {
				answer(at+i, failed)
			}
			return
		}
		for i, cmd := range cmds {
			answer(at+i, cmd)
		}
		at += n
	}
}

// runManyInLife is runInLife for one script on many mailboxes, as runMany runs them. The arguments begin with the birth.
func (s *Store) runManyInLife(ctx context.Context, sc *redis.Script, calls []call, answer func(i int, cmd *redis.Cmd)) {
	s.runMany(ctx, sc, calls, func(i int, cmd *redis.Cmd) {
		if isUnborn(cmd.Err()) { // rare: once in each life
			cmd = redis.NewCmd(ctx)
			if err := s.BeginLife(ctx, calls[i].life); err != nil {
				cmd.SetErr(err)
			} else {
				cmd = sc.Run(ctx, s.rdb, mailboxKeys(s.keys, calls[i].life.App), calls[i].args()...)
			}
		}
		answer(i, cmd)
	})
}

// runPipeline runs one script on mailboxes in one round trip. A pipelined EVALSHA has no fallback of its own, so the calls to
// servers that do not know the script are repeated once after loading it.
func (s *Store) runPipeline(ctx context.Context, sc *redis.Script, calls []call) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(calls))
	at := make([]int, len(calls))
	for i := range calls {
		at[i] = i
	}
	for attempt := 0; ; attempt++ {
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range at {
				cmds[i] = sc.EvalSha(ctx, p, mailboxKeys(s.keys, calls[i].life.App), calls[i].args()...)
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
		if err := sc.Load(ctx, s.rdb).Err(); err != nil {
			return nil, fmt.Errorf("load script: %w", err)
		}
	}
}
