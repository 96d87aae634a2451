// Command readability measures how a newcomer can read the project: names of functions, words with several
// meanings, words that are not to be used, and the length of sentences.
//
//	go run -C tools/readability . [-root DIR] [-list one-word|homonyms|words|sentences]
//
// It prints one figure a line. With -list it prints what a figure counts.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	root := flag.String("root", "../..", "the project's folder")
	list := flag.String("list", "", "print what a figure counts: one-word, homonyms, words or sentences")
	flag.Parse()
	if err := run(os.Stdout, *root, *list); err != nil {
		fmt.Fprintln(os.Stderr, "readability:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, root, list string) error {
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
		report(w, code, words, sentences)
	default:
		return fmt.Errorf("-list %s: must be one-word, homonyms, words or sentences", list)
	}
	return nil
}

func report(w io.Writer, code *code, words []string, sentences sentences) {
	oneWord, loose, letters := 0, 0, 0
	for _, f := range code.functions {
		letters += len(f.name)
		if f.oneWord() {
			oneWord++
			if !f.method {
				loose++
			}
		}
	}
	n := len(code.functions)
	fmt.Fprintf(w, "functions                          %d\n", n)
	fmt.Fprintf(w, "named by one lower-case word       %d = %.1f %%\n", oneWord, 100*float64(oneWord)/float64(n))
	fmt.Fprintf(w, "  of them not methods              %d\n", loose)
	fmt.Fprintf(w, "mean length of a name              %.1f\n", float64(letters)/float64(n))
	several := 0
	for _, h := range homonyms() {
		if len(code.meanings(h)) > 0 {
			several++
			fmt.Fprintf(w, "  %-14s %s\n", h.word, strings.Join(code.meanings(h), ", "))
		}
	}
	fmt.Fprintf(w, "words with several meanings        %d\n", several)
	fmt.Fprintf(w, "words not to be used               %d\n", len(words))
	fmt.Fprintf(w, "words a sentence in docs, p50, p90 %d, %d of %d sentences\n", sentences.percentile(50), sentences.percentile(90), len(sentences))
}
