package apply

import (
	"reflect"
	"strings"
	"sync"

	"github.com/lamplighter/lamplighter/internal/apitypes"
)

// kind is the type of a member's value.
type kind uint8

const (
	text kind = iota
	boolean
	texts
	integer
	nested
	// ignored members occur only in answers. They are accepted so that an answer can be edited and applied.
	ignored
)

// member describes the value of a name; members are those of a nested object. An atomic object is replaced as a
// whole.
type member struct {
	kind    kind
	members map[string]member
	atomic  bool
	// set says that the order of a list has no meaning.
	set bool
}

// appSchema is the schema of an app in a file: what the API's app has, and the tenants that approved it.
var appSchema = sync.OnceValue(func() map[string]member {
	schema := schemaOf(reflect.TypeFor[apitypes.App]())
	schema["client_id"], schema["approvals"] = member{kind: text}, member{kind: texts}
	return schema
})

// tenantSchema is the schema of a tenant in a file.
var tenantSchema = sync.OnceValue(func() map[string]member {
	schema := schemaOf(reflect.TypeFor[apitypes.Tenant]())
	schema["tenant"] = member{kind: text}
	return schema
})

// schemaOf makes the schema of a shape of the API. Members that writes ignore or refuse are ignored.
func schemaOf(t reflect.Type) map[string]member {
	shape := apitypes.ShapeOf(t)
	schema := make(map[string]member, len(shape.Members))
	for _, m := range shape.Members {
		schema[m.Name] = memberOf(&m)
	}
	return schema
}

func memberOf(m *apitypes.Member) member {
	if m.Access != apitypes.Writable {
		return member{kind: ignored}
	}
	switch m.Type.Kind() {
	case reflect.Bool:
		return member{kind: boolean}
	case reflect.Int, reflect.Int64:
		return member{kind: integer}
	case reflect.Slice:
		return member{kind: texts, set: m.Unordered}
	case reflect.Struct:
		return member{kind: nested, members: schemaOf(m.Type)}
	case reflect.Map:
		members := map[string]member{}
		for _, key := range apitypes.KeysOf(m.Type) {
			members[key] = member{kind: text}
		}
		return member{kind: nested, members: members, atomic: true}
	default: // a text, or a word of a closed set
		return member{kind: text}
	}
}

// suggestMember returns a half-sentence with the known member closest to name, empty when none is close.
func suggestMember(name string, known map[string]member) string {
	best, distance := "", len(name)/3+2
	for candidate := range known {
		if d := editDistance(strings.ToLower(name), candidate); d < distance || d == distance && best != "" && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// maxCompared limits the work for a name of arbitrary length.
const maxCompared = 64

// editDistance counts the bytes to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	a = a[:min(len(a), maxCompared)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
