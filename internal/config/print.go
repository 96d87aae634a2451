package config

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the effective settings as a YAML file, each with a comment that states its origin. Secrets are masked,
// and Load refuses the mask, so that the output cannot replace a secret by accident.
func (l *Loaded) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range AllSettings() {
		path := strings.Split(s.Key, ".")
		section := root
		for _, name := range path[:len(path)-1] {
			section = findOrAddSection(section, name)
		}
		value := l.settingNode(s)
		value.LineComment = l.origins[s.Key].String()
		section.Content = append(section.Content, scalarNode(path[len(path)-1]), value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	return nil
}

func (l *Loaded) settingNode(s Setting) *yaml.Node {
	items := l.redactedValues(s)
	if !s.IsList() {
		return itemNode(s, items[0])
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, text := range items {
		list.Content = append(list.Content, itemNode(s, text))
	}
	return list
}

// itemNode writes numbers and booleans unquoted, and quotes what a reader could take for a list.
func itemNode(s Setting, text string) *yaml.Node {
	n := scalarNode(text)
	switch s.Kind() {
	case Bool:
		n.Tag = "!!bool"
	case Integer:
		n.Tag = "!!int"
	default:
		if s.Secret {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	return n
}

func scalarNode(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

// findOrAddSection finds or makes the section of that name.
func findOrAddSection(section *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(section.Content); i += 2 {
		if section.Content[i].Value == name {
			return section.Content[i+1]
		}
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	section.Content = append(section.Content, scalarNode(name), n)
	return n
}
