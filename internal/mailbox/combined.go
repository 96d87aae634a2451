package mailbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// BeginAndClaim is Begin and, in the same round trip, an Exchange that claims up to want tenants, or the probes if the circuit
// was open. Another process's call may come between the two. If the state is Owned and ExchangeResult.Owner is false, the claims
// are missing, and the caller must call Exchange.
//
// The revision of the settings is read last, in the same round trip if the commands of a round trip run in order. On a Cluster
// each node runs on its own; there an owner needs another round trip.
//
// Each of the two is atomic by itself. After an error the result of both is unknown: the caller repeats the call, and what the
// first call claimed is due again when its lease expires.
func (s *Store) BeginAndClaim(ctx context.Context, life Life, token string, gen int64, want int) (BeginResult, ExchangeResult, error) {
	var rev *redis.StringCmd
	read := func(c redis.Cmdable) { rev = c.Get(ctx, s.set.RevisionKey) }
	asked := s.set.RevisionKey != ""
	_, apart := s.rdb.(*redis.ClusterClient)
	var last func(redis.Cmdable)
	if asked && !apart {
		last = read
	}
	first, second, err := s.runPair(ctx, life, "take",
		scriptRun{s.scripts.begin, s.beginArgs(token, gen)}, scriptRun{s.scripts.exchange, s.exchangeArgs(token, want, nil)}, last)
	if err != nil {
		return BeginResult{}, ExchangeResult{}, err
	}
	b, err := s.decodeBegin(life.App, first)
	if err != nil || b.State != Owned {
		return b, ExchangeResult{}, err
	}
	x, err := decodeExchange(life.App, second)
	if err != nil || !asked {
		return b, x, err
	}
	if apart {
		read(s.rdb)
	}
	if b.SettingsRevision, err = rev.Int64(); err != nil && !errors.Is(err, redis.Nil) {
		return BeginResult{}, ExchangeResult{}, wrapError("take", life.App, fmt.Errorf("read the settings' revision in %s: %w", s.set.RevisionKey, err))
	}
	return b, x, nil
}

// SettleAndFinish is an Exchange that settles at most MaxBatch results and claims nothing and, in the same round trip, a Finish
// that keeps the mailbox while work is due. It may be repeated as they may. A Cluster that moves the slot at that moment may run
// the Finish alone. The repeat then settles the results without being the owner: deliveries count, and the other claims are due
// again when their lease expires.
func (s *Store) SettleAndFinish(ctx context.Context, life Life, token string, results []Settlement) (FinishResult, error) {
	if err := checkBatchSize("leave", life.App, len(results)); err != nil {
		return FinishResult{}, err
	}
	first, second, err := s.runPair(ctx, life, "leave",
		scriptRun{s.scripts.exchange, s.exchangeArgs(token, 0, results)}, scriptRun{s.scripts.finish, s.finishArgs(token, Closing{})}, nil)
	if err != nil {
		return FinishResult{}, err
	}
	if _, err := decodeExchange(life.App, first); err != nil {
		return FinishResult{}, err
	}
	return s.decodeFinish(life.App, second)
}

// loadFinishScripts loads the scripts of SettleAndFinish. Redis must never know finish without exchange: SettleAndFinish could
// then give the mailbox back without settling its results.
func (s *Store) loadFinishScripts(ctx context.Context) error {
	if err := s.scripts.exchange.Load(ctx, s.rdb).Err(); err != nil {
		return err
	}
	return s.scripts.finish.Load(ctx, s.rdb).Err()
}

// pairTries is how often a pair is sent if Redis does not know a script. After BeginLife, when the mailbox belonged to an earlier
// life, it counts from 0 again.
const pairTries = 3

// scriptRun is a script and its arguments.
type scriptRun struct {
	script *redis.Script
	args   []any
}

// runPair runs a, then b, on a mailbox in one round trip, and with them the commands that last adds, if any. b runs although a
// failed. If Redis does not know one of the scripts, runPair loads them and runs all again.
func (s *Store) runPair(ctx context.Context, life Life, what string, a, b scriptRun, last func(redis.Cmdable)) (first, second []any, err error) {
	app, box := life.App, mailboxKeys(s.keys, life.App)
	a.args, b.args = append([]any{life.Birth}, a.args...), append([]any{life.Birth}, b.args...)
	begun := false
	for attempt := 0; ; attempt++ {
		var cmds [2]*redis.Cmd
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			cmds[0], cmds[1] = a.script.EvalSha(ctx, p, box, a.args...), b.script.EvalSha(ctx, p, box, b.args...)
			if last != nil {
				last(p)
			}
			return nil
		})
		if attempt < pairTries-1 && (redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") || redis.HasErrorPrefix(cmds[1].Err(), "NOSCRIPT")) {
			for _, script := range []*redis.Script{a.script, b.script} { // in this order: see loadFinishScripts
				if err := script.Load(ctx, s.rdb).Err(); err != nil {
					return nil, nil, wrapError(what, app, err)
				}
			}
			continue
		}
		if !begun && isUnborn(cmds[0].Err()) {
			if err := s.BeginLife(ctx, life); err != nil {
				return nil, nil, err
			}
			begun, attempt = true, -1
			continue
		}
		if err != nil && (last == nil || cmds[0].Err() != nil || cmds[1].Err() != nil) { // errors of last's own commands are in their results
			return nil, nil, wrapError(what, app, err)
		}
		if first, err = cmds[0].Slice(); err != nil {
			return nil, nil, wrapError(what, app, err)
		}
		if second, err = cmds[1].Slice(); err != nil {
			return nil, nil, wrapError(what, app, err)
		}
		return first, second, nil
	}
}
