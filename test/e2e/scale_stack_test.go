//go:build soak

package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

var (
	scaleBinary = flag.String("scale.binary", "", "another version of the program, to compare with") //nolint:gochecknoglobals // flags
	scaleRTT    = flag.Duration("scale.rtt", 1200*time.Microsecond, "round trip time to Redis")      //nolint:gochecknoglobals // flags
	scaleApps   = flag.Int("scale.apps", 0, "how many apps, 0 for the test's own number")            //nolint:gochecknoglobals // flags
	scaleSize   = flag.Int("scale.tenants", 0, "how many tenants, 0 for the test's own number")      //nolint:gochecknoglobals // flags
)

// scale is a deployment with production's settings, whose Redis is some way off, and many apps or tenants.
type scale struct {
	*stack

	rdb   *redis.Client
	crowd *crowd
	apps  int
}

// newScale starts Redis. The settings come after those of the stack and win.
func newScale(t *testing.T, rtt time.Duration, apps, tenants int, settings ...string) *scale {
	t.Helper()
	p := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	addr := p.Addr
	if rtt > 0 {
		// what goroutines and the loopback add to each way
		const own = 100 * time.Microsecond
		addr = redistest.Delay(t, p.Addr, max(rtt/2-own, 0))
	}
	s := newStackOn(t, "redis://"+addr+"/0", append([]string{
		"LAMPLIGHTER_DELIVERY_TIMEOUT=10s", "LAMPLIGHTER_DELIVERY_ENTRY_LEASE=25s", "LAMPLIGHTER_DELIVERY_OWNER_LEASE=15s",
		"LAMPLIGHTER_DELIVERY_GRACE=10s", "LAMPLIGHTER_DELIVERY_SWEEP=5s", "LAMPLIGHTER_DELIVERY_DRAIN_BUDGET=5s",
		"LAMPLIGHTER_DELIVERY_RETRY_SCHEDULE=5s,5m,30m", "LAMPLIGHTER_BREAKER_OPEN_FOR=5s", "LAMPLIGHTER_BREAKER_OPEN_FOR_MAX=30s",
	}, settings...)...)
	s.redis = p
	if *scaleBinary != "" {
		s.bin = *scaleBinary
	}
	sc := &scale{stack: s, rdb: p.Client(t), crowd: newCrowd(t, apps, tenants), apps: apps}
	link := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = link.Close() }()
	var pings []time.Duration
	for range 200 {
		start := time.Now()
		link.Ping(t.Context())
		pings = append(pings, time.Since(start))
	}
	slices.Sort(pings)
	t.Logf("round trip to Redis: p50 %v, p99 %v", pings[100].Round(10*time.Microsecond), pings[198].Round(10*time.Microsecond))
	return sc
}

func scaleApp(i int) string    { return fmt.Sprintf("app%05d", i) }
func scaleTenant(i int) string { return "Cust" + strconv.Itoa(i) }

// each calls f for [0, n), sixteen at a time.
func each(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	next, failed := make(chan int), make(chan error, 16)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					select {
					case failed <- fmt.Errorf("number %d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// register creates the apps, which the given tenants approve.
func (s *scale) register(tenants ...string) {
	s.t.Helper()
	start := time.Now()
	var lines strings.Builder
	for _, name := range tenants {
		fmt.Fprintf(&lines, `{"tenant":%q}`+"\n", name)
	}
	each(s.t, s.apps, func(i int) error {
		body := fmt.Sprintf(`{"name":"App %d","token_algorithm":"ES256","technical_contact":{"name":"Kim","email":"kim@partner%d.example"},`+
			`"endpoints":{"state_change":{"url":"%s","enabled":true,"send_error_emails":true}}}`, i, i, s.crowd.url(i))
		return s.puts(map[string]string{
			"/v1/apps/" + scaleApp(i):                body,
			"/v1/apps/" + scaleApp(i) + "/approvals": lines.String(),
		})
	})
	s.t.Logf("%d apps of %d tenants in %v", s.apps, len(tenants), time.Since(start).Round(time.Millisecond))
}

// puts sends bodies in the order of their paths.
func (s *scale) puts(bodies map[string]string) error {
	paths := make([]string, 0, len(bodies))
	for path := range bodies {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		kind := "application/json"
		if strings.HasSuffix(path, "/approvals") {
			kind = "application/x-ndjson"
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
		status, b, err := s.try(ctx, http.MethodPut, path, kind, []byte(bodies[path]))
		cancel()
		if err != nil {
			return err
		}
		if status/100 != 2 {
			return fmt.Errorf("PUT %s: %d %s", path, status, b)
		}
	}
	return nil
}

// copyTenant gives the tenants [1, n) what the service wrote of tenant 0: its record, and the approvals of all apps.
func (s *scale) copyTenant(n int) {
	s.t.Helper()
	start := time.Now()
	ctx := s.t.Context()
	record := s.rdb.HGetAll(ctx, "lamplighter:{Cust0}:record").Val()
	approvers := s.rdb.SMembers(ctx, "lamplighter:{Cust0}:approvals").Val()
	if len(approvers) != s.apps {
		s.t.Fatalf("tenant 0 has %d approvals, want %d", len(approvers), s.apps)
	}
	marks := make([]string, s.apps)
	for i := range marks {
		marks[i] = s.rdb.HGet(ctx, "lamplighter:{"+scaleApp(i)+"}:tenants", "Cust0").Val()
	}
	members := make([]any, len(approvers))
	for i, a := range approvers {
		members[i] = a
	}
	const batch = 500
	each(s.t, (n+batch-1)/batch, func(b int) error {
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			values := make([]string, 0, 2*batch)
			for i := max(b*batch, 1); i < min((b+1)*batch, n); i++ {
				name := scaleTenant(i)
				if len(record) > 0 {
					p.HSet(ctx, "lamplighter:{"+name+"}:record", record)
				}
				p.SAdd(ctx, "lamplighter:{"+name+"}:approvals", members...)
				values = append(values, name, "")
			}
			for app := range s.apps {
				for i := 1; i < len(values); i += 2 {
					values[i] = marks[app]
				}
				if len(values) > 0 {
					p.HSet(ctx, "lamplighter:{"+scaleApp(app)+"}:tenants", values)
				}
			}
			return nil
		})
		return err
	})
	s.t.Logf("%d tenants of %d apps copied in %v", n, s.apps, time.Since(start).Round(time.Millisecond))
}

// change reports one change of the tenants [0, n) in one body.
func (s *scale) change(kind string, n int) time.Time {
	s.t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"tenant":%q,"change_type":%q}`+"\n", scaleTenant(i), kind)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.api+"/v1/state-changes", strings.NewReader(lines.String()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := platform.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("changes: %d", resp.StatusCode)
	}
	return start
}

// told waits until n pairs heard something new since the last forget.
func (s *scale) told(n int, within time.Duration) {
	s.t.Helper()
	start, shown := time.Now(), time.Now()
	for s.crowd.fresh.Load() < int64(n) {
		if time.Since(start) > within {
			s.t.Fatalf("%d of %d told after %v, %d posts", s.crowd.fresh.Load(), n, within, s.crowd.posts.Load())
		}
		if time.Since(shown) > 10*time.Second {
			shown = time.Now()
			s.t.Logf("%v: %d of %d told, %d posts", time.Since(start).Round(time.Second), s.crowd.fresh.Load(), n, s.crowd.posts.Load())
		}
		wait(s.t, 5*time.Millisecond)
	}
}

// openedAfter is how long after the first failure each incident was opened, in ascending order.
func (s *scale) openedAfter() []time.Duration {
	s.t.Helper()
	var out []time.Duration
	for cursor := ""; ; {
		status, b := s.call(http.MethodGet, "/v1/incidents?limit=500"+cursor, "", nil)
		var page struct {
			Items []struct {
				Since    time.Time `json:"since"`
				OpenedAt time.Time `json:"opened_at"`
			} `json:"items"`
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal(b, &page); err != nil || status != http.StatusOK {
			s.t.Fatalf("incidents: %d, %v", status, err)
		}
		for _, i := range page.Items {
			if !i.OpenedAt.IsZero() {
				out = append(out, i.OpenedAt.Sub(i.Since))
			}
		}
		if page.Next == "" {
			slices.Sort(out)
			return out
		}
		cursor = "&cursor=" + url.QueryEscape(page.Next)
	}
}

// keysLike lists the keys of Redis that match a pattern.
func (s *scale) keysLike(pattern string) (keys []string) {
	iter := s.rdb.Scan(s.t.Context(), 0, pattern, 10_000).Iterator()
	for iter.Next(s.t.Context()) {
		keys = append(keys, iter.Val())
	}
	return keys
}

// peak is the most memory that a process had, in MB.
func (p *process) peak() int { return p.statusMB("VmHWM") }

func (p *process) statusMB(field string) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb / 1000
		}
	}
	return 0
}

// cpu is how much processor time a process used.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// mailsTo lets the service mail by the server at an address, whether it is there or not.
func (s *scale) mailsTo(addr string) {
	host, port, _ := strings.Cut(addr, ":")
	s.env = append(s.env, "LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_TLS=none", "LAMPLIGHTER_SMTP_FROM=Lamplighter <lights@platform.example>",
		"LAMPLIGHTER_SMTP_HOST="+host, "LAMPLIGHTER_SMTP_PORT="+port)
}

// loopWatch remembers for how long at most each timed loop of a process was not complete.
type loopWatch struct {
	p     *process
	began time.Time
	worst map[string]time.Duration
}

func newLoopWatch(p *process) *loopWatch {
	return &loopWatch{p: p, began: time.Now(), worst: map[string]time.Duration{}}
}

// look reads the times that the process exports. A loop that was never complete counts from the watch's start.
func (w *loopWatch) look() {
	resp, err := probes.Get("http://" + w.p.ops + "/metrics")
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(b)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, labels, _ := strings.Cut(series, "{")
		if !strings.HasPrefix(name, "lamplighter_") || !strings.Contains(name, "_last_") || !strings.HasSuffix(name, "_timestamp_seconds") {
			continue
		}
		at, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		since := w.began
		if t := time.UnixMilli(int64(at * 1000)); t.After(since) {
			since = t
		}
		key := strings.TrimPrefix(name, "lamplighter_") + "{" + labels
		w.worst[key] = max(w.worst[key], time.Since(since).Round(100*time.Millisecond))
	}
}

func (w *loopWatch) String() string { return fmt.Sprint(w.worst) }
