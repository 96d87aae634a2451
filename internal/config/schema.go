package config

import "strings"

// JSONSchema is a JSON Schema (2020-12) of the settings file, for editors. It has the structure and the closed sets;
// only Load checks ranges.
func JSONSchema() map[string]any {
	root := newObjectSchema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Lamplighter settings"
	for _, s := range AllSettings() {
		putSchema(root, s.Key, s.jsonSchema())
		if s.Secret {
			putSchema(root, s.FileKey(), map[string]any{"type": "string", "description": "Path of a file that holds " + s.Key + "."})
		}
	}
	return root
}

func newObjectSchema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

// putSchema adds a schema at a key's path, and the sections on the way.
func putSchema(root map[string]any, key string, schema map[string]any) {
	path := strings.Split(key, ".")
	at := root["properties"].(map[string]any)
	for _, name := range path[:len(path)-1] {
		section, ok := at[name].(map[string]any)
		if !ok {
			section = newObjectSchema()
			at[name] = section
		}
		at = section["properties"].(map[string]any)
	}
	at[path[len(path)-1]] = schema
}

func (s Setting) jsonSchema() map[string]any {
	one := map[string]any{"type": "string"}
	switch s.Kind() {
	case Bool:
		one["type"] = "boolean"
	case Integer:
		one["type"] = "integer"
	default:
		if words, ok := strings.CutPrefix(s.Rule.Accepts, "one of "); ok {
			one["enum"] = strings.Split(words, ", ")
		}
	}
	out := one
	if s.IsList() {
		out = map[string]any{"type": "array", "items": one}
	}
	out["description"] = s.Help
	return out
}
