package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/alecthomas/kong"

	"github.com/lamplighter/lamplighter/internal/config"
)

// TestDocumentsNameSettingsAndCommands keeps people from typing what a document, a dashboard or an
// alert says and being told that there is no such thing. Paths, make targets and metrics are
// checked in internal/architecture.
func TestDocumentsNameSettingsAndCommands(t *testing.T) {
	t.Parallel()
	checked := 0
	names := newNames(t)
	root := os.DirFS(filepath.Join("..", ".."))
	for _, name := range namingFiles(t, root) {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range names.check(name, string(text)) {
			t.Error(finding)
		}
		checked++
	}
	if checked < 40 || names.seen.settings < 200 || names.seen.commands < 50 {
		t.Errorf("looked at %d files with %d names of settings and %d of commands: the pages have more", checked, names.seen.settings, names.seen.commands)
	}
}

// namingFiles are the documents (the changelog may name what is gone), dashboards and alert rules.
func namingFiles(t *testing.T, root fs.FS) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		"*.md", "docs/*.md", "docs/*/*.md", "charts/*/*.md", "dashboards/*.json", "dashboards/*.yaml", "docs/deploy/*/*.service", "docs/deploy/*/*.y*ml",
	} {
		found, err := fs.Glob(root, pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return slices.DeleteFunc(all, func(name string) bool { return name == "CHANGELOG.md" })
}

var (
	spanOfCode   = regexp.MustCompile("`([^`]+)`")
	dottedWord   = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	dottedInText = regexp.MustCompile(`[A-Za-z0-9_./$-]*[a-z0-9_]\.[a-z][A-Za-z0-9_./-]*`)
	variable     = regexp.MustCompile(`\bLAMPLIGHTER_[A-Z0-9_]*[A-Z0-9]\b`)
	commandWord  = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flagWord     = regexp.MustCompile(`^--[a-z][a-z0-9-]*`)
)

// names are those that exist.
type names struct {
	settings, sections, variables, flags []string
	root                                 *kong.Node
	seen                                 struct{ settings, commands int }
}

func newNames(t *testing.T) *names {
	t.Helper()
	parser, err := kong.New(newCLI(), kong.Name("lamplighter"))
	if err != nil {
		t.Fatal(err)
	}
	n := &names{root: parser.Model.Node}
	for _, s := range config.AllSettings() {
		n.settings = append(n.settings, s.Key)
		n.variables = append(n.variables, s.Env())
		n.flags = append(n.flags, s.Flag())
		if s.Secret {
			n.settings = append(n.settings, s.FileKey())
			n.variables = append(n.variables, s.FileEnv())
			n.flags = append(n.flags, s.FileFlag())
		}
		if section := path.Dir(strings.ReplaceAll(s.Key, ".", "/")); section != "." {
			first, _, _ := strings.Cut(section, "/")
			n.sections = append(n.sections, first, strings.ReplaceAll(section, "/", "."))
		}
	}
	for _, leaf := range n.root.Leaves(false) {
		for _, f := range leaf.Flags {
			n.variables = append(n.variables, f.Envs...)
			n.variables = append(n.variables, variable.FindAllString(f.Help, -1)...) // the token's are read by hand
		}
	}
	return n
}

// check finds what a file names and nobody has.
func (n *names) check(name, text string) []string {
	var findings []string
	find := func(number int, format string, args ...any) {
		findings = append(findings, fmt.Sprintf("%s:%d: ", name, number)+fmt.Sprintf(format, args...))
	}
	markdown := path.Ext(name) == ".md"
	fenced, number := false, 0
	for line := range strings.Lines(text) {
		number++
		for _, v := range variable.FindAllString(line, -1) {
			n.seen.settings++
			if !slices.Contains(n.variables, v) {
				find(number, "no setting or flag is read from %s", v)
			}
		}
		bare := strings.TrimSpace(line)
		if strings.HasPrefix(bare, "```") {
			fenced = !fenced
			continue
		}
		var code, spans []string
		switch {
		case !markdown || fenced || strings.HasPrefix(line, "    "):
			code = []string{bare}
		default:
			for _, m := range spanOfCode.FindAllStringSubmatch(line, -1) {
				spans = append(spans, m[1])
				n.settingsOf(m[1], true, func(key string) { find(number, "there is no setting `%s`", key) })
			}
		}
		for _, c := range code {
			n.settingsOf(c, false, func(key string) { find(number, "there is no setting `%s`", key) })
		}
		for _, c := range slices.Concat(code, spans) {
			n.commandOf(c, func(what string) { find(number, "%s", what) })
		}
	}
	return findings
}

// foreign are the roots of dotted words that are no settings: members of the API and files.
func foreign() []string { return []string{"health", "endpoint", "metrics", "lamplighter"} }

// settingsOf checks the dotted words. A span of a document that is nothing else must be a setting;
// elsewhere those must be that start like one.
func (n *names) settingsOf(code string, span bool, missing func(string)) {
	for _, word := range dottedInText.FindAllString(code, -1) {
		key := strings.TrimPrefix(strings.TrimRight(word, "."), "config.") // as the chart's values have it
		first, _, _ := strings.Cut(key, ".")
		section := slices.Contains(n.sections, first)
		whole := span && word == code
		if !dottedWord.MatchString(key) || slices.Contains(foreign(), first) || isFile(key) || !section && !whole {
			continue
		}
		n.seen.settings++
		if !slices.Contains(n.settings, key) && !slices.Contains(n.sections, key) {
			missing(key)
		}
	}
}

// isFile reports whether a dotted word names a file.
func isFile(word string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json", ".pem", ".rdb", ".md", ".go", ".conf", ".sh", ".aof", ".crt", ".com", ".example"}, path.Ext(word))
}

// commandOf checks what follows the program's name where a line of a shell starts it.
func (n *names) commandOf(code string, report func(string)) {
	words := strings.Fields(strings.TrimPrefix(code, "$ "))
	for i, word := range words {
		bare := strings.TrimPrefix(strings.TrimPrefix(word, "ExecStart="), "ExecStartPre=")
		if path.Base(bare) != "lamplighter" || i+1 == len(words) || !startsProgram(words[:i], bare) {
			continue
		}
		n.commandLine(words[i+1:], report)
	}
}

// startsProgram reports whether a word is what a shell would run, and not a namespace, a user or a release.
func startsProgram(before []string, word string) bool {
	if len(before) == 0 {
		return true
	}
	last := before[len(before)-1]
	return slices.Contains([]string{"&&", "||", ";", "|", "--", "sudo", "exec"}, last) || strings.Contains(last, "=") ||
		last == "run" && strings.HasPrefix(word, "./cmd/")
}

func (n *names) commandLine(words []string, report func(string)) {
	node, said := n.root, "lamplighter"
	for _, word := range words {
		word = strings.TrimRight(word, ",.;:")
		switch {
		case slices.Contains([]string{"&&", "||", ";", "|", "#", ">", "&"}, word):
			return
		case flagWord.MatchString(word):
			if name := flagWord.FindString(word); !n.hasFlag(node, name[2:]) {
				report(fmt.Sprintf("`%s` has no flag %s", said, name))
			}
		case len(node.Children) > 0 && commandWord.MatchString(word):
			next := findChild(node, word)
			if next == nil {
				report(fmt.Sprintf("`%s` has no command %s", said, word))
				return
			}
			n.seen.commands++
			node, said = next, said+" "+word
		}
	}
}

func (n *names) hasFlag(node *kong.Node, name string) bool {
	for at := node; at != nil; at = at.Parent {
		if slices.ContainsFunc(at.Flags, func(f *kong.Flag) bool { return f.Name == name || "no-"+f.Name == name }) {
			return true
		}
	}
	return name == "help" || commandUses(node, "config") && slices.Contains(n.flags, name)
}

func TestNamesFound(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, text, want string }{
		"Setting":         {"docs/a.md", "Raise `delivery.in_flight_per_app`, or `redis.url_file` of `redis.tls`.", ""},
		"Typo":            {"docs/a.md", "\nRaise `delivery.in_flight_app`.", "docs/a.md:2: there is no setting `delivery.in_flight_app`"},
		"Section":         {"docs/a.md", "Raise `deliveries.in_flight`.", "no setting `deliveries.in_flight`"},
		"ValueOfChart":    {"docs/a.md", "Set `config.smtp.prt`.", "no setting `smtp.prt`"},
		"File":            {"docs/a.md", "Edit `lamplighter.yaml`, and `dump.rdb`.", ""},
		"MemberOfTheAPI":  {"docs/a.md", "It is `health.state`.", ""},
		"InADashboard":    {"dashboards/a.json", `{"description": "Raise delivery.graze."}`, "dashboards/a.json:1: there is no setting `delivery.graze`"},
		"ProseOfAlert":    {"dashboards/a.yaml", "summary: Mail is late. See delivery.grace.", ""},
		"Variable":        {"docs/a.md", "LAMPLIGHTER_REDIS_URL_FILE and LAMPLIGHTER_TOKEN", ""},
		"NoVariable":      {"docs/a.md", "`LAMPLIGHTER_REDIS_URI`", "read from LAMPLIGHTER_REDIS_URI"},
		"Command":         {"docs/a.md", "Call `lamplighter keys generate --out FILE`.", ""},
		"NoCommand":       {"docs/a.md", "Call `lamplighter kyes generate`.", "`lamplighter` has no command kyes"},
		"NoSubcommand":    {"docs/a.md", "Call `lamplighter keys make`.", "`lamplighter keys` has no command make"},
		"NoFlag":          {"docs/a.md", "Call `lamplighter keys generate --file a.pem`.", "`lamplighter keys generate` has no flag --file"},
		"FlagOfASetting":  {"docs/a.md", "Call `lamplighter serve --redis-url redis://a --config a.yaml`.", ""},
		"Fenced":          {"docs/a.md", "```\n$ bin/lamplighter publsh Cust1\n```", "docs/a.md:2: `lamplighter` has no command publsh"},
		"Indented":        {"docs/a.md", "    go run ./cmd/lamplighter devel", "no command devel"},
		"InAPod":          {"docs/a.md", "    kubectl exec deploy/a -- lamplighter docter", "no command docter"},
		"AfterAVariable":  {"docs/a.md", "    A=b lamplighter docter", "no command docter"},
		"Release":         {"docs/a.md", "    helm install lamplighter charts/lamplighter --wait", ""},
		"Unit":            {"docs/deploy/a/a.service", "ExecStart=/usr/bin/lamplighter server", "no command server"},
		"ProseIsNoShell":  {"docs/a.md", "lamplighter kyes generate", ""},
		"TheNextCommand":  {"docs/a.md", "    lamplighter doctor && ls --all", ""},
		"ArgumentIsNoOne": {"docs/a.md", "    lamplighter publish Cust1 suspend", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{tc.file: {Data: []byte(tc.text)}}
			if found := namingFiles(t, root); len(found) != 1 {
				t.Fatalf("looks at %v, want %s", found, tc.file)
			}
			got := newNames(t).check(tc.file, tc.text)
			if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}
