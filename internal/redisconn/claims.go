package redisconn

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
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
	// claimForgets is after how long without a claim that waited in vain an outage counts as another one.
	claimForgets = 30 * time.Second
)

// errServerChanged reports that another server answers than the one that took a claim: what it took may be lost.
var errServerChanged = errors.New("another server of redis answers than the one that took the claim")

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
	// turn has room for one: so one connection waits for all claims that are held. Its holder may use round, the newest one.
	turn  chan struct{}
	round claimRound

	mu sync.Mutex
	// began is when the outage of replicas began, and vain when its newest claim waited in vain. No claim waits until anyway.
	began, vain, anyway time.Time
}

// claimRound is one question whether replicas have all that was written before it.
type claimRound struct {
	began     time.Time
	confirmed bool
	// server is the identity of the server that was asked, empty if it does not tell.
	server string
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

// ProcessPipelineHook puts WAIT behind a pipeline that names a key. The commands of a new connection name none.
func (c *claimHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		key := ""
		for i := 0; i < len(cmds) && key == ""; i++ {
			key = firstKey(cmds[i])
		}
		if key == "" || c.skipsWaiting(time.Now()) {
			return next(ctx, cmds)
		}
		wait := redis.NewIntCmd(ctx, "wait", c.n, claimWithin.Milliseconds())
		err := next(ctx, append(slices.Clip(cmds), wait))
		switch {
		case wait.Err() != nil: // the commands failed, too, or a server answers that is a replica by now
			return firstError(cmds)
		case wait.Val() < int64(c.n):
			if lost := c.holdClaim(ctx, next, key); lost != nil {
				for _, cmd := range cmds {
					if cmd.Err() == nil {
						cmd.SetErr(lost)
					}
				}
				return lost
			}
			return firstError(cmds)
		}
		c.endOutage()
		return err
	}
}

// firstError is the error of a pipeline without its WAIT. The code that redirects commands must get only the commands' error, such
// as MOVED.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return cmd.Err()
		}
	}
	return nil
}

// holdClaim waits until replicas have what was written before now, or the outage lasts too long. It returns an error if the server
// that took the claim is not the primary any more.
func (c *claimHook) holdClaim(ctx context.Context, next redis.ProcessPipelineHook, key string) error {
	now := time.Now()
	end, server := c.noteOutage(now), ""
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-replicasSlack).Before(end) {
		end = deadline.Add(-replicasSlack)
	}
	for time.Now().Before(end) {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		var err error
		if c.round.began.Before(now) || !c.round.confirmed {
			c.round, err = c.askReplicas(ctx, next, key)
		}
		round := c.round
		<-c.turn
		var refused redis.Error
		switch {
		case errors.As(err, &refused): // it is a replica by now, or does not have the key's slot any more
			return err
		case err != nil:
			sleepContext(ctx, claimWithin)
			continue
		case server != "" && round.server != server:
			return errServerChanged
		case round.confirmed:
			c.endOutage()
			return nil
		}
		server = round.server
	}
	c.skipWaiting(time.Now())
	return nil
}

// askReplicas asks whether replicas have all that was written before. The caller has the turn.
func (c *claimHook) askReplicas(ctx context.Context, next redis.ProcessPipelineHook, key string) (claimRound, error) {
	round := claimRound{began: time.Now()}
	touched := redis.NewCmd(ctx, "eval", touch, 1, key)
	wait := redis.NewIntCmd(ctx, "wait", c.n, claimWithin.Milliseconds())
	info := redis.NewStringCmd(ctx, "info", "server")
	_ = next(ctx, []redis.Cmder{touched, wait, info})
	if err := cmp.Or(touched.Err(), wait.Err()); err != nil {
		return round, err
	}
	fields := map[string]string{}
	readInfo(fields, info.Val())
	round.confirmed, round.server = wait.Val() >= int64(c.n), fields["run_id"]
	return round, nil
}

// noteOutage notes that a claim was not confirmed, and returns until when claims are held.
func (c *claimHook) noteOutage(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vain.IsZero() || now.Sub(c.vain) > claimForgets {
		c.began = now
	}
	c.vain = now
	return c.began.Add(claimPatience)
}

// skipWaiting lets the claims of the next second go on without replicas, if the patience of the outage is used up.
func (c *claimHook) skipWaiting(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.began) >= claimPatience {
		c.anyway = now.Add(claimAnyway)
	}
}

func (c *claimHook) skipsWaiting(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.anyway)
}

func (c *claimHook) endOutage() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vain = time.Time{}
}
