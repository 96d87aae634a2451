package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// code is the production code: cmd and internal without tests and what exists for tests.
type code struct {
	functions []function
	// names are, by package, what it declares at its top: types, functions, methods, by lower-case name.
	names map[string]map[string]string
	// texts are comments, a text a line, and the strings that hold a space, with their place.
	texts []line
}

type function struct {
	pkg, name, at string
	method        bool
}

type line struct{ at, text string }

var oneLowerWord = regexp.MustCompile(`^[a-z]+$`)

// oneWord reports whether one lower-case word is all that the name says.
func (f function) oneWord() bool { return oneLowerWord.MatchString(f.name) }

// conventional reports whether Go itself, or every program, names a function so.
func (f function) conventional() bool {
	return f.name == "init" || strings.HasPrefix(f.pkg, "cmd/") && (f.name == "main" || f.name == "run")
}

func parseCode(root string) (*code, error) {
	c := &code{names: map[string]map[string]string{}}
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if pkg := filepath.Base(filepath.Dir(path)); strings.HasSuffix(pkg, "test") && pkg != "endpointtest" {
				return nil
			}
			return c.addFile(root, path)
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *code) addFile(root, path string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	at := func(p token.Pos) string { return fmt.Sprintf("%s:%d", name, set.Position(p).Line) }
	pkg := filepath.Dir(name)
	if c.names[pkg] == nil {
		c.names[pkg] = map[string]string{}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			c.functions = append(c.functions, function{pkg: pkg, name: d.Name.Name, at: at(d.Pos()), method: d.Recv != nil})
			c.names[pkg][strings.ToLower(d.Name.Name)] = at(d.Pos())
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					c.names[pkg][strings.ToLower(t.Name.Name)] = at(t.Pos())
				}
			}
		}
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			for i, text := range strings.Split(comment.Text, "\n") {
				c.texts = append(c.texts, line{fmt.Sprintf("%s:%d", name, set.Position(comment.Pos()).Line+i), text})
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING && strings.Contains(s.Value, " ") {
			c.texts = append(c.texts, line{at(s.Pos()), strings.Trim(s.Value, "`\"")})
		}
		return true
	})
	return nil
}

// homonym is a word that meant several things. It has one meaning while no package but its owner declares it.
type homonym struct {
	word string
	// owner is where the word has its meaning, empty where it has none any more.
	owner string
}

func homonyms() []homonym {
	return []homonym{
		{"gate", ""},
		{"health", "internal/health"},
		{"standing", ""},
		{"knowledge", ""},
		{"verdict", ""},
		{"begun", ""},
		{"post", "internal/push"},
		{"outcome", "internal/delivery"},
		{"words", ""},
	}
}

// meanings are the places that give a word another meaning than its owner's.
func (c *code) meanings(h homonym) []string {
	var out []string
	for pkg, names := range c.names {
		if at, ok := names[h.word]; ok && pkg != h.owner {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out
}
