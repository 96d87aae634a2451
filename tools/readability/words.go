package main

import (
	"fmt"
	"regexp"
	"strings"
)

// unwanted are words of a private language. A reader who does not know it finds the field's word in docs/glossary.md.
func unwanted() []string {
	return []string{
		`nobody`, `somebody`, `whoever`, `hears?`, `heard`, `owed`, `owes?`, `owing`, `trays?`, `parcels?`, `stirs?`,
		`is well`, `are well`, `(tell|tells|told) the truth`, `what is not said`, `people`, `convicted`, `nudges?`,
		`fails? since`, `calling it fails`,
	}
}

// quoted marks where a word is the name of something: a Redis key, a metric, a setting or a member.
var quoted = regexp.MustCompile("`[^`]*`|\"[^\"]*\"|'[a-z]+'|[A-Za-z0-9_.{}:/-]*[_:{][A-Za-z0-9_.{}:/-]*")

// findWords lists where comments, strings, documents, mails and help use a word that is not to be used.
func findWords(c *code, docs []doc) []string {
	bad := regexp.MustCompile(`(?i)\b(` + strings.Join(unwanted(), "|") + `)\b`)
	var out []string
	look := func(at, text string) {
		for _, m := range bad.FindAllString(quoted.ReplaceAllString(text, " "), -1) {
			out = append(out, fmt.Sprintf("%s: %s: %.120s", at, strings.ToLower(m), strings.TrimSpace(text)))
		}
	}
	for _, l := range c.texts {
		look(l.at, l.text)
	}
	for _, d := range docs {
		text := d.text
		if d.name == "docs/glossary.md" { // names them
			continue
		}
		for i, l := range strings.Split(fenced.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) }), "\n") {
			look(fmt.Sprintf("%s:%d", d.name, i+1), l)
		}
	}
	return out
}
