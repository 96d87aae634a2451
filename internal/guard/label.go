package guard

import (
	"slices"
	"strings"
	"unicode"
)

// Letters that look like Latin ones. A label made only of these reads as another name.
const (
	cyrillicLookalikes = "асԁеһіјӏорԛѕԝхуѵьгпв"
	greekLookalikes    = "αγικνορτυχω"
)

// IsConfusing reports whether a name, in Unicode, can be mistaken for another in a mail or on a page. This is so when
// a label mixes scripts that are not written together (the "highly restrictive" level of Unicode's security
// mechanisms, UTS 39). It is also so when a label under a Latin top level is made only of look-alikes of Latin
// letters, or contains characters other than letters, marks and digits.
func IsConfusing(name string) bool {
	labels := strings.Split(name, ".")
	top := scriptsOf(labels[len(labels)-1])
	for _, label := range labels {
		if isASCII(label) {
			continue
		}
		if strings.ContainsFunc(label, isOddRune) {
			return true
		}
		scripts := scriptsOf(label)
		if !areWrittenTogether(scripts) {
			return true
		}
		foreign := len(scripts) == 1 && !slices.Contains(top, scripts[0])
		if foreign && (isMadeOf(label, cyrillicLookalikes) || isMadeOf(label, greekLookalikes)) {
			return true
		}
	}
	return false
}

// isOddRune reports whether a character does not belong to words: symbols, punctuation, invisible characters. Joiners
// and middle dots are left to the rules of IDNA, which allow them in their context.
func isOddRune(r rune) bool {
	if strings.ContainsRune("-_\u200c\u200d\u00b7\u30fb", r) {
		return false
	}
	return !unicode.In(r, unicode.L, unicode.M, unicode.Nd)
}

// scriptsOf lists the scripts of a label's characters, without those common to all scripts.
func scriptsOf(label string) []string {
	var out []string
	for _, r := range label {
		if unicode.In(r, unicode.Common, unicode.Inherited) {
			continue
		}
		name := "unknown"
		for script, table := range unicode.Scripts {
			if unicode.Is(table, r) {
				name = script
				break
			}
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// areWrittenTogether reports whether a language uses all the scripts in one word.
func areWrittenTogether(scripts []string) bool {
	if len(scripts) <= 1 {
		return true
	}
	for _, together := range [][]string{
		{"Latin", "Han", "Hiragana", "Katakana"},
		{"Latin", "Han", "Bopomofo"},
		{"Latin", "Han", "Hangul"},
	} {
		if !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(together, s) }) {
			return true
		}
	}
	return false
}

// isMadeOf reports whether a label has a letter of the set, and otherwise only letters of the set, digits and
// hyphens.
func isMadeOf(label, set string) bool {
	found := false
	for _, r := range label {
		switch {
		case strings.ContainsRune(set, r):
			found = true
		case r > unicode.MaxASCII || unicode.IsLetter(r):
			return false
		}
	}
	return found
}
