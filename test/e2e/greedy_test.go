package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

var greed = flag.Duration("greed", 700*time.Millisecond, "how long TestGreediestPartner repeats each operation")

// What a partner may cost, whatever it calls and however often.
const (
	greedyRedis = 4 << 20 // bytes that an app takes in Redis
	greedyPeak  = 512     // MiB of the process, whose GOMEMLIMIT is 400 MiB
	greedyMails = 12      // to addresses that it names
	greedyCalls = 80      // commands of Redis a request, on average; a page of 500 items is read with a command each
	greedyPage  = 1200
)

// greedyCall is the most expensive call of an operation that validation allows, or a costly one of which every repeat writes.
type greedyCall struct {
	path string
	body func(i int) string
	// page: it reads a page of items.
	page bool
}

// TestGreediestPartner plays the greediest partner there may be: each operation that its token may call, with the most
// expensive valid request, by eight callers, as fast as the limits let it. What that takes of Redis, of the process and of
// the mail relay is bounded. An operation without a row here fails.
func TestGreediestPartner(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec", "GOMEMLIMIT=400MiB")
	mails := newMailServer(t, s)
	host, port, _ := net.SplitHostPort(mails.smtp)
	s.env = append(s.env, "LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_TLS=none", "LAMPLIGHTER_SMTP_FROM=Lamplighter <lights@platform.example>",
		"LAMPLIGHTER_SMTP_HOST="+host, "LAMPLIGHTER_SMTP_PORT="+port)
	p := s.serve("api,worker")
	calls := greedyRows()
	rdb := s.redis.Client(t)
	operations := s.partnersOperations()
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		if _, ok := calls[id]; !ok {
			t.Errorf("operation %s has no row: what is its most expensive call?", id)
		}
	}
	before := redisBytes(t, rdb)
	for n, id := range slices.Sorted(maps.Keys(calls)) {
		op, ok := operations[id]
		if !ok {
			t.Errorf("row %s is no operation of a partner's", id)
			continue
		}
		app := fmt.Sprintf("evil-%d", n)
		token := s.evil(app) // each with budgets that are full
		bytes, commands := redisBytes(t, rdb), redisCommands(t, rdb)
		codes, n := s.repeats(token, app, op, calls[id])
		commands = redisCommands(t, rdb) - commands
		t.Logf("%-16s %v: %.1f commands a request, Redis %+d KiB, peak %.0f MiB", id, codes, float64(commands)/float64(max(n, 1)), (redisBytes(t, rdb)-bytes)>>10, peakOf(p.cmd.Process.Pid))
		if grown := redisBytes(t, rdb) - bytes; grown > greedyRedis {
			t.Errorf("%s: Redis grew by %d KiB", id, grown>>10)
		}
		most := int64(greedyCalls)
		if calls[id].page {
			most = greedyPage
		}
		if done := n - codes[http.StatusTooManyRequests]; commands > most*int64(done)+20_000 {
			t.Errorf("%s: %d commands for %d requests", id, commands, done)
		}
		if codes[http.StatusInternalServerError] > 0 {
			t.Errorf("%s: %v", id, codes)
		}
	}
	if peak := peakOf(p.cmd.Process.Pid); peak > greedyPeak {
		t.Errorf("the process had %.0f MiB", peak)
	}
	var inbox struct {
		Total int `json:"total"`
	}
	resp, err := http.Get(mails.api + "/api/v1/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&inbox); err != nil || inbox.Total > greedyMails {
		t.Errorf("%d mails, %v", inbox.Total, err)
	}
	t.Logf("in all: Redis %+d KiB, peak %.0f MiB, %d mails", (redisBytes(t, rdb)-before)>>10, peakOf(p.cmd.Process.Pid), inbox.Total)
}

// evil makes an app with tenants, and returns a token of its partner.
func (s *stack) evil(app string) string {
	s.t.Helper()
	s.want(http.StatusCreated, nil, http.MethodPut, "/v1/apps/"+app, greedyApp(0))
	var lines strings.Builder
	for i := range 500 {
		fmt.Fprintf(&lines, "{\"tenant\":\"Cust%d\"}\n", i)
	}
	if status, b := s.call(http.MethodPut, "/v1/apps/"+app+"/approvals", "application/x-ndjson", []byte(lines.String())); status != http.StatusOK {
		s.t.Fatalf("approvals: %d %s", status, b)
	}
	var token struct{ Secret, Token string }
	s.want(http.StatusCreated, &token, http.MethodPost, "/v1/tokens", `{"name":"`+app+`","role":"partner:`+app+`"}`)
	return token.Secret + token.Token
}

// greedyApp is as large a document as validation takes; i makes it another one.
func greedyApp(i int) string {
	long := strings.Repeat("%3C", 400) + strconv.Itoa(i)
	endpoints := map[string]any{}
	for _, kind := range []string{"state_change", "erp_sync", "quote_connector", "mirroring"} {
		urls := map[string]string{}
		for _, env := range []string{"sod", "stage", "online"} {
			urls[env] = "http://127.0.0.1:9/" + env + "/" + long
		}
		endpoints[kind] = map[string]any{"url": "http://127.0.0.1:9/" + long, "urls": urls, "enabled": kind == "state_change", "send_error_emails": true}
	}
	emails := make([]string, 10)
	for n := range emails {
		emails[n] = fmt.Sprintf("ops%d-%d@evil.example", i, n)
	}
	b, err := json.Marshal(map[string]any{
		"name": "Evil", "technical_contact": map[string]any{"name": strings.Repeat("<", 90) + strconv.Itoa(i), "email": "kim@evil.example"},
		"error_emails": emails, "endpoints": endpoints,
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func greedyRows() map[string]greedyCall {
	none := func(int) string { return "" }
	const app = "/v1/apps/{app}"
	return map[string]greedyCall{
		"listApps":    {path: "/v1/apps?limit=500", body: none, page: true},
		"getApp":      {path: app, body: none},
		"getEndpoint": {path: app + "/endpoints/state_change", body: none},
		"putApp":      {path: app, body: greedyApp},
		"patchApp":    {path: app, body: func(i int) string { return fmt.Sprintf(`{"technical_contact":{"name":"E%d"}}`, i) }},
		"putEndpoint": {path: app + "/endpoints/erp_sync", body: func(i int) string {
			return fmt.Sprintf(`{"url":"http://127.0.0.1:9/%s%d"}`, strings.Repeat("<", 1000), i)
		}},
		"patchEndpoint":  {path: app + "/endpoints/erp_sync", body: func(i int) string { return fmt.Sprintf(`{"url":"http://127.0.0.1:9/%d"}`, i) }},
		"testEndpoint":   {path: app + "/endpoints/state_change/test", body: none},
		"pause":          {path: app + "/pause", body: none},
		"resume":         {path: app + "/resume", body: none},
		"rotateSecret":   {path: app + "/secrets", body: none},
		"resync":         {path: app + "/resync", body: none},
		"getMailbox":     {path: app + "/mailbox", body: none},
		"listDeliveries": {path: app + "/deliveries?limit=500", body: none, page: true},
		"why":            {path: app + "/tenants/Cust1/why", body: none},
		"listIncidents":  {path: "/v1/incidents?limit=500", body: none, page: true},
		"listAudit":      {path: "/v1/audit?limit=500", body: none, page: true},
		"exportAudit":    {path: "/v1/audit/export", body: none, page: true},
		"listJobs":       {path: "/v1/jobs?limit=500", body: none, page: true},
		"getJob":         {path: "/v1/jobs/job_{app}_resync_1", body: none},
		"cancelJob":      {path: "/v1/jobs/job_{app}_resync_1", body: none},
	}
}

// operation is one of the API's, as its document describes it.
type operation struct{ method, kind string }

// partnersOperations are those that a partner's token may call, by id.
func (s *stack) partnersOperations() map[string]operation {
	s.t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			ID          string   `json:"operationId"`
			Roles       []string `json:"x-roles"`
			RequestBody struct {
				Content map[string]any
			} `json:"requestBody"`
		}
	}
	s.want(http.StatusOK, &doc, http.MethodGet, "/v1/openapi.json", "")
	out := map[string]operation{}
	for _, methods := range doc.Paths {
		for method, op := range methods {
			if slices.Contains(op.Roles, "partner") {
				kinds := slices.Sorted(maps.Keys(op.RequestBody.Content))
				out[op.ID] = operation{strings.ToUpper(method), strings.Join(kinds[:min(len(kinds), 1)], "")}
			}
		}
	}
	return out
}

// repeats makes a call again and again by eight callers, and returns how often it was answered how.
func (s *stack) repeats(token, app string, op operation, c greedyCall) (map[int]int, int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), *greed)
	defer cancel()
	path := strings.ReplaceAll(c.path, "{app}", app)
	var mu sync.Mutex
	codes := map[int]int{}
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(n.Add(1))
				header := []string{"Authorization", "Bearer " + token}
				if op.method == http.MethodPost {
					header = append(header, "Idempotency-Key", fmt.Sprint("key-", i))
				}
				if op.method == http.MethodPut {
					header = append(header, "If-Match", "*")
				}
				// not by ctx: what was begun is answered
				status, _, err := s.try(s.t.Context(), op.method, path, op.kind, []byte(c.body(i)), header...)
				if err != nil {
					status = 0
				}
				mu.Lock()
				codes[status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return codes, int(n.Load())
}

func redisBytes(t *testing.T, rdb *redis.Client) int64 {
	t.Helper()
	return redisInfo(t, rdb, "memory", "used_memory:")
}

func redisCommands(t *testing.T, rdb *redis.Client) int64 {
	t.Helper()
	return redisInfo(t, rdb, "stats", "total_commands_processed:")
}

func redisInfo(t *testing.T, rdb *redis.Client, section, field string) int64 {
	t.Helper()
	var n int64
	redistest.Eventually(t, 10*time.Second, "Redis tells its "+section, func() bool {
		for line := range strings.Lines(rdb.Info(t.Context(), section).Val()) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), field); ok {
				var err error
				n, err = strconv.ParseInt(text, 10, 64)
				return err == nil
			}
		}
		return false
	})
	return n
}
