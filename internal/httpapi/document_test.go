package httpapi_test

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/httpapi"
)

const (
	methods = `GET|HEAD|PUT|PATCH|POST|DELETE`
	served  = `/(?:v1|api|login)/`
)

var (
	// documentedRow is a row of docs/api.md's tables of operations.
	documentedRow = regexp.MustCompile("^\\| `((?:" + methods + ") /[^`]*)` \\| ([^|]*) \\| ([^|]*) \\|")
	// namedRoute is a route in a sentence, calledRoute a request line of an example or a command.
	namedRoute  = regexp.MustCompile("`((?:" + methods + ") " + served + "[^`?]*)[^`]*`")
	calledRoute = regexp.MustCompile(`^(` + methods + `) (` + served + `\S*)`)
	// problemRow is a row of its table of problems.
	problemRow = regexp.MustCompile("^\\| (`[a-z-]+`(?:, `[a-z-]+`)*) \\| [0-9]{3} \\|")
)

// document is docs/api.md, line by line.
func document(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}

// TestDocumentListsEveryOperation holds the document's tables against the routes: which there are,
// who may call them and how they succeed.
func TestDocumentListsEveryOperation(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, op := range newHarness(t).api.Operations() {
		want = append(want, op.Method+" "+op.Pattern+" | "+rolesOf(op)+" | "+statusesOf(op))
	}
	for _, line := range document(t) {
		if m := documentedRow.FindStringSubmatch(line); m != nil {
			got = append(got, m[1]+" | "+m[2]+" | "+m[3])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("docs/api.md differs from the routes (-routes +document):\n%s", diff)
	}
}

func rolesOf(op httpapi.Operation) string {
	words := make([]string, len(op.Roles))
	for i, r := range op.Roles {
		words[i] = r.String()
	}
	return cmp.Or(strings.Join(words, ", "), "everybody")
}

func statusesOf(op httpapi.Operation) string {
	words := make([]string, len(op.Success))
	for i, s := range op.Success {
		words[i] = strconv.Itoa(s)
	}
	return strings.Join(words, ", ")
}

// TestDocumentNamesRoutesThatExist looks at the document's sentences and examples.
func TestDocumentNamesRoutesThatExist(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	patterns := map[string]bool{}
	for _, op := range newHarness(t).api.Operations() {
		mux.HandleFunc(op.Method+" "+op.Pattern, func(http.ResponseWriter, *http.Request) {})
		patterns[op.Method+" "+op.Pattern] = true
	}
	examples := 0
	for i, line := range document(t) {
		for _, m := range namedRoute.FindAllStringSubmatch(line, -1) {
			if !patterns[m[1]] {
				t.Errorf("docs/api.md:%d names %s, which does not exist", i+1, m[1])
			}
		}
		if m := calledRoute.FindStringSubmatch(line); m != nil {
			examples++
			if _, pattern := mux.Handler(httptest.NewRequest(m[1], m[2], http.NoBody)); pattern == "" {
				t.Errorf("docs/api.md:%d calls %s %s, which nothing serves", i+1, m[1], m[2])
			}
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples were recognised", examples)
	}
}

// TestDocumentListsEveryProblem holds the document's table of problems against those in the code.
func TestDocumentListsEveryProblem(t *testing.T) {
	t.Parallel()
	var want, got []string
	made := regexp.MustCompile(`newProblem\(http\.Status\w+, "([a-z-]+)"`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made.FindAllStringSubmatch(string(b), -1) {
			want = append(want, m[1])
		}
	}
	for _, line := range document(t) {
		if m := problemRow.FindStringSubmatch(line); m != nil {
			for word := range strings.SplitSeq(m[1], ", ") {
				got = append(got, strings.Trim(word, "`"))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("docs/api.md differs from the problems in the code (-code +document):\n%s", diff)
	}
}
