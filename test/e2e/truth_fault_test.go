//go:build soak

package e2e_test

import (
	"context"
	"strconv"
	"syscall"
	"time"
)

// What a truth soak does to Redis besides what TestSoak does.
const (
	replicaFrozen  fault = "replica frozen"
	writesPaused   fault = "writes paused"
	memoryFull     fault = "memory full"
	fewReplicas    fault = "too few replicas"
	keysForbidden  fault = "keys forbidden"
	scriptsRefused fault = "moments of refused scripts"
	answersVanish  fault = "moments of lost answers"
)

// pause waits for a random time in the range, or until ctx ends.
func (d *dice) pause(ctx context.Context, from, to time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d.between(from, to)):
	}
}

// hurtProcess kills a process of the service and starts it again, or freezes it for less than what is
// left of a claim's lease.
func (s *truthSoak) hurtProcess(ctx context.Context, d *dice, p *process, kill, freeze fault) {
	d.pause(ctx, time.Second, 5*time.Second)
	if ctx.Err() != nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.supervise(ctx, p); err != nil {
		s.t.Error(err)
		return
	}
	if d.oneIn(3) {
		_ = p.cmd.Process.Signal(syscall.SIGSTOP)
		d.pause(ctx, 100*time.Millisecond, 3*time.Second)
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		s.tally.add(freeze)
		return
	}
	p.kill()
	s.tally.add(kill)
	d.pause(ctx, 0, 500*time.Millisecond)
	if err := p.launch(); err != nil {
		s.t.Error(err)
	}
}

// hurtRedis kills Redis, or has it refuse writes for a moment.
func (s *truthSoak) hurtRedis(ctx context.Context, d *dice) {
	d.pause(ctx, 500*time.Millisecond, 3*time.Second)
	if ctx.Err() != nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	moment := func() { d.pause(ctx, 50*time.Millisecond, 800*time.Millisecond) }
	set := func(f fault, name, bad, good string) {
		_ = s.rdb.ConfigSet(ctx, name, bad).Err()
		moment()
		if err := s.rdb.ConfigSet(ctx, name, good).Err(); err != nil {
			s.t.Errorf("set %s back: %v", name, err)
		}
		s.tally.add(f)
	}
	switch d.intN(9) {
	case 0:
		s.redis.Kill()
		d.pause(ctx, 0, 500*time.Millisecond)
		if err := s.redis.Restart(); err != nil {
			s.t.Error(err)
		}
		s.tally.add(redisKilled)
	case 1, 2:
		s.replica.Freeze()
		d.pause(ctx, 300*time.Millisecond, 2500*time.Millisecond)
		s.replica.Thaw()
		s.tally.add(replicaFrozen)
	case 3:
		_ = s.rdb.Do(ctx, "CLIENT", "PAUSE", strconv.Itoa(100+d.intN(1500)), "WRITE").Err()
		moment()
		s.tally.add(writesPaused)
	case 4:
		set(memoryFull, "maxmemory", "1mb", "0")
	case 5:
		set(fewReplicas, "min-replicas-to-write", "9", "0")
	default: // the even tenants' keys, or all tenants'
		args := []any{"ACL", "SETUSER", "default", "resetkeys", "~asynq*", "~lamplighter:{config}*", "~lamplighter:{owed}*", "~lamplighter:{app*"}
		if d.oneIn(2) {
			args = append(args, "~lamplighter:{Cust*[13579]}*")
		}
		_ = s.rdb.Do(ctx, args...).Err()
		moment()
		if err := s.rdb.Do(ctx, "ACL", "SETUSER", "default", "allkeys").Err(); err != nil {
			s.t.Errorf("allow all keys again: %v", err)
		}
		s.tally.add(keysForbidden)
	}
}

// hurtCommands has some scripts refused, or run without that the answer comes.
func (s *truthSoak) hurtCommands(ctx context.Context, d *dice) {
	d.pause(ctx, 100*time.Millisecond, time.Second)
	replies := []string{
		"OOM command not allowed when used memory > 'maxmemory'.",
		"MOVED 3999 127.0.0.1:6381",
		"READONLY You can't write against a read only replica.",
		"LOADING Redis is loading the dataset in memory",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"NOPERM No permissions to access a key",
		"NOSCRIPT No matching script. Please use EVAL.",
		"CLUSTERDOWN The cluster is down",
		"NOREPLICAS Not enough good replicas to write.",
		"", "",
	}
	r := &refusal{percent: 1 + d.intN(30), all: d.oneIn(3), reply: replies[d.intN(len(replies))]}
	if r.reply == "" {
		r.percent = 1 + d.intN(5)
		s.tally.add(answersVanish)
	} else {
		s.tally.add(scriptsRefused)
	}
	s.proxy.refusal.Store(r)
	d.pause(ctx, 100*time.Millisecond, time.Second)
	s.proxy.refusal.Store(nil)
	if d.oneIn(6) {
		s.proxy.cut()
		s.tally.add(redisCut)
	}
}
