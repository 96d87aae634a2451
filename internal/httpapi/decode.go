package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a body; no operation needs more than five levels.
const maxDepth = 32

// maxMemberName is the longest member name that a pointer repeats.
const maxMemberName = 64

// Bounds of a JSON text besides its bytes: the memory of a parsed item is much larger than its bytes.
const (
	maxMembers = 1000
	maxValues  = 12_000
)

// parseJSON reads one JSON text (RFC 8259) into nil, bool, json.Number, string, []any and
// map[string]any. It is stricter than encoding/json: it refuses duplicate members, more than maxDepth levels, bytes
// that are not UTF-8 and halves of surrogate pairs. It checks the counts before it builds any value.
func parseJSON(body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, malformedProblem("The body is empty; a JSON document is expected.")
	}
	for _, mark := range byteOrderMarks() {
		if bytes.HasPrefix(body, []byte(mark)) {
			return nil, malformedProblem("The body begins with a byte order mark, which JSON must not (RFC 8259, section 8.1): write it as UTF-8 without one.")
		}
	}
	if !utf8.Valid(body) {
		return nil, malformedProblem("The body is not UTF-8.")
	}
	if hasLoneSurrogate(body) {
		return nil, malformedProblem("The body escapes half of a surrogate pair, which is no character.")
	}
	members, values, depth := countItems(body)
	switch {
	case depth > maxDepth:
		return nil, malformedProblem("The body is nested more than " + strconv.Itoa(maxDepth) + " levels deep.")
	case members > maxMembers:
		return nil, tooLargeProblem(budgetValues, fmt.Sprintf("The body has more than %d members.", maxMembers))
	case values > maxValues:
		return nil, tooLargeProblem(budgetValues, fmt.Sprintf("The body has more than %d values.", maxValues))
	}
	if !json.Valid(body) {
		return nil, syntaxFault(body)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return parseValue(d)
}

// countItems counts the members, values and levels of a JSON text. It may count too many, but never too few.
func countItems(body []byte) (members, values, depth int) {
	level, text := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			level++
			values++
			depth = max(depth, level)
		case c == '}' || c == ']':
			level--
		case c == ':':
			members++
		case c == ',':
			values++
		}
	}
	return members, values + 1, depth
}

// syntaxFault says at which byte a text is not JSON.
func syntaxFault(body []byte) error {
	var whole json.RawMessage
	end := len(body)
	// the added line break distinguishes a fault in the last byte from an unexpected end
	err := json.Unmarshal(append(body[:end:end], '\n'), &whole)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && syntax.Offset <= int64(end) {
		return malformedProblem(fmt.Sprintf("The body is not valid JSON: see byte %d.", syntax.Offset))
	}
	return malformedProblem("The body is not valid JSON: it ends in the middle.")
}

// byteOrderMarks are those of UTF-8 and UTF-16.
func byteOrderMarks() []string { return []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} }

// parseValue builds the next value. A fault's pointer is built while the call returns, so that valid texts do not pay
// for it.
func parseValue(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, malformedProblem("The body is not valid JSON.")
	}
	switch t {
	case json.Delim('['):
		return parseArray(d)
	case json.Delim('{'):
		return parseObject(d)
	default:
		return t, nil
	}
}

func parseArray(d *json.Decoder) (any, error) {
	list := []any{}
	for d.More() {
		v, err := parseValue(d)
		if err != nil {
			return nil, prefixPointers(err, strconv.Itoa(len(list)))
		}
		list = append(list, v)
	}
	return list, readClosingToken(d)
}

func parseObject(d *json.Decoder) (any, error) {
	members := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, malformedProblem("The body is not valid JSON.")
		}
		name, _ := t.(string) // its grammar was checked
		if _, twice := members[name]; twice {
			p := malformedProblem("A member stands twice in the same object.")
			p.Errors = []FieldError{{Pointer: memberPointer("", name), Detail: "stands twice"}}
			return nil, p
		}
		if members[name], err = parseValue(d); err != nil {
			return nil, prefixPointers(err, name)
		}
	}
	return members, readClosingToken(d)
}

// prefixPointers prefixes a fault's pointers with the name of the member or index that holds the fault.
func prefixPointers(err error, name string) error {
	if p, ok := errors.AsType[*Problem](err); ok {
		for i := range p.Errors {
			p.Errors[i].Pointer = memberPointer("", name) + p.Errors[i].Pointer
		}
	}
	return err
}

func readClosingToken(d *json.Decoder) error {
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return malformedProblem("The body is not valid JSON.")
	}
	return nil
}

// hasLoneSurrogate finds \uD800 to \uDFFF escapes that are not a pair; encoding/json would replace them silently.
// Backslashes occur only inside strings.
func hasLoneSurrogate(b []byte) bool {
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

// memberPointer is the RFC 6901 pointer of an object's member. A name too long to repeat is left out.
func memberPointer(pointer, name string) string {
	if len(name) > maxMemberName {
		return pointer
	}
	return pointer + "/" + pointerEscapes.Replace(name)
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// maxFaults bounds how many faults an answer lists.
const maxFaults = 100

// faults collects what is wrong with a document.
type faults struct {
	list []FieldError
	// unlisted counts the faults beyond maxFaults.
	unlisted int
}

func (f *faults) add(pointer, detail string) {
	if len(f.list) == maxFaults {
		f.unlisted++
		return
	}
	f.list = append(f.list, FieldError{Pointer: pointer, Detail: detail})
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	if f.unlisted > 0 {
		return invalidProblem(append(f.list, FieldError{Detail: fmt.Sprintf("has %d more faults", f.unlisted)})...)
	}
	return invalidProblem(f.list...)
}

// objectReader reads the members of one JSON object by name and type. A wrong type is a fault. A null member counts as
// absent in the result of a merge patch, and is a fault elsewhere.
type objectReader struct {
	*faults
	pointer string
	members map[string]any
	nulls   bool
	seen    []string
}

// newObjectReader reads a whole document. With nulls, null members count as absent.
func newObjectReader(doc any, f *faults, nulls bool) *objectReader {
	m, ok := doc.(map[string]any)
	if !ok {
		f.add("", "must be a JSON object")
	}
	return &objectReader{faults: f, members: m, nulls: nulls}
}

func (o *objectReader) pointerTo(name string) string { return memberPointer(o.pointer, name) }

func (o *objectReader) takeMember(name string) (any, bool) {
	o.seen = append(o.seen, name)
	v, ok := o.members[name]
	if ok && v == nil && o.nulls {
		return nil, false
	}
	return v, ok
}

func (o *objectReader) readString(name string) (string, bool) {
	v, ok := o.takeMember(name)
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	if !ok {
		o.add(o.pointerTo(name), "must be a string")
	}
	return s, ok
}

// readRequiredString reads a string that must be present and not empty.
func (o *objectReader) readRequiredString(name string) (string, bool) {
	before := len(o.list)
	s, ok := o.readString(name)
	if s == "" && len(o.list) == before {
		o.add(o.pointerTo(name), "is required")
		return "", false
	}
	return s, ok
}

func (o *objectReader) readBool(name string) (value, ok bool) {
	v, ok := o.takeMember(name)
	if !ok {
		return false, false
	}
	b, ok := v.(bool)
	if !ok {
		o.add(o.pointerTo(name), "must be true or false")
	}
	return b, ok
}

func (o *objectReader) readInt(name string, low, high int64) (int64, bool) {
	v, ok := o.takeMember(name)
	if !ok {
		return 0, false
	}
	n, ok := v.(json.Number)
	if !ok {
		o.add(o.pointerTo(name), "must be a number")
		return 0, false
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i < low || i > high {
		o.add(o.pointerTo(name), fmt.Sprintf("must be a whole number from %d to %d", low, high))
		return 0, false
	}
	return i, true
}

// readStrings reads an array of strings of at most limit items.
func (o *objectReader) readStrings(name string, limit int) ([]string, bool) {
	v, ok := o.takeMember(name)
	if !ok {
		return nil, false
	}
	list, ok := v.([]any)
	if !ok {
		o.add(o.pointerTo(name), "must be an array of strings")
		return nil, false
	}
	if len(list) > limit {
		o.add(o.pointerTo(name), fmt.Sprintf("must hold at most %d items", limit))
		return nil, false
	}
	out := make([]string, 0, len(list))
	for i, item := range list {
		s, ok := item.(string)
		if !ok {
			o.add(o.pointerTo(name)+"/"+strconv.Itoa(i), "must be a string")
			continue
		}
		out = append(out, s)
	}
	return out, true
}

// readObject reads a nested object. It is never nil: absent, it has no members.
func (o *objectReader) readObject(name string) *objectReader {
	c := &objectReader{faults: o.faults, pointer: o.pointerTo(name), nulls: o.nulls}
	v, ok := o.takeMember(name)
	if !ok {
		return c
	}
	if c.members, ok = v.(map[string]any); !ok {
		o.add(c.pointer, "must be an object")
	}
	return c
}

// ignoreMembers accepts members that only answers have.
func (o *objectReader) ignoreMembers(names ...string) { o.seen = append(o.seen, names...) }

// refuseMember refuses a member that exists but cannot be set this way.
func (o *objectReader) refuseMember(name, detail string) {
	if _, ok := o.takeMember(name); ok {
		o.add(o.pointerTo(name), detail)
	}
}

// reportUnknownMembers adds a fault for each member that was not read, in a stable order.
func (o *objectReader) reportUnknownMembers() {
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
		o.add(o.pointerTo(name), "is not a known member")
	}
}

// maxUnknown bounds how many unknown members an answer names.
const maxUnknown = 20
