package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// doc is one document, or one text that people read.
type doc struct {
	name, text string
	// prose documents are measured by the sentence.
	prose bool
}

// readDocs reads the documents in plain text, and the texts of mails, pages and command lines.
func readDocs(root string) ([]doc, error) {
	var out []doc
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped := []string{".git", ".tools", "node_modules", "bin", "testdata"}; slices.Contains(skipped, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		prose := strings.HasSuffix(name, ".md")
		if !prose && !isText(name) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		plain := string(text)
		if filepath.Ext(name) == ".json" { // texts in quotation marks would count as names
			plain = strings.ReplaceAll(plain, `"`, " ")
		}
		out = append(out, doc{name, plain, prose})
		return nil
	})
	return out, err
}

// isText reports whether people read what a file that is no document holds.
func isText(name string) bool {
	switch filepath.Ext(name) {
	case ".tmpl", ".html":
		return true
	case ".yaml":
		return strings.HasPrefix(name, "internal/httpapi/openapi/") || strings.HasPrefix(name, "dashboards/")
	case ".json":
		return strings.HasPrefix(name, "dashboards/")
	case ".lua":
		return true
	}
	return false
}

type sentence struct {
	at, text string
	words    int
}

type sentences []sentence

var (
	fenced    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline    = regexp.MustCompile("`[^`\n]+`")
	link      = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	listStart = regexp.MustCompile(`^ *([-*+]|[0-9]+\.) `)
	sentEnd   = regexp.MustCompile(`[.!?:;](\s|$)`)
)

// measureSentences cuts the prose of documents into sentences. Tables, code and headings are none; what stands
// between back quotes counts as one word. A colon and a semicolon end a sentence, as a reader may rest there.
func measureSentences(docs []doc) sentences {
	var out sentences
	for _, d := range docs {
		if !d.prose || d.name == "CHANGELOG.md" {
			continue
		}
		text := fenced.ReplaceAllStringFunc(d.text, func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) })
		text = link.ReplaceAllString(inline.ReplaceAllString(text, "X"), "$1")
		paragraph, start := "", 0
		flush := func() {
			for _, s := range sentEnd.Split(paragraph, -1) {
				if n := len(strings.Fields(s)); n > 0 {
					out = append(out, sentence{d.name + ":" + strconv.Itoa(start), strings.TrimSpace(s), n})
				}
			}
			paragraph = ""
		}
		for i, l := range strings.Split(text, "\n") {
			switch {
			case strings.TrimSpace(l) == "", strings.HasPrefix(l, "#"), strings.HasPrefix(strings.TrimSpace(l), "|"):
				flush()
				continue
			case listStart.MatchString(l):
				flush()
				l = listStart.ReplaceAllString(l, "")
			}
			if paragraph == "" {
				start = i + 1
			}
			paragraph += " " + l
		}
		flush()
	}
	return out
}

func (s sentences) longest(n int) sentences {
	sorted := slices.Clone(s)
	slices.SortStableFunc(sorted, func(a, b sentence) int { return b.words - a.words })
	return sorted[:min(n, len(sorted))]
}

func (s sentences) percentile(p int) int {
	if len(s) == 0 {
		return 0
	}
	lengths := make([]int, len(s))
	for i, x := range s {
		lengths[i] = x.words
	}
	slices.Sort(lengths)
	return lengths[min(len(lengths)*p/100, len(lengths)-1)]
}
