package httpapi_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinter holds the document against a linter of OpenAPI: test/interop/lint-openapi.mjs has its
// rules. To show that it would tell, documents that were spoilt are held against it, too.
func TestLinter(t *testing.T) {
	t.Parallel()
	text := newHarness(t).api.OpenAPI()
	spoilt := []struct {
		name, finding string
		spoil         func(doc node)
	}{
		{"NoID", "operation-operationId", func(d node) { delete(d.at("paths", "/v1/apps", "get"), "operationId") }},
		{"WrongExample", "no-invalid-media-type-examples", func(d node) {
			d.at("paths", "/v1/tokens", "post", "responses", "201", "content", "application/json", "example")["expires_at"] = 7
		}},
		{"NoRequestID", "response-contains-header", func(d node) {
			delete(d.at("paths", "/v1/tokens", "post", "responses", "201", "headers"), "X-Request-Id")
		}},
		{"NoSchema", "no-unresolved-refs", func(d node) { delete(d.at("components", "schemas"), "Token") }},
		{"NoSecurity", "security-defined", func(d node) { delete(d.at("paths", "/v1/apps", "get"), "security") }},
	}
	documents := []string{string(text)}
	for _, s := range spoilt {
		var doc node
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		s.spoil(doc)
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(b))
	}
	found := lint(t, documents)
	for _, p := range found[0].Problems {
		t.Error(p)
	}
	for i, s := range spoilt {
		if all := strings.Join(found[i+1].Problems, "\n"); !strings.Contains(all, s.finding) {
			t.Errorf("%s: no finding of %s in %q", s.name, s.finding, all)
		}
	}
	t.Logf("%d rules, %d operations, %d findings; %d spoilt documents found out", found[0].Rules, len(newHarness(t).api.Operations()), len(found[0].Problems), len(spoilt))
}

// node is an object in a document.
type node map[string]any

func (n node) at(names ...string) node {
	for _, name := range names {
		next, ok := n[name].(map[string]any)
		if !ok {
			return node{} // the finding that is expected then stays out
		}
		n = next
	}
	return n
}

type findings struct {
	Problems []string
	Rules    int
}

// lint needs Node and the packages of test/interop: tools/deps.sh test.
func lint(t *testing.T, documents []string) []findings {
	t.Helper()
	in, err := json.Marshal(documents)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "node", "lint-openapi.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stderr = filepath.Join("..", "..", "test", "interop"), bytes.NewReader(in), &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("the linter does not run (tools/deps.sh test installs it): %v\n%s", err, stderr.String())
	}
	var found []findings
	if err := json.Unmarshal(text, &found); err != nil || len(found) != len(documents) || found[0].Rules == 0 {
		t.Fatalf("the linter said %q: %v", text, err)
	}
	return found
}
