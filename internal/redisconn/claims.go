package redisconn

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// claimWithin is how long a claim waits for its replicas. claimAnyway is how long no claim waits after one that waited in
	// vain.
	claimWithin = 100 * time.Millisecond
	claimAnyway = time.Second
)

// addClaimHook makes the answers of a client that claims work wait until n replicas have what was written before. So what a
// partner gets after a failover is not older than what it got before. If replicas are missing, the work goes on without them:
// nothing that was accepted is lost by that, and a notification that comes twice does less harm than one that does not come.
//
// A claim writes, so Redis's WAIT has a write to wait for.
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
	// anyway is the time until which no claim waits, in ns.
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
		// This includes the case that a server answers that is a replica by now: the commands then have the error MOVED, and the
		// code that redirects them must get only that error.
		c.anyway.Store(time.Now().Add(claimAnyway).UnixNano())
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				return cmd.Err()
			}
		}
		return nil
	}
}
