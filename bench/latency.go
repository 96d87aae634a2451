package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// perSecond is how many changes the latency scenarios report.
const perSecond = 50

// lag is the time from a change sent to its arrival, in ms.
type lag struct{ p50, p99 float64 }

// steady reports changes one by one at an even pace, whether or not earlier ones have been
// answered, and returns when all were sent and answered. between runs half a pace after each.
func (s *stack) steady(ctx context.Context, samples, offset int, pace time.Duration, between func(sample int) error) ([]time.Time, error) {
	sent := make([]time.Time, samples)
	var mu sync.Mutex
	var failure error
	var calls sync.WaitGroup
	do := func(f func() error) {
		calls.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failure = err
			}
		})
	}
	start := time.Now()
	for n := range samples {
		if err := pause(ctx, time.Until(start.Add(time.Duration(n)*pace))); err != nil {
			return nil, err
		}
		do(func() error {
			body := []byte(change(s.epoch, n, offset))
			sent[n] = time.Now()
			_, err := s.call(ctx, http.StatusAccepted, http.MethodPost, "/v1/state-changes", typeJSON, body)
			return err
		})
		if between == nil {
			continue
		}
		if err := pause(ctx, time.Until(start.Add(time.Duration(n)*pace+pace/2))); err != nil {
			return nil, err
		}
		do(func() error { return between(n) })
	}
	calls.Wait()
	return sent, failure
}

// lags returns how long the samples took to reach the apps [from, to).
func (t *tally) lags(sent []time.Time, from, to int) lag {
	var all []float64
	for app := from; app < to; app++ {
		for n, start := range sent {
			at := t.arrivedAt[(app-t.from)*t.samples+n].Load()
			all = append(all, float64(at-start.UnixNano())/1e6)
		}
	}
	return lag{p50: percentile(all, 0.5), p99: percentile(all, 0.99)}
}

// latencyHeadline is the deployment whose latency is the median of several runs.
const latencyHeadline = "both roles in one process"

// latencies measures the path of a single change, and beside it a bare POST to the same receiver.
func latencies(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		name, fsync string
		roles       []string
		limit       float64
		wide        bool
	}{
		{latencyHeadline, "everysec", []string{"api,worker"}, 5, false},
		{"both roles in one process, AOF always", "always", []string{"api,worker"}, 5, true},
		{"api and worker apart", "everysec", []string{"api", "worker"}, 50, false},
	} {
		if c.wide && !b.wide {
			continue
		}
		var told, bare []lag
		rounds := b.latencyRounds
		if c.name != latencyHeadline { // what is not the headline is measured once
			rounds = 1
		}
		for round := range rounds {
			t, p, err := latency(ctx, b, c.fsync, c.roles)
			if err != nil {
				return err
			}
			b.say("latency, %s, run %d of %d: p50 %.2f p99 %.2f ms, bare POST p50 %.2f p99 %.2f ms", c.name, round+1, rounds, t.p50, t.p99, p.p50, p.p99)
			told, bare = append(told, t), append(bare, p)
		}
		p50, p99 := medians(told)
		bare50, bare99 := medians(bare)
		b.add(newResult("latency p50 at 50/s, "+c.name, "ms", p50).beside(bare50))
		r := newResult("latency p99 at 50/s, "+c.name, "ms", p99).beside(bare99)
		if c.limit == 5 {
			b.add(r.judge("<= 5 ms or bare POST + 5 ms", r.Value <= max(5, bare99+5)))
			continue
		}
		b.add(r.atMost(c.limit))
	}
	return nil
}

func medians(all []lag) (p50, p99 float64) {
	var a, b []float64
	for _, l := range all {
		a, b = append(a, l.p50), append(b, l.p99)
	}
	return median(a), median(b)
}

// latency is one run: app 0 is told by the service, app 1 by bare POSTs in between.
func latency(ctx context.Context, b *bench, fsync string, roles []string) (told, bare lag, err error) {
	s, err := b.newStack(ctx)
	if err != nil {
		return told, bare, err
	}
	defer s.stop()
	if err := s.redis.fsync(ctx, fsync); err != nil {
		return told, bare, err
	}
	for _, r := range roles {
		if _, err := s.serve(ctx, r); err != nil {
			return told, bare, err
		}
	}
	if err := s.register(ctx, 1, b.samples, signing.ES256); err != nil {
		return told, bare, err
	}
	s.epoch = 1
	t := s.receivers.expect(1, b.samples, 0, 2, true)
	post, sentBare := s.barePosts(ctx, b.samples)
	sent, err := s.steady(ctx, b.samples, 0, time.Second/perSecond, post)
	if err != nil {
		return told, bare, err
	}
	if err := t.wait(ctx, t.done, patience); err != nil {
		return told, bare, err
	}
	return t.lags(sent, 0, 1), t.lags(sentBare, 1, 2), nil
}

// barePosts returns a function that posts a body of a notification's size to app 1, and where it
// notes when.
func (s *stack) barePosts(ctx context.Context, samples int) (func(int) error, []time.Time) {
	sent := make([]time.Time, samples)
	padding := strings.Repeat("x", 500)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: inFlightPerApp}}
	return func(n int) error {
		body := fmt.Sprintf(`{"ChangeType":2,"VersionName":"%s","Token":"%s"}`, versionName(s.epoch, n), padding)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, appURL(1, s.receivers.port), bytes.NewReader([]byte(body)))
		if err != nil {
			return err
		}
		sent[n] = time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("bare POST: %w", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return err
	}, sent
}
