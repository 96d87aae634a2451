package redisconn

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// claimWithin is how long a claim waits for its replicas, and claimAnyway for how long none does after one that waited in vain.
	claimWithin = 100 * time.Millisecond
	claimAnyway = time.Second
)

// addClaimHook makes the answers of a client that claims work wait until n replicas have what was written before: what is told to
// a partner is then not older, after a failover, than what was told before it. Where replicas are missing the work goes on without
// them: nothing that was accepted is lost by that, and a partner that hears nothing is worse off than one that hears something twice.
//
// A call writes, so Redis' WAIT knows what for.
func addClaimHook(rdb redis.UniversalClient, n int) {
	switch c := rdb.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(&claimHook{node: node, n: n}) })
	case *redis.Client:
		c.AddHook(&claimHook{node: c, n: n})
	}
}

// claimHook is the hook of one server's client.
type claimHook struct {
	node *redis.Client
	n    int
	// anyway is until when nobody waits, in ns.
	anyway atomic.Int64
}

// DialHook changes nothing.
func (*claimHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook sends a command as a pipeline, which ProcessPipelineHook completes.
func (c *claimHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return sendAsPipeline(c.node, next)
}

// ProcessPipelineHook puts WAIT behind a pipeline.
func (c *claimHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		now := time.Now()
		if now.UnixNano() < c.anyway.Load() {
			return next(ctx, cmds)
		}
		wait := redis.NewIntCmd(ctx, "wait", c.n, claimWithin.Milliseconds())
		err := next(ctx, append(slices.Clip(cmds), wait))
		if wait.Err() == nil && wait.Val() >= int64(c.n) {
			return err
		}
		// Also where it is answered by what is a replica by now, which the commands are told by MOVED: whoever redirects them must
		// hear of that alone.
		c.anyway.Store(time.Now().Add(claimAnyway).UnixNano())
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				return cmd.Err()
			}
		}
		return nil
	}
}
