package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const env = "stage"

// each runs f on both servers.
func each(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, f)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heard is what handlers were called with, in short.
type heard struct {
	mu   sync.Mutex
	list []string
	err  error
}

func (h *heard) add(parts ...any) error {
	b, err := json.Marshal(parts)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, string(b))
	return h.err
}

func (h *heard) has(want ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	got := strings.Join(h.list, "\n")
	for _, w := range want {
		if !strings.Contains(got, w) {
			return false
		}
	}
	return len(h.list) >= len(want)
}

func (h *heard) handlers() queue.Handlers {
	return queue.Handlers{
		Fanout: func(_ context.Context, ts []tenant.ID) error { return h.add("fanout", ts) },
		Drain: func(_ context.Context, app partner.ClientID, generation int64) error {
			return h.add("drain", app, generation)
		},
		ForwardMail: func(_ context.Context, app partner.ClientID, mail string) error { return h.add("mail", app, mail) },
		SendMail:    func(_ context.Context, recipient string) error { return h.add("post", recipient) },
		Resync:      func(_ context.Context, app partner.ClientID) error { return h.add("resync", app) },
		Probe: func(_ context.Context, app partner.ClientID, k partner.EndpointKind) error {
			return h.add("probe", app, k)
		},
	}
}

// serve runs a server until the test ends.
func serve(t *testing.T, rdb redis.UniversalClient, h queue.Handlers, log *slog.Logger) *queue.Server {
	t.Helper()
	s := queue.NewServer(rdb, h, queue.ServerOptions{
		Namespace: env, Poll: 10 * time.Millisecond, ShutdownTimeout: 5 * time.Second, Drainers: 4, Probers: 4, Log: log,
	})
	check(t, s.Start())
	t.Cleanup(s.Shutdown)
	return s
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func info(t testing.TB, rdb redis.UniversalClient, k queue.Kind) *asynq.QueueInfo {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	known, err := inspector.Queues()
	check(t, err)
	if !slices.Contains(known, queue.AsynqName(env, k)) {
		return &asynq.QueueInfo{}
	}
	i, err := inspector.GetQueueInfo(queue.AsynqName(env, k))
	check(t, err)
	return i
}

func TestNames(t *testing.T) {
	t.Parallel()
	got := map[queue.Kind]string{}
	for _, k := range queue.AllKinds() {
		got[k] = queue.AsynqName(queue.FormatNamespace("lamplighter", "online"), k)
	}
	want := map[queue.Kind]string{
		queue.Fanout: "lamplighter-online-fanout", queue.Drain: "lamplighter-online-drain", queue.ForwardMail: "lamplighter-online-mail",
		queue.Resync: "lamplighter-online-fanout", queue.SendMail: "lamplighter-online-mail", queue.Probe: "lamplighter-online-probe",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// enqueueResync leaves a task as older versions do, which made no jobs.
func enqueueResync(t *testing.T, rdb redis.UniversalClient, app partner.ClientID) {
	t.Helper()
	_, err := asynq.NewClientFromRedisClient(rdb).EnqueueContext(t.Context(), asynq.NewTask(string(queue.Resync), []byte(`{"app":"`+string(app)+`"}`)),
		asynq.Queue(queue.AsynqName(env, queue.Resync)), asynq.TaskID(string(app)+":1795991731240"), asynq.MaxRetry(5), asynq.Timeout(2*time.Minute))
	check(t, err)
}

// What is enqueued reaches its handler whole, and nothing of another environment does.
func TestRoundTrips(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		c, other := queue.NewClient(rdb, env), queue.NewClient(rdb, "online")
		check(t, other.EnqueueDrain(ctx, "stranger", 1, 0))
		check(t, c.EnqueueFanout(ctx, "id1", []tenant.ID{"Cust1", "Cust_2-x"}))
		check(t, c.EnqueueDrain(ctx, "app.1", 1795449600000, 0))
		check(t, c.EnqueueForwardMail(ctx, "app.1", "inc_1:opened", 3))
		check(t, c.EnqueueSendMail(ctx, "0123abcd", 9, 0))
		enqueueResync(t, rdb, "app.1")
		check(t, c.EnqueueProbe(ctx, "app.1", partner.Mirroring, time.Now().Add(-time.Second)))
		h := &heard{}
		serve(t, rdb, h.handlers(), discard())
		redistest.Eventually(t, 10*time.Second, "every handler is called", func() bool {
			return h.has(`["fanout",["Cust1","Cust_2-x"]]`, `["drain","app.1",1795449600000]`, `["mail","app.1","inc_1:opened"]`, `["post","0123abcd"]`, `["resync","app.1"]`, `["probe","app.1","mirroring"]`)
		})
		redistest.Eventually(t, 10*time.Second, "the tasks are gone", func() bool {
			return info(t, rdb, queue.Fanout).Size+info(t, rdb, queue.Drain).Size+info(t, rdb, queue.ForwardMail).Size == 0
		})
		if h.has("stranger") {
			t.Error("a task of another environment was taken")
		}
	})
}

// The same wake-up is one task, and a repeat of it no error; another generation, mail attempt or
// id is another.
func TestRepeats(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		c := queue.NewClient(rdb, env)
		later := time.Now().Add(time.Minute)
		for range 3 {
			check(t, c.EnqueueDrain(ctx, "app1", 7, 0))
			check(t, c.EnqueueDrain(ctx, "app1", 7, time.Minute))
			check(t, c.EnqueueDrain(ctx, "app1", 8, time.Minute))
			check(t, c.EnqueueDrain(ctx, "app2", 7, 0))
			check(t, c.EnqueueFanout(ctx, "x", []tenant.ID{"a"}))
			check(t, c.EnqueueFanout(ctx, "y", []tenant.ID{"a"}))
			check(t, c.EnqueueForwardMail(ctx, "app1", "m", 1))
			check(t, c.EnqueueForwardMail(ctx, "app1", "m", 2))
			check(t, c.EnqueueProbe(ctx, "app1", partner.ERPSync, later))
			check(t, c.EnqueueProbe(ctx, "app1", partner.Mirroring, later))
			check(t, c.EnqueueProbe(ctx, "app1", partner.Mirroring, later.Add(time.Minute)))
		}
		if p := info(t, rdb, queue.Probe); p.Scheduled != 3 {
			t.Errorf("%d probes", p.Scheduled)
		}
		d, f, m := info(t, rdb, queue.Drain), info(t, rdb, queue.Fanout), info(t, rdb, queue.ForwardMail)
		if d.Pending != 2 || d.Scheduled != 1 || f.Pending != 2 || m.Pending != 2 {
			t.Errorf("drains %d and %d, fan-outs %d, mails %d", d.Pending, d.Scheduled, f.Pending, m.Pending)
		}
	})
}

// asynq keeps whole seconds; a wake-up must not come before its time, nor a second late.
func TestDelaysAreRoundedUp(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		c := queue.NewClient(rdb, env)
		for i, delay := range []time.Duration{time.Millisecond, 999 * time.Millisecond, time.Second, 1001 * time.Millisecond, time.Minute + 1} {
			before := time.Now()
			check(t, c.EnqueueDrain(t.Context(), "app1", int64(i+1), delay))
			after := time.Now()
			got, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(queue.AsynqName(env, queue.Drain), "app1:"+string(rune('1'+i)))
			check(t, err)
			at := got.NextProcessAt
			if got.State != asynq.TaskStateScheduled || at.Before(before.Add(delay)) || !at.Before(after.Add(delay+time.Second)) || at.Nanosecond() != 0 {
				t.Errorf("%v after %v: %v (%v)", delay, before, at, got.State)
			}
			if got.MaxRetry != 5 || got.Timeout != 2*time.Minute || got.Retention != 0 {
				t.Errorf("retry %d, timeout %v, retention %v", got.MaxRetry, got.Timeout, got.Retention)
			}
		}
		check(t, c.EnqueueDrain(t.Context(), "app1", 99, -time.Hour))
		if n := info(t, rdb, queue.Drain).Pending; n != 1 {
			t.Errorf("%d are due at once", n)
		}
	})
}

// A task of another version wakes nothing and is not tried again.
func TestBadPayloads(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		var log syncBuffer
		h := &heard{}
		serve(t, rdb, h.handlers(), slog.New(slog.NewTextHandler(&log, nil)))
		raw := asynq.NewClientFromRedisClient(rdb)
		n := 0
		for _, k := range queue.AllKinds() {
			for _, p := range []string{"", "no json", "{}", "null", `{"app":7}`, `{"app":"","tenants":[],"mail":""}`} {
				n++
				if _, err := raw.EnqueueContext(t.Context(), asynq.NewTask(string(k), []byte(p)), asynq.Queue(queue.AsynqName(env, k)), asynq.MaxRetry(5)); err != nil {
					t.Fatal(err)
				}
			}
		}
		redistest.Eventually(t, 20*time.Second, "all were dropped", func() bool {
			a := 0
			for _, k := range []queue.Kind{queue.Fanout, queue.Drain, queue.ForwardMail, queue.Probe} {
				i := info(t, rdb, k)
				a += i.Archived - i.Retry
			}
			return a == n
		})
		if len(h.list) != 0 {
			t.Errorf("handled: %v", h.list)
		}
		if got := strings.Count(log.String(), "queue task dropped"); got != n {
			t.Errorf("%d of %d were told of", got, n)
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := &heard{err: errors.New("redis away")}
		var log syncBuffer
		serve(t, rdb, h.handlers(), slog.New(slog.NewTextHandler(&log, nil)))
		check(t, queue.NewClient(rdb, env).EnqueueDrain(t.Context(), "app1", 1, 0))
		redistest.Eventually(t, 20*time.Second, "the task is handled again", func() bool {
			return h.has(`["drain","app1",1]` + "\n" + `["drain","app1",1]`)
		})
		if !strings.Contains(log.String(), "redis away") {
			t.Error("nobody is told")
		}
	})
}

// Stop takes no more; what runs goes on, and Shutdown waits for it.
func TestStop(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		started, release, ended := make(chan struct{}, 10), make(chan struct{}), make(chan struct{}, 10)
		h := queue.Handlers{Drain: func(context.Context, partner.ClientID, int64) error {
			started <- struct{}{}
			<-release
			ended <- struct{}{}
			return nil
		}}
		s := serve(t, rdb, h, discard())
		c := queue.NewClient(rdb, env)
		check(t, c.EnqueueDrain(t.Context(), "app1", 1, 0))
		<-started
		s.Stop()
		check(t, c.EnqueueDrain(t.Context(), "app1", 2, 0))
		down := make(chan struct{})
		go func() {
			s.Shutdown()
			close(down)
		}()
		select {
		case <-down:
			t.Fatal("did not wait for a handler")
		case <-time.After(300 * time.Millisecond):
		}
		close(release)
		<-down
		if len(ended) != 1 || len(started) != 0 {
			t.Errorf("%d handlers ended, %d began after Stop", len(ended), len(started))
		}
		if n := info(t, rdb, queue.Drain).Pending; n != 1 {
			t.Errorf("%d tasks are left for another process", n)
		}
		s.Stop()
		s.Shutdown()
	})
}

// Handlers that do not end are left behind when the time is up, and their task is not lost.
func TestShutdownGivesUp(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		started, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		s := queue.NewServer(rdb, queue.Handlers{Drain: func(context.Context, partner.ClientID, int64) error {
			close(started)
			<-release
			return nil
		}}, queue.ServerOptions{Namespace: env, Poll: 10 * time.Millisecond, ShutdownTimeout: 200 * time.Millisecond, Drainers: 1, Log: discard()})
		check(t, s.Start())
		check(t, queue.NewClient(rdb, env).EnqueueDrain(t.Context(), "app1", 1, 0))
		<-started
		begun := time.Now()
		s.Shutdown()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if i := info(t, rdb, queue.Drain); i.Size != 1 {
			t.Errorf("%+v", i)
		}
	})
}

func TestStartTwiceAndStopUnstarted(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	idle := queue.NewServer(rdb, queue.Handlers{}, queue.ServerOptions{Namespace: env, Poll: time.Second, Drainers: 1, Log: discard()})
	idle.Stop()
	idle.Shutdown()
	s := serve(t, rdb, (&heard{}).handlers(), discard())
	if err := s.Start(); err == nil {
		t.Error("started twice")
	}
}

func TestEnqueueFails(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	_ = rdb.Close()
	err := queue.NewClient(rdb, env).EnqueueDrain(t.Context(), "app1", 1, 0)
	if err == nil || !strings.Contains(err.Error(), "drain task app1:1") {
		t.Errorf("error %v", err)
	}
}

const collectorHelp = `# HELP lamplighter_queue_collector_up 1 when the queues could be read at this scrape.
# TYPE lamplighter_queue_collector_up gauge
`

func TestCollector(t *testing.T) {
	each(t, func(t *testing.T, rdb redis.UniversalClient) {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(queue.NewCollector(rdb, env))
		tasks := func(want string) {
			t.Helper()
			got := map[string]float64{}
			families, err := reg.Gather()
			check(t, err)
			for _, f := range families {
				if f.GetName() != "lamplighter_queue_tasks" {
					continue
				}
				for _, m := range f.GetMetric() {
					got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
				}
			}
			if len(got) != 20 {
				t.Errorf("%d series, want every queue and state", len(got))
			}
			var some []string
			for _, k := range []string{"drain pending", "drain scheduled", "fanout pending", "mail pending", "drain active", "drain retry", "drain archived"} {
				if got[k] > 0 {
					some = append(some, k)
				}
			}
			if d := cmp.Diff(want, strings.Join(some, ", ")); d != "" {
				t.Error(d)
			}
		}
		tasks("") // no queue yet: zeroes, not errors
		c := queue.NewClient(rdb, env)
		check(t, c.EnqueueDrain(t.Context(), "app1", 1, 0))
		check(t, c.EnqueueDrain(t.Context(), "app1", 2, time.Minute))
		check(t, c.EnqueueForwardMail(t.Context(), "app1", "m", 1))
		tasks("drain pending, drain scheduled, mail pending")
		if err := testutil.GatherAndCompare(reg, strings.NewReader(collectorHelp+"lamplighter_queue_collector_up 1\n"), "lamplighter_queue_collector_up"); err != nil {
			t.Error(err)
		}
		if n := testutil.CollectAndCount(queue.NewCollector(rdb, env), "lamplighter_queue_latency_seconds"); n != 4 {
			t.Errorf("%d latencies", n)
		}
		_ = rdb.Close()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(collectorHelp+"lamplighter_queue_collector_up 0\n"), "lamplighter_queue_collector_up"); err != nil {
			t.Error(err)
		}
		tasks("drain pending, drain scheduled, mail pending") // as last read
	})
}

// TestScrapesDoNotWaitForRedis scrapes while Redis hangs: each scrape is answered within a second, with what
// was last read and when that was, and however many there are, one of them asks.
func TestScrapesDoNotWaitForRedis(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := p.Client(t)
	check(t, queue.NewClient(rdb, env).EnqueueDrain(t.Context(), "app1", 1, 0))
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(queue.NewCollector(rdb, env))
	const at, tasks, up = "lamplighter_queue_collected_timestamp_seconds", "lamplighter_queue_tasks", "lamplighter_queue_collector_up"
	scrape := func() map[string]float64 {
		began, sum := time.Now(), map[string]float64{}
		families, err := reg.Gather()
		if took := time.Since(began); err != nil || took > time.Second {
			t.Errorf("a scrape took %v: %v", took, err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				sum[f.GetName()] += m.GetGauge().GetValue()
			}
		}
		return sum
	}
	first := scrape()
	if first[up] != 1 || first[tasks] != 1 || first[at] == 0 {
		t.Fatalf("at first: %v", first)
	}
	p.Freeze()
	defer p.Thaw()
	var scrapes sync.WaitGroup
	for range 8 {
		scrapes.Go(func() {
			if got := scrape(); got[up] != 0 || got[tasks] != 1 || got[at] != first[at] {
				t.Errorf("while Redis hangs: %v, at first %v", got, first)
			}
		})
	}
	scrapes.Wait()
	if n := rdb.PoolStats().TotalConns; n > 2 {
		t.Errorf("%d connections for one question", n)
	}
	p.Thaw()
	redistest.Eventually(t, 20*time.Second, "the queues are read again", func() bool { return scrape()[at] > first[at] })
}

// syncBuffer is a buffer that handlers may write to at once.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
