package redisconn

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// replicasWithin is how long a write waits for its replicas: many round trips to one that is
	// well, and less than ioTimeout, by which the connection would be given up.
	replicasWithin = time.Second
	// replicasSlack is left of the caller's own deadline, so that the answer still arrives: Redis looks
	// for waits that are over ten times a second.
	replicasSlack = 150 * time.Millisecond
)

// ReplicasError reports a write that Redis took, but that too few replicas confirmed in time. It
// may be lost if the primary fails now. Repeating it is safe, as any call of the service is.
type ReplicasError struct {
	// confirmed and asked count replicas.
	confirmed, asked int
}

// Error says what is missing.
func (e *ReplicasError) Error() string {
	return fmt.Sprintf("%d of %d replicas of redis confirmed the write within %v (redis.wait_replicas)", e.confirmed, e.asked, replicasWithin)
}

// Replicas are how many replicas confirmed the write, and how many were asked for.
func (e *ReplicasError) Replicas() (confirmed, asked int) { return e.confirmed, e.asked }

// awaitReplicas makes every write of a client wait until n replicas have it.
//
// WAIT counts for the connection it is sent on, so it travels behind the write in one pipeline:
// after a failover the write and its WAIT fail together, and are repeated together. In a Cluster
// the hook sits in the client of each node, below redirections, for the same reason.
func awaitReplicas(rdb redis.UniversalClient, n int) {
	switch c := rdb.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(&replicas{node: node, n: n}) })
	case *redis.Client:
		c.AddHook(&replicas{node: c, n: n})
	}
}

// replicas is the hook of one server's client.
type replicas struct {
	node *redis.Client
	n    int
}

// DialHook changes nothing.
func (*replicas) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook sends a write as a pipeline, which ProcessPipelineHook completes.
func (r *replicas) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !writes(cmd) {
			return next(ctx, cmd)
		}
		p := r.node.Pipeline()
		if err := p.Process(ctx, cmd); err != nil {
			return err
		}
		if _, err := p.Exec(ctx); err != nil && cmd.Err() == nil {
			return err
		}
		return cmd.Err()
	}
}

// ProcessPipelineHook puts a WAIT behind a pipeline that writes. Where too few replicas confirm,
// each write that succeeded gets a ReplicasError.
func (r *replicas) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !anyWrites(cmds) {
			return next(ctx, cmds)
		}
		wait := redis.NewIntCmd(ctx, "wait", r.n, patience(ctx).Milliseconds())
		err := next(ctx, append(slices.Clip(cmds), wait))
		if wait.Err() == nil && wait.Val() >= int64(r.n) {
			return err
		}
		short := error(&ReplicasError{confirmed: int(wait.Val()), asked: r.n})
		if wait.Err() != nil {
			short = fmt.Errorf("wait for replicas: %w", wait.Err())
		}
		for _, cmd := range cmds {
			if cmd.Err() == nil && writes(cmd) {
				cmd.SetErr(short)
			}
		}
		if err == nil {
			err = short
		}
		return err
	}
}

// patience is how long to wait for replicas: at least a millisecond, because 0 would be for ever.
func patience(ctx context.Context) time.Duration {
	d := replicasWithin
	if end, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(end)-replicasSlack)
	}
	return max(d, time.Millisecond)
}

// writes reports whether a command may change something. It knows the commands that the service
// sends outside of MULTI, where WAIT means nothing; a script counts as a write.
func writes(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "eval", "evalsha", "sadd", "srem", "set", "setnx", "hset", "hdel", "zadd", "zrem", "del", "xadd":
		return true
	default:
		return false
	}
}

func anyWrites(cmds []redis.Cmder) bool { return slices.ContainsFunc(cmds, writes) }
