package apply

import (
	"maps"
	"os"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestAnswersCanBeApplied: each member that an answer of the API may have is known, so that what `apps get -o yaml`
// prints can be edited and applied, whatever state the app is in.
func TestAnswersCanBeApplied(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../httpapi/openapi/schemas.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var schemas map[string]struct {
		Properties map[string]any `yaml:"properties"`
	}
	if err := yaml.Unmarshal(text, &schemas); err != nil {
		t.Fatal(err)
	}
	app := appSchema()
	for _, c := range []struct {
		schema string
		known  map[string]member
		more   []string // members that only files have
	}{
		{"App", app, []string{"approvals"}},
		{"AppWrite", app, []string{}},
		{"Endpoint", app["endpoints"].members["mirroring"].members, []string{}},
		{"EndpointWrite", app["endpoints"].members["mirroring"].members, []string{}},
		{"Contact", app["technical_contact"].members, []string{}},
		{"Tenant", tenantSchema(), []string{}},
	} {
		properties := schemas[c.schema].Properties
		if len(properties) == 0 {
			t.Errorf("the API's document has no schema %s", c.schema)
		}
		for name := range properties {
			if _, ok := c.known[name]; !ok {
				t.Errorf("%s.%s is not known to apply", c.schema, name)
			}
		}
		if c.schema == "AppWrite" || c.schema == "EndpointWrite" {
			for _, name := range slices.Sorted(maps.Keys(properties)) {
				if c.known[name].kind == ignored {
					t.Errorf("%s.%s can be written, and apply ignores it", c.schema, name)
				}
			}
			continue
		}
		for name := range c.known {
			if _, ok := properties[name]; !ok && !slices.Contains(c.more, name) {
				t.Errorf("apply knows %s.%s, which no answer has", c.schema, name)
			}
		}
	}
}
