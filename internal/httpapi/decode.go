package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a body; no operation needs more than five levels.
const maxDepth = 32

// maxMemberName is the longest member name that a pointer repeats.
const maxMemberName = 64

// parse reads one JSON text (RFC 8259) into nil, bool, json.Number, string, []any and
// map[string]any. Stricter than encoding/json: duplicate members, more than maxDepth levels,
// bytes that are not UTF-8 and halves of surrogate pairs are refused.
func parse(body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, malformed("The body is empty; a JSON document is expected.")
	}
	for _, mark := range byteOrderMarks() {
		if bytes.HasPrefix(body, []byte(mark)) {
			return nil, malformed("The body begins with a byte order mark, which JSON must not (RFC 8259, section 8.1): write it as UTF-8 without one.")
		}
	}
	if !utf8.Valid(body) {
		return nil, malformed("The body is not UTF-8.")
	}
	if loneSurrogate(body) {
		return nil, malformed("The body escapes half of a surrogate pair, which is no character.")
	}
	var whole json.RawMessage
	end := len(body)
	// with a line break behind it, a fault in the body's last byte is none of its end
	if err := json.Unmarshal(append(body[:end:end], '\n'), &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) && syntax.Offset <= int64(end) {
			return nil, malformed(fmt.Sprintf("The body is not valid JSON: see byte %d.", syntax.Offset))
		}
		return nil, malformed("The body is not valid JSON: it ends in the middle.")
	}
	d := json.NewDecoder(bytes.NewReader(whole))
	d.UseNumber()
	return parseValue(d, "", 1)
}

// byteOrderMarks are those of UTF-8 and UTF-16.
func byteOrderMarks() []string { return []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} }

func parseValue(d *json.Decoder, pointer string, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, malformed("The body is not valid JSON.")
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth > maxDepth {
		return nil, malformed("The body is nested more than " + strconv.Itoa(maxDepth) + " levels deep.")
	}
	if open == '[' {
		return parseArray(d, pointer, depth)
	}
	return parseObject(d, pointer, depth)
}

func parseArray(d *json.Decoder, pointer string, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := parseValue(d, pointer+"/"+strconv.Itoa(len(list)), depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, closing(d)
}

func parseObject(d *json.Decoder, pointer string, depth int) (any, error) {
	members := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, malformed("The body is not valid JSON.")
		}
		name, _ := t.(string) // json.Unmarshal has checked the grammar
		at := member(pointer, name)
		if _, twice := members[name]; twice {
			p := malformed("A member stands twice in the same object.")
			p.Errors = []FieldError{{Pointer: at, Detail: "stands twice"}}
			return nil, p
		}
		if members[name], err = parseValue(d, at, depth+1); err != nil {
			return nil, err
		}
	}
	return members, closing(d)
}

func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return malformed("The body is not valid JSON.")
	}
	return nil
}

// loneSurrogate finds \uD800 to \uDFFF escapes that are not a pair; encoding/json would replace
// them in silence. Backslashes stand only inside strings.
func loneSurrogate(b []byte) bool {
	unit := func(i int) (uint64, bool) {
		if i+6 > len(b) || b[i] != '\\' || b[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(b[i+2:i+6]), 16, 16)
		return n, err == nil
	}
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		n, ok := unit(i)
		switch {
		case !ok:
			i++
		case n >= 0xD800 && n < 0xDC00:
			if low, pair := unit(i + 6); !pair || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		case n >= 0xDC00 && n <= 0xDFFF:
			return true
		default:
			i += 5
		}
	}
	return false
}

// member is the RFC 6901 pointer of an object's member. A name too long to repeat is left out.
func member(pointer, name string) string {
	if len(name) > maxMemberName {
		return pointer
	}
	return pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// faults collects what is wrong with a document.
type faults struct{ list []FieldError }

func (f *faults) add(pointer, detail string) {
	f.list = append(f.list, FieldError{Pointer: pointer, Detail: detail})
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return invalid(f.list...)
}

// object reads the members of one JSON object by name and type. Wrong types are faults; a member
// that is null counts as absent only in a merge patch's result.
type object struct {
	*faults
	pointer string
	members map[string]any
	nulls   bool
	seen    []string
}

// root makes the object of a whole document. nulls makes null members count as absent.
func root(doc any, f *faults, nulls bool) *object {
	m, ok := doc.(map[string]any)
	if !ok {
		f.add("", "must be a JSON object")
	}
	return &object{faults: f, members: m, nulls: nulls}
}

func (o *object) at(name string) string { return member(o.pointer, name) }

func (o *object) take(name string) (any, bool) {
	o.seen = append(o.seen, name)
	v, ok := o.members[name]
	if ok && v == nil && o.nulls {
		return nil, false
	}
	return v, ok
}

func (o *object) text(name string) (string, bool) {
	v, ok := o.take(name)
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	if !ok {
		o.add(o.at(name), "must be a string")
	}
	return s, ok
}

// required is text that must be there and not empty.
func (o *object) required(name string) (string, bool) {
	before := len(o.list)
	s, ok := o.text(name)
	if s == "" && len(o.list) == before {
		o.add(o.at(name), "is required")
		return "", false
	}
	return s, ok
}

func (o *object) flag(name string) (value, ok bool) {
	v, ok := o.take(name)
	if !ok {
		return false, false
	}
	b, ok := v.(bool)
	if !ok {
		o.add(o.at(name), "must be true or false")
	}
	return b, ok
}

func (o *object) number(name string, low, high int64) (int64, bool) {
	v, ok := o.take(name)
	if !ok {
		return 0, false
	}
	n, ok := v.(json.Number)
	if !ok {
		o.add(o.at(name), "must be a number")
		return 0, false
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i < low || i > high {
		o.add(o.at(name), fmt.Sprintf("must be a whole number from %d to %d", low, high))
		return 0, false
	}
	return i, true
}

// texts reads an array of strings of at most limit items.
func (o *object) texts(name string, limit int) ([]string, bool) {
	v, ok := o.take(name)
	if !ok {
		return nil, false
	}
	list, ok := v.([]any)
	if !ok {
		o.add(o.at(name), "must be an array of strings")
		return nil, false
	}
	if len(list) > limit {
		o.add(o.at(name), fmt.Sprintf("must hold at most %d items", limit))
		return nil, false
	}
	out := make([]string, 0, len(list))
	for i, item := range list {
		s, ok := item.(string)
		if !ok {
			o.add(o.at(name)+"/"+strconv.Itoa(i), "must be a string")
			continue
		}
		out = append(out, s)
	}
	return out, true
}

// child reads a nested object. It is never nil: absent, it has no members.
func (o *object) child(name string) *object {
	c := &object{faults: o.faults, pointer: o.at(name), nulls: o.nulls}
	v, ok := o.take(name)
	if !ok {
		return c
	}
	if c.members, ok = v.(map[string]any); !ok {
		o.add(c.pointer, "must be an object")
	}
	return c
}

// ignore accepts members that only answers carry.
func (o *object) ignore(names ...string) { o.seen = append(o.seen, names...) }

// refuse names members that exist but cannot be set this way.
func (o *object) refuse(name, detail string) {
	if _, ok := o.take(name); ok {
		o.add(o.at(name), detail)
	}
}

// done reports the members that nobody asked for, in a stable order.
func (o *object) done() {
	var unknown []string
	for name := range o.members {
		if !slices.Contains(o.seen, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for i, name := range unknown {
		if i == maxUnknown {
			o.add(o.pointer, fmt.Sprintf("has %d more unknown members", len(unknown)-i))
			return
		}
		o.add(o.at(name), "is not a known member")
	}
}

// maxUnknown bounds how many unknown members an answer names.
const maxUnknown = 20

// mergePatch applies an RFC 7396 merge patch. A null stays in the result instead of removing its
// member: readers of the result count it as absent, and a null for an unknown member is still
// noticed.
func mergePatch(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := target.(map[string]any)
	out := make(map[string]any, len(old)+len(p))
	maps.Copy(out, old)
	for k, v := range p {
		out[k] = mergePatch(out[k], v)
	}
	return out
}
