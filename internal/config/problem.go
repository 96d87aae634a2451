package config

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one mistake in the settings.
type Problem struct {
	// Key is the setting, or an unknown key in the spelling given.
	Key string
	// Origin is where the value came from; zero when none was given.
	Origin Origin
	// Detail says what is wrong and what to do. It holds no secret.
	Detail string
}

// String is one line: the key, where its value came from, what is wrong.
func (p Problem) String() string {
	switch {
	case p.Key == "":
		return p.Detail
	case p.Origin == (Origin{}):
		return p.Key + ": " + p.Detail
	default:
		return fmt.Sprintf("%s (%s): %s", p.Key, p.Origin, p.Detail)
	}
}

// Problems is every mistake found; never empty when returned as an error.
type Problems []Problem

// Error lists one problem per line.
func (p Problems) Error() string {
	if len(p) == 1 {
		return "settings: " + p[0].String()
	}
	lines := make([]string, 0, len(p)+1)
	lines = append(lines, fmt.Sprintf("settings: %d problems", len(p)))
	for _, one := range p {
		lines = append(lines, "  "+one.String())
	}
	return strings.Join(lines, "\n")
}

// AsError is nil when there are no problems.
func (p Problems) AsError() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

func (p *Problems) add(key string, origin Origin, format string, args ...any) {
	*p = append(*p, Problem{Key: key, Origin: origin, Detail: fmt.Sprintf(format, args...)})
}

// addErr adds a problem per error that err joins.
func (p *Problems) addErr(key string, origin Origin, err error) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			p.addErr(key, origin, e)
		}
		return
	}
	if err != nil {
		p.add(key, origin, "%s", err)
	}
}

// Source is a layer of settings.
type Source uint8

// The closed set of sources; a later one has precedence.
const (
	// FromDefault is the table's default.
	FromDefault Source = iota + 1
	// FromDev is a default of `lamplighter dev`.
	FromDev
	// FromFile is the YAML file.
	FromFile
	// FromEnv is an environment variable.
	FromEnv
	// FromFlag is the command line.
	FromFlag
)

// Origin says where a value came from.
type Origin struct {
	Source Source
	// Name is the variable, the flag, or file and line; empty for defaults.
	Name string
}

// String is the origin in messages and in `config print`.
func (o Origin) String() string {
	switch o.Source {
	case FromDefault:
		return "default"
	case FromDev:
		return "default of dev"
	case FromFile:
		return o.Name
	case FromEnv:
		return "environment " + o.Name
	case FromFlag:
		return "flag --" + o.Name
	default:
		return "unknown"
	}
}
