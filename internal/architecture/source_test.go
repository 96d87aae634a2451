package architecture_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// source is one parsed Go file of the module.
type source struct {
	path  string // below the repository's root, with slashes
	dir   string
	test  bool
	lines int
	file  *ast.File
	fset  *token.FileSet
}

// at names a place for a finding.
func (s source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(pos).Line)
}

// imports returns the import paths with the name each has in the file.
func (s source) imports() map[string]string {
	names := make(map[string]string, len(s.file.Imports))
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser accepted it, so this is a quoted string
		}
		names[p] = localName(p)
		if spec.Name != nil {
			names[p] = spec.Name.Name
		}
	}
	return names
}

// localName guesses an import's name: the last element that is not a major version.
func localName(p string) string {
	base := path.Base(p)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(p))
	}
	return base
}

// imported reports whether p is lib or a package below it.
func imported(p, lib string) bool { return p == lib || strings.HasPrefix(p, lib+"/") }

// repository returns the checkout's root as a file system.
func repository(t *testing.T) fs.FS {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("working directory: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return os.DirFS(dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// load parses the Go files of the module in root; nested modules are not part of it.
func load(t *testing.T, root fs.FS) []source {
	t.Helper()
	var sources []source
	for _, name := range files(t, root) {
		if path.Ext(name) != ".go" {
			continue
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("parse %s: %v", name, err)
		}
		sources = append(sources, source{
			path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(text, []byte("\n")), file: file, fset: fset,
		})
	}
	return sources
}

// files lists the module's files, without what is built, fetched or hidden.
func files(t *testing.T, root fs.FS) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			names = append(names, name)
			return nil
		}
		if name == "." {
			return nil
		}
		base := path.Base(name)
		if strings.HasPrefix(base, ".") || slices.Contains([]string{"node_modules", "testdata", "bin", "vendor"}, base) {
			return fs.SkipDir
		}
		if _, err := fs.Stat(root, name+"/go.mod"); err == nil {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk the repository: %v", err)
	}
	return names
}

// tree makes a repository out of path and content pairs.
func tree(contents map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, content := range contents {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

// report fails with every finding on a line of its own.
func report(t *testing.T, findings []string) {
	t.Helper()
	slices.Sort(findings)
	for _, finding := range slices.Compact(findings) {
		t.Error(finding)
	}
}

// wantFindings compares findings by a part of each, in order.
func wantFindings(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("findings:\n  %s\nwant, in part:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
