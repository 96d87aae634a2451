package redistest

import (
	"context"
	"crypto/sha1" //nolint:gosec // how Redis names scripts
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Work is a script at its largest legal call, for a census.
type Work struct {
	// Script is the name of its file in lua/, After are those that it builds on, in their order.
	Script string
	After  []string
	// Text, if any, is the script where it is more than the files one after the other.
	Text string
	// What says how large the call is.
	What string
	// Prepare, which may be nil, comes before each call and is not measured. Call runs the script, once or several times.
	Prepare, Call func()
}

// NewWork is a Work on one line.
func NewWork(script string, after []string, what string, prepare, call func()) Work {
	return Work{Script: script, After: after, What: what, Prepare: prepare, Call: call}
}

// Bounds of a census: how often each script runs, and for how long it may keep Redis from all others.
const (
	censusRuns   = 200
	censusRounds = 5
	censusMedian = 1500 * time.Microsecond
	censusP99    = 2 * time.Millisecond
)

// CensusServer is a redis-server that notes the time of every command.
type CensusServer struct {
	*redis.Client

	pid int
}

// NewCensusServer starts one.
func NewCensusServer(t testing.TB) *CensusServer {
	t.Helper()
	p := Start(t, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "1024", "--databases", "64")
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, ReadTimeout: patience})
	t.Cleanup(func() { _ = rdb.Close() })
	return &CensusServer{rdb, p.PID()}
}

// busy is how long the server's main thread has had a CPU so far; 0 where the system does not tell.
func (s *CensusServer) busy() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", s.pid, s.pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	ns, _ := strconv.ParseInt(first, 10, 64)
	return time.Duration(ns)
}

// Census runs a work 200 times, alone, and reports Redis' own time for a run of its script: that of its slow log, or
// the time for which it had a CPU where that is less, since a machine that has others to serve only adds to the first.
// Of up to five such rounds the best one counts. It fails where that is too long.
func Census(b *testing.B, rdb *CensusServer, w Work) {
	b.Helper()
	sum := sha1.Sum([]byte(w.text(b))) //nolint:gosec // see above
	sha := hex.EncodeToString(sum[:])
	var best []time.Duration
	for range b.N { // a round takes longer than a benchmark has to
		for range censusRounds {
			took := w.round(b, rdb, sha)
			if len(best) == 0 || at(took, 99) < at(best, 99) {
				best = took
			}
			if at(best, 50) <= censusMedian && at(best, 99) <= censusP99 {
				break
			}
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(at(best, 50)), "p50-ms")
	b.ReportMetric(ms(at(best, 99)), "p99-ms")
	b.ReportMetric(ms(best[len(best)-1]), "max-ms")
	b.ReportMetric(0, "ns/op") // of the round trips, and of what prepares
	if at(best, 50) > censusMedian || at(best, 99) > censusP99 {
		b.Errorf("%s, %s: Redis answered nobody for %v (median), %v (p99); at most %v and %v are right", w.Script, w.What, at(best, 50), at(best, 99), censusMedian, censusP99)
	}
}

// round returns the times of the runs, in order.
func (w Work) round(b *testing.B, rdb *CensusServer, sha string) []time.Duration {
	b.Helper()
	var took []time.Duration
	for len(took) < censusRuns+1 {
		if w.Prepare != nil {
			w.Prepare()
		}
		if err := rdb.Do(b.Context(), "slowlog", "reset").Err(); err != nil {
			b.Fatal(err)
		}
		before := rdb.busy()
		w.Call()
		busy := rdb.busy() - before
		log, err := rdb.SlowLogGet(b.Context(), -1).Result()
		if err != nil {
			b.Fatal(err)
		}
		ran := len(took)
		for _, l := range log {
			if len(l.Args) > 1 && strings.EqualFold(l.Args[0], "evalsha") && l.Args[1] == sha || strings.EqualFold(l.Args[0], "eval") {
				took = append(took, l.Duration)
			}
		}
		if len(took) == ran {
			b.Fatalf("%s, %s: the call does not run the script", w.Script, w.What)
		}
		if len(took) == ran+1 && busy > 0 {
			took[ran] = min(took[ran], busy)
		}
	}
	took = took[1:] // the first run compiles it
	slices.Sort(took)
	return took
}

func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func (w Work) text(t testing.TB) string {
	t.Helper()
	if w.Text != "" {
		return w.Text
	}
	var text strings.Builder
	for _, name := range append(slices.Clone(w.After), w.Script) {
		b, err := os.ReadFile(filepath.Join("lua", name+".lua")) //nolint:gosec // a script of the package
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	return text.String()
}

// Covered fails where a script of the package has no work in its census, or its file is none of those that others
// build on.
func Covered(t testing.TB, works []Work) {
	t.Helper()
	known := map[string]bool{}
	for _, w := range works {
		_ = w.text(t)
		for _, n := range append(slices.Clone(w.After), w.Script) {
			known[n] = true
		}
	}
	files, err := filepath.Glob("lua/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".lua"); !known[name] {
			t.Errorf("%s is not in the census of scripts: add its largest legal call", f)
		}
	}
}

// Ping measures how long a client waits for PING while work runs: the longest time in ms, and how many there were.
func Ping(t testing.TB, rdb *redis.Client, work func()) (longest time.Duration, pings int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began, done := make(chan struct{}), make(chan struct{})
	conn := rdb.Conn()
	defer func() { _ = conn.Close() }()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			start := time.Now()
			if conn.Ping(t.Context()).Err() != nil {
				return
			}
			longest, pings = max(longest, time.Since(start)), pings+1
			if pings == 100 {
				longest = 0
				close(began)
			}
		}
	}()
	<-began
	work()
	stop()
	<-done
	return longest, pings
}

// Fill sends many commands to a server without waiting for each, for what a test needs much of.
func Fill(t testing.TB, rdb *redis.Client, n int, add func(p redis.Pipeliner, i int)) {
	t.Helper()
	for from := 0; from < n; from += 1000 {
		_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := from; i < min(from+1000, n); i++ {
				add(p, i)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("fill from %s: %v", strconv.Itoa(from), err)
		}
	}
}
