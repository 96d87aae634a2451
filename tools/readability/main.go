// Command readability measures how a newcomer can read the project: names of functions, words with several
// meanings, words that are not to be used, and the length of sentences.
//
//	go run -C tools/readability . [-root DIR] [-list one-word|homonyms|words|sentences] [-check]
//
// It prints one figure a line. With -list it prints what a figure counts. With -check it fails where a figure
// is beyond its limit.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	root := flag.String("root", "../..", "the project's folder")
	list := flag.String("list", "", "print what a figure counts: one-word, homonyms, words or sentences")
	check := flag.Bool("check", false, "fail where a figure is beyond its limit")
	flag.Parse()
	if err := run(os.Stdout, *root, *list, *check); err != nil {
		fmt.Fprintln(os.Stderr, "readability:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, root, list string, check bool) error {
	code, err := parseCode(root)
	if err != nil {
		return err
	}
	docs, err := readDocs(root)
	if err != nil {
		return err
	}
	words := findWords(code, docs)
	sentences := measureSentences(docs)
	switch list {
	case "one-word":
		for _, f := range code.functions {
			if f.oneWord() {
				fmt.Fprintln(w, f.at, f.pkg, f.name)
			}
		}
	case "homonyms":
		for _, h := range homonyms() {
			for _, at := range code.meanings(h) {
				fmt.Fprintln(w, h.word, at)
			}
		}
	case "words":
		for _, hit := range words {
			fmt.Fprintln(w, hit)
		}
	case "sentences":
		for _, s := range sentences.longest(50) {
			fmt.Fprintf(w, "%d %s: %s\n", s.words, s.at, s.text)
		}
	case "":
		f := measure(code, words, sentences)
		f.print(w)
		if check {
			return f.check()
		}
	default:
		return fmt.Errorf("-list %s: must be one-word, homonyms, words or sentences", list)
	}
	return nil
}

// figures are what is measured.
type figures struct {
	functions, oneWord, loose, letters int
	homonyms                           []string
	words                              int
	sentences                          sentences
}

func measure(c *code, words []string, s sentences) figures {
	f := figures{functions: len(c.functions), words: len(words), sentences: s}
	for _, fn := range c.functions {
		f.letters += len(fn.name)
		if fn.oneWord() {
			f.oneWord++
			if !fn.method && !fn.conventional() {
				f.loose++
			}
		}
	}
	for _, h := range homonyms() {
		if at := c.meanings(h); len(at) > 0 {
			f.homonyms = append(f.homonyms, h.word+": "+strings.Join(at, ", "))
		}
	}
	return f
}

func (f figures) share() float64 { return 100 * float64(f.oneWord) / float64(f.functions) }

func (f figures) print(w io.Writer) {
	fmt.Fprintf(w, "functions                          %d\n", f.functions)
	fmt.Fprintf(w, "named by one lower-case word       %d = %.1f %%\n", f.oneWord, f.share())
	fmt.Fprintf(w, "  of them not methods              %d\n", f.loose)
	fmt.Fprintf(w, "mean length of a name              %.1f\n", float64(f.letters)/float64(f.functions))
	fmt.Fprintf(w, "words with several meanings        %d\n", len(f.homonyms))
	for _, h := range f.homonyms {
		fmt.Fprintf(w, "  %s\n", h)
	}
	fmt.Fprintf(w, "words not to be used               %d\n", f.words)
	fmt.Fprintf(w, "words a sentence in docs, p50, p90 %d, %d of %d sentences\n", f.sentences.percentile(50), f.sentences.percentile(90), len(f.sentences))
}

// The limits of -check. Methods of one word are for types that are their object, such as a queue's push.
const (
	maxOneWordShare  = 5.0
	maxSentenceWords = 25
)

func (f figures) check() error {
	var faults []error
	if f.loose > 0 || f.share() > maxOneWordShare {
		faults = append(faults, fmt.Errorf("%d functions that are no methods, and %.1f %% of all, are named by one word: say verb and object (-list one-word)", f.loose, f.share()))
	}
	if len(f.homonyms) > 0 {
		faults = append(faults, fmt.Errorf("a word has several meanings: %s", strings.Join(f.homonyms, "; ")))
	}
	if f.words > 0 {
		faults = append(faults, fmt.Errorf("%d times a word that is not used stands in a comment or text (-list words); docs/glossary.md says which to use", f.words))
	}
	if p := f.sentences.percentile(90); p > maxSentenceWords {
		faults = append(faults, fmt.Errorf("one sentence of ten in the documents has more than %d words, the limit is %d (-list sentences)", p, maxSentenceWords))
	}
	return errors.Join(faults...)
}
