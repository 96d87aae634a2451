package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redisconn"
)

func (s *Service) connectRedis(ctx context.Context) (err error) {
	o := redisconn.Options{}
	if s.opts.Redis == nil {
		o = NewRedisOptions(s.cfg.Redis)
	}
	if s.redisCert, err = redisconn.NewCertificateCollector(o); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	faults := redisconn.NewFaultCounter(s.metrics)
	if s.rdb = s.opts.Redis; s.rdb != nil {
		s.durable, s.drains = s.rdb, s.rdb
		s.rdb.AddHook(faults)
		s.rdb.AddHook(&s.redisBlocker)
		return nil
	}
	redisconn.LogTo(s.log)
	o.Faults = faults
	rdb, err := redisconn.New(o)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	s.rdb, s.durable, s.owned = rdb, rdb, true
	s.rdb.AddHook(&s.redisBlocker)
	// Callers that wait long or are many have connections of their own, so that others find one.
	n := s.cfg.Redis.WaitReplicas
	drains := o
	if drains.ClaimReplicas = n; s.hasRole(RoleWorker) {
		if s.drains, err = redisconn.New(drains); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		s.drains.AddHook(&s.redisBlocker)
	}
	if o.WaitReplicas = n; n > 0 {
		if s.durable, err = redisconn.New(o); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		s.durable.AddHook(&s.redisBlocker)
	}
	return s.awaitRedis(ctx)
}

// NewRedisOptions makes the options of the settings for one connection to Redis.
func NewRedisOptions(c config.Redis) redisconn.Options {
	return redisconn.Options{
		URL: c.URL, Username: c.Username, Password: c.Password, SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, PoolSize: c.PoolSize, ClientName: "lamplighter",
	}
}

// CheckRedis reads the files that the Redis settings name, without connecting. It finds files that are unreadable,
// certificates that have ended, and files that do not go with redis.url.
func CheckRedis(c *config.Config) error {
	rdb, err := redisconn.New(NewRedisOptions(c.Redis))
	if err != nil {
		return err
	}
	return rdb.Close()
}

// queueNamespace is the prefix of the names of this deployment's queues.
func (s *Service) queueNamespace() string {
	return queue.FormatNamespace(s.cfg.Redis.Prefix, string(s.env))
}

// connectWithin is how long a start waits for Redis. It is longer than a failover.
const connectWithin = 30 * time.Second

func (s *Service) awaitRedis(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := s.verifyRedis(ctx)
		var known *redisconn.ConnectError
		if err == nil || errors.As(err, &known) && known.Permanent {
			return err
		}
		select {
		case <-tick.C:
			s.log.WarnContext(ctx, "redis does not answer yet", "err", err)
		case <-ctx.Done():
			return fmt.Errorf("redis did not answer within %v; check redis.url, that it runs, and whether its port speaks TLS: %w", connectWithin, err)
		}
	}
}

// verifyRedis checks whether Redis answers, accepts writes and is what redis.url says.
func (s *Service) verifyRedis(ctx context.Context) error {
	if err := s.rdb.Ping(ctx).Err(); err != nil && !redis.IsPermissionError(err) {
		return redisconn.Explain(err)
	}
	report, err := redisconn.Inspect(ctx, s.rdb)
	if err != nil {
		return err
	}
	return report.CheckUsable()
}

// WaivedChecks are the safety checks that the settings waive.
func WaivedChecks(c config.Redis) []redisconn.Check {
	out := make([]redisconn.Check, len(c.WaiveChecks))
	for i, w := range c.WaiveChecks {
		out[i] = redisconn.Check(w)
	}
	return out
}

// storeCheck reports what the watch knows of the store. It makes no call.
func (s *Service) storeCheck() httpapi.Check {
	c := httpapi.Check{Name: "store"}
	if words := s.watch.ChangedMessage(); words != "" {
		c.Err = errors.New(words)
	} else if s.watch.WentBack() {
		c.Warning = "the store went back: Redis lost acknowledged writes; a fast comparison is requested, and lamplighter store accept ends this warning"
	}
	return c
}

// storeFull returns how full Redis is, and whether partners' writes are refused to leave room for the platform's
// changes.
func (s *Service) storeFull() (percent int, full bool) {
	percent = s.monitor.MemoryPercent()
	return percent, percent >= httpapi.PartnersStopAt
}

// memoryCheck is the part of /readyz about memory: Redis still works when it is nearly full.
func memoryCheck(r redisconn.Report) httpapi.Check {
	c := httpapi.Check{Name: "redis_" + string(redisconn.CheckMemory)}
	if percent := int(100 * r.Fullness()); percent >= httpapi.PartnersStopAt {
		c.Warning = fmt.Sprintf("%d %% of maxmemory is used: partners' writes are refused from %d %% on, all writes at 100 %%; give Redis memory", percent, httpapi.PartnersStopAt)
	}
	return c
}

// readinessChecks runs the checks of /readyz.
func (s *Service) readinessChecks(ctx context.Context) []httpapi.Check {
	checks := []httpapi.Check{{Name: "redis", Err: redisconn.Explain(s.rdb.Ping(ctx).Err())}, s.storeCheck()}
	if s.opts.Unsafe || checks[0].Err != nil {
		return checks
	}
	report, err := redisconn.Inspect(ctx, s.rdb)
	if err != nil {
		return append(checks, httpapi.Check{Name: "redis_safety", Err: err})
	}
	problems := map[redisconn.Check]error{}
	for _, p := range report.Problems(WaivedChecks(s.cfg.Redis)...) {
		problems[p.Check] = errors.Join(problems[p.Check], errors.New(p.Explanation))
	}
	for _, c := range redisconn.Checks() {
		if c == redisconn.CheckMemory {
			checks = append(checks, memoryCheck(report))
			continue
		}
		checks = append(checks, httpapi.Check{Name: "redis_" + string(c), Err: problems[c]})
	}
	return checks
}

// redisPools are the connection pools for Redis.
func (s *Service) redisPools() []redisconn.PoolStatser {
	pools := []redisconn.PoolStatser{s.rdb}
	for _, other := range []redis.UniversalClient{s.durable, s.drains} {
		if other != nil && other != s.rdb {
			pools = append(pools, other)
		}
	}
	return pools
}
