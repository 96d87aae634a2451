package httpapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTranscripts plays each file of testdata: requests and the answers they must get, in order,
// against one API. A request starts with "> METHOD PATH [role]", an answer with "< STATUS";
// headers and bodies follow with the same mark or bare. In an expected body, "<any>" stands for
// whatever is there. '#' starts a comment.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.transcript")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".transcript"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h := newHarness(t)
			for _, e := range readTranscript(t, string(text)) {
				e.play(t, h, file)
			}
		})
	}
}

// exchange is one request and the answer it must get.
type exchange struct {
	line    int
	request request
	status  string
	header  map[string]string
	body    []string
}

func readTranscript(t *testing.T, text string) []exchange {
	t.Helper()
	var all []exchange
	var e *exchange
	answering := false
	for n, l := range strings.Split(text, "\n") {
		mark, rest, marked := strings.Cut(l, " ")
		switch {
		case strings.HasPrefix(l, "#") || strings.TrimSpace(l) == "":
		case marked && mark == ">" && !strings.Contains(rest, ": "):
			f := append(strings.Fields(rest), "")
			all = append(all, exchange{line: n + 1, request: request{method: f[0], path: f[1], role: f[2], header: map[string]string{}}, header: map[string]string{}})
			e, answering = &all[len(all)-1], false
		case marked && mark == ">":
			k, v, _ := strings.Cut(rest, ": ")
			e.request.header[k] = v
		case marked && mark == "<" && !strings.Contains(rest, ":"):
			e.status, answering = rest, true
		case marked && mark == "<":
			k, v, _ := strings.Cut(rest, ":")
			e.header[k] = strings.TrimSpace(v)
		case answering:
			e.body = append(e.body, l)
		default:
			e.request.body += l + "\n"
		}
	}
	return all
}

func (e exchange) play(t *testing.T, h *harness, file string) {
	t.Helper()
	rec := h.do(e.request)
	at := fmt.Sprintf("%s:%d: %s %s", file, e.line, e.request.method, e.request.path)
	if got := strconv.Itoa(rec.Code); got != e.status {
		t.Errorf("%s: status %s, want %s\n%s", at, got, e.status, rec.Body)
		return
	}
	for k, want := range e.header {
		if got := rec.Header().Get(k); got != want {
			t.Errorf("%s: header %s = %q, want %q", at, k, got, want)
		}
	}
	got := strings.Split(strings.TrimRight(rec.Body.String(), "\n"), "\n")
	want := e.body
	if !strings.HasSuffix(rec.Header().Get("Content-Type"), "ndjson") {
		got, want = []string{rec.Body.String()}, []string{strings.Join(e.body, "\n")}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d answer lines, want %d:\n%s", at, len(got), len(want), rec.Body)
		return
	}
	for i := range want {
		if d := cmp.Diff(jsonOf(want[i]), jsonOf(got[i]), cmp.FilterValues(wild, cmp.Ignore())); d != "" {
			t.Errorf("%s: body (-want +got):\n%s", at, d)
		}
	}
}

func jsonOf(s string) any {
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return s
	}
	return v
}

func wild(a, b any) bool { return a == "<any>" || b == "<any>" }
