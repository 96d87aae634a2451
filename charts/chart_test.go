package charts_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/guard"
)

var update = flag.Bool("update", false, "write the generated parts of the chart anew")

const chart = "lamplighter"

// chartOwned are the settings that follow from other values of the chart.
func chartOwned() map[string]bool {
	return map[string]bool{"roles": true, "listen": true, "ops_listen": true, "public_listen": true, "shutdown_timeout": true}
}

// TestSchemaKnowsTheSettings keeps config and secrets of values.schema.json equal to the table of
// settings: typed, closed, and with no place for a secret that a ConfigMap would show.
func TestSchemaKnowsTheSettings(t *testing.T) {
	t.Parallel()
	name := filepath.Join(chart, "values.schema.json")
	var schema map[string]any
	if err := json.Unmarshal(read(t, name), &schema); err != nil {
		t.Fatal(err)
	}
	properties, _ := schema["properties"].(map[string]any)
	properties["config"], properties["secrets"] = settings(t), secrets()
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	generated(t, name, want.Bytes())
}

// settings is the schema of the settings file without what the chart owns and without secrets.
func settings(t *testing.T) any {
	t.Helper()
	text, err := json.Marshal(config.JSONSchema()) // a deep copy, as JSON has it
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	delete(root, "$schema")
	root["title"] = "The settings file"
	for _, s := range config.AllSettings() {
		path := strings.Split(s.Key, ".")
		at := root
		for _, section := range path[:len(path)-1] {
			at, _ = at["properties"].(map[string]any)[section].(map[string]any)
		}
		fields, _ := at["properties"].(map[string]any)
		last := path[len(path)-1]
		switch {
		case s.OpenFlag: // an address may stand in the open, a password may not
			fields[last].(map[string]any)["pattern"] = "^[^@]*$"
		case s.Secret, chartOwned()[s.Key]:
			delete(fields, last)
		}
	}
	return root
}

// secrets is the schema of the map from secret settings to keys of Secrets.
func secrets() any {
	fields := map[string]any{}
	for _, s := range config.AllSettings() {
		if s.Secret {
			fields[s.Key] = map[string]any{"$ref": "#/$defs/secretKey"}
		}
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": fields}
}

// TestMirrors: alerts and dashboards have one source, and the chart a copy, because Helm packages
// files of its own directory alone.
func TestMirrors(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("../dashboards/*.json")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no dashboards found: %v", err)
	}
	copies, err := filepath.Glob(filepath.Join(chart, "files/dashboards/*"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, name := range sources {
		mirror := filepath.Join(chart, "files/dashboards", filepath.Base(name))
		known[mirror] = true
		generated(t, mirror, read(t, name))
	}
	for _, name := range copies {
		if !known[name] {
			t.Errorf("%s has no source in dashboards", name)
		}
	}
	generated(t, filepath.Join(chart, "files/alerts.yaml"), read(t, "../dashboards/alerts.yaml"))
}

// wireServer is Azure's, the one metadata address that looks public.
const wireServer = "168.63.129.16/32"

// TestNetworkPolicyRefusesWhatTheGuardRefuses keeps the two walls alike.
func TestNetworkPolicyRefusesWhatTheGuardRefuses(t *testing.T) {
	t.Parallel()
	v4 := append([]netip.Prefix{}, ssrf.IPv4DeniedPrefixes...)
	v4 = append(v4, netip.MustParsePrefix(wireServer))
	g := guard.New(guard.Policy{AllowPorts: []uint16{443}}, nil)
	for file, prefixes := range map[string][]netip.Prefix{"blocked-ipv4.txt": v4, "blocked-ipv6.txt": ssrf.IPv6DeniedPrefixes} {
		var want bytes.Buffer
		for _, p := range prefixes {
			want.WriteString(p.String() + "\n")
			if g.CheckAddr(netip.AddrPortFrom(p.Addr(), 443)) == nil {
				t.Errorf("%s: the policy refuses %s, which the guard allows", file, p)
			}
		}
		generated(t, filepath.Join(chart, "files", file), want.Bytes())
	}
	for _, public := range []string{"93.184.216.34", "2606:2800:220:1::1"} {
		if err := g.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(public), 443)); err != nil {
			t.Errorf("%s is public, but the guard says %v: this test proves nothing", public, err)
		}
	}
}

// generated compares a file with what it must hold, and writes it with -update.
func generated(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not up to date: run `go test ./charts -update`\n%s", name, diff)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReadmeKnowsTheValues: helm-docs wrote the table; here is what needs no helm-docs to be seen.
func TestReadmeKnowsTheValues(t *testing.T) {
	t.Parallel()
	var values map[string]any
	if err := yaml.Unmarshal(read(t, filepath.Join(chart, "values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([a-z][A-Za-z.]*) \| [a-z]+ \| (.*?) \| (.*) \|$`)
	told := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(read(t, filepath.Join(chart, "README.md"))), -1) {
		key, shown, words := m[1], m[2], m[3]
		told[strings.Split(key, ".")[0]] = true
		if words == "" {
			t.Errorf("%s: nobody says what it means", key)
		}
		value, err := json.Marshal(lookUp(values, key))
		if err != nil {
			t.Fatal(err)
		}
		if code, ok := strings.CutPrefix(shown, "`"); ok && strings.TrimSuffix(code, "`") != string(value) {
			t.Errorf("%s: the README says %s, values.yaml %s: run `make chart-docs`", key, shown, value)
		}
	}
	for key := range values {
		if !told[key] {
			t.Errorf("the README does not name %s: run `make chart-docs`", key)
		}
	}
}

func lookUp(values any, key string) any {
	for name := range strings.SplitSeq(key, ".") {
		section, _ := values.(map[string]any)
		values = section[name]
	}
	return values
}
