package main

import (
	"regexp"
	"strconv"
	"strings"
)

// mutant is one fault in one script.
type mutant struct {
	file string
	line int
	rule string
	// before and after are the line without and with the fault.
	before, after string
	// text is the whole script with the fault, without comments.
	text string
}

// token is a piece of Lua's text.
type token struct {
	kind     byte // 'i' identifier, 'n' number, 's' string, 'o' operator
	text     string
	from, to int
}

var tokens = regexp.MustCompile(`[A-Za-z_]\w*|\d+|'[^']*'|"[^"]*"|==|~=|<=|>=|\.\.|[-+*/<>=#(){}\[\],;.]`)

// strip takes the comments out of a script and leaves its lines where they are.
func strip(src string) string {
	lines := strings.Split(src, "\n")
	for i, l := range lines {
		for at := 0; ; {
			n := strings.Index(l[at:], "--")
			if n < 0 {
				break
			}
			at += n
			if strings.Count(l[:at], "'")%2 == 0 {
				l = strings.TrimRight(l[:at], " ")
				break
			}
			at += 2
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

func scan(src string) []token {
	var out []token
	for _, at := range tokens.FindAllStringIndex(src, -1) {
		t := token{kind: 'o', text: src[at[0]:at[1]], from: at[0], to: at[1]}
		switch c := t.text[0]; {
		case c == '\'' || c == '"':
			t.kind = 's'
		case c >= '0' && c <= '9':
			t.kind = 'n'
		case c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			t.kind = 'i'
		}
		out = append(out, t)
	}
	return out
}

// mutants lists the faults of a script.
func mutants(file, src string) []mutant {
	src = strip(src)
	var out []mutant
	add := func(rule string, from, to int, with string) {
		text := src[:from] + with + src[to:]
		if text == src {
			return
		}
		start := strings.LastIndex(src[:from], "\n") + 1
		line := func(s string, grown int) string {
			end := to + grown
			if n := strings.Index(s[end:], "\n"); n >= 0 {
				end += n
			} else {
				end = len(s)
			}
			return strings.TrimSpace(s[start:end])
		}
		out = append(out, mutant{
			file: file, line: 1 + strings.Count(src[:from], "\n"), rule: rule,
			before: line(src, 0), after: line(text, len(with)-(to-from)), text: text,
		})
	}
	ts := scan(src)
	for i, t := range ts {
		var prev token
		if i > 0 {
			prev = ts[i-1]
		}
		for _, f := range faultsOf(t, prev) {
			add(f.rule, t.from, t.to, f.with)
		}
	}
	conditions(src, add)
	dropped(src, add)
	return out
}

type replacement struct{ rule, with string }

// swaps are the words that stand for each other in a fault.
func swaps() map[string][]replacement {
	flip := func(boundary, negated string) []replacement {
		return []replacement{{"boundary", boundary}, {"negated", negated}}
	}
	one := func(rule, with string) []replacement { return []replacement{{rule, with}} }
	return map[string][]replacement{
		"==": one("negated", "~="), "~=": one("negated", "=="),
		"<": flip("<=", ">="), "<=": flip("<", ">"), ">": flip(">=", "<="), ">=": flip(">", "<"),
		"and": one("logic", "or"), "or": one("logic", "and"), "not": one("logic", ""),
		"true": one("logic", "false"), "false": one("logic", "true"),
		"max": one("arithmetic", "min"), "min": one("arithmetic", "max"), "*": one("arithmetic", "+"), "/": one("arithmetic", "*"),
		"DUE": one("key", "FLIGHT"), "FLIGHT": one("key", "DUE"), "WAITING": one("key", "TENANTS"), "TENANTS": one("key", "WAITING"),
	}
}

var field = regexp.MustCompile(`^'[a-z]+'$`)

// faultsOf are what stands in for a token. prev is the token before it.
func faultsOf(t, prev token) []replacement {
	switch {
	case t.text == "+" || t.text == "-":
		binary := prev.kind == 'n' || prev.kind == 'i' && prev.text != "return" || prev.text == ")" || prev.text == "]"
		if !binary {
			return nil
		}
		return []replacement{{"arithmetic", map[string]string{"+": "-", "-": "+"}[t.text]}}
	case t.kind == 'n':
		n, _ := strconv.Atoi(t.text) // a regular expression saw to it
		return []replacement{{"number", strconv.Itoa(n + 1)}}
	case t.kind == 's' && field.MatchString(t.text):
		return []replacement{{"field", t.text[:len(t.text)-1] + "x'"}}
	default:
		return swaps()[t.text]
	}
}

var condition = regexp.MustCompile(`(?m)\b(?:if|elseif) (.*?) then\b`)

// conditions makes each condition one that always holds, and one that never does.
func conditions(src string, add func(rule string, from, to int, with string)) {
	for _, at := range condition.FindAllStringSubmatchIndex(src, -1) {
		add("always", at[2], at[3], "true")
		add("never", at[2], at[3], "false")
	}
}

var statement = regexp.MustCompile(`(?m)^ *(?:redis\.call\(|settle\(\)|[a-z]\w*(?:\[[^\n]*\])?(?:, [^\n=]*)? = |break).*$`)

// dropped leaves out each statement that stands on a line of its own.
func dropped(src string, add func(rule string, from, to int, with string)) {
	for _, at := range statement.FindAllStringIndex(src, -1) {
		line := src[at[0]:at[1]]
		whole := strings.Count(line, "(") == strings.Count(line, ")") && strings.Count(line, "{") == strings.Count(line, "}")
		if whole && !strings.Contains(line, "function") {
			add("dropped", at[0], at[1], "")
		}
	}
}
