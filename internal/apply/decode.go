package apply

import (
	"go.yaml.in/yaml/v3"
)

// decoder converts YAML into the JSON values that a schema allows, and collects violations.
type decoder struct {
	m    *Manifest
	file string
	// left is how many more values the document may have.
	left      int
	overLimit bool
}

// addProblem records a problem at a node.
func (w *decoder) addProblem(n *yaml.Node, path, text string) {
	if path != "" {
		text = path + ": " + text
	}
	w.m.addProblem(Position{w.file, n.Line}, "%s", text)
}

// resolveAlias resolves aliases and counts the value.
func (w *decoder) resolveAlias(n *yaml.Node, path string, depth int) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	w.left--
	if w.left < 0 || depth > maxDepth {
		if !w.overLimit {
			w.addProblem(n, path, "the document is too large or nested too deeply")
		}
		w.overLimit = true
		return n, false
	}
	return n, true
}

// decodeMapping reads the members of a mapping.
func (w *decoder) decodeMapping(n *yaml.Node, path string, schema map[string]member, depth int) map[string]any {
	n, ok := w.resolveAlias(n, path, depth)
	if !ok {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		w.addProblem(n, path, "must be a mapping of members")
		return nil
	}
	out := make(map[string]any, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		at := joinMemberPath(path, truncateValue(name))
		known, ok := schema[name]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			w.addProblem(key, at, "is not a known member"+suggestMember(name, schema))
			continue
		case lines[name] != 0:
			w.addProblem(key, at, "stands twice")
			continue
		}
		lines[name] = key.Line
		if known.kind == ignored {
			continue
		}
		if v, ok := w.decodeValue(value, at, known, depth+1); ok {
			out[name] = v
		}
	}
	return out
}

func (w *decoder) decodeValue(n *yaml.Node, path string, known member, depth int) (any, bool) {
	n, ok := w.resolveAlias(n, path, depth)
	if !ok {
		return nil, false
	}
	if isNull(n) {
		w.addProblem(n, path, `has no value: give one ("" or [] for nothing), or leave it out`)
		return nil, false
	}
	switch known.kind {
	case boolean:
		return w.decodeBool(n, path)
	case texts:
		return w.decodeTextList(n, path, depth)
	case integer:
		return w.decodeInt(n, path)
	case nested:
		v := w.decodeMapping(n, path, known.members, depth)
		return v, v != nil
	default:
		return w.decodeText(n, path)
	}
}

func (w *decoder) decodeBool(n *yaml.Node, path string) (any, bool) {
	var v bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		w.addProblem(n, path, "must be true or false")
		return nil, false
	}
	return v, true
}

func (w *decoder) decodeInt(n *yaml.Node, path string) (any, bool) {
	var v int64
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		w.addProblem(n, path, "must be a whole number")
		return nil, false
	}
	return float64(v), true // the type of numbers in answers
}

// decodeText accepts numbers in their spelling, because ids and versions look like numbers.
func (w *decoder) decodeText(n *yaml.Node, path string) (any, bool) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!timestamp":
			return n.Value, true
		}
	}
	w.addProblem(n, path, "must be text: put it in quotes")
	return nil, false
}

func (w *decoder) decodeTextList(n *yaml.Node, path string, depth int) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		w.addProblem(n, path, "must be a list")
		return nil, false
	}
	out := make([]any, 0, len(n.Content))
	for _, item := range n.Content {
		item, ok := w.resolveAlias(item, path, depth+1)
		if !ok {
			return nil, false
		}
		v, ok := w.decodeText(item, path)
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

func joinMemberPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
