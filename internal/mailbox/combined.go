package mailbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// BeginAndClaim is Begin and, in the same round trip, an Exchange that claims up to want tenants; where the
// endpoint's gate was closed, one. The claims count where the mailbox is owned: without them in
// Exchanged.Owner, which another process's call in between can bring about, the caller asks again.
//
// The revision of the settings is read last, in the same round trip where that is in order: not from a
// Cluster, whose nodes each go their own way. There it costs an owner another round trip.
//
// Each of the two is atomic by itself, and nothing is known of either on an error: the caller repeats
// the call, and what the first claimed comes back when its lease runs out.
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

// SettleAndFinish is an Exchange that hands in at most MaxBatch results and claims nothing and, in the same round
// trip, a Finish that stays where work is due. It may be repeated as they may. A Cluster that moves the
// slot right then may run the Finish alone: the repeat then hands in the results as a stranger's, and of
// those that are no deliveries the claims come back when their lease runs out.
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

// loadFinishScripts makes Redis know the scripts of Leave. A Redis that knows finish knows exchange: else Leave
// could give the mailbox up without its results.
func (s *Store) loadFinishScripts(ctx context.Context) error {
	if err := s.scripts.exchange.Load(ctx, s.rdb).Err(); err != nil {
		return err
	}
	return s.scripts.finish.Load(ctx, s.rdb).Err()
}

// pairTries is how often a pair is sent, where Redis does not know a script; once more as often where the
// mailbox belonged to an earlier life.
const pairTries = 3

// scriptRun is a script to run and what it is given.
type scriptRun struct {
	script *redis.Script
	args   []any
}

// runPair runs a, then b, on a mailbox in one round trip, with what last adds to it, if anything. b runs
// although a failed: it finds the mailbox as that left it. Where Redis does not know one of them, all is run
// again after it was told.
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
		if err != nil && (last == nil || cmds[0].Err() != nil || cmds[1].Err() != nil) { // last tells its own
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
