package httpapi

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// readShape reads the writable members of a shape into dst, as their tags say. Members that are absent keep the value of dst. In a
// merge patch null gives a member the value of reset. Wrong types, bounds and names are faults.
func readShape[T any](o *objectReader, dst, reset *T) {
	o.readFields(reflect.ValueOf(dst).Elem(), reflect.ValueOf(reset).Elem())
}

func (o *objectReader) readFields(dst, reset reflect.Value) {
	shape := apitypes.ShapeOf(dst.Type())
	for i := range shape.Members {
		m := &shape.Members[i]
		switch m.Access {
		case apitypes.Refused:
			o.refuseMember(m.Name, "cannot be set: "+strings.ToLower(m.Doc[:1])+strings.TrimSuffix(m.Doc[1:], "."))
			continue
		case apitypes.Ignored:
			o.ignoreMembers(m.Name)
			continue
		case apitypes.Writable:
		}
		before := len(o.list) + o.unlisted
		field := dst.FieldByIndex(m.Index)
		if v, present := o.members[m.Name]; present && v == nil && o.nulls {
			o.ignoreMembers(m.Name)
			field.Set(reset.FieldByIndex(m.Index))
		} else {
			o.readField(m, field, reset.FieldByIndex(m.Index))
		}
		if m.Required && field.IsZero() && len(o.list)+o.unlisted == before {
			o.add(o.pointerTo(m.Name), "is required")
		}
	}
	o.reportUnknownMembers()
}

// readField reads one member. Types that no shape has are a mistake of the shape; a test reads all.
func (o *objectReader) readField(m *apitypes.Member, field, reset reflect.Value) {
	switch field.Kind() {
	case reflect.String:
		if s, ok := o.readString(m.Name); ok {
			o.checkText(m, s)
			field.SetString(s)
		}
	case reflect.Bool:
		if b, ok := o.readBool(m.Name); ok {
			field.SetBool(b)
		}
	case reflect.Int, reflect.Int64:
		if n, ok := o.readInt(m.Name, *m.Min, *m.Max); ok {
			field.SetInt(n)
		}
	case reflect.Slice:
		if list, ok := o.readStrings(m.Name, m.MaxItems); ok {
			items := reflect.MakeSlice(field.Type(), len(list), len(list))
			for i, s := range list {
				items.Index(i).SetString(s)
			}
			field.Set(items)
		}
	case reflect.Struct:
		o.readObject(m.Name).readFields(field, reset)
	case reflect.Map:
		urls, _ := reflect.TypeAssert[apitypes.URLs](field)
		field.Set(reflect.ValueOf(o.readURLs(m.Name, urls)))
	default:
		panic("httpapi: the member " + m.Name + " has a type that cannot be read")
	}
}

// checkText checks a text against the bounds of its member.
func (o *objectReader) checkText(m *apitypes.Member, s string) {
	switch n := utf8.RuneCountInString(s); {
	case m.MaxLength > 0 && n > m.MaxLength:
		o.add(o.pointerTo(m.Name), fmt.Sprintf("must be at most %d characters", m.MaxLength))
	case n < m.MinLength:
		o.add(o.pointerTo(m.Name), fmt.Sprintf("must be at least %d characters", m.MinLength))
	case strings.ContainsFunc(s, unicode.IsControl):
		o.add(o.pointerTo(m.Name), "must not hold control characters")
	}
}

// readURLs reads overrides of a URL. An empty one is none.
func (o *objectReader) readURLs(name string, old apitypes.URLs) apitypes.URLs {
	out := maps.Clone(old)
	c := o.readObject(name)
	for _, env := range partner.AllEnvironments() {
		v, present := c.members[string(env)]
		u, ok := c.readString(string(env))
		switch {
		case ok && u != "":
			out[env] = u
		case ok, present && v == nil && c.nulls:
			delete(out, env)
		}
	}
	c.reportUnknownMembers()
	return out
}

// ignoreUnwritable accepts the members of a shape that only answers have.
func (o *objectReader) ignoreUnwritable(t reflect.Type) {
	for _, m := range apitypes.ShapeOf(t).Members {
		if m.Access == apitypes.Ignored {
			o.ignoreMembers(m.Name)
		}
	}
}
