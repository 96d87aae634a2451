package redisconn

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// claimWithin is how long WAIT of a claim waits for its replicas.
	claimWithin = 100 * time.Millisecond
	// claimPatience is how long claims are held in an outage of replicas, from its first claim on: after a failover the other
	// replicas need a moment to follow the new primary. It is less than the time that a run gives a call of its mailbox.
	claimPatience = 4 * time.Second
	// claimAnyway is how long no claim waits after one that waited in vain.
	claimAnyway = time.Second
)

// addClaimHook makes the answers of a client that claims work wait until n replicas have what was written before. So what a
// partner gets after a failover is not older than what it got before. If replicas are missing for longer than claimPatience, the
// work goes on without them: nothing that was accepted is lost by that, and a notification that comes twice does less harm than
// one that does not come.
//
// A claim writes, so Redis's WAIT has a write to wait for.
func addClaimHook(rdb redis.UniversalClient, n int) {
	switch c := rdb.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(newClaimHook(node, n)) })
	case *redis.Client:
		c.AddHook(newClaimHook(c, n))
	}
}

// claimHook is the hook of one server's client.
type claimHook struct {
	node *redis.Client
	n    int
	// turn has room for one: so one connection waits for all claims that are held.
	turn chan struct{}
	// missing is when the outage of replicas began, confirmed when the newest round that replicas confirmed began, and anyway the
	// time until which no claim waits. All are in ns; 0 means never.
	missing, confirmed, anyway atomic.Int64
}

func newClaimHook(node *redis.Client, n int) *claimHook {
	return &claimHook{node: node, n: n, turn: make(chan struct{}, 1)}
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
		if wait.Err() == nil && (wait.Val() >= int64(c.n) || c.holdClaim(ctx, next, cmds)) {
			c.missing.Store(0)
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

// holdClaim waits until replicas have what was written before now, and returns false if the outage lasts too long.
func (c *claimHook) holdClaim(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) bool {
	key, now := "", time.Now()
	for i := 0; i < len(cmds) && key == ""; i++ {
		key = firstKey(cmds[i])
	}
	c.missing.CompareAndSwap(0, now.UnixNano())
	end := time.Unix(0, c.missing.Load()).Add(claimPatience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-replicasSlack).Before(end) {
		end = deadline.Add(-replicasSlack)
	}
	for key != "" && time.Now().Before(end) {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		ok := c.confirmed.Load() >= now.UnixNano() || (time.Now().Before(end) && c.confirmRound(ctx, next, key))
		<-c.turn
		if ok {
			return true
		}
	}
	return false
}

// confirmRound reports whether replicas confirm all that was written before it. The caller has the turn.
func (c *claimHook) confirmRound(ctx context.Context, next redis.ProcessPipelineHook, key string) bool {
	began := time.Now()
	touched := redis.NewCmd(ctx, "eval", touch, 1, key)
	wait := redis.NewIntCmd(ctx, "wait", c.n, claimWithin.Milliseconds())
	if err := next(ctx, []redis.Cmder{touched, wait}); err != nil || wait.Val() < int64(c.n) {
		return false
	}
	c.confirmed.Store(began.UnixNano())
	return true
}
