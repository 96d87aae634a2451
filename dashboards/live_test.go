package dashboards_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

const adminToken = "lmp_dashboards_0123456789abcdef0123"

// family is a metric as a running service exports it.
type family struct {
	kind, help string
	labels     map[string]map[string]bool // label -> values
}

// clusterWide reports that every worker exports the same value, which a sum would multiply.
func (f *family) clusterWide() bool { return strings.Contains(f.help, "Cluster-wide") }

// counts reports that the values only mean something as a rate or an increase.
func (f *family) counts() bool { return f.kind == "counter" || f.kind == "histogram" }

// families are the metrics of a service, by name.
type families map[string]*family

// of finds a metric by the name of one of its series.
func (fs families) of(series string) (*family, bool) {
	if f, ok := fs[series]; ok {
		return f, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(series, suffix)
		if f, known := fs[base]; ok && known && f.kind == "histogram" {
			return f, true
		}
	}
	return nil, false
}

var (
	headerLine = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.*)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// parsePage reads the text format that Prometheus scrapes.
func parsePage(t *testing.T, page []byte) families {
	t.Helper()
	fs := families{}
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		if m := headerLine.FindStringSubmatch(lines.Text()); m != nil {
			f := fs[m[2]]
			if f == nil {
				f = &family{labels: map[string]map[string]bool{}}
				fs[m[2]] = f
			}
			if m[1] == "HELP" {
				f.help = m[3]
			} else {
				f.kind = m[3]
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("metrics page: cannot read line %q", lines.Text())
		}
		f, ok := fs.of(m[1])
		if !ok && fs[m[1]] == nil {
			continue // the sum and count of a summary
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if f.labels[pair[1]] == nil {
				f.labels[pair[1]] = map[string]bool{}
			}
			f.labels[pair[1]][pair[2]] = true
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("metrics page: %v", err)
	}
	return fs
}

// metricsPage runs a service with an app that is down, so that the series which exist only
// during failures exist too, and returns its metrics.
func metricsPage(t *testing.T) []byte {
	t.Helper()
	s := newService(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service: %v", err)
		}
	})
	api, ops := "http://"+s.Addr("api"), "http://"+s.Addr("ops")
	request(t, http.MethodPut, api+"/v1/apps/app1",
		`{"name":"App","endpoints":{"state_change":{"url":"http://127.0.0.1:1/","enabled":true}}}`, http.StatusCreated)
	request(t, http.MethodPut, api+"/v1/apps/app1/approvals/Cust1", "", http.StatusNoContent)
	request(t, http.MethodPost, api+"/v1/state-changes", `{"tenant":"Cust1","change_type":"suspend"}`, http.StatusAccepted)

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		page := request(t, http.MethodGet, ops+"/metrics", "", http.StatusOK)
		if bytes.Contains(page, []byte("\nlamplighter_endpoint_failing{")) && bytes.Contains(page, []byte("\nlamplighter_endpoint_waiting{")) {
			return page
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no endpoint was exported as failing and waiting:\n%s", page)
		}
	}
}

func newService(t *testing.T) *service.Service {
	t.Helper()
	now := time.Now()
	text, err := signing.GenerateKey(signing.RS256, "Test", now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Sources{ReadFile: os.ReadFile, Environ: []string{
		"LAMPLIGHTER_LISTEN=127.0.0.1:0", "LAMPLIGHTER_OPS_LISTEN=127.0.0.1:0", "LAMPLIGHTER_PUBLIC_URL=http://127.0.0.1",
		"LAMPLIGHTER_BOOTSTRAP_TOKEN=" + adminToken, "LAMPLIGHTER_SIGNING_KEYS=" + keyFile,
		"LAMPLIGHTER_ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LAMPLIGHTER_SMTP_HOST=127.0.0.1", "LAMPLIGHTER_SMTP_FROM=a@example.com",
		"LAMPLIGHTER_BREAKER_FAILURES=1", "LAMPLIGHTER_DELIVERY_SWEEP=100ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(t.Context(), service.Options{
		Config: loaded.Config, Version: "test", Log: slog.New(slog.DiscardHandler), Redis: redistest.Mini(t), Loopback: true, Unsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(t *testing.T, method, url, body string, want int) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s answered %d, want %d: %s", method, url, resp.StatusCode, want, answer)
	}
	return answer
}

func TestWhatARunningServiceExports(t *testing.T) {
	t.Parallel()
	page := metricsPage(t)
	live := parsePage(t, page)
	// Only where a probe saw a certificate that ends soon; internal/probe tests that it is exported then.
	live["lamplighter_endpoint_certificate_expiry_timestamp_seconds"] = &family{
		kind: "gauge", help: "Cluster-wide", labels: map[string]map[string]bool{"client_id": {}, "endpoint": {}},
	}
	t.Run("PassesPromtool", func(t *testing.T) {
		t.Parallel()
		promtool(t, page, "check", "metrics")
	})
	t.Run("IsAllThatDashboardsName", func(t *testing.T) {
		t.Parallel()
		for file, d := range dashboards(t) {
			for _, q := range d.queries() {
				for _, problem := range checkNames(live, nil, q.expr) {
					t.Errorf("%s: %s: %s", file, q.at, problem)
				}
				if q.annotation {
					continue
				}
				for _, problem := range checkUse(live, q.expr) {
					t.Errorf("%s: %s: %s", file, q.at, problem)
				}
			}
		}
	})
	t.Run("IsAllThatAlertsName", func(t *testing.T) {
		t.Parallel()
		rules := readRules(t)
		for _, r := range rules.all() {
			for _, problem := range append(checkNames(live, rules.records(), r.Expr), checkUse(live, r.Expr)...) {
				t.Errorf("%s%s: %s", r.Alert, r.Record, problem)
			}
		}
	})
	t.Run("IsInTheReference", func(t *testing.T) {
		t.Parallel()
		for _, problem := range checkReference(parsePage(t, page), readFile(t, "../docs/operations.md")) {
			t.Error(problem)
		}
	})
}

// A row of the reference: | `name` | type | unit | labels | meaning |.
var referenceRow = regexp.MustCompile("(?m)^\\| `(lamplighter_[a-z_]+)` \\| (\\w+) \\| [^|]*\\| ([^|]*) \\|")

// checkReference compares the reference's table with what is exported, both ways.
func checkReference(live families, text string) []string {
	var problems []string
	documented := map[string]bool{}
	for _, row := range referenceRow.FindAllStringSubmatch(text, -1) {
		name, kind, labels := row[1], row[2], row[3]
		documented[name] = true
		f, ok := live[name]
		if !ok {
			problems = append(problems, name+": the reference describes it, but it is not exported")
			continue
		}
		if f.kind != kind {
			problems = append(problems, fmt.Sprintf("%s: a %s, the reference says %s", name, f.kind, kind))
		}
		for label := range f.labels {
			if label != "le" && !strings.Contains(labels, "`"+label+"`") {
				problems = append(problems, fmt.Sprintf("%s: the reference does not name its label %s", name, label))
			}
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(labels, -1) {
			if f.labels[m[1]] == nil {
				problems = append(problems, fmt.Sprintf("%s: has no label %s as the reference says", name, m[1]))
			}
		}
	}
	for name := range live {
		if strings.HasPrefix(name, "lamplighter_") && !documented[name] {
			problems = append(problems, name+": exported, but not in the reference")
		}
	}
	return problems
}
