package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// hangFor is how long a sick endpoint keeps a request before it hangs up.
const hangFor = 10 * time.Second

// isolated is a setting of the isolation scenario. Each phase tells tenants of its own, so that no
// phase finds tokens made in another.
type isolated struct {
	apps, healthy, blast, steady int
	pace                         time.Duration
}

func isolation(ctx context.Context, b *bench) error {
	cases := []isolated{{apps: 10, healthy: 5, blast: b.blast, steady: b.steady, pace: time.Second / perSecond}}
	if b.wide { // fewer changes, since each is told to 200
		cases = append(cases, isolated{apps: 200, healthy: 100, blast: b.blast / 10, steady: b.steady / 4, pace: time.Second / 5})
	}
	for _, c := range cases {
		if err := c.run(ctx, b); err != nil {
			return fmt.Errorf("%d of %d apps hang: %w", c.apps-c.healthy, c.apps, err)
		}
	}
	return nil
}

func (c isolated) run(ctx context.Context, b *bench) error {
	s, err := b.newStack(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.serve(ctx, "api,worker"); err != nil {
		return err
	}
	one := c.blast + c.steady
	if err := s.register(ctx, c.apps, 3*one, signing.ES256); err != nil {
		return err
	}
	// a first pass that does not count: else only the reference would pay for a cold start
	if _, err := c.phases(ctx, s, 2*one); err != nil {
		return err
	}
	well, err := c.phases(ctx, s, 0)
	if err != nil {
		return err
	}
	s.receivers.setHang(c.healthy, hangFor)
	sick, err := c.phases(ctx, s, one)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d of %d apps hang", c.apps-c.healthy, c.apps)
	b.add(newResult(fmt.Sprintf("%s: healthy ones' throughput, blast of %d", what, c.blast), "deliveries/s", sick.rate).beside(well.rate).ratioAtLeast(0.9))
	b.add(newResult(what+": healthy ones' p50", "ms", sick.lag.p50).beside(well.lag.p50))
	r := newResult(fmt.Sprintf("%s: healthy ones' p99 at %.0f/s", what, time.Second.Seconds()/c.pace.Seconds()), "ms", sick.lag.p99).beside(well.lag.p99)
	b.add(r.judge("ratio <= 1.2 or + 2 ms", r.Value <= max(1.2*well.lag.p99, well.lag.p99+2)))
	return nil
}

// phase is what healthy apps got.
type phase struct {
	lag  lag
	rate float64
}

// phases measures a steady stream and a blast. When endpoints hang, each of the two meets them
// with closed breakers and nothing waiting: that is when they can do most harm.
func (c isolated) phases(ctx context.Context, s *stack, offset int) (p phase, err error) {
	hanging := s.receivers.hang.Load() > 0
	s.epoch++
	t := s.receivers.expect(s.epoch, c.steady, 0, c.healthy, true)
	sent, err := s.steady(ctx, c.steady, offset, c.pace, nil)
	if err != nil {
		return p, err
	}
	if err := t.wait(ctx, t.done, patience); err != nil {
		return p, err
	}
	p.lag = t.lags(sent, 0, c.healthy)
	if err := c.recover(ctx, s, hanging); err != nil {
		return p, err
	}
	s.epoch++
	t = s.receivers.expect(s.epoch, c.blast, 0, c.healthy, false)
	start := time.Now()
	if err := s.publish(ctx, s.epoch, c.blast, offset+c.steady); err != nil {
		return p, err
	}
	if err := t.wait(ctx, t.done, patience); err != nil {
		return p, err
	}
	p.rate = float64(t.expected) / t.since(start).Seconds()
	s.b.say("hanging %v: healthy ones' p50 %.2f p99 %.2f ms, blast %.0f/s", hanging, p.lag.p50, p.lag.p99, p.rate)
	if !hanging {
		return p, s.awaitWaiting(ctx, 0)
	}
	n, err := s.redis.waiting(ctx, c.apps)
	if err == nil && n == 0 { // then the figures would say nothing
		err = errors.New("nothing waits for apps that were to hang")
	}
	return p, err
}

// recover lets the sick endpoints answer until nothing waits for them, then hang again.
func (c isolated) recover(ctx context.Context, s *stack, hanging bool) error {
	if hanging {
		s.receivers.setHang(c.healthy, 0)
		// what hangs still must be over before the gates are opened, or it closes them again
		if err := pause(ctx, hangFor+time.Second); err != nil {
			return err
		}
		for _, verb := range []string{"pause", "resume"} {
			if err := s.switchAll(ctx, c.healthy, c.apps, verb); err != nil {
				return err
			}
		}
	}
	if err := s.awaitWaiting(ctx, 0); err != nil {
		return err
	}
	if hanging {
		s.receivers.setHang(c.healthy, hangFor)
	}
	return nil
}
