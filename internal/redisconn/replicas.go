package redisconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// replicasWithin is how long an answer waits for its replicas: many round trips to a working one, and less than ioTimeout,
	// after which the connection would be closed.
	replicasWithin = time.Second
	// replicasSlack is subtracted from the caller's own deadline, so that the answer still arrives: Redis checks ten times a
	// second for waits that have ended.
	replicasSlack = 150 * time.Millisecond
)

// ReplicasError reports an answer of Redis that too few replicas confirmed in time: what it wrote, or what it read, may be lost
// if the primary fails now. Repeating the call is safe, as for every call of the service.
type ReplicasError struct {
	// confirmed and asked count replicas.
	confirmed, asked int
}

// Error says what is missing.
func (e *ReplicasError) Error() string {
	return fmt.Sprintf("%d of %d replicas of redis confirmed it within %v (redis.wait_replicas)", e.confirmed, e.asked, replicasWithin)
}

// Replicas returns how many replicas confirmed, and how many were requested.
func (e *ReplicasError) Replicas() (confirmed, asked int) { return e.confirmed, e.asked }

// addReplicaHook makes every answer of a client wait until n replicas have the data on which it depends: what the command wrote,
// and what it read, which another client may have written a moment before. So a call that finds its work done waits like the call
// that did it.
//
// WAIT counts for the connection on which it is sent, so it follows the commands in the same pipeline: after a failover they fail
// together, and are repeated together. In a Cluster the hook is in the client of each node, below redirections, for the same
// reason. Since Redis 7.2 WAIT only considers the last write of its connection, and there may be none: so touch is sent before
// it.
func addReplicaHook(rdb redis.UniversalClient, n int) {
	switch c := rdb.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(&replicaHook{node: node, n: n}) })
	case *redis.Client:
		c.AddHook(&replicaHook{node: c, n: n})
	}
}

// touch increases the replication offset, whatever is stored, and changes nothing. It uses a key of the command before it. So in
// a Cluster it runs where that command ran, also while the slot is moving. It is sent as text, which costs less than a second
// round trip if Redis does not know it.
const touch = `local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  redis.call('SET', KEYS[1], '')
  redis.call('DEL', KEYS[1])
elseif left == -1 then
  redis.call('PEXPIRE', KEYS[1], 86400000)
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], left)
end
return 1`

// errTransaction refuses MULTI, because no WAIT can follow it in one pipeline.
var errTransaction = errors.New("a client that waits for replicas takes no transactions: use a script")

// replicaHook is the hook of one server's client.
type replicaHook struct {
	node *redis.Client
	n    int
}

// DialHook changes nothing.
func (*replicaHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook sends a command as a pipeline, which ProcessPipelineHook completes.
func (r *replicaHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return sendAsPipeline(r.node, next)
}

// sendAsPipeline sends a command that names a key as a pipeline to one server.
func sendAsPipeline(node *redis.Client, next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if firstKey(cmd) == "" {
			return next(ctx, cmd)
		}
		p := node.Pipeline()
		if err := p.Process(ctx, cmd); err != nil {
			return err
		}
		if _, err := p.Exec(ctx); err != nil && cmd.Err() == nil {
			return err
		}
		return cmd.Err()
	}
}

// ProcessPipelineHook adds touch and WAIT to a pipeline. If too few replicas confirm, each command that succeeded gets a
// ReplicasError beside its answer.
func (r *replicaHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		key, asking := "", false
		for _, cmd := range cmds {
			switch cmd.Name() {
			case "multi":
				return errTransaction
			case "asking":
				asking = true
			}
			if key == "" {
				key = firstKey(cmd)
			}
		}
		if key == "" {
			return next(ctx, cmds)
		}
		sent := slices.Clip(cmds)
		if asking { // the slot is moving to this node
			sent = append(sent, redis.NewStatusCmd(ctx, "asking"))
		}
		touched := redis.NewCmd(ctx, "eval", touch, 1, key)
		wait := redis.NewIntCmd(ctx, "wait", r.n, replicaTimeout(ctx).Milliseconds())
		err := next(ctx, append(sent, touched, wait))
		var short error
		switch {
		case touched.Err() != nil:
			short = fmt.Errorf("make replicas confirm: %w", touched.Err())
		case wait.Err() != nil:
			short = fmt.Errorf("wait for replicas: %w", wait.Err())
		case wait.Val() < int64(r.n):
			short = &ReplicasError{confirmed: int(wait.Val()), asked: r.n}
		default:
			return err
		}
		for _, cmd := range cmds {
			if cmd.Err() == nil && firstKey(cmd) != "" {
				cmd.SetErr(short)
			}
		}
		if err == nil {
			err = short
		}
		return err
	}
}

// replicaTimeout returns how long to wait for replicas: at least a millisecond, because 0 means for ever.
func replicaTimeout(ctx context.Context) time.Duration {
	d := replicasWithin
	if end, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(end)-replicasSlack)
	}
	return max(d, time.Millisecond)
}

// firstKey returns the first key of a command, "" for a command without keys, which waits for no replica. A command that is not
// listed here has its key first, as nearly all have.
func firstKey(cmd redis.Cmder) string {
	args, at := cmd.Args(), 1
	switch cmd.Name() {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro":
		if len(args) < 3 {
			return ""
		}
		if n, err := strconv.Atoi(fmt.Sprint(args[2])); err != nil || n == 0 {
			return ""
		}
		at = 3
	case "ping", "echo", "select", "auth", "hello", "client", "info", "time", "config", "script", "function", "wait", "publish",
		"cluster", "command", "asking", "readonly", "readwrite", "scan", "dbsize":
		return ""
	}
	if len(args) <= at {
		return ""
	}
	key, _ := args[at].(string)
	return key
}
