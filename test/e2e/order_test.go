package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestBatchesThatFailInPart lets Redis refuse writes for moments while bodies of lines are reported, so that they
// fail in part, and repeats what failed: as the whole body under its key, or as the failed lines alone, in
// their order. The last line of each tenant must be its newest change, at receivers and by pull.
func TestBatchesThatFailInPart(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api,worker")
	names := tenantNames(24)
	rs := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2")}
	for _, r := range rs {
		s.register(r, "ES256", names)
	}
	refusing, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { refuseNowAndThen(refusing, t, s.redis) })
	tr := newTruth()
	var partly atomic.Int64
	var reporters sync.WaitGroup
	for n := range 4 { // each has tenants of its own: one change of a tenant at a time
		reporters.Go(func() {
			own := names[6*n : 6*n+6]
			p := &inOrder{stack: s, truth: tr, alone: n%2 == 1, last: map[string]int64{}, partly: &partly}
			for body := 0; body < 40 || (partly.Load() < 20 && body < 400); body++ {
				var changes []change
				for i := range 60 {
					changes = append(changes, change{own[i%len(own)], []int{0, 2, 3}[rand.IntN(3)]})
				}
				if err := p.report(t.Context(), fmt.Sprintf("r%d-%d", n, body), changes); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reporters.Wait()
	stop()
	work.Wait()
	if partly.Load() < 20 {
		t.Errorf("only %d bodies failed in part", partly.Load())
	}
	awaitSettled(t, tr, 30*time.Second, rs...)
	s.quiet(rs...)
	s.agree(tr, rs...)
	for _, r := range rs {
		r.healthy()
	}
	t.Logf("%d changes accepted, %d bodies failed in part", tr.changes, partly.Load())
}

// refuseNowAndThen has Redis refuse all writes for moments, until ctx ends.
func refuseNowAndThen(ctx context.Context, t *testing.T, p *redistest.Process) {
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr})
	defer func() { _ = rdb.Close() }()
	set := func(name, value string) {
		if err := rdb.ConfigSet(context.WithoutCancel(ctx), name, value).Err(); err != nil {
			t.Error(err)
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		name := []string{"min-replicas-to-write", "maxmemory"}[n%2]
		set(name, "1")
		pause(ctx, 0, 3*time.Millisecond)
		set(name, "0")
		pause(ctx, 0, 12*time.Millisecond)
	}
}

// inOrder reports bodies of lines and repeats them as docs/api.md asks for.
type inOrder struct {
	*stack
	truth *truth
	// alone is true where only what failed is sent again, under a new key.
	alone  bool
	last   map[string]int64
	partly *atomic.Int64
}

// report returns when every line is accepted. The error is one that is out of order, too.
func (p *inOrder) report(ctx context.Context, key string, changes []change) error {
	for try := 0; len(changes) > 0; try++ {
		var body strings.Builder
		for _, c := range changes {
			body.WriteString(c.json() + "\n")
		}
		k := key
		if p.alone {
			k = fmt.Sprint(key, "-", try)
		}
		status, answer, err := p.try(ctx, http.MethodPost, "/v1/state-changes", "application/x-ndjson", []byte(body.String()), "Idempotency-Key", k)
		if err != nil || status != http.StatusOK {
			if ctx.Err() != nil {
				return fmt.Errorf("report: status %d: %w", status, ctx.Err())
			}
			pause(ctx, time.Millisecond, 10*time.Millisecond)
			continue
		}
		left, err := p.take(changes, answer)
		if err != nil {
			return fmt.Errorf("body %s, try %d: %w", key, try, err)
		}
		if len(left) > 0 && len(left) < len(changes) {
			p.partly.Add(1)
		}
		if p.alone || len(left) == 0 {
			changes = left
		}
	}
	return nil
}

// take reads the answers and returns the changes that were not accepted.
func (p *inOrder) take(changes []change, answer []byte) (left []change, err error) {
	failed := map[string]bool{}
	seen := map[string]int64{}
	n := 0
	for l := range strings.Lines(string(answer)) {
		var a struct {
			Line, Status int
			Sequence     int64
		}
		if err := json.Unmarshal([]byte(l), &a); err != nil || a.Line != n+1 {
			return nil, fmt.Errorf("answer %d is %q: %w", n+1, l, err)
		}
		c := changes[n]
		n++
		switch {
		case a.Status != http.StatusAccepted:
			failed[c.tenant] = true
			left = append(left, c)
		case failed[c.tenant]:
			return nil, fmt.Errorf("line %d of %s was accepted behind one that failed", n, c.tenant)
		case a.Sequence <= seen[c.tenant]:
			return nil, fmt.Errorf("line %d of %s has sequence %d, an earlier line %d", n, c.tenant, a.Sequence, seen[c.tenant])
		default:
			seen[c.tenant] = a.Sequence
			if !p.alone && a.Sequence <= p.last[c.tenant] {
				continue // a repeat
			}
			if a.Sequence <= p.last[c.tenant] {
				return nil, fmt.Errorf("line %d of %s has sequence %d, an earlier change %d", n, c.tenant, a.Sequence, p.last[c.tenant])
			}
			p.last[c.tenant] = a.Sequence
			p.truth.accepted(c.tenant, c.kind, a.Sequence)
		}
	}
	left = append(left, changes[n:]...)
	for name, sequence := range seen {
		if len(left) == 0 && sequence != p.last[name] {
			return nil, fmt.Errorf("the last line of %s has sequence %d, an earlier change %d", name, sequence, p.last[name])
		}
	}
	return left, nil
}
