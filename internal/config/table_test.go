package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/secret"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// withoutDefault are the settings that are unset by default, which their help must make sense of.
const withoutDefault = `public_listen public_url http.cors http.trusted_proxies bootstrap_token redis.username redis.password redis.sentinel_username
redis.sentinel_password redis.tls.ca redis.tls.cert redis.tls.key redis.waive_checks smtp.host smtp.username smtp.password
smtp.from smtp.ca smtp.dkim.key smtp.dkim.selector smtp.dkim.domain signing.keys encryption.key encryption.older_keys token.issuer.state_change guard.allow_cidrs
guard.deny_cidrs guard.deny_hosts guard.nat64_prefixes audit.write_to`

func TestEverySettingIsDocumented(t *testing.T) {
	t.Parallel()
	unset := map[string]bool{}
	for key := range strings.FieldsSeq(withoutDefault) {
		unset[key] = true
	}
	form := regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)*(\.[a-z]+[0-9]*(_[a-z]+)*)*$`)
	names := map[string]string{}
	for _, s := range config.AllSettings() {
		if !form.MatchString(s.Key) {
			t.Errorf("%s: malformed key", s.Key)
		}
		if !strings.HasSuffix(s.Help, ".") || len(s.Help) < 15 {
			t.Errorf("%s: help %q is no sentence", s.Key, s.Help)
		}
		if (s.Default == "") != unset[s.Key] {
			t.Errorf("%s: default %q, expected to be unset: %v", s.Key, s.Default, unset[s.Key])
		}
		if s.Rule.Accepts == "" && s.Kind() == config.Integer && !s.IsList() {
			t.Errorf("%s: a number without a range", s.Key)
		}
		if s.Rule.Accepts == "" && s.Kind() == config.Duration {
			t.Errorf("%s: a duration without a range", s.Key)
		}
		if want := "LAMPLIGHTER_" + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_")); s.Env() != want {
			t.Errorf("%s: environment %s, want %s", s.Key, s.Env(), want)
		}
		for _, name := range []string{s.Key, s.Env(), s.Flag(), s.FileKey(), s.FileEnv(), s.FileFlag()} {
			if other, taken := names[name]; taken && name != "" && other != s.Key {
				t.Errorf("%s: the name %s is taken by %s", s.Key, name, other)
			}
			names[name] = s.Key
		}
	}
}

// TestEveryFieldHasASetting counts the leaves of Config: each must be reached by its setting.
func TestEveryFieldHasASetting(t *testing.T) {
	t.Parallel()
	var fields []string
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[secret.Text]() {
			fields = append(fields, path)
			return
		}
		for f := range typ.Fields() {
			walk(strings.TrimPrefix(path+"."+f.Name, "."), f.Type)
		}
	}
	walk("", reflect.TypeFor[config.Config]())
	keys := map[string]bool{}
	for _, s := range config.AllSettings() {
		keys[strings.ReplaceAll(s.Key, "_", "")] = true
	}
	for _, f := range fields {
		if !keys[strings.ToLower(f)] {
			t.Errorf("field %s has no setting of its name", f)
		}
	}
	if len(fields) != len(keys) {
		t.Errorf("%d fields, %d settings", len(fields), len(keys))
	}
}

// TestEverySettingReachesItsOwnField sets each setting to a value that is not its default and
// looks whether `config print` shows it there and nowhere else.
func TestEverySettingReachesItsOwnField(t *testing.T) {
	t.Parallel()
	plain := printed(t, mustLoad(t, ""))
	for _, s := range config.AllSettings() {
		t.Run(s.Key, func(t *testing.T) {
			t.Parallel()
			l, err := load("", env(s.Env()+"="+otherValue(s)))
			if err != nil {
				// Some values need a companion; that the error names the setting proves the way.
				if !strings.Contains(err.Error(), s.Key) && !strings.Contains(err.Error(), strings.Split(s.Key, ".")[0]) {
					t.Fatalf("set to %q: %v", otherValue(s), err)
				}
				return
			}
			before, after := strings.Split(plain, "\n"), strings.Split(printed(t, l), "\n")
			var changed []string
			for i := range before {
				if before[i] != after[i] {
					changed = append(changed, strings.TrimSpace(after[i]))
				}
			}
			leaf := s.Key[strings.LastIndexByte(s.Key, '.')+1:]
			if len(changed) == 0 || !strings.Contains(strings.Join(changed, "\n"), leaf+": ") || !strings.Contains(strings.Join(changed, "\n"), s.Env()) {
				t.Errorf("changed lines: %q", changed)
			}
			if limit := map[bool]int{true: 2, false: 1}[s.Key == "environment"]; len(changed) > limit {
				t.Errorf("more than one setting changed: %q", changed)
			}
		})
	}
}

func otherValue(s config.Setting) string {
	switch s.Key {
	case "environment":
		return "sod"
	case "roles":
		return "api"
	case "listen", "ops_listen", "public_listen":
		return "127.0.0.1:7777"
	case "http.cors":
		return "https://portal.example"
	case "public_url", "token.issuer.state_change":
		return "https://other.example"
	case "bootstrap_token":
		return "lmp_0123456789abcdef"
	case "log.level":
		return "debug"
	case "log.format":
		return "text"
	case "redis.url":
		return "redis://other:6379/0"
	case "redis.waive_checks":
		return "version"
	case "smtp.tls":
		return "none"
	case "smtp.from":
		return "a@b.example"
	case "encryption.key", "encryption.older_keys":
		return key32
	case "delivery.entry_lease":
		return "26s"
	case "delivery.timeout":
		return "9s"
	case "guard.nat64_prefixes":
		return "2001:db8:64::/96"
	case "guard.min_rsa_bits":
		return "2048"
	case "delivery.in_flight", "retention.audit":
		return "2000"
	case "incident.remind_after", "delivery.retry_schedule":
		return "3h"
	case "retention.incidents":
		return "48h"
	case "delivery.switch_off_after", "retention.changes", "retention.idempotency":
		return "2h"
	}
	switch s.Kind() {
	case config.Bool:
		return "true"
	case config.Integer:
		return "31"
	case config.Duration:
		return (7 * time.Second).String()
	case config.Network:
		return "10.0.0.0/8"
	default:
		return "other"
	}
}

func printed(t *testing.T, l *config.Loaded) string {
	t.Helper()
	var b strings.Builder
	if err := l.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrintNeverShowsASecret(t *testing.T) {
	t.Parallel()
	const hidden = "hunter2-hunter2-hunter2"
	out := printed(t, mustLoad(t, `
bootstrap_token: `+hidden+`
redis: {url: "rediss+sentinel://user:`+hidden+`@a:1,b:2/main/3", password: `+hidden+`, sentinel_password: `+hidden+`}
smtp: {host: m, from: a@b.example, username: u, password: `+hidden+`}
encryption: {key: `+key32+`, older_keys: [`+key32+`]}
`))
	if strings.Contains(out, hidden) || strings.Contains(out, key32) {
		t.Fatalf("print shows a secret:\n%s", out)
	}
	for _, line := range []string{
		`url: "rediss+sentinel://[redacted]@a:1,b:2/main/3" # lamplighter.yaml:3`,
		`bootstrap_token: "[redacted]" # lamplighter.yaml:2`,
		`older_keys: ["[redacted]"] # lamplighter.yaml:5`,
		"allow_ports: [443, 8443] # default",
		"allow_http: false # default",
		"switch_off_after: 120h # default",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("print lacks %s\n%s", line, out)
		}
	}
	_, err := load(out)
	if err == nil || strings.Count(err.Error(), secret.Mask) < 6 {
		t.Errorf("masked output was taken for settings: %v", err)
	}
}

func TestPrintedSettingsLoadAgain(t *testing.T) {
	t.Parallel()
	first := mustLoad(t, "public_url: https://x.example\nguard: {allow_cidrs: [10.0.0.0/8]}\nincident: {remind_after: []}\nredis: {prefix: '1e3'}")
	again := mustLoad(t, printed(t, first))
	if diff := cmp.Diff(first.Config, again.Config, sameValues()); diff != "" {
		t.Errorf("settings changed by printing and loading (-first +again):\n%s", diff)
	}
}

func TestSchemaHoldsEverySetting(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(config.JSONSchema())
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Type                 string
		AdditionalProperties *bool
		Properties           map[string]*node
		Enum                 []string
	}
	var root node
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	for _, s := range config.AllSettings() {
		n := &root
		for name := range strings.SplitSeq(s.Key, ".") {
			if n.AdditionalProperties == nil || *n.AdditionalProperties {
				t.Fatalf("%s: a section accepts unknown keys", s.Key)
			}
			if n = n.Properties[name]; n == nil {
				t.Fatalf("%s is missing", s.Key)
			}
		}
		if s.Key == "log.level" && cmp.Diff([]string{"debug", "info", "warn", "error"}, n.Enum) != "" {
			t.Errorf("log.level: enum = %v", n.Enum)
		}
	}
}

// TestConfigurationPage keeps docs/configuration.md equal to the table: run with -update.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "..", "docs", "configuration.md")
	want := configurationPage()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("docs/configuration.md is out of date; run: go test ./internal/config -run TestConfigurationPage -update\n%s", cmp.Diff(string(got), string(want)))
	}
}

const pageIntro = `# Configuration

<!-- Generated from internal/config: go test ./internal/config -run TestConfigurationPage -update -->

Lamplighter reads its settings from a YAML file (` + "`--config FILE`" + ` or ` + "`LAMPLIGHTER_CONFIG`" + `), from the environment and from flags.
Flags have precedence over the environment, the environment over the file, the file over defaults.

- In YAML, keys are nested at the dots: ` + "`delivery.timeout`" + ` is ` + "`delivery: {timeout: 10s}`" + `. Lists are sequences.
- Environment names are ` + "`LAMPLIGHTER_`" + ` and the key in capitals with ` + "`_`" + ` for the dots; flags have ` + "`-`" + ` for dots and underscores. Lists are comma-separated there. An empty variable counts as not set.
- Durations are written like ` + "`500ms`, `90s`, `5m` or `120h`" + `.
- A secret can be in a file of its own: ` + "`…_file`" + ` in YAML, ` + "`…_FILE`" + ` in the environment, ` + "`--…-file`" + ` as a flag. Its value is not accepted as a flag, because every user of a machine can read command lines; ` + "`redis.url`" + ` is the exception.
- An unknown key or ` + "`LAMPLIGHTER_`" + ` variable is an error, so that a misspelt setting does not go unnoticed. All mistakes are reported at once.

` + "`lamplighter config check`" + ` says whether the settings are valid for ` + "`serve`" + `; ` + "`lamplighter config print`" + ` shows the effective values and the origin of each, without secrets; ` + "`lamplighter config schema`" + ` prints a JSON Schema for editors.

## The settings that serve requires

` + "`public_url`, `encryption.key`, `signing.keys`" + `, and either ` + "`smtp.host` with `smtp.from`, or `smtp.disabled: true`" + `.
`

const reloadIntro = `
## Memory

Without GOGC and GOMEMLIMIT, ` + "`serve`" + ` sets its Go memory limit to four fifths of the available memory. That is the lowest memory limit of its
cgroup (of version 1 or 2) and the enclosing ones: the limit of a container, or the ` + "`MemoryMax=`" + ` of a unit. Without such a limit it is
half of the machine's memory. The log says which. If one of the two variables is set, ` + "`serve`" + ` sets no limit. Without GOGC, garbage may grow to four
times the live heap, at most 192 MB, or to the size of the live heap if that is more.

## Changing settings of a running process

At SIGHUP (` + "`systemctl reload lamplighter`" + `) a serving process reads its settings again, from the same file and the environment and flags it was started
with. All of them must be valid; otherwise none is applied and the log says why. Applied at once: %s. The files of
` + "`signing.keys`" + ` are read again even if their names are the same: a new key is published, and signs when its certificate begins. Any other change needs a
restart, and the log names the setting.

Under systemd a credential (` + "`LoadCredential`" + `, as in docs/deploy/systemd) is a copy made at the start, so a reload does not see a new file.
Restart the unit after a change of keys, or name files in ` + "`signing.keys`" + ` that the service's user can read.

The files of ` + "`redis.tls.cert` and `redis.tls.key`" + ` are read again at each new connection, without a signal. Apps, endpoints, tokens and licences are not
settings: the API changes them, on every replica within a second.
`

// reloadable lists the settings that SIGHUP applies.
func reloadable() string {
	var keys []string
	for _, s := range config.AllSettings() {
		if s.Reload {
			keys = append(keys, "`"+s.Key+"`")
		}
	}
	return strings.Join(keys, ", ")
}

func configurationPage() []byte {
	var b bytes.Buffer
	b.WriteString(pageIntro)
	fmt.Fprintf(&b, reloadIntro, reloadable())
	section := ""
	for _, s := range config.AllSettings() {
		head, _, nested := strings.Cut(s.Key, ".")
		if !nested {
			head = "general"
		}
		if head != section {
			section = head
			fmt.Fprintf(&b, "\n## %s\n\n| key | default | values | meaning |\n|---|---|---|---|\n", section)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Key, defaultText(s), valuesText(s), s.Help)
	}
	b.WriteString("\n## Names\n\n| key | environment | flag |\n|---|---|---|\n")
	for _, s := range config.AllSettings() {
		names, flagNames := "`"+s.Env()+"`", "`--"+s.Flag()+"`"
		if s.Secret {
			names += ", `" + s.FileEnv() + "`"
			flagNames += ", `--" + s.FileFlag() + "`"
			if s.Flag() == "" {
				flagNames = "`--" + s.FileFlag() + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Key, names, flagNames)
	}
	return b.Bytes()
}

func defaultText(s config.Setting) string {
	if s.Default == "" {
		return "unset"
	}
	return "`" + s.Default + "`"
}

func valuesText(s config.Setting) string {
	words := s.Rule.Accepts
	if words == "" {
		words = string(s.Kind())
	}
	if s.IsList() {
		words = "list: " + words
	}
	if s.Secret {
		words += " (secret)"
	}
	return words
}
