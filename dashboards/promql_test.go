package dashboards_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What these tests need to understand of PromQL: which series an expression selects, with which
// matchers, by which labels it groups, and what stands around a selector. promtool knows the rest.
var (
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^{}]*)\})?`)
	matcher   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	duration  = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\w+`)
	aggregate = regexp.MustCompile(`max(?: by \([^)]*\))?\s*\(\s*$`)
	number    = regexp.MustCompile(`\b[0-9][0-9a-zA-Z.]*\b`)
)

// keywords are words of PromQL that stand where a metric could.
func keywords() []string { return []string{"and", "or", "unless", "bool", "inf"} }

// scraped are labels that Prometheus adds when it scrapes.
func scraped() []string { return []string{"job", "instance", "le"} }

// foreign are series that Prometheus itself makes.
func foreign() []string { return []string{"up", "ALERTS"} }

// selection is one use of a series in an expression.
type selection struct {
	name, matchers, before, after string
}

// selections finds every use of a series in an expression.
func selections(expr string) []selection {
	// groupings and durations are blanked, so that places in the text stay what they are
	blank := func(s string) string { return strings.Repeat(" ", len(s)) }
	bare := grouping.ReplaceAllStringFunc(expr, blank)
	bare = duration.ReplaceAllStringFunc(bare, blank)
	bare = number.ReplaceAllStringFunc(bare, blank)
	var out []selection
	for _, m := range selector.FindAllStringSubmatchIndex(bare, -1) {
		name := bare[m[2]:m[3]]
		if insideMatchers(bare, m[2]) || slices.Contains(keywords(), name) || m[2] > 0 && bare[m[2]-1] == '$' {
			continue
		}
		if m[4] < 0 && (isCall(bare[m[1]:]) || isAggregation(expr[m[3]:])) {
			continue
		}
		s := selection{name: name, before: expr[:m[2]], after: strings.TrimSpace(expr[m[1]:])}
		if m[4] >= 0 {
			s.matchers = expr[m[4]:m[5]]
		}
		out = append(out, s)
	}
	return out
}

func insideMatchers(expr string, at int) bool {
	return strings.Count(expr[:at], "{") > strings.Count(expr[:at], "}")
}

func isCall(rest string) bool { return strings.HasPrefix(strings.TrimSpace(rest), "(") }

// isAggregation reports that what follows a word makes it an operator such as sum by (x) (…).
func isAggregation(rest string) bool {
	rest = strings.TrimSpace(rest)
	return strings.HasPrefix(rest, "by ") || strings.HasPrefix(rest, "without ")
}

// checkNames finds series, labels and values in an expression that nothing exports.
func checkNames(live families, records []string, expr string) []string {
	var problems []string
	labels := scraped()
	for _, s := range selections(expr) {
		if slices.Contains(foreign(), s.name) || slices.Contains(records, s.name) {
			continue
		}
		f, ok := live.of(s.name)
		if !ok {
			problems = append(problems, "no service exports "+s.name)
			continue
		}
		for label := range f.labels {
			labels = append(labels, label)
		}
		for _, m := range matcher.FindAllStringSubmatch(s.matchers, -1) {
			problems = append(problems, checkMatcher(s.name, f, m[1], m[2], m[3])...)
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if label = strings.TrimSpace(label); label != "" && !slices.Contains(labels, label) {
				problems = append(problems, "groups by a label that none of its series has: "+label)
			}
		}
	}
	return problems
}

// checkMatcher finds a label that a metric does not have, or a value that the label never has.
func checkMatcher(name string, f *family, label, op, value string) []string {
	values := f.labels[label]
	if strings.Contains(value, "$") || label == "job" || label == "instance" {
		return nil
	}
	if values == nil {
		return []string{fmt.Sprintf("%s has no label %s", name, label)}
	}
	alternatives := []string{regexp.QuoteMeta(value)}
	switch {
	case label == "le":
		alternatives = []string{value} // some bounds are written in two ways: one of them is enough
	case op == "=~" || op == "!~":
		alternatives = strings.Split(value, "|")
	}
	var problems []string
	for _, a := range alternatives {
		re, err := regexp.Compile("^(?:" + a + ")$")
		if err != nil {
			return []string{fmt.Sprintf("%s{%s}: %v", name, label, err)}
		}
		found := false
		for v := range values {
			found = found || re.MatchString(v)
		}
		if !found {
			problems = append(problems, fmt.Sprintf("%s has no %s %q", name, label, a))
		}
	}
	return problems
}

// checkUse finds counters without a rate, and cluster-wide gauges that are not aggregated with max
// before anything else: every worker exports them alike.
func checkUse(live families, expr string) []string {
	var problems []string
	for _, s := range selections(expr) {
		f, ok := live.of(s.name)
		if !ok {
			continue
		}
		counted := regexp.MustCompile(`(rate|increase|present_over_time|last_over_time)\(\s*$`).MatchString(s.before) || strings.HasPrefix(s.after, "[")
		if f.counts() && !counted && !regexp.MustCompile(`(count by \([^)]*\)|absent)\s*\(\s*$`).MatchString(s.before) {
			problems = append(problems, s.name+" is a "+f.kind+": use rate or increase")
		}
		before := strings.TrimSuffix(s.before, "present_over_time(")
		if f.clusterWide() && !aggregate.MatchString(before) {
			problems = append(problems, s.name+" is the same on every worker: aggregate it with max first")
		}
	}
	return problems
}

func TestSelections(t *testing.T) {
	t.Parallel()
	const expr = `sum by (job, le) (rate(a_bucket{x="1", y=~"b|c"}[5m] offset 1h)) / on (job) (b:c:d > 14.4 * 0.001) unless time() - max(e) < 60`
	var got []string
	for _, s := range selections(expr) {
		got = append(got, s.name+"{"+s.matchers+"}")
	}
	want := []string{`a_bucket{x="1", y=~"b|c"}`, "b:c:d{}", "e{}"}
	if !slices.Equal(got, want) {
		t.Errorf("selections = %q, want %q", got, want)
	}
}

func TestCheckNamesFinds(t *testing.T) {
	t.Parallel()
	live := families{
		"lamplighter_apps":  {kind: "gauge", help: "Cluster-wide.", labels: map[string]map[string]bool{"condition": {"behind": true, "off": true}}},
		"lamplighter_n":     {kind: "counter", labels: map[string]map[string]bool{}},
		"lamplighter_lag_s": {kind: "histogram", labels: map[string]map[string]bool{"le": {"60": true, "+Inf": true}}},
	}
	for name, tc := range map[string]struct{ expr, want string }{
		"Good":           {`sum by (condition) (max by (job, condition) (lamplighter_apps{job=~"$job", condition!="off"}))`, ""},
		"Max":            {"max(lamplighter_apps) > 0", ""},
		"Metric":         {"lamplighter_aps > 0", "no service exports lamplighter_aps"},
		"Suffix":         {"rate(lamplighter_n_bucket[5m])", "no service exports"},
		"Histogram":      {`histogram_quantile(0.9, sum by (le) (rate(lamplighter_lag_s_bucket[5m])))`, ""},
		"Bound":          {`rate(lamplighter_lag_s_bucket{le=~"60|60[.]0"}[5m])`, ""},
		"NoBound":        {`rate(lamplighter_lag_s_bucket{le="59"}[5m])`, "has no le"},
		"Value":          {`max(lamplighter_apps{condition="late"})`, `has no condition "late"`},
		"Alternative":    {`max(lamplighter_apps{condition=~"off|late"})`, `has no condition "late"`},
		"Label":          {`max(lamplighter_apps{state="off"})`, "has no label state"},
		"GroupedByWrong": {"max by (state) (lamplighter_apps)", "groups by a label that none of its series has: state"},
		"Record":         {"a:b > 0", ""},
		"Foreign":        {"up == 0", ""},
		"CounterAsGauge": {"sum(lamplighter_n) > 0", "use rate or increase"},
		"Summed":         {"sum(lamplighter_apps)", "aggregate it with max"},
		"Bare":           {`lamplighter_apps{condition="off"} > 0`, "aggregate it with max"},
		"OverTime":       {"max by (job) (present_over_time(lamplighter_apps[5m] offset 1m))", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(append(checkNames(live, []string{"a:b"}, tc.expr), checkUse(live, tc.expr)...), "; ")
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problems of %s: %q, want %q", tc.expr, got, tc.want)
			}
		})
	}
}
