package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// What `make soak` may ask for with SOAKFLAGS. The defaults are the short form that every run of
// the tests makes.
var (
	soakFor         = flag.Duration("soak.for", 3*time.Second, "how long each variant is under load and faults, at least")
	soakRedis       = flag.String("soak.redis", "always,sentinel,cluster", "the variants of Redis to run on: always, everysec, sentinel, cluster; comma-separated")
	soakWorkerKills = flag.Int("soak.worker-kills", 3, "go on until so many workers were killed, for each variant")
	soakRedisKills  = flag.Int("soak.redis-kills", 1, "go on until Redis was killed so often, for each variant")
	soakRate        = flag.Int("soak.rate", 1500, "changes reported a second, at most")
	soakJSON        = flag.String("soak.json", "", "file for the figures")
)

// soakApps are the apps that take part: the steady ones are well, only slow now and then; the others
// misbehave in every way their turn brings.
const (
	soakSteady = 2
	soakSick   = 4
)

// soak is one variant's run.
type soak struct {
	*stack
	t       *testing.T
	variant string
	rdb     redis.UniversalClient // looks past every proxy
	rs      []*receiver
	sick    []*sickness
	truth   *truth
	load    *load
	workers []*process
	apis    []*process
	tally   *tally
}

// TestSoak runs the whole under load and faults of every kind at once, on each variant of Redis, and
// counts what was lost, told twice or told out of order.
func TestSoak(t *testing.T) {
	// who cuts connections need not read that they are cut
	redisconn.LogTo(slog.New(slog.DiscardHandler))
	var all []figures
	defer func() {
		t.Log("\n" + table(all))
		if err := writeFigures(*soakJSON, all); err != nil {
			t.Error(err)
		}
	}()
	for variant := range strings.SplitSeq(*soakRedis, ",") {
		t.Run(variant, func(t *testing.T) {
			all = append(all, runSoak(t, variant))
		})
	}
}

func runSoak(t *testing.T, variant string) figures {
	v := newVariant(t, variant)
	s := &soak{
		stack: newStackOn(t, v.url, v.settings...), t: t, variant: variant, truth: newTruth(), tally: &tally{counts: map[fault]int{}},
	}
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New(v.direct)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	s.rdb = rdb
	s.apis = []*process{s.serve("api"), s.another()}
	s.workers = []*process{s.serve("worker"), s.serve("worker")}
	names := tenantNames(1500)
	s.receivers(names)
	const reporters, batch = 4, 20
	s.load = s.pacedLoad(s.truth, names, reporters, batch, time.Second*reporters*batch/time.Duration(*soakRate))
	began := time.Now()
	s.rage(v)
	s.load.end(t)
	t.Logf("%s: the faults are over; waiting until everybody knows", variant)
	s.heal()
	out := s.judge(v.mayLose)
	out.Seconds = time.Since(began).Seconds()
	return out
}

// receivers starts and registers the apps.
func (s *soak) receivers(names []string) {
	for i := range soakSteady + soakSick {
		r := newReceiver(s.t, fmt.Sprintf("app%d", i+1))
		r.lean = true
		r.answer = slow
		if i >= soakSteady {
			d := &sickness{receiver: r, on: func(ctx context.Context) error { return s.switchOn(ctx, r) }}
			r.behave = d.behave
			s.sick = append(s.sick, d)
		}
		s.register(r, "ES256", names)
		s.rs = append(s.rs, r)
	}
}

// rage brings faults until the time is over and enough was killed.
func (s *soak) rage(v *variant) {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var lanes sync.WaitGroup
	failures := make(chan error, 32)
	lane := func(what string, step func(ctx context.Context) error) {
		lanes.Go(func() {
			for ctx.Err() == nil {
				// a fault that began is brought to its end, so that the next one meets a working whole
				if err := step(context.WithoutCancel(ctx)); err != nil {
					failures <- fmt.Errorf("%s: %w", what, err)
					return
				}
				pause(ctx, 200*time.Millisecond, 900*time.Millisecond)
			}
		})
	}
	for _, w := range s.workers {
		lane("worker", func(ctx context.Context) error { return s.hurtProcess(ctx, w, workerKilled, workerFrozen) })
	}
	lane("api", func(ctx context.Context) error {
		defer pause(ctx, 0, 2*time.Second)
		return s.hurtProcess(ctx, s.apis[rand.IntN(len(s.apis))], apiKilled, apiFrozen)
	})
	lane("redis", func(ctx context.Context) error { return v.hurt(ctx, s) })
	if v.network != nil {
		lane("network", func(ctx context.Context) error { return v.network.hurt(ctx, s) })
	}
	for _, d := range s.sick {
		lane("receiver", d.turn)
	}
	s.await(failures)
	cancel()
	lanes.Wait()
	select {
	case err := <-failures:
		s.t.Fatal(err)
	default:
	}
}

// await shows progress until enough has happened, and gives up where it never will.
func (s *soak) await(failures chan error) {
	began := time.Now()
	limit := 10**soakFor + 20*time.Second + time.Duration(*soakWorkerKills+10**soakRedisKills)*10*time.Second
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown := began
	for {
		select {
		case err := <-failures:
			s.t.Fatal(err)
		case <-s.t.Context().Done():
			s.t.Fatal("the test ended")
		case <-tick.C:
		}
		if err := s.load.error.Load(); err != nil {
			s.t.Fatal(*err)
		}
		took := time.Since(began)
		if took-shown.Sub(began) > 5*time.Second {
			shown = time.Now()
			s.t.Logf("%s: %v, %d changes accepted, %s", s.variant, took.Round(time.Second), s.load.sent.Load(), s.tally)
		}
		if took > *soakFor && s.tally.of(workerKilled) >= *soakWorkerKills && s.tally.of(redisKilled) >= *soakRedisKills {
			return
		}
		if took > limit {
			s.t.Fatalf("after %v there were only these faults: %s", took, s.tally)
		}
	}
}

// heal ends all that is wrong: processes that are not there, sick receivers, endpoints switched off.
func (s *soak) heal() {
	for _, p := range append(slices.Clone(s.workers), s.apis...) {
		if err := s.supervise(s.t.Context(), p); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, d := range s.sick {
		d.cure()
	}
	for _, r := range s.rs {
		if err := s.switchOn(s.t.Context(), r); err != nil {
			s.t.Fatal(err)
		}
	}
}

// switchOn switches a receiver's endpoint on, however long the API is away.
func (s *soak) switchOn(ctx context.Context, r *receiver) error {
	return until(ctx, patience, r.id+" is switched on", func() bool {
		status, _, err := s.try(ctx, http.MethodPut, "/v1/apps/"+r.id+"/endpoints/state_change", "application/json",
			[]byte(`{"url":"`+r.url+`","enabled":true}`))
		return err == nil && status == http.StatusOK
	})
}

// judge compares what every receiver heard last with the truth.
func (s *soak) judge(mayLose bool) figures {
	out := figures{Variant: s.variant, Changes: s.load.sent.Load(), Faults: s.tally.named()}
	s.quiet(s.rs...)
	deadline := time.Now().Add(time.Minute)
	for {
		out.Lost = 0
		for _, r := range s.rs {
			out.Lost += len(r.settled(s.truth))
		}
		if out.Lost == 0 || mayLose || time.Now().After(deadline) {
			break
		}
		wait(s.t, 100*time.Millisecond)
	}
	for i, r := range s.rs {
		r.mu.Lock()
		out.Notifications += r.posts
		out.OutOfOrder += len(r.backwards)
		out.Unverified += len(r.faults)
		out.Duplicates += r.duplicates
		if i < soakSteady {
			out.SteadyDuplicates += r.duplicates
		}
		if len(r.backwards)+len(r.faults) > 0 {
			s.t.Errorf("%s: out of order %v, not verified %v", r.id, r.backwards[:min(3, len(r.backwards))], r.faults[:min(3, len(r.faults))])
		}
		r.mu.Unlock()
		if missing := r.settled(s.truth); len(missing) > 0 && !mayLose {
			s.t.Errorf("%s was never told %d things, such as %s", r.id, len(missing), missing[0])
		}
	}
	if s.bound(&out); out.Unexplained > 0 && !mayLose {
		s.t.Errorf("the steady apps were told %d things twice, %d of them in flight at no fault", out.SteadyDuplicates, out.Unexplained)
	}
	if out.Lost > 0 { // which a weak Redis may: then a resync must tell the truth
		s.resync(s.rs...)
		s.quiet(s.rs...)
	}
	for name := range s.truth.newest {
		s.sameStatus(name, s.rs...)
	}
	return out
}

// pause waits for a random time in the range, or until ctx ends.
func pause(ctx context.Context, from, to time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(from + time.Duration(rand.Int64N(int64(to-from)))):
	}
}
