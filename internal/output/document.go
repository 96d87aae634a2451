package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// field is one member of an object; objects keep the order of the answer.
type field struct {
	name  string
	value any
}

// A document consists of object, []any, string, json.Number, bool and nil.
type object []field

// maxDepth is greater than the nesting of any answer.
const maxDepth = 64

// parseDocument reads one JSON text and keeps the order of members.
func parseDocument(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return v, nil
}

var errDeep = errors.New("it is nested too deeply")

func readValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, errDeep
	}
	if open == '[' {
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	out := object{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder has checked the grammar
		out = append(out, field{name, v})
	}
	_, err = d.Token()
	return out, err
}

func (o object) get(name string) (any, bool) {
	for _, f := range o {
		if f.name == name {
			return f.value, true
		}
	}
	return nil, false
}

// lookupPath follows a dotted path of members; absent members are nil.
func lookupPath(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		o, ok := v.(object)
		if !ok {
			return nil
		}
		v, _ = o.get(name)
	}
	return v
}

// formatValue formats a value for one cell: lists are joined, objects stay JSON.
func formatValue(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return truncateTime(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = formatValue(item)
		}
		return strings.Join(parts, ", ")
	case object:
		parts := make([]string, 0, len(v))
		for _, f := range v {
			if s := formatValue(f.value); s != "" {
				parts = append(parts, f.name+"="+s)
			}
		}
		return strings.Join(parts, " ")
	}
	return fmt.Sprint(v)
}

// tableTimeLayout is the format of times in tables, to the millisecond.
const tableTimeLayout = "2006-01-02T15:04:05.000Z07:00"

// truncateTime cuts a time off after milliseconds.
func truncateTime(s string) string {
	if len(s) <= len("2006-01-02T15:04:05.000Z") || s[10] != 'T' {
		return s
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Truncate(time.Millisecond).Format(tableTimeLayout)
}
