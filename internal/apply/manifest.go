package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Limits of what is read. They are far above any platform and keep a mistake from filling memory.
const (
	// MaxFile is the longest file, in bytes.
	MaxFile = 128 << 20
	// maxNodes bounds the values of a document, aliases counted where they are used.
	maxNodes = 5_000_000
	maxDepth = 16
	// maxProblems is how many problems are told of.
	maxProblems = 20
)

// Place is where something is said.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// String is file:line.
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// App is what a document says of an app.
type App struct {
	ID string
	// Said are the members as JSON values: string, bool, []any of strings, map[string]any.
	Said map[string]any
	// Approvals are the tenants, sorted and without repetitions; nil when nothing is said of them.
	Approvals []string
	At        Place
}

// Tenant is what a document says of a tenant's status.
type Tenant struct {
	ID   string
	Said map[string]any
	At   Place
}

// Manifest is what all files say. The zero value is empty.
type Manifest struct {
	Apps    []App
	Tenants []Tenant

	seen     map[string]Place
	problems []Problem
}

// Problem is a mistake in a file.
type Problem struct {
	At   Place
	Text string
}

// Problems are all mistakes, an error.
type Problems []Problem

// Error has a line for each, the first of them when there are many.
func (p Problems) Error() string {
	var b strings.Builder
	for i, problem := range p {
		if i == maxProblems {
			fmt.Fprintf(&b, "\n  and %d more", len(p)-i)
			break
		}
		if i > 0 {
			b.WriteString("\n  ")
		}
		fmt.Fprintf(&b, "%s: %s", problem.At, problem.Text)
	}
	return b.String()
}

// Err is what was wrong in all files read so far: Problems, or nil.
func (m *Manifest) Err() error {
	if len(m.problems) == 0 {
		return nil
	}
	return Problems(m.problems)
}

func (m *Manifest) problem(at Place, format string, args ...any) {
	m.problems = append(m.problems, Problem{at, fmt.Sprintf(format, args...)})
}

// Read adds the documents of one file. The error is that of reading; mistakes wait for Err.
func (m *Manifest) Read(file string, r io.Reader) error {
	content, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return err
	}
	if len(content) > MaxFile {
		m.problem(Place{file, 1}, "is longer than %d MiB: split it", MaxFile>>20)
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			at, words := parserError(file, err)
			m.problem(at, "is not YAML: %s", words)
			return nil
		}
		if len(doc.Content) == 1 && !isNull(doc.Content[0]) {
			m.document(file, doc.Content[0])
		}
	}
}

// parserError splits a parser's message, which says the line in words alone.
func parserError(file string, err error) (Place, string) {
	at, words := Place{file, 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(words, "line "); ok {
		number, text, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			at.Line, words = n, text
		}
	}
	return at, words
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// document takes one document for an app or a tenant by the member that names it.
func (m *Manifest) document(file string, n *yaml.Node) {
	at := Place{file, n.Line}
	if n.Kind != yaml.MappingNode {
		m.problem(at, "a document must be a mapping with client_id, for an app, or tenant")
		return
	}
	before := len(m.problems)
	w := &walker{m: m, file: file, left: maxNodes}
	switch {
	case has(n, "client_id"):
		said := w.mapping(n, "", appSchema(), 0)
		if len(m.problems) == before {
			m.app(said, at)
		}
	case has(n, "tenant"):
		said := w.mapping(n, "", tenantSchema(), 0)
		if len(m.problems) == before {
			m.tenant(said, at)
		}
	default:
		hint := ""
		if len(n.Content) > 0 {
			hint = nearest(n.Content[0].Value, map[string]member{"client_id": {}, "tenant": {}})
		}
		m.problem(at, "a document must have client_id, for an app, or tenant%s", hint)
	}
}

func has(n *yaml.Node, name string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

func (m *Manifest) app(said map[string]any, at Place) {
	id, _ := said["client_id"].(string)
	if _, err := partner.ParseClientID(id); err != nil {
		m.problem(at, "client_id: %v", err)
		return
	}
	if !m.first("app "+id, at) {
		return
	}
	a := App{ID: id, Said: said, At: at}
	if list, ok := said["approvals"].([]any); ok {
		a.Approvals = make([]string, 0, len(list))
		for _, item := range list {
			name, _ := item.(string)
			if _, err := tenant.ParseID(name); err != nil {
				m.problem(at, "approvals of app %s: %q: %v", id, shorten(name), err)
				return
			}
			a.Approvals = append(a.Approvals, name)
		}
		slices.Sort(a.Approvals)
		a.Approvals = slices.Compact(a.Approvals)
	}
	delete(said, "client_id")
	delete(said, "approvals")
	m.Apps = append(m.Apps, a)
}

func (m *Manifest) tenant(said map[string]any, at Place) {
	id, _ := said["tenant"].(string)
	if _, err := tenant.ParseID(id); err != nil {
		m.problem(at, "tenant: %v", err)
		return
	}
	if !m.first("tenant "+id, at) {
		return
	}
	delete(said, "tenant")
	m.Tenants = append(m.Tenants, Tenant{ID: id, Said: said, At: at})
}

// first notes that a document is about something, and finds the second about the same.
func (m *Manifest) first(what string, at Place) bool {
	if m.seen == nil {
		m.seen = map[string]Place{}
	}
	if other, ok := m.seen[what]; ok {
		m.problem(at, "%s is said already at %s: one document must say all of it", what, other)
		return false
	}
	m.seen[what] = at
	return true
}

// shorten keeps a value that somebody else chose from filling the screen.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
