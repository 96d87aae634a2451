package main

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/lamplighter/lamplighter/internal/apitypes"
)

// TestAppsHaveAFlagForEachMember: what the API lets callers write, the command line can write. Endpoints have commands of their own,
// and the name is a flag of each command, because `apps create` requires it.
func TestAppsHaveAFlagForEachMember(t *testing.T) {
	t.Parallel()
	writable := map[string]bool{}
	var collect func(prefix string, of reflect.Type)
	collect = func(prefix string, of reflect.Type) {
		for _, m := range apitypes.ShapeOf(of).Members {
			switch {
			case m.Access != apitypes.Writable, m.Name == "endpoints", m.Name == "name" && prefix == "":
			case m.Type.Kind() == reflect.Struct:
				collect(m.Name+".", m.Type)
			default:
				writable[prefix+m.Name] = true
			}
		}
	}
	collect("", reflect.TypeFor[apitypes.App]())
	flags := map[string]bool{}
	for f := range reflect.TypeFor[appFlags]().Fields() {
		flags[f.Tag.Get("member")] = true
	}
	if got, want := slices.Sorted(maps.Keys(flags)), slices.Sorted(maps.Keys(writable)); !slices.Equal(got, want) {
		t.Errorf("appFlags has %q, the API has %q", got, want)
	}
}
