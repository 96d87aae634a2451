package output

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// writeYAML prints a document as YAML, members in the answer's order.
func writeYAML(w io.Writer, v any) error {
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(buildYAMLNode(v)); err != nil {
		return fmt.Errorf("print YAML: %w", err)
	}
	return e.Close()
}

func buildYAMLNode(v any) *yaml.Node {
	scalar := func(tag, value string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	}
	switch v := v.(type) {
	case string:
		n := scalar("!!str", v)
		if isYAML11Bool(v) {
			n.Style = yaml.DoubleQuotedStyle
		}
		return n
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return scalar("!!int", v.String())
		}
		return scalar("!!float", v.String())
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		for _, item := range v {
			n.Content = append(n.Content, buildYAMLNode(item))
		}
		return n
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		for _, f := range v {
			n.Content = append(n.Content, buildYAMLNode(f.name), buildYAMLNode(f.value))
		}
		return n
	}
	return scalar("!!null", "null")
}

// isYAML11Bool reports whether readers of YAML 1.1 take the plain word for true or false.
func isYAML11Bool(s string) bool {
	return slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(s))
}
