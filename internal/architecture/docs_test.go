package architecture_test

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	root := repository(t)
	report(t, checkDocuments(t, root, onDisk(root)))
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	linkTo   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	target   = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	pathLike = regexp.MustCompile(`^(\./)?[A-Za-z0-9_.*-]+(/[A-Za-z0-9_.*@-]+)*/?$`)
	rootFile = regexp.MustCompile(`^(Makefile|Dockerfile|LICENSE|go\.(mod|sum)|\.(golangci\.yml|editorconfig|gitattributes|gitignore|dockerignore)|[A-Z][A-Z_]+\.md)$`)
	lineNo   = regexp.MustCompile(`:\d+$`)
	ruleLine = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*):(?:[^=]|$)`)
)

// topLevel are the directories a path in a document may start with. What begins
// otherwise is not taken for a path of the repository.
func topLevel() []string {
	return []string{"cmd", "internal", "docs", "tools", "test", "dashboards", "alerts", "charts", "examples", ".ci", ".github"}
}

// isDocument reports whether a file is prose that readers follow. The changelog
// is not: it may name what is gone.
func isDocument(name string) bool {
	if path.Ext(name) != ".md" || name == "CHANGELOG.md" {
		return false
	}
	return path.Dir(name) == "." || strings.HasPrefix(name, "docs/")
}

// exister tells whether a path or a pattern below the root names something.
type exister func(name string) bool

func onDisk(root fs.FS) exister {
	return func(name string) bool {
		name = path.Clean(name)
		if !fs.ValidPath(name) {
			return false // it leaves the repository
		}
		found, err := fs.Glob(root, name)
		return err == nil && len(found) > 0
	}
}

// checkDocuments finds make targets, paths and links in the documents that lead nowhere.
func checkDocuments(t *testing.T, root fs.FS, exists exister) []string {
	t.Helper()
	makefile, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		t.Fatalf("read the Makefile: %v", err)
	}
	d := documents{exists: exists, targets: targetsOf(string(makefile))}
	for _, name := range files(t, root) {
		if !isDocument(name) {
			continue
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		d.document(name, string(text))
	}
	return d.findings
}

// targetsOf lists the targets a Makefile has rules for.
func targetsOf(makefile string) []string {
	var targets []string
	for _, m := range ruleLine.FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, strings.Fields(m[1])...)
	}
	return targets
}

type documents struct {
	exists   exister
	targets  []string
	findings []string
}

func (d *documents) document(name, text string) {
	fenced := false
	number := 0
	for line := range strings.Lines(text) {
		number++
		at := fmt.Sprintf("%s:%d", name, number)
		bare := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(bare, "```"), strings.HasPrefix(bare, "~~~"):
			fenced = !fenced
		case fenced, strings.HasPrefix(line, "    "), strings.HasPrefix(line, "\t"):
			d.command(at, strings.TrimPrefix(bare, "$ "))
			d.paths(at, path.Dir(name), bare, false)
		default:
			for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
				d.command(at, m[1])
				d.paths(at, path.Dir(name), m[1], true)
			}
			d.links(at, path.Dir(name), codeSpan.ReplaceAllString(line, "`"))
		}
	}
}

// command checks the targets of a line that calls make.
func (d *documents) command(at, line string) {
	words := strings.Fields(line)
	for i, word := range words {
		starts := i == 0 || slices.Contains([]string{"&&", "||", ";", "|"}, words[i-1])
		if word != "make" || !starts {
			continue
		}
		for _, name := range words[i+1:] {
			if strings.Contains(name, "=") {
				continue
			}
			if !target.MatchString(name) {
				break // an option, a comment or the next command
			}
			if !slices.Contains(d.targets, name) {
				d.findings = append(d.findings, fmt.Sprintf("%s: `make %s`: the Makefile has no such target", at, name))
			}
		}
	}
}

// paths checks the words that look like paths of the repository. A bare file
// name counts only where it is marked as code (span).
func (d *documents) paths(at, dir, text string, span bool) {
	for word := range strings.FieldsSeq(text) {
		word = lineNo.ReplaceAllString(strings.TrimRight(word, ".,;:"), "")
		if !pathLike.MatchString(word) || strings.Contains(word, "node_modules") || strings.HasSuffix(word, "/...") {
			continue
		}
		clean := strings.TrimPrefix(word, "./")
		first, _, nested := strings.Cut(clean, "/")
		if nested && slices.Contains(topLevel(), first) && !d.exists(clean) {
			d.findings = append(d.findings, fmt.Sprintf("%s: `%s` does not exist", at, word))
		}
		if span && !nested && rootFile.MatchString(clean) && !d.exists(clean) && !d.exists(path.Join(dir, clean)) {
			d.findings = append(d.findings, fmt.Sprintf("%s: `%s` does not exist", at, word))
		}
	}
}

// links checks the relative links of a line.
func (d *documents) links(at, dir, line string) {
	for _, m := range linkTo.FindAllStringSubmatch(line, -1) {
		to, _, _ := strings.Cut(m[1], "#")
		if to == "" || scheme.MatchString(to) {
			continue
		}
		if !d.exists(path.Join(dir, to)) {
			d.findings = append(d.findings, fmt.Sprintf("%s: the link to %s leads nowhere", at, m[1]))
		}
	}
}

func TestCheckDocumentsFinds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"Target":              {"Run `make test`.", nil},
		"MissingTarget":       {"Run `make tset`.", []string{"README.md:1: `make tset`"}},
		"SecondTarget":        {"Run `make test prove`.", []string{"`make prove`"}},
		"Variable":            {"Run `make test COUNT=3`.", nil},
		"InAFence":            {"```sh\n$ make tset   # why\n```", []string{"README.md:2: `make tset`"}},
		"Indented":            {"Type\n\n    make tset", []string{"README.md:3: `make tset`"}},
		"AfterAnother":        {"```\ncd x && make tset\n```", []string{"`make tset`"}},
		"ProseIsNoCommand":    {"We make sure of `that`, and `make test` makes sure too.", nil},
		"CommentIsNoCommand":  {"```\n# make sure\n```", nil},
		"BuiltinIsNoCommand":  {"```go\nc := make (chan int)\n```", nil},
		"Path":                {"See `internal/tenant` and `./cmd/lamplighter/main.go:12`.", nil},
		"MissingPath":         {"See `internal/gone`.", []string{"`internal/gone` does not exist"}},
		"MissingCommand":      {"Call `go run ./cmd/gone serve`.", []string{"`./cmd/gone`"}},
		"MissingInAFence":     {"```\ngo test ./internal/gone\n```", []string{"./internal/gone"}},
		"Pattern":             {"All of `docs/*.md`.", nil},
		"MissingPattern":      {"All of `charts/*.yaml`.", []string{"charts/*.yaml"}},
		"EveryPackage":        {"```\ngo test ./internal/...\n```", nil},
		"Route":               {"`GET /docs/x` and `/v1/apps`", nil},
		"ForeignPath":         {"`/etc/lamplighter/config.yaml`, `a/b`", nil},
		"RootFile":            {"The `Makefile` and `README.md`.", nil},
		"MissingRootFile":     {"The `Dockerfile`.", []string{"`Dockerfile`"}},
		"Link":                {"[guide](docs/guide.md#top), [site](https://example.com), [above](#top)", nil},
		"MissingLink":         {"[guide](docs/gone.md)", []string{"docs/gone.md leads nowhere"}},
		"LinkOutside":         {"[up](../secret.md)", []string{"leads nowhere"}},
		"LinkInsideCodeIsNot": {"`[guide](docs/gone)`", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(map[string]string{
				"README.md": tc.text, "Makefile": "VERSION := 1\n.PHONY: test\ntest: deps ## Test\n\tgo test\ndeps:\n",
				"internal/tenant/a.go": "package tenant", "cmd/lamplighter/main.go": "package main",
				"docs/guide.md": "Back to [the start](../README.md).", "CHANGELOG.md": "- `internal/gone` is gone",
			})
			wantFindings(t, checkDocuments(t, root, onDisk(root)), tc.want...)
		})
	}
}
