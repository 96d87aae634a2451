package dashboards_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type dashboard struct {
	UID         string  `json:"uid"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Editable    bool    `json:"editable"`
	Links       []any   `json:"links"`
	Panels      []panel `json:"panels"`
	Templating  struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []annotation `json:"list"`
	} `json:"annotations"`
}

type variable struct {
	Name, Label, Type, Definition, AllValue string
	Multi, IncludeAll                       bool
	Refresh                                 int
}

type annotation struct {
	Name, Expr string
	Datasource source
}

type source struct{ Type, UID string }

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  source
	GridPos     struct{ X, Y, W, H int }
	Targets     []target
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
}

type target struct {
	RefID      string
	Expr       string
	Datasource source
}

type query struct {
	at, expr   string
	annotation bool
}

// queries are all expressions of a dashboard.
func (d *dashboard) queries() []query {
	var out []query
	for _, p := range d.Panels {
		for _, tg := range p.Targets {
			out = append(out, query{at: p.Title + " " + tg.RefID, expr: tg.Expr})
		}
	}
	for _, a := range d.Annotations.List {
		out = append(out, query{at: "annotation " + a.Name, expr: a.Expr, annotation: true})
	}
	return out
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dashboards reads every dashboard of this directory.
func dashboards(t *testing.T) map[string]*dashboard {
	t.Helper()
	names, err := filepath.Glob("*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no dashboards found: %v", err)
	}
	out := make(map[string]*dashboard, len(names))
	for _, name := range names {
		d := &dashboard{}
		if err := json.Unmarshal([]byte(readFile(t, name)), d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = d
	}
	return out
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	uids := map[string]string{}
	for name, d := range dashboards(t) {
		for _, problem := range lint(d) {
			t.Errorf("%s: %s", name, problem)
		}
		if other, taken := uids[d.UID]; taken {
			t.Errorf("%s has the uid of %s", name, other)
		}
		uids[d.UID] = name
	}
}

// lint finds parts of a dashboard that work only in its author's Grafana.
func lint(d *dashboard) []string {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if d.UID == "" || d.Title == "" || d.Description == "" {
		add("needs a uid, a title and a description")
	}
	if d.Editable {
		add("is editable: changes made in Grafana would be lost, so they must not be possible")
	}
	if len(d.Links) == 0 {
		add("has no links to the others and to the alerts")
	}
	problems = append(problems, lintVariables(d)...)
	for _, a := range d.Annotations.List {
		if a.Datasource.UID != dataSource {
			add("annotation %s: data source %q, want %s", a.Name, a.Datasource.UID, dataSource)
		}
	}
	ids := map[int]string{}
	for i, p := range d.Panels {
		if other, taken := ids[p.ID]; taken || p.ID == 0 {
			add("panel %s: id %d is missing or that of %s", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		problems = append(problems, lintPanel(p)...)
		for _, q := range d.Panels[:i] {
			if overlap(p, q) {
				add("panel %s lies on panel %s", p.Title, q.Title)
			}
		}
	}
	return problems
}

// dataSource is how panels refer to the data source variable.
const dataSource = "${datasource}"

func lintVariables(d *dashboard) []string {
	var problems []string
	find := func(name string) *variable {
		for i := range d.Templating.List {
			if d.Templating.List[i].Name == name {
				return &d.Templating.List[i]
			}
		}
		return nil
	}
	if v := find("datasource"); v == nil || v.Type != "datasource" || v.Label != "Data source" {
		problems = append(problems, `needs a variable "datasource" of that type, labelled "Data source"`)
	}
	if v := find("job"); v == nil || v.Label != "Job" || !v.Multi || !v.IncludeAll || v.AllValue != ".+" {
		problems = append(problems, `needs a variable "job", labelled "Job", with several values and all, which means ".+"`)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" && (v.Refresh != 2 || !strings.HasPrefix(v.Definition, "label_values(lamplighter_")) {
			problems = append(problems, "variable "+v.Name+": must follow the time range and ask one of our metrics")
		}
	}
	return problems
}

var rateRange = regexp.MustCompile(`\bi?rate\([^\[]*\[([^\]]*)\]`)

func lintPanel(p panel) []string {
	var problems []string
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("panel %s: ", p.Title)+fmt.Sprintf(format, args...))
	}
	if p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
		add("needs a title and a place within 24 columns")
	}
	if p.Type == "row" {
		return problems
	}
	if p.Description == "" {
		add("has no description")
	}
	if p.FieldConfig.Defaults.Unit == "" {
		add("has no unit")
	}
	if len(p.Targets) == 0 {
		add("asks nothing")
	}
	refs := map[string]bool{}
	for _, tg := range p.Targets {
		if refs[tg.RefID] {
			add("%s twice", tg.RefID)
		}
		refs[tg.RefID] = true
		if p.Datasource.UID != dataSource || tg.Datasource.UID != dataSource {
			add("%s: data source must be %s", tg.RefID, dataSource)
		}
		for _, s := range selections(tg.Expr) {
			if !strings.Contains(s.matchers, `job=~"$job"`) {
				add(`%s: %s needs job=~"$job"`, tg.RefID, s.name)
			}
		}
		for _, m := range rateRange.FindAllStringSubmatch(tg.Expr, -1) {
			if m[1] != "$__rate_interval" {
				add("%s: a rate over [%s]: use [$__rate_interval]", tg.RefID, m[1])
			}
		}
	}
	return problems
}

func overlap(p, q panel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// Grafana's variables are replaced as Grafana would, and promtool parses the expressions.
func TestQueriesParse(t *testing.T) {
	t.Parallel()
	replace := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$job", ".+", "$instance", ".+")
	type record struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []record
	for _, d := range dashboards(t) {
		for _, q := range d.queries() {
			expr := replace.Replace(q.expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: an unknown variable in %s", q.at, expr)
			}
			rules = append(rules, record{Record: fmt.Sprintf("q:%d", len(rules)), Expr: expr})
		}
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", file)
}

// promtool runs Prometheus's own checker; a finding or a warning fails the test.
func promtool(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not installed and these tests need it: run 'make deps' (Debian: apt-get install prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || slices.Equal(args, []string{"check", "metrics"}) && len(out) > 0 {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestLintFinds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(d *dashboard)
		want  string
	}{
		"Uid":         {func(d *dashboard) { d.UID = "" }, "needs a uid"},
		"Editable":    {func(d *dashboard) { d.Editable = true }, "is editable"},
		"Links":       {func(d *dashboard) { d.Links = nil }, "has no links"},
		"DataSource":  {func(d *dashboard) { d.Templating.List[0].Name = "ds" }, `needs a variable "datasource"`},
		"Job":         {func(d *dashboard) { d.Templating.List[1].AllValue = ".*" }, `needs a variable "job"`},
		"Refresh":     {func(d *dashboard) { d.Templating.List[1].Refresh = 1 }, "must follow the time range"},
		"Annotation":  {func(d *dashboard) { d.Annotations.List[0].Datasource.UID = "abc" }, "annotation Deploys: data source"},
		"ID":          {func(d *dashboard) { d.Panels[2].ID = d.Panels[1].ID }, "is missing or that of"},
		"Overlap":     {func(d *dashboard) { d.Panels[2].GridPos = d.Panels[1].GridPos }, "lies on panel"},
		"Description": {func(d *dashboard) { d.Panels[1].Description = "" }, "has no description"},
		"Unit":        {func(d *dashboard) { d.Panels[1].FieldConfig.Defaults.Unit = "" }, "has no unit"},
		"NoTargets":   {func(d *dashboard) { d.Panels[1].Targets = nil }, "asks nothing"},
		"Fixed":       {func(d *dashboard) { d.Panels[1].Targets[0].Datasource.UID = "abc" }, "data source must be"},
		"AllJobs":     {func(d *dashboard) { d.Panels[1].Targets[0].Expr = "max(lamplighter_apps)" }, `needs job=~"$job"`},
		"Interval": {
			func(d *dashboard) {
				d.Panels[1].Targets[0].Expr = `rate(lamplighter_superseded_total{job=~"$job"}[5m])`
			}, "use [$__rate_interval]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dashboards(t)["overview.json"]
			tc.spoil(d)
			if got := strings.Join(lint(d), "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("problems = %q, want one with %q", got, tc.want)
			}
		})
	}
}
