package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var worstFor = flag.Duration("worst", time.Second, "how long TestWorstCallsAtOnce keeps each kind of call going")

// TestWorstCallsAtOnce has callers make the most expensive calls that their budgets allow, many at once, while the
// platform reports changes on connections of its own. The process keeps within its memory, and of 200 resyncs one runs.
// How late the platform is answered is in the log: -v -args -worst=10s.
func TestWorstCallsAtOnce(t *testing.T) {
	t.Parallel()
	const atOnce, caller = 60, "127.0.0.8"
	s := newStack(t, "everysec", "GOMEMLIMIT=400MiB")
	p := s.serve("api,worker")
	partner := s.evil("worst")
	tokens := map[string][]string{"partner": {partner}}
	for _, role := range []string{"operator", "admin", "platform", "partner:worst"} {
		for n := range 4 {
			var made struct{ Token string }
			s.want(http.StatusCreated, &made, http.MethodPost, "/v1/tokens", fmt.Sprintf(`{"name":"%s %d","role":"%s"}`, role, n, role))
			tokens["four of each role"] = append(tokens["four of each role"], made.Token)
		}
	}
	settings := worstBody(128<<10, `{"error_emails":[`, `"@"`, "]}", 9000)
	for n := range 2000 { // what an export of the audit reads
		s.want(http.StatusOK, nil, http.MethodPatch, "/v1/apps/worst", fmt.Sprintf(`{"technical_contact":{"name":"%d%s"}}`, n, strings.Repeat("x", 150)))
	}
	quiet, _ := s.answeredWhile(caller, "", func() { <-time.After(*worstFor) })
	goal := 3*quantileOf(quiet, .99) + 20*time.Millisecond
	t.Logf("quiet: p99 %v of %d", quantileOf(quiet, .99), len(quiet))
	for _, c := range []struct {
		name, method, path string
		tokens             []string
		body               []byte
		atOnce             int
	}{
		{"60 bodies of one partner's token", http.MethodPatch, "/v1/apps/worst", tokens["partner"], settings, atOnce},
		{"60 bodies of four tokens of each role", http.MethodPatch, "/v1/apps/worst", tokens["four of each role"], settings, atOnce},
		{"60 bodies of 1 MiB of staff", http.MethodPatch, "/v1/apps/worst", tokens["four of each role"][:8], worstBody(1<<20, `{"error_emails":[`, `"@"`, "]}", 9000), atOnce},
		{"60 changes of 1 MiB", http.MethodPost, "/v1/state-changes", tokens["four of each role"][8:12], worstBody(1<<20, `{"a":[`, `"@"`, "]}", 9000), atOnce},
		{"six exports of the audit", http.MethodGet, "/v1/audit/export", tokens["four of each role"][4:8], nil, 6},
		{"six pages of a partner's audit", http.MethodGet, "/v1/audit?limit=500", tokens["partner"], nil, 6},
		{"200 resyncs", http.MethodPost, "/v1/apps/worst/resync", tokens["partner"], nil, 200},
	} {
		var codes sync.Map
		waits, closed := s.answeredWhile(caller, "", func() {
			s.callsInBursts(c.atOnce, func(n int) {
				status, _, err := s.try(t.Context(), c.method, c.path, "application/json", c.body, "Authorization", "Bearer "+c.tokens[n%len(c.tokens)])
				if err != nil {
					status = 0
				}
				count, _ := codes.LoadOrStore(status, new(atomic.Int64))
				count.(*atomic.Int64).Add(1) //nolint:forcetypeassert // all are
			})
		})
		t.Logf("%s: platform p99 %v of %d (3 x quiet + 20 ms is %v), answers %s, peak %.0f MiB", c.name, quantileOf(waits, .99), len(waits), goal, countsOf(&codes), peakOf(p.cmd.Process.Pid))
		if closed > 0 {
			t.Errorf("%s: %d of the platform's changes were not answered", c.name, closed)
		}
	}
	if peak := peakOf(p.cmd.Process.Pid); peak > greedyPeak {
		t.Errorf("the process had %.0f MiB", peak)
	}
	var jobs struct {
		Items []json.RawMessage `json:"items"`
	}
	s.want(http.StatusOK, &jobs, http.MethodGet, "/v1/jobs?client_id=worst", "")
	if len(jobs.Items) != 1 {
		t.Errorf("%d jobs came of the resyncs, want one: %s", len(jobs.Items), jobs.Items)
	}
}

// worstBody repeats an item within a document of a size, which spaces fill up.
func worstBody(size int, begin, item, end string, n int) []byte {
	b := []byte(begin + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + end)
	return append(b, bytes.Repeat([]byte(" "), max(size-len(b), 0))...)
}

// callsInBursts has as many callers call f at once, and again a second later, for a while.
func (s *stack) callsInBursts(callers int, f func(n int)) {
	ctx, cancel := context.WithTimeout(s.t.Context(), *worstFor)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		var wg sync.WaitGroup
		for n := range callers {
			wg.Go(func() { f(n) })
		}
		wg.Wait()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func countsOf(codes *sync.Map) string {
	counts := map[int]int64{}
	codes.Range(func(k, v any) bool {
		counts[k.(int)] = v.(*atomic.Int64).Load() //nolint:forcetypeassert // all are
		return true
	})
	var out []string
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%d x %d", counts[code], code))
	}
	return strings.Join(out, ", ")
}
