package keys_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// suffixes reads every suffix constant out of the source, so that a new one cannot be forgotten.
func suffixes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		typ, ok := spec.Type.(*ast.Ident)
		lit, isLit := spec.Values[0].(*ast.BasicLit)
		if !ok || !isLit || !strings.HasSuffix(typ.Name, "Key") {
			return true
		}
		v, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		found[spec.Names[0].Name] = v
		return true
	})
	return found
}

// A tenant may be called as an app is, or "config" or "owed": only the suffix tells their keys apart.
func TestSuffixesAreDistinct(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^[a-z][a-z_]*[a-z]$`)
	names := suffixes(t)
	if len(names) < 20 {
		t.Fatalf("only %d suffixes found", len(names))
	}
	owner := map[string]string{}
	for name, suffix := range names {
		if !shape.MatchString(suffix) {
			t.Errorf("%s = %q: a suffix is lower-case words joined by '_'", name, suffix)
		}
		if other, taken := owner[suffix]; taken {
			t.Errorf("%s and %s are both %q", name, other, suffix)
		}
		owner[suffix] = name
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := keys.New("")
	for got, want := range map[string]string{
		s.App("app.1", keys.AppDue):               "lamplighter:{app.1}:due",
		s.Tenant("Cust-1", keys.TenantRecord):     "lamplighter:{Cust-1}:record",
		s.Config(keys.ConfigApps):                 "lamplighter:{config}:apps",
		s.Pending(keys.PendingTicket):             "lamplighter:{owed}:ticket",
		keys.New("x-sod").Config(keys.ConfigApps): "x-sod:{config}:apps",
	} {
		if got != want {
			t.Errorf("key %q, want %q", got, want)
		}
	}
	if got := s.Prefix(); got != keys.DefaultPrefix {
		t.Errorf("prefix %q", got)
	}
	if got := keys.New("y").Prefix(); got != "y" {
		t.Errorf("prefix %q, want y", got)
	}
}
