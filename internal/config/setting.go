package config

import (
	"strings"
)

// Prefix starts every environment variable of the service.
const Prefix = "LAMPLIGHTER_"

// Kind is the format of a setting's value.
type Kind string

// The closed set of kinds; assignField and formatField handle each.
const (
	Text     Kind = "text"
	Bool     Kind = "true or false"
	Integer  Kind = "whole number"
	Duration Kind = "duration"
	Network  Kind = "network"
)

// Setting documents one setting and knows its field of Config.
type Setting struct {
	// Key is the path in the YAML file, such as "delivery.timeout".
	Key string
	// Default is in the format of the environment; empty: none.
	Default string
	// Help states the meaning and when to change it, in one or two sentences.
	Help string
	// Rule is what values are accepted.
	Rule Rule
	// Secret values are never shown, and have a variant that names a file.
	Secret bool
	// Reload says that SIGHUP applies a change in a running process.
	Reload bool
	// OpenFlag marks a secret that may be given on the command line.
	OpenFlag bool

	fieldOf func(*Config) any
}

// Rule restricts a value beyond its kind.
type Rule struct {
	// Accepts says what is accepted; empty: anything of the kind.
	Accepts string
	// check returns what is wrong with one item. For a secret it must not contain the value.
	check func(item string) error
}

// Kind is the format of the value, or of each item of a list.
func (s Setting) Kind() Kind { return kindOf(s.fieldOf(&Config{})) }

// IsList reports whether the value is a list: a sequence in YAML, comma-separated elsewhere.
func (s Setting) IsList() bool { return isList(s.fieldOf(&Config{})) }

// Env is the environment variable.
func (s Setting) Env() string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Flag is the flag without dashes, empty for a secret: every user of a machine can read command lines.
func (s Setting) Flag() string {
	if s.Secret && !s.OpenFlag {
		return ""
	}
	return flagName(s.Key)
}

// FileKey is the key of the variant that names a file with the value; empty unless Secret.
func (s Setting) FileKey() string {
	if !s.Secret {
		return ""
	}
	return s.Key + "_file"
}

// FileEnv is FileKey's environment variable.
func (s Setting) FileEnv() string {
	if !s.Secret {
		return ""
	}
	return s.Env() + "_FILE"
}

// FileFlag is FileKey's flag.
func (s Setting) FileFlag() string {
	if !s.Secret {
		return ""
	}
	return flagName(s.Key) + "-file"
}

func flagName(key string) string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(key)
}
