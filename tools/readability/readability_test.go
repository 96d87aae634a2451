package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a project of files, and returns its folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"cmd", "internal"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := "// Package a sends.\npackage a\n\n// sendMail sends a mail.\nfunc sendMail() {}\n"
	many := good
	for _, name := range strings.Fields("readOne readTwo readThree readFour readFive readSix readSeven readEight readNine readTen readOld readNew readAll readAny readNone readBig readFew readHot readLow readTop") {
		many += "func " + name + "() {}\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string // in the error, empty for none
	}{
		"Good":           {map[string]string{"internal/a/a.go": good, "README.md": "Two words. And `nobody` is code."}, ""},
		"LooseFunction":  {map[string]string{"internal/a/a.go": many + "func send() {}\n"}, "1 functions that are no methods"},
		"Share":          {map[string]string{"internal/a/a.go": good + "type t struct{}\nfunc (t) send() {}\n"}, "of all, are named by one word"},
		"Homonym":        {map[string]string{"internal/a/a.go": good + "type Verdict int\n"}, "verdict: internal/a/a.go:6"},
		"Comment":        {map[string]string{"internal/a/a.go": good + "// somebody calls it\nvar x int\n"}, "1 times a word"},
		"String":         {map[string]string{"internal/a/a.go": good + "var x = \"nobody asks\"\n"}, "1 times a word"},
		"NameInAString":  {map[string]string{"internal/a/a.go": good + "var x = \"people\"\n"}, ""},
		"Document":       {map[string]string{"internal/a/a.go": good, "docs/a.md": "Whoever reads it.\n"}, "1 times a word"},
		"Panel":          {map[string]string{"internal/a/a.go": good, "dashboards/a.json": `{"title": "Do people get mails?"}`}, "1 times a word"},
		"Query":          {map[string]string{"internal/a/a.go": good, "dashboards/a.json": `{"expr": "max(lamplighter_fanouts_owed{job=~\"$job\"})"}`}, ""},
		"LongSentence":   {map[string]string{"internal/a/a.go": good, "docs/a.md": strings.Repeat("word ", 26) + "end.\n"}, "has more than 27 words"},
		"TestsAreFree":   {map[string]string{"internal/a/a.go": good, "internal/a/a_test.go": "package a\n\n// nobody\nfunc send() {}\n"}, ""},
		"TablesAndCode":  {map[string]string{"internal/a/a.go": good, "docs/a.md": "| " + strings.Repeat("word ", 40) + "|\n\n```\n" + strings.Repeat("word ", 40) + "\n```\n"}, ""},
		"UnreadableCode": {map[string]string{"internal/a/a.go": "package"}, "expected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run(&out, write(t, c.files), "", true)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q\n%s", err, c.want, &out)
			}
		})
	}
}
