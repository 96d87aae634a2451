package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format is how answers are printed.
type Format string

// The closed set of formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Column is one column of a table: the member at a dotted path.
type Column struct{ Title, Path string }

// Printer prints answers.
type Printer struct {
	Out    io.Writer
	Format Format
	// Colour paints states in tables; set it only for terminals.
	Colour bool
}

// PrintList prints items, each one JSON text: as a table with the columns, an array, or a YAML sequence. empty is
// printed instead of an empty table.
func (p Printer) PrintList(items []json.RawMessage, columns []Column, empty string) error {
	switch p.Format {
	case JSON:
		if items == nil {
			items = []json.RawMessage{}
		}
		return p.printJSON(items)
	case YAML:
		docs := make([]any, len(items))
		for i, item := range items {
			var err error
			if docs[i], err = parseDocument(item); err != nil {
				return err
			}
		}
		return writeYAML(p.Out, docs)
	}
	if len(items) == 0 {
		_, err := fmt.Fprintln(p.Out, empty)
		return err
	}
	rows := make([][]string, 1, len(items)+1)
	for _, c := range columns {
		rows[0] = append(rows[0], c.Title)
	}
	for _, item := range items {
		doc, err := parseDocument(item)
		if err != nil {
			return err
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = sanitizeCell(formatValue(lookupPath(doc, c.Path)))
		}
		rows = append(rows, row)
	}
	return p.printTable(rows, true)
}

// PrintDocument prints a document: its members line by line, JSON or YAML.
func (p Printer) PrintDocument(item []byte) error {
	switch p.Format {
	case JSON:
		return p.printJSON(json.RawMessage(item))
	case YAML:
		doc, err := parseDocument(item)
		if err != nil {
			return err
		}
		return writeYAML(p.Out, doc)
	}
	doc, err := parseDocument(item)
	if err != nil {
		return err
	}
	var rows [][]string
	flattenDocument(&rows, "", doc)
	return p.printTable(rows, false)
}

// flattenDocument lists the members of a document that are not empty, nested ones by their path.
func flattenDocument(rows *[][]string, prefix string, v any) {
	add := func(name string, v any) {
		if s := sanitizeCell(formatValue(v)); s != "" {
			*rows = append(*rows, []string{sanitizeCell(name), s})
		}
	}
	o, ok := v.(object)
	if !ok {
		add(prefix, v)
		return
	}
	for _, f := range o {
		name := f.name
		if prefix != "" {
			name = prefix + "." + f.name
		}
		switch value := f.value.(type) {
		case object:
			flattenDocument(rows, name, value)
		case []any:
			if list, nested := asObjectList(value); nested {
				for i, item := range list {
					flattenDocument(rows, fmt.Sprintf("%s[%d]", name, i), item)
				}
				continue
			}
			add(name, value)
		default:
			add(name, value)
		}
	}
}

// asObjectList reports whether a list holds objects.
func asObjectList(list []any) ([]any, bool) {
	if len(list) == 0 {
		return nil, false
	}
	_, ok := list[0].(object)
	return list, ok
}

func (p Printer) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	_, err := p.Out.Write(b.Bytes())
	return err
}

// printTable aligns rows; the first is a heading.
func (p Printer) printTable(rows [][]string, heading bool) error {
	var widths []int
	for _, row := range rows {
		for i, s := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(s))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		var line strings.Builder
		for i, s := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s)+2)
			if n > 0 || !heading {
				s = p.colourCell(s)
			}
			line.WriteString(s + pad)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(p.Out, b.String())
	return err
}

// colourCell colours words that mean good or bad.
func (p Printer) colourCell(s string) string {
	if !p.Colour {
		return s
	}
	switch s {
	case "healthy", "delivered", "settled", "closed", "in step", "ok":
		return Green + s + Plain
	case "failing", "open", "rejected", "blocked", "gone", "failed":
		return Red + s + Plain
	case "off", "paused", "waiting", "retryable", "half_open", "warning":
		return Yellow + s + Plain
	}
	return s
}

// Terminal colours.
const (
	Red    = "\x1b[31m"
	Green  = "\x1b[32m"
	Yellow = "\x1b[33m"
	Plain  = "\x1b[0m"
)

// maxCell limits a cell, so that one long value does not break a table.
const maxCell = 120

// sanitizeCell makes a value safe for one line of a terminal.
func sanitizeCell(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, s)
	if utf8.RuneCountInString(s) > maxCell {
		s = string([]rune(s)[:maxCell-1]) + "…"
	}
	return s
}
