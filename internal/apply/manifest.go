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

// Limits of the input. They are far above any platform, and keep a mistake from filling the memory.
const (
	// MaxFile is the longest file, in bytes.
	MaxFile = 128 << 20
	// maxNodes limits the values of a document; aliases count wherever they are used.
	maxNodes = 5_000_000
	maxDepth = 16
	// maxProblems is how many problems are reported.
	maxProblems = 20
)

// Position is a place in a file.
type Position struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// String is file:line.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// App is what a document says about an app.
type App struct {
	ID string
	// Said are the members as JSON values: string, bool, []any of strings, map[string]any.
	Said map[string]any
	// Approvals are the tenants, sorted and without duplicates; nil when the document has none.
	Approvals []string
	At        Position
}

// Tenant is what a document says about a tenant's status.
type Tenant struct {
	ID   string
	Said map[string]any
	At   Position
}

// Manifest is the content of all files. The zero value is empty.
type Manifest struct {
	Apps    []App
	Tenants []Tenant

	seen     map[string]Position
	problems []Problem
}

// Problem is a mistake in a file.
type Problem struct {
	At   Position
	Text string
}

// Problems are all mistakes, as an error.
type Problems []Problem

// Error has a line for each mistake, and only the first ones when there are many.
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

// Err returns the mistakes in all files read so far: Problems, or nil.
func (m *Manifest) Err() error {
	if len(m.problems) == 0 {
		return nil
	}
	return Problems(m.problems)
}

func (m *Manifest) addProblem(at Position, format string, args ...any) {
	m.problems = append(m.problems, Problem{at, fmt.Sprintf(format, args...)})
}

// AddFile adds the documents of one file. Its error is a read error; Err returns mistakes.
func (m *Manifest) AddFile(file string, r io.Reader) error {
	content, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return err
	}
	if len(content) > MaxFile {
		m.addProblem(Position{file, 1}, "is longer than %d MiB: split it", MaxFile>>20)
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
			at, words := splitParserError(file, err)
			m.addProblem(at, "is not YAML: %s", words)
			return nil
		}
		if len(doc.Content) == 1 && !isNull(doc.Content[0]) {
			m.addDocument(file, doc.Content[0])
		}
	}
}

// splitParserError splits a parser's message, which contains the line number only as text.
func splitParserError(file string, err error) (Position, string) {
	at, words := Position{file, 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(words, "line "); ok {
		number, text, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			at.Line, words = n, text
		}
	}
	return at, words
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// addDocument adds one document, for an app or a tenant depending on the member that names it.
func (m *Manifest) addDocument(file string, n *yaml.Node) {
	at := Position{file, n.Line}
	if n.Kind != yaml.MappingNode {
		m.addProblem(at, "a document must be a mapping with client_id, for an app, or tenant")
		return
	}
	before := len(m.problems)
	w := &decoder{m: m, file: file, left: maxNodes}
	switch {
	case hasMember(n, "client_id"):
		said := w.decodeMapping(n, "", appSchema(), 0)
		if len(m.problems) == before {
			m.addApp(said, at)
		}
	case hasMember(n, "tenant"):
		said := w.decodeMapping(n, "", tenantSchema(), 0)
		if len(m.problems) == before {
			m.addTenant(said, at)
		}
	default:
		hint := ""
		if len(n.Content) > 0 {
			hint = suggestMember(n.Content[0].Value, map[string]member{"client_id": {}, "tenant": {}})
		}
		m.addProblem(at, "a document must have client_id, for an app, or tenant%s", hint)
	}
}

func hasMember(n *yaml.Node, name string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

func (m *Manifest) addApp(said map[string]any, at Position) {
	id, _ := said["client_id"].(string)
	if _, err := partner.ParseClientID(id); err != nil {
		m.addProblem(at, "client_id: %v", err)
		return
	}
	if !m.markSeen("app "+id, at) {
		return
	}
	a := App{ID: id, Said: said, At: at}
	if list, ok := said["approvals"].([]any); ok {
		a.Approvals = make([]string, 0, len(list))
		for _, item := range list {
			name, _ := item.(string)
			if _, err := tenant.ParseID(name); err != nil {
				m.addProblem(at, "approvals of app %s: %q: %v", id, truncateValue(name), err)
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

func (m *Manifest) addTenant(said map[string]any, at Position) {
	id, _ := said["tenant"].(string)
	if _, err := tenant.ParseID(id); err != nil {
		m.addProblem(at, "tenant: %v", err)
		return
	}
	if !m.markSeen("tenant "+id, at) {
		return
	}
	delete(said, "tenant")
	m.Tenants = append(m.Tenants, Tenant{ID: id, Said: said, At: at})
}

// markSeen records a document's subject, and reports a second document about it.
func (m *Manifest) markSeen(what string, at Position) bool {
	if m.seen == nil {
		m.seen = map[string]Position{}
	}
	if other, ok := m.seen[what]; ok {
		m.addProblem(at, "%s is said already at %s: one document must say all of it", what, other)
		return false
	}
	m.seen[what] = at
	return true
}

// truncateValue keeps a long value from filling the screen.
func truncateValue(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
