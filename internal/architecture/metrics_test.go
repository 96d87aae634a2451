package architecture_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const namespace = "lamplighter"

var (
	metricWord = regexp.MustCompile(`[A-Za-z0-9_:]*lamplighter_[a-z0-9_]*(?:\*|…|:[a-z])?`)
	snake      = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

func TestMetricsNamedExist(t *testing.T) {
	t.Parallel()
	root := repository(t)
	report(t, checkMetrics(t, root, definedMetrics(load(t, root))))
}

// namesMetrics reports whether a file is one whose metrics people rely on:
// documents, dashboards, alert rules and their tests.
func namesMetrics(name string) bool {
	if isDocument(name) {
		return true
	}
	top, _, _ := strings.Cut(name, "/")
	return slices.Contains([]string{"dashboards", "alerts", "charts", "docs"}, top) &&
		slices.Contains([]string{".json", ".yml", ".yaml", ".tpl", ".md"}, path.Ext(name))
}

// checkMetrics finds names of ours that no code defines.
func checkMetrics(t *testing.T, root fs.FS, defined []string) []string {
	t.Helper()
	var findings []string
	for _, name := range files(t, root) {
		if !namesMetrics(name) {
			continue
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			for _, word := range metricWord.FindAllString(line, -1) {
				if !known(defined, word) {
					findings = append(findings, fmt.Sprintf("%s:%d: metric %s is not defined in the code", name, number, word))
				}
			}
		}
	}
	return findings
}

// known reports whether a word names a defined metric, a series of a histogram,
// a family (lamplighter_queue_…) or something that is no metric at all.
func known(defined []string, word string) bool {
	if !strings.HasPrefix(word, namespace+"_") || strings.Contains(word, ":") {
		return true // a recording rule, or part of another word
	}
	prefix := strings.TrimRight(word, "*…")
	if prefix != word || strings.HasSuffix(word, "_") {
		return slices.ContainsFunc(defined, func(d string) bool { return strings.HasPrefix(d, prefix) })
	}
	if slices.Contains(defined, word) {
		return true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(word, suffix); ok && slices.Contains(defined, base) {
			return true
		}
	}
	return false
}

// definedMetrics collects the names that production code gives its metrics:
// full names wherever they are written, and in files that import the Prometheus
// client the Name of options (with its Subsystem) and the texts handed to calls,
// which is how helpers that build metrics are used.
func definedMetrics(sources []source) []string {
	var names []string
	for _, s := range sources {
		if s.test || !strings.HasPrefix(s.dir, internal) {
			continue
		}
		client := slices.ContainsFunc(importPaths(s), func(p string) bool {
			return imported(p, "github.com/prometheus/client_golang")
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if v := text(n); strings.HasPrefix(v, namespace+"_") {
					names = append(names, v)
				}
			case *ast.CompositeLit:
				if client {
					names = append(names, optionsName(n))
				}
			case *ast.CallExpr:
				if client {
					names = append(names, argumentNames(n)...)
				}
			}
			return true
		})
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
	slices.Sort(names)
	return slices.Compact(names)
}

// optionsName reads the full name out of options such as prometheus.CounterOpts.
func optionsName(n *ast.CompositeLit) string {
	var name, subsystem string
	for _, element := range n.Elts {
		kv, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		if !ok {
			continue
		}
		switch key.Name {
		case "Name":
			name = text(kv.Value)
		case "Subsystem":
			subsystem = text(kv.Value) + "_"
		}
	}
	if name == "" {
		return ""
	}
	return qualified(subsystem + name)
}

// argumentNames reads the names handed to calls: BuildFQName(ns, "queue", "size"), counter("mails_total", …).
func argumentNames(n *ast.CallExpr) []string {
	if selector, ok := n.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "WithLabelValues" {
		return nil
	}
	var parts []string
	for _, arg := range n.Args {
		if v := text(arg); snake.MatchString(v) && v != namespace {
			parts = append(parts, v)
		}
	}
	names := make([]string, 0, len(parts)+1)
	for _, part := range parts {
		names = append(names, qualified(part))
	}
	return append(names, qualified(strings.Join(parts, "_")))
}

func qualified(name string) string {
	if name == "" || strings.HasPrefix(name, namespace+"_") {
		return name
	}
	return namespace + "_" + name
}

// text returns the value of a string literal, else "".
func text(n ast.Node) string {
	literal, ok := n.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	v, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return v
}

func importPaths(s source) []string {
	var paths []string
	for p := range s.imports() {
		paths = append(paths, p)
	}
	return paths
}

func TestCheckMetricsFinds(t *testing.T) {
	t.Parallel()
	const code = `package push
import "github.com/prometheus/client_golang/prometheus"
const ns = "lamplighter"
var (
	_ = prometheus.CounterOpts{Namespace: ns, Name: "attempts_total", Help: "pushes"}
	_ = prometheus.HistogramOpts{Namespace: ns, Subsystem: "http", Name: "request_seconds"}
	_ = prometheus.NewDesc("lamplighter_apps", "apps", []string{"condition"}, nil)
	_ = prometheus.BuildFQName(ns, "queue", "size")
	_ = gauge("breakers", "by state")
	_ = vec.WithLabelValues("delivered")
)`
	for name, tc := range map[string]struct {
		path, text string
		want       []string
	}{
		"Options":         {"docs/metrics.md", "`lamplighter_attempts_total{outcome}`", nil},
		"Typo":            {"docs/metrics.md", "`lamplighter_atempts_total`", []string{"docs/metrics.md:1: metric lamplighter_atempts_total"}},
		"SuffixForgotten": {"docs/metrics.md", "lamplighter_attempts", []string{"lamplighter_attempts is not"}},
		"Histogram":       {"dashboards/a.json", `{"expr":"rate(lamplighter_http_request_seconds_bucket[5m])"}`, nil},
		"Subsystem":       {"dashboards/a.json", `{"expr":"lamplighter_request_seconds_sum"}`, []string{"lamplighter_request_seconds_sum"}},
		"Description":     {"charts/x/rules.yaml", "expr: max(lamplighter_apps) > 0", nil},
		"QualifiedName":   {"alerts/a.yml", "expr: lamplighter_queue_size > 0", nil},
		"Helper":          {"alerts/a.yml", "expr: lamplighter_breakers", nil},
		"LabelValue":      {"alerts/a.yml", "expr: lamplighter_delivered", []string{"lamplighter_delivered"}},
		"Label":           {"alerts/a.yml", "expr: lamplighter_condition", []string{"lamplighter_condition"}},
		"Family":          {"docs/metrics.md", "all of lamplighter_queue_…", nil},
		"UnknownFamily":   {"docs/metrics.md", "all of lamplighter_mail_*", []string{"lamplighter_mail_*"}},
		"Everything":      {"docs/metrics.md", "all start with `lamplighter_`", nil},
		"RecordingRule":   {"alerts/a.yml", "record: job:lamplighter_gone:rate5m", nil},
		"OwnRule":         {"alerts/a.yml", "record: lamplighter_gone:rate5m", nil},
		"OtherFile":       {"test/a.md", "lamplighter_gone", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(map[string]string{"internal/push/metrics.go": code, tc.path: tc.text})
			wantFindings(t, checkMetrics(t, root, definedMetrics(load(t, root))), tc.want...)
		})
	}
}
