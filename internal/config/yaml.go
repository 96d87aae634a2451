package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlReader reads a document. Keys may be nested or dotted: both mean the same path.
type yamlReader struct {
	index    settingIndex
	name     string
	out      layer
	problems *Problems
}

func readYAML(x settingIndex, name string, content []byte, problems *Problems) layer {
	r := &yamlReader{index: x, name: name, out: layer{}, problems: problems}
	if len(content) == 0 {
		return r.out
	}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return r.out
	case err != nil:
		problems.add("", Origin{}, "%s is not valid YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
		return r.out
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		problems.add("", Origin{}, "%s holds more than one YAML document: keep the settings in one", name)
	}
	if len(doc.Content) == 1 {
		r.readRoot(doc.Content[0])
	}
	return r.out
}

func (r *yamlReader) originOf(n *yaml.Node) Origin {
	return Origin{Source: FromFile, Name: fmt.Sprintf("%s:%d", r.name, n.Line)}
}

func (r *yamlReader) readRoot(n *yaml.Node) {
	switch {
	case isNull(n):
	case n.Kind == yaml.MappingNode:
		r.readMapping("", n)
	default:
		r.problems.add("", Origin{}, "%s must hold settings as key: value, one per line", r.name)
	}
}

func (r *yamlReader) readMapping(path string, n *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			r.problems.add(path, r.originOf(key), "anchors and merge keys are not supported: write the settings out")
			continue
		}
		full := key.Value
		if path != "" {
			full = path + "." + key.Value
		}
		r.readEntry(full, key, value)
	}
}

// readEntry reads one key: a setting, the file of a secret, or a section.
func (r *yamlReader) readEntry(path string, key, value *yaml.Node) {
	ref, known := r.index.keys[path]
	switch {
	case known:
		items, ok := r.readItems(path, ref, value)
		if ok {
			r.out.put(ref.setting.Key, givenValue{items: items, origin: r.originOf(key), fromFile: ref.file}, r.problems)
		}
	case !r.index.hasSection(path):
		r.problems.add(path, r.originOf(key), "unknown setting%s", r.index.suggestKey(path))
	case value.Kind == yaml.MappingNode:
		r.readMapping(path, value)
	case !isNull(value):
		r.problems.add(path, r.originOf(key), "is a section: put its settings below it, indented")
	}
}

func (r *yamlReader) readItems(path string, ref settingRef, value *yaml.Node) ([]string, bool) {
	list := ref.setting.IsList() && !ref.file
	switch {
	case value.Kind == yaml.ScalarNode && isNull(value):
		r.problems.add(path, r.originOf(value), "has no value: give one or remove the line")
	case value.Kind == yaml.ScalarNode && list:
		return splitItems(ref.setting, value.Value), true
	case value.Kind == yaml.ScalarNode:
		return []string{value.Value}, true
	case value.Kind == yaml.SequenceNode && list:
		return r.readSequence(path, value)
	case value.Kind == yaml.AliasNode:
		r.problems.add(path, r.originOf(value), "anchors and merge keys are not supported: write the settings out")
	case list:
		r.problems.add(path, r.originOf(value), "takes a list: write [one, two]")
	default:
		r.problems.add(path, r.originOf(value), "takes one value, not a list or a section")
	}
	return nil, false
}

func (r *yamlReader) readSequence(path string, n *yaml.Node) ([]string, bool) {
	items := make([]string, 0, len(n.Content))
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) {
			r.problems.add(path, r.originOf(item), "each item of the list must be a single value")
			return nil, false
		}
		items = append(items, item.Value)
	}
	return items, true
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
