//go:build soak

package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// What `make soak` asks for with TRUTHFLAGS. The defaults are the short form that every run of the tests makes.
var (
	truthFor   = flag.Duration("truth.for", 10*time.Second, "how long each seed of TestTruthSoak runs under changes and faults")
	truthSeeds = flag.Int("truth.seeds", 1, "how many seeds TestTruthSoak runs, one after the other")
	truthSeed  = flag.Uint64("truth.seed", 0, "the first seed of TestTruthSoak; 0 draws one")
	truthCalm  = flag.Bool("truth.calm", false, "run TestTruthSoak without faults, to judge the judge")
)

// charge is what a truth soak found wrong.
type charge string

const (
	lost           charge = "lost"
	backAtReceiver charge = "backwards at a receiver"
	backAtIntake   charge = "backwards at intake"
	wrongStatus    charge = "another change than the source's"
	falseInStep    charge = "false in_step"
	neverInStep    charge = "never in step"
	foreign        charge = "told without consent"
	pullDiffers    charge = "pull differs"
	badAnswer      charge = "wrong answer"
)

// truthSoak is one seed's run: a source that keeps the documented rules reports changes of each kind of
// call while everything fails that can, apps come and go, and consent is given and taken back. What the
// source said is compared with what receivers heard and when, with the pull, and with each in_step.
type truthSoak struct {
	*soak
	t       *testing.T
	dice    *dice
	proxy   *faultProxy
	replica *redistest.Process
	hanging string
	tenants []*history
	apps    []*truthApp

	mu      sync.Mutex
	counts  map[string]int64
	charges map[charge][]string
	recent  []postingLine
}

func (s *truthSoak) count(what string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what] += n
}

func (s *truthSoak) charge(c charge, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.charges[c] = append(s.charges[c], time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// offer gives an accepted change to those who ask who knows of it.
func (s *truthSoak) offer(l postingLine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent = append(s.recent, l); len(s.recent) > 300 {
		s.recent = s.recent[len(s.recent)-200:]
	}
}

// TestTruthSoak holds everything that the service says against what the source said, under faults of every
// kind. Run more of it with -truth.seeds, and one of them again with -truth.seed.
func TestTruthSoak(t *testing.T) {
	redisconn.LogTo(slog.New(slog.DiscardHandler))
	first := *truthSeed
	if first == 0 {
		first = 1 + rand.Uint64N(1e6)
	}
	for seed := first; seed < first+uint64(*truthSeeds); seed++ { //nolint:gosec // a few
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runTruthSoak(t, seed) })
	}
}

func runTruthSoak(t *testing.T, seed uint64) {
	s := newTruthSoak(t, seed)
	s.rage(seed)
	began := time.Now()
	s.settle()
	s.judge()
	s.closing()
	var found []string
	for _, c := range []charge{lost, backAtReceiver, backAtIntake, wrongStatus, falseInStep, neverInStep, foreign, pullDiffers, badAnswer} {
		all := s.charges[c]
		found = append(found, fmt.Sprintf("%s %d", c, len(all)))
		if len(all) > 0 {
			t.Errorf("%s, %d times, such as\n  %s", c, len(all), strings.Join(all[:min(5, len(all))], "\n  "))
		}
	}
	var counts []string
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		counts = append(counts, fmt.Sprintf("%s %d", what, s.counts[what]))
	}
	t.Logf("seed %d, %v: %s; %s; scripts refused %d, answers lost %d, %s; judged in %v", seed, *truthFor, strings.Join(found, ", "),
		strings.Join(counts, ", "), s.proxy.refused.Load(), s.proxy.lost.Load(), s.tally, time.Since(began).Round(100*time.Millisecond))
}

func newTruthSoak(t *testing.T, seed uint64) *truthSoak {
	primary := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	replica := redistest.StartReplica(t, primary)
	s := &truthSoak{
		t: t, dice: newDice(seed, 0), replica: replica, counts: map[string]int64{}, charges: map[charge][]string{},
		proxy: newFaultProxy(t, primary.Addr, newDice(seed, 1)),
	}
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(s.dice.between(300*time.Millisecond, 2*time.Second)): // its slowness
		}
	}))
	t.Cleanup(hanging.Close)
	s.hanging = hanging.URL + "/quotes"
	s.soak = &soak{
		stack: newStackOn(t, "redis://"+s.proxy.addr+"/0", "LAMPLIGHTER_REDIS_WAIT_REPLICAS=1"),
		t:     t, tally: &tally{counts: map[fault]int{}},
	}
	s.redis = primary
	rdb := redis.NewClient(&redis.Options{Addr: primary.Addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	s.rdb = rdb
	s.soak.apis = []*process{s.serve("api"), s.another()}
	s.workers = []*process{s.serve("worker"), s.serve("worker")}
	for i, name := range tenantNames(120) {
		s.tenants = append(s.tenants, &history{name: name, quiet: i%10 == 0, counted: i%10 == 5})
	}
	for i, a := range []*truthApp{{}, {restless: true}, {mortal: true}, {mortal: true, restless: true}} {
		a.id, a.flying, a.idle = fmt.Sprintf("app%d", i+1), map[string]int{}, nil
		a.idle = sync.NewCond(&a.mu)
		s.apps = append(s.apps, a)
		s.make(t.Context(), s.dice, a)
		var names []string
		for _, h := range s.tenants {
			if i == 0 || !s.dice.oneIn(4) {
				names = append(names, h.name)
			}
		}
		s.approve(t.Context(), s.dice, a, names, true)
	}
	return s
}

// rage runs all lanes until the time is over. What a lane began it brings to its end.
func (s *truthSoak) rage(seed uint64) {
	ctx, cancel := context.WithTimeout(s.t.Context(), *truthFor)
	defer cancel()
	var lanes sync.WaitGroup
	number := uint64(1)
	lane := func(step func(ctx context.Context, d *dice)) {
		number++
		d := newDice(seed, number)
		lanes.Go(func() {
			for ctx.Err() == nil {
				step(ctx, d)
			}
		})
	}
	const reporters, flippers = 4, 2
	for i := range reporters {
		n := len(s.tenants) / reporters
		lane(func(ctx context.Context, d *dice) {
			(&reporter{truthSoak: s, dice: d, mine: s.tenants[i*n : (i+1)*n], name: fmt.Sprintf("r%d", i)}).run(ctx)
		})
	}
	for i := range flippers {
		var names []string
		for at, h := range s.tenants {
			if at%flippers == i {
				names = append(names, h.name)
			}
		}
		lane(func(ctx context.Context, d *dice) {
			s.flip(context.WithoutCancel(ctx), d, names)
			d.pause(ctx, 5*time.Millisecond, 60*time.Millisecond)
		})
	}
	for _, a := range s.apps {
		if a.mortal || a.restless {
			lane(func(ctx context.Context, d *dice) { s.own(ctx, d, a) })
		}
	}
	lane(s.ask)
	if !*truthCalm {
		for _, w := range s.workers {
			lane(func(ctx context.Context, d *dice) { s.hurtProcess(ctx, d, w, workerKilled, workerFrozen) })
		}
		lane(func(ctx context.Context, d *dice) {
			s.hurtProcess(ctx, d, s.soak.apis[d.intN(2)], apiKilled, apiFrozen)
		})
		lane(s.hurtRedis)
		lane(s.hurtCommands)
	}
	lanes.Wait()
}

// ask asks who knows of a change, and holds a yes against what receivers had heard.
func (s *truthSoak) ask(ctx context.Context, d *dice) {
	d.pause(ctx, 2*time.Millisecond, 15*time.Millisecond)
	s.mu.Lock()
	n := len(s.recent)
	if n == 0 {
		s.mu.Unlock()
		return
	}
	l := s.recent[n-1-d.intN(min(n, 60))]
	s.mu.Unlock()
	id := fmt.Sprintf("chg_%s_%d", l.of.name, l.sequence)
	status, b := s.once(ctx, time.Minute, http.MethodGet, "/v1/state-changes/"+id, "", nil)
	got := time.Now()
	var k struct {
		InStep bool `json:"in_step"`
	}
	if status != http.StatusOK || json.Unmarshal(b, &k) != nil {
		if !passing(status) {
			s.charge(badAnswer, "GET of change %s: %d %s", id, status, tail(b, 200))
		}
		return
	}
	s.count("in_step asked", 1)
	if k.InStep {
		s.judgeInStep(l, got, string(tail(b, 600)))
	}
}

// judgeInStep judges a yes that came at a time.
func (s *truthSoak) judgeInStep(l postingLine, got time.Time, answer string) {
	facts := l.of.all()
	at := slices.IndexFunc(facts, func(f fact) bool { return f.sequence == l.sequence })
	if at < 0 {
		return
	}
	for _, a := range s.apps {
		if seq, judged := a.told(l.of.name, facts[at].sent, got); judged {
			s.count("in_step true and judged", 1)
			if seq < l.sequence {
				s.charge(falseInStep, "%s %d of %s: %s had been told up to %d; heads %s; the answer ends %s", words[l.kind], l.sequence, l.of.name, a.id, seq,
					s.describe(l.of), answer)
			}
		}
	}
}

// told is the highest sequence of a tenant that the app had heard at a time. It is judged only where the
// app was there, heard and had the tenant's consent for sure from before a change was sent until now.
func (a *truthApp) told(name string, sent, at time.Time) (seq int64, judged bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.life
	p := l.pairs[name]
	if !a.alive || l.made.After(sent) || l.hears.IsZero() || l.hears.After(sent) || p == nil || !p.sure || !p.stands || p.given.After(sent) {
		return 0, false
	}
	for _, h := range l.heard[name] {
		if !h.at.After(at) {
			seq = max(seq, h.sequence)
		}
	}
	return seq, true
}
