package dashboards_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

type testFile struct {
	RuleFiles []string `yaml:"rule_files"`
	Interval  string   `yaml:"evaluation_interval"`
	Tests     []struct {
		Name      string
		Interval  string
		Series    []map[string]string `yaml:"input_series"`
		Exprs     []any               `yaml:"promql_expr_test"`
		AlertRule []struct {
			Alert  string           `yaml:"alertname"`
			At     string           `yaml:"eval_time"`
			Alerts []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func (f ruleFile) all() []rule {
	var out []rule
	for _, g := range f.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

func (f ruleFile) alerts() []rule {
	return slices.DeleteFunc(f.all(), func(r rule) bool { return r.Alert == "" })
}

func (f ruleFile) records() []string {
	var out []string
	for _, r := range f.all() {
		if r.Record != "" {
			out = append(out, r.Record)
		}
	}
	return out
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader([]byte(readFile(t, name))))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func readRules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	decode(t, "alerts.yaml", &f)
	if len(f.alerts()) == 0 {
		t.Fatal("alerts.yaml holds no alerts")
	}
	return f
}

// testFiles are promtool's tests: all of this directory, since CI runs them only in this package.
func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*_test.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of the rules found: %v", err)
	}
	return files
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	t.Parallel()
	promtool(t, nil, "check", "rules", "alerts.yaml")
}

func TestPromtoolTestsPass(t *testing.T) {
	t.Parallel()
	for _, file := range testFiles(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			promtool(t, nil, "test", "rules", file)
		})
	}
}

func TestAlertsAreComplete(t *testing.T) {
	t.Parallel()
	for _, r := range readRules(t).alerts() {
		for _, problem := range checkAlert(r) {
			t.Errorf("%s: %s", r.Alert, problem)
		}
	}
}

// checkAlert finds parts that an alert lacks.
func checkAlert(r rule) []string {
	var problems []string
	if !strings.HasPrefix(r.Alert, "Lamplighter") {
		problems = append(problems, "its name must begin with Lamplighter")
	}
	if !slices.Contains([]string{"page", "warning", "info"}, r.Labels["severity"]) {
		problems = append(problems, fmt.Sprintf("severity %q is none of page, warning, info", r.Labels["severity"]))
	}
	if r.For == "" {
		problems = append(problems, "has no duration (for)")
	}
	if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
		problems = append(problems, "needs a summary and a description")
	}
	if strings.Contains(r.Annotations["summary"], "{{") {
		problems = append(problems, "the summary must not vary, or every value makes a new notification")
	}
	if want := "docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
		problems = append(problems, fmt.Sprintf("runbook_url %q, want %q", r.Annotations["runbook_url"], want))
	}
	// A partner's endpoint is the partner's to repair, however long it is down.
	theirs := regexp.MustCompile(`lamplighter_endpoint_(failing|waiting|certificate)`).MatchString(r.Expr)
	if theirs != (r.Labels["severity"] == "info") {
		problems = append(problems, "severity info is for alerts on which a partner must act, and for no others")
	}
	return problems
}

func TestAlertsAreTestedBothWays(t *testing.T) {
	t.Parallel()
	fires, silent, names := map[string]int{}, map[string]int{}, map[string]bool{}
	var tests testFile
	for _, file := range testFiles(t) {
		var f testFile
		decode(t, file, &f)
		tests.Tests = append(tests.Tests, f.Tests...)
	}
	for _, c := range tests.Tests {
		if names[c.Name] {
			t.Errorf("two tests are called %q", c.Name)
		}
		names[c.Name] = true
		for _, a := range c.AlertRule {
			if len(a.Alerts) > 0 {
				fires[a.Alert]++
			} else {
				silent[a.Alert]++
			}
		}
	}
	for _, r := range readRules(t).alerts() {
		if fires[r.Alert] == 0 || silent[r.Alert] == 0 {
			t.Errorf("%s: %d tests in which it fires, %d in which it must not; want at least one of each", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

func TestRunbooksAreComplete(t *testing.T) {
	t.Parallel()
	const dir = "../docs/runbooks"
	known := map[string]bool{}
	for _, r := range readRules(t).alerts() {
		name := path.Base(r.Annotations["runbook_url"])
		known[name] = true
		for _, problem := range checkRunbook(r.Alert, readFile(t, filepath.Join(dir, name))) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("%s: no alert leads to this page", e.Name())
		}
	}
}

// TestTheTableOfAlertsIsComplete keeps docs/operations.md, equal to the rules.
func TestTheTableOfAlertsIsComplete(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, r := range readRules(t).alerts() {
		want[fmt.Sprintf("| %s | [%s](runbooks/%s.md) | %s |", r.Labels["severity"], r.Alert, r.Alert, r.Annotations["summary"])] = true
	}
	text := readFile(t, "../docs/operations.md")
	for _, row := range regexp.MustCompile(`(?m)^\| \w+ \| \[Lamplighter.*$`).FindAllString(text, -1) {
		if !want[row] {
			t.Errorf("docs/operations.md has a row that no alert has: %s", row)
		}
		delete(want, row)
	}
	for row := range want {
		t.Errorf("docs/operations.md lacks: %s", row)
	}
}

// TestBurnRatesKeepToTheObjective: each alert requires the same burn rate in a long window and in one of a twelfth of it, by the
// recorded share of that window, by the budget that docs/operations.md names.
func TestBurnRatesKeepToTheObjective(t *testing.T) {
	t.Parallel()
	const budget = "0.001"
	windows := map[string]time.Duration{"5m": 5 * time.Minute, "30m": 30 * time.Minute, "1h": time.Hour, "2h": 2 * time.Hour, "6h": 6 * time.Hour, "1d": 24 * time.Hour, "3d": 72 * time.Hour}
	rules := readRules(t)
	for _, r := range rules.all() {
		if window, ok := strings.CutPrefix(r.Record, "job:lamplighter_delivery_late:ratio_rate"); ok {
			if got := regexp.MustCompile(`\[[^\]]*\]`).FindAllString(strings.ReplaceAll(r.Expr, "[.]", ""), -1); len(got) != 3 || strings.Count(r.Expr, "["+window+"]") != 3 {
				t.Errorf("%s: looks at %v", r.Record, got)
			}
		}
	}
	pair := regexp.MustCompile(`ratio_rate(\w+) > \(([0-9.]+) \* ([0-9.]+)\)\s+and job:lamplighter_delivery_late:ratio_rate(\w+) > \(([0-9.]+) \* ([0-9.]+)\)`)
	documented := readFile(t, "../docs/operations.md")
	pairs := 0
	for _, r := range rules.alerts() {
		for _, m := range pair.FindAllStringSubmatch(r.Expr, -1) {
			pairs++
			burn, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			if m[2] != m[5] || m[3] != budget || m[6] != budget || windows[m[1]] != 12*windows[m[4]] {
				t.Errorf("%s: a pair of windows that do not belong together: %s", r.Alert, m[0])
			}
			percent := strconv.FormatFloat(burn*0.1, 'g', 4, 64)
			row := regexp.MustCompile(`(?m)^\| [^|]* \| ` + regexp.QuoteMeta(percent) + ` % \| ` + longer(m[1]) + ` and ` + longer(m[4]) + ` \| ` + r.Labels["severity"] + ` \|$`)
			if !row.MatchString(documented) {
				t.Errorf("docs/operations.md does not say that %s %% over %s and %s is a %s", percent, m[1], m[4], r.Labels["severity"])
			}
		}
	}
	if pairs != 4 {
		t.Errorf("%d pairs of windows, want 4", pairs)
	}
}

// longer spells a window as documents do: 5m is 5 min.
func longer(window string) string {
	n, unit := window[:len(window)-1], window[len(window)-1:]
	if unit == "m" {
		unit = "min"
	}
	return n + " " + unit
}

// checkRunbook finds parts that a runbook lacks.
func checkRunbook(alert, text string) []string {
	var problems []string
	if !strings.HasPrefix(text, "# "+alert+"\n") {
		problems = append(problems, "must begin with the alert's name")
	}
	at := 0
	for _, part := range []string{"## Meaning", "## Impact", "## Diagnosis", "## Mitigation"} {
		i := strings.Index(text[at:], "\n"+part+"\n")
		if i < 0 {
			problems = append(problems, "lacks "+part+" in its place")
			continue
		}
		at += i
	}
	_, diagnosis, _ := strings.Cut(text, "\n## Diagnosis\n")
	diagnosis, _, _ = strings.Cut(diagnosis, "\n## ")
	if !regexp.MustCompile("(?m)^```\n?(?:.*\n)*?\\$ .+\n[^$`]").MatchString(diagnosis) {
		problems = append(problems, "its diagnosis shows no command with its output")
	}
	return problems
}

func TestCheckAlertFinds(t *testing.T) {
	t.Parallel()
	good := func() rule {
		return rule{
			Alert: "LamplighterX", Expr: "up == 0", For: "1m", Labels: map[string]string{"severity": "page"},
			Annotations: map[string]string{"summary": "s", "description": "d", "runbook_url": "docs/runbooks/LamplighterX.md"},
		}
	}
	for name, tc := range map[string]struct {
		spoil func(r *rule)
		want  string
	}{
		"Nothing":  {func(*rule) {}, ""},
		"Name":     {func(r *rule) { r.Alert = "X" }, "must begin with"},
		"Severity": {func(r *rule) { r.Labels["severity"] = "critical" }, "is none of"},
		"For":      {func(r *rule) { r.For = "" }, "has no duration"},
		"Summary":  {func(r *rule) { r.Annotations["summary"] = "" }, "needs a summary"},
		"Varying":  {func(r *rule) { r.Annotations["summary"] = "{{ $value }}" }, "must not vary"},
		"Runbook":  {func(r *rule) { r.Annotations["runbook_url"] = "https://example.com" }, "runbook_url"},
		"Theirs":   {func(r *rule) { r.Expr = "max(lamplighter_endpoint_failing) > 0" }, "severity info is for alerts"},
		"OursInfo": {func(r *rule) { r.Labels["severity"] = "info" }, "and for no others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := good()
			tc.spoil(&r)
			got := strings.Join(checkAlert(r), "; ")
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problems = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCheckRunbookFinds(t *testing.T) {
	t.Parallel()
	const good = "# A\n\n## Meaning\n\nx\n\n## Impact\n\nx\n\n## Diagnosis\n\n```\n$ ls\nfile\n```\n\n## Mitigation\n\nx\n"
	for name, tc := range map[string]struct{ text, want string }{
		"Nothing":  {good, ""},
		"Title":    {strings.Replace(good, "# A", "# B", 1), "must begin with"},
		"Part":     {strings.Replace(good, "## Impact", "## Damage", 1), "lacks ## Impact"},
		"Order":    {"# A\n\n## Impact\n\n## Meaning\n\n## Diagnosis\n\n```\n$ ls\nfile\n```\n\n## Mitigation\n", "lacks ## Impact in its place"},
		"NoOutput": {strings.Replace(good, "file\n", "", 1), "no command with its output"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(checkRunbook("A", tc.text), "; ")
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problems = %q, want %q", got, tc.want)
			}
		})
	}
}
