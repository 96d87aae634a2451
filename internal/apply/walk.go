package apply

import (
	"go.yaml.in/yaml/v3"
)

// walker turns YAML into the JSON values that a schema allows, and collects what it does not.
type walker struct {
	m    *Manifest
	file string
	// left is how many more values a document may have.
	left  int
	tired bool
}

// bad notes a problem at a node.
func (w *walker) bad(n *yaml.Node, path, text string) {
	if path != "" {
		text = path + ": " + text
	}
	w.m.problem(Place{w.file, n.Line}, "%s", text)
}

// resolve follows aliases and counts the value.
func (w *walker) resolve(n *yaml.Node, path string, depth int) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	w.left--
	if w.left < 0 || depth > maxDepth {
		if !w.tired {
			w.bad(n, path, "the document is too large or nested too deeply")
		}
		w.tired = true
		return n, false
	}
	return n, true
}

// mapping reads the members of a mapping.
func (w *walker) mapping(n *yaml.Node, path string, schema map[string]member, depth int) map[string]any {
	n, ok := w.resolve(n, path, depth)
	if !ok {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		w.bad(n, path, "must be a mapping of members")
		return nil
	}
	out := make(map[string]any, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		at := join(path, shorten(name))
		known, ok := schema[name]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			w.bad(key, at, "is not a known member"+nearest(name, schema))
			continue
		case lines[name] != 0:
			w.bad(key, at, "stands twice")
			continue
		}
		lines[name] = key.Line
		if known.kind == ignored {
			continue
		}
		if v, ok := w.value(value, at, known, depth+1); ok {
			out[name] = v
		}
	}
	return out
}

func (w *walker) value(n *yaml.Node, path string, known member, depth int) (any, bool) {
	n, ok := w.resolve(n, path, depth)
	if !ok {
		return nil, false
	}
	if isNull(n) {
		w.bad(n, path, `has no value: give one ("" or [] for nothing), or leave it out`)
		return nil, false
	}
	switch known.kind {
	case boolean:
		return w.boolean(n, path)
	case texts:
		return w.texts(n, path, depth)
	case integer:
		return w.integer(n, path)
	case nested:
		v := w.mapping(n, path, known.members, depth)
		return v, v != nil
	default:
		return w.text(n, path)
	}
}

func (w *walker) boolean(n *yaml.Node, path string) (any, bool) {
	var v bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		w.bad(n, path, "must be true or false")
		return nil, false
	}
	return v, true
}

func (w *walker) integer(n *yaml.Node, path string) (any, bool) {
	var v int64
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		w.bad(n, path, "must be a whole number")
		return nil, false
	}
	return float64(v), true // as answers are read
}

// text takes numbers as they are written, for ids and versions look like them.
func (w *walker) text(n *yaml.Node, path string) (any, bool) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!timestamp":
			return n.Value, true
		}
	}
	w.bad(n, path, "must be text: put it in quotes")
	return nil, false
}

func (w *walker) texts(n *yaml.Node, path string, depth int) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		w.bad(n, path, "must be a list")
		return nil, false
	}
	out := make([]any, 0, len(n.Content))
	for _, item := range n.Content {
		item, ok := w.resolve(item, path, depth+1)
		if !ok {
			return nil, false
		}
		v, ok := w.text(item, path)
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
