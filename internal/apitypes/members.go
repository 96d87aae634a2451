package apitypes

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Access is what a write does with a member.
type Access uint8

// The closed set of accesses.
const (
	// Ignored members are accepted and have no effect, so that an answer can be edited and sent back.
	Ignored Access = iota
	// Writable members may be set.
	Writable
	// Refused members must be absent.
	Refused
)

// Member is a member of a JSON object, as the tags of a field describe it.
type Member struct {
	Name string
	// Type is without pointers.
	Type reflect.Type
	// Index finds the field, see reflect.Value.FieldByIndex.
	Index []int
	// Optional is true for a member that answers may leave out.
	Optional bool
	// Required is true for a member that writes must have.
	Required bool
	// By is who alone may change it: "operator" (operators and admins) or "admin"; empty for all who may write.
	By string
	// Unordered is true for a list whose order has no meaning.
	Unordered bool
	Access    Access
	Doc, Ref  string
	// Bounds of a value; nil or 0 where there is none.
	Min, Max                                 *int64
	MinLength, MaxLength, MinItems, MaxItems int
}

// Shape is what the tags of a type say.
type Shape struct {
	Members []Member
	// Closed is true where members that the type does not have are refused.
	Closed bool
}

var shapes sync.Map // reflect.Type → Shape

// ShapeOf describes a struct type. It panics if a tag is wrong; a test reads all types.
func ShapeOf(t reflect.Type) Shape {
	if s, ok := shapes.Load(t); ok {
		return s.(Shape) //nolint:forcetypeassert // nothing else is stored
	}
	var s Shape
	s.addFields(t, nil, false)
	shapes.Store(t, s)
	return s
}

// addFields adds the fields of a struct type, and those of the types that it embeds.
func (s *Shape) addFields(t reflect.Type, index []int, optional bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int{}, index...), i)
		if f.Name == "_" {
			s.Closed = s.Closed || f.Tag.Get("api") == "closed"
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if f.Anonymous && name == "" {
			from := len(s.Members)
			s.addFields(ft, at, optional || f.Type.Kind() == reflect.Pointer)
			for i := range s.Members[from:] {
				m := &s.Members[from+i]
				m.Optional = m.Optional && !slices.Contains(strings.Split(f.Tag.Get("always"), ","), m.Name)
			}
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		m := Member{Name: name, Type: ft, Index: at, Optional: optional || strings.Contains(options, "omit"), Doc: f.Tag.Get("doc")}
		if err := m.readTag(f.Tag.Get("api")); err != nil {
			panic(fmt.Sprintf("apitypes: %v.%s: %v", t, f.Name, err))
		}
		if m.Access == Refused && m.Doc == "" {
			panic(fmt.Sprintf("apitypes: %v.%s: callers must be told why it is refused", t, f.Name))
		}
		if k := ft.Kind(); m.Access == Writable && (k == reflect.Int || k == reflect.Int64) && (m.Min == nil || m.Max == nil) {
			panic(fmt.Sprintf("apitypes: %v.%s: a number that callers write needs min and max", t, f.Name))
		}
		s.Members = append(s.Members, m)
	}
}

// readTag reads the tag api.
func (m *Member) readTag(tag string) error {
	if tag == "" {
		return nil
	}
	for word := range strings.SplitSeq(tag, ",") {
		key, value, valued := strings.Cut(word, "=")
		switch {
		case key == "ref":
			m.Ref = value
			continue
		case key == "by" && (value == "operator" || value == "admin"):
			m.By = value
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if valued && err != nil {
			return fmt.Errorf("read the tag api: %w", err)
		}
		switch word, n := key, int(n); {
		case word == "write" && !valued:
			m.Access = Writable
		case word == "required" && !valued:
			m.Required = true
		case word == "unordered" && !valued:
			m.Unordered = true
		case word == "refused" && !valued:
			m.Access = Refused
		case word == "min" && valued:
			m.Min = new(int64(n))
		case word == "max" && valued:
			m.Max = new(int64(n))
		case word == "minLength" && valued:
			m.MinLength = n
		case word == "maxLength" && valued:
			m.MaxLength = n
		case word == "minItems" && valued:
			m.MinItems = n
		case word == "maxItems" && valued:
			m.MaxItems = n
		default:
			return fmt.Errorf("the tag api has no word %q", key)
		}
	}
	return nil
}
