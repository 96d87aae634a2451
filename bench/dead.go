package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// refusedURL is an endpoint that nobody listens at.
const refusedURL = "http://127.9.9.9:1/"

// settleFor lets an outage become an old one: the first tries are over.
const settleFor = 12 * time.Second

// deadApp measures what an app that is down costs while its tenants wait.
func deadApp(ctx context.Context, b *bench) error {
	s, err := b.newStack(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.serve(ctx, "api,worker"); err != nil {
		return err
	}
	var lines bytes.Buffer
	for n := range b.dead {
		fmt.Fprintf(&lines, `{"tenant":"%s"}`+"\n", tenantName(n))
	}
	s.apps = 1
	if err := s.registerApp(ctx, 0, refusedURL, signing.ES256, lines.Bytes(), b.dead); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // let the last writes of the approvals pass
		return err
	}
	approved, err := s.redis.mailboxBytes(ctx, 0)
	if err != nil {
		return err
	}
	usedBefore, err := s.redis.infoField(ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	b.say("dead app: %d approvals; watching Redis idle for %v", b.dead, b.watch)
	idle, err := s.redis.watch(ctx, 0, b.watch)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, 1, b.dead, 0); err != nil {
		return err
	}
	if err := s.awaitWaiting(ctx, b.dead); err != nil {
		return err
	}
	b.say("dead app: %d wait; letting the outage settle, then watching Redis for %v", b.dead, b.watch)
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	return s.watchDead(ctx, idle, approved, usedBefore)
}

func (s *stack) watchDead(ctx context.Context, idle traffic, approved, usedBefore int64) error {
	b := s.b
	dead, err := s.redis.watch(ctx, 0, b.watch)
	if err != nil {
		return err
	}
	box, err := s.redis.mailboxBytes(ctx, 0)
	if err != nil {
		return err
	}
	used, err := s.redis.infoField(ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	n := float64(b.dead)
	name := fmt.Sprintf("dead app, %d tenants waiting: ", b.dead)
	b.add(newResult(name+"its Redis calls above idle", "calls/s", dead.calls-idle.calls).atMost(1))
	b.add(newResult(name+"all Redis commands, inner ones too", "commands/s", dead.all).beside(idle.all))
	b.add(newResult(name+"mailbox memory with approvals", "B/tenant", float64(box)/n).beside(float64(approved) / n).atMost(400))
	b.add(newResult(name+"all new memory, with records of changes", "B/tenant", float64(used-usedBefore)/n))
	return nil
}
