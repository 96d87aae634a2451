package apitypes

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"
)

// Schema is a JSON Schema of the dialect that OpenAPI 3.1 uses.
type Schema = map[string]any

// Mode is how an object is used, which decides what is required of it.
type Mode uint8

// The closed set of modes.
const (
	// Answer: what the service sends.
	Answer Mode = iota
	// Request: a body that has no answer of the same shape.
	Request
	// Put: a body that replaces all writable members.
	Put
	// Patch: a merge patch (RFC 7396), whose nulls reset.
	Patch
)

// Named is a type that the document describes by a name of its own.
type Named struct {
	Name, Doc string
	Type      reflect.Type
	Mode      Mode
}

// NameType makes a Named of a value's type.
func NameType(name string, mode Mode, value any, doc string) Named {
	return Named{Name: name, Doc: doc, Type: reflect.TypeOf(value), Mode: mode}
}

// Describe makes the schemas of types. A member whose type is named too refers to it. words are the schemas of types that are not
// structs, by their Go type; each has its name in the document.
func Describe(types []Named, words map[reflect.Type]string) map[string]Schema {
	d := &describer{words: words, named: map[typeInMode]string{}}
	for _, n := range types {
		d.named[typeInMode{n.Type, n.Mode}] = n.Name
	}
	out := make(map[string]Schema, len(types))
	for _, n := range types {
		s := d.describeObject(n.Type, n.Mode)
		if n.Doc != "" {
			s["description"] = n.Doc
		}
		out[n.Name] = s
	}
	return out
}

type typeInMode struct {
	reflect.Type

	mode Mode
}

type describer struct {
	words map[reflect.Type]string
	named map[typeInMode]string
}

func (d *describer) describeObject(t reflect.Type, mode Mode) Schema {
	shape := ShapeOf(t)
	properties, required := Schema{}, []string{}
	for i := range shape.Members {
		m := &shape.Members[i]
		write := mode == Put || mode == Patch
		if write && m.Access != Writable {
			continue
		}
		properties[m.Name] = d.describeMember(m, mode)
		if mode == Answer && !m.Optional || (mode == Request || mode == Put) && m.Required {
			required = append(required, m.Name)
		}
	}
	out := Schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if shape.Closed {
		out["additionalProperties"] = false
	}
	return out
}

func (d *describer) describeMember(m *Member, mode Mode) Schema {
	s := d.describeType(m.Type, mode)
	if m.Ref != "" {
		s = refTo(m.Ref)
	}
	if mode == Patch {
		s = orNull(s)
	}
	set := func(name string, n int) {
		if n != 0 {
			s[name] = n
		}
	}
	if m.Min != nil {
		s["minimum"] = *m.Min
	}
	if m.Max != nil {
		s["maximum"] = *m.Max
	}
	if mode != Answer { // answers may have what an older version accepted
		set("minLength", m.MinLength)
		set("maxLength", m.MaxLength)
		set("minItems", m.MinItems)
		set("maxItems", m.MaxItems)
	}
	if text := m.describeAccess(mode); text != "" {
		s["description"] = text
	}
	return s
}

// describeAccess is a member's description, with who may change it.
func (m *Member) describeAccess(mode Mode) string {
	switch {
	case mode == Answer || m.By == "":
		return m.Doc
	case m.By == "admin":
		return strings.TrimSpace("Only an admin may change it. " + m.Doc)
	default:
		return strings.TrimSpace("Only an operator or admin may change it. " + m.Doc)
	}
}

// orNull allows null too.
func orNull(s Schema) Schema {
	if t, ok := s["type"]; ok {
		s = maps.Clone(s)
		s["type"] = []any{t, "null"}
		return s
	}
	return Schema{"oneOf": []any{s, Schema{"type": "null"}}}
}

func refTo(name string) Schema { return Schema{"$ref": "#/components/schemas/" + name} }

func (d *describer) describeType(t reflect.Type, mode Mode) Schema {
	if name, ok := d.words[t]; ok {
		return refTo(name)
	}
	if name, ok := d.named[typeInMode{t, mode}]; ok {
		return refTo(name)
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return refTo("Time")
	case t == reflect.TypeFor[json.RawMessage]():
		return Schema{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.describeType(t.Elem(), mode)
	case reflect.String:
		return Schema{"type": "string"}
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Int64:
		return Schema{"type": "integer", "format": "int64"}
	case reflect.Int:
		return Schema{"type": "integer"}
	case reflect.Float64:
		return Schema{"type": "number"}
	case reflect.Slice:
		return Schema{"type": "array", "items": d.describeType(t.Elem(), itemMode(mode))}
	case reflect.Map:
		return d.describeMap(t, mode)
	case reflect.Struct:
		return d.describeObject(t, mode)
	default:
		panic(fmt.Sprintf("apitypes: a member has the type %v", t))
	}
}

// itemMode is the mode of a list's items: a merge patch replaces lists as a whole.
func itemMode(mode Mode) Mode {
	if mode == Patch {
		return Put
	}
	return mode
}

// KeysOf lists the keys that a map's type may have, nil for a type that does not say.
func KeysOf(t reflect.Type) []string {
	closed, ok := reflect.TypeAssert[interface{ Keys() []string }](reflect.Zero(t))
	if !ok {
		return nil
	}
	return closed.Keys()
}

func (d *describer) describeMap(t reflect.Type, mode Mode) Schema {
	value := d.describeType(t.Elem(), mode)
	keys := KeysOf(t)
	if keys == nil {
		return Schema{"type": "object", "additionalProperties": value}
	}
	properties := Schema{}
	for _, key := range keys {
		properties[key] = value
		if mode == Patch {
			properties[key] = orNull(value)
		}
	}
	return Schema{"type": "object", "properties": properties}
}
