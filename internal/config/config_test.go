package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const key32 = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// load reads a YAML text as lamplighter.yaml together with other sources.
func load(text string, change ...func(*config.Sources)) (*config.Loaded, error) {
	src := config.Sources{FileName: "lamplighter.yaml", File: []byte(text), ReadFile: os.ReadFile}
	for _, c := range change {
		c(&src)
	}
	return config.Load(src)
}

func env(entries ...string) func(*config.Sources) {
	return func(s *config.Sources) { s.Environ = append(s.Environ, entries...) }
}

func flags(m map[string]string) func(*config.Sources) {
	return func(s *config.Sources) { s.Flags = m }
}

func mustLoad(t *testing.T, text string, change ...func(*config.Sources)) *config.Loaded {
	t.Helper()
	l, err := load(text, change...)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return l
}

func sameValues() cmp.Option {
	return cmp.Options{cmp.Comparer(secret.Text.Equal), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
}

func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "").Config
	got := fmt.Sprintln(c.Environment, c.Roles, c.Listen, c.OpsListen, c.Redis.URL.Reveal(), c.Redis.Prefix, c.Guard.AllowPorts,
		c.State.ValidFor, c.Delivery.Timeout, c.Delivery.InFlightPerApp, c.Delivery.InFlight, c.Delivery.SwitchOffAfter, c.Delivery.DrainBudget,
		c.Breaker.Failures, c.Breaker.OpenFor, c.Breaker.OpenForMax, c.Incident.OpenAfter, c.Incident.RecoverAfter, c.Incident.RemindAfter,
		c.Token.Issuer.StateChange, c.Token.Issuer.Mirroring, c.SMTP.TLS)
	want := "online [api worker] 127.0.0.1:8080 127.0.0.1:9464 redis://127.0.0.1:6379/0 lamplighter [443 8443] " +
		"1m0s 10s 32 512 120h0m0s 5s 5 5s 1m0s 5m0s 1m0s [24h0m0s 72h0m0s] https://online.superoffice.com SuperOffice AS mandatory\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	h := time.Hour
	schedule := []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h}
	if diff := cmp.Diff(schedule, c.Delivery.RetrySchedule); diff != "" {
		t.Errorf("retry schedule (-want +got):\n%s", diff)
	}
}

func TestIssuerFollowsTheEnvironment(t *testing.T) {
	t.Parallel()
	for environment, want := range map[string]string{
		"sod": "https://sod.superoffice.com", "stage": "https://qaonline.superoffice.com", "online": "https://online.superoffice.com",
	} {
		c := mustLoad(t, "environment: "+environment).Config
		if c.Token.Issuer.StateChange != want {
			t.Errorf("%s: issuer = %q, want %q", environment, c.Token.Issuer.StateChange, want)
		}
	}
	c := mustLoad(t, "token: {issuer: {state_change: https://id.example}}").Config
	if c.Token.Issuer.StateChange != "https://id.example" {
		t.Errorf("a set issuer was replaced by %q", c.Token.Issuer.StateChange)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := "delivery:\n  timeout: 1s\n"
	variable := env("LAMPLIGHTER_DELIVERY_TIMEOUT=2s", "PATH=/bin")
	flag := flags(map[string]string{"delivery-timeout": "3s"})
	dev := func(s *config.Sources) { s.Defaults = map[string]string{"delivery.timeout": "4s"} }
	for _, tc := range []struct {
		name   string
		loaded *config.Loaded
		want   time.Duration
		origin string
	}{
		{"Default", mustLoad(t, ""), 10 * time.Second, "default"},
		{"DevDefault", mustLoad(t, "", dev), 4 * time.Second, "default of dev"},
		{"File", mustLoad(t, file, dev), time.Second, "lamplighter.yaml:2"},
		{"Environment", mustLoad(t, file, dev, variable), 2 * time.Second, "environment LAMPLIGHTER_DELIVERY_TIMEOUT"},
		{"Flag", mustLoad(t, file, dev, variable, flag), 3 * time.Second, "flag --delivery-timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tc.loaded.Config.Delivery.Timeout; got != tc.want {
				t.Errorf("timeout = %v, want %v", got, tc.want)
			}
			if got := tc.loaded.Origin("delivery.timeout").String(); got != tc.origin {
				t.Errorf("origin = %q, want %q", got, tc.origin)
			}
		})
	}
}

func TestValuesOfEveryKind(t *testing.T) {
	t.Parallel()
	want := mustLoad(t, `
guard:
  allow_cidrs: [10.1.2.3/8, "fd00::/8"]
  allow_http: true
  allow_ports: [443, 9000]
incident:
  remind_after: [1h, 2h]
redis.pool_size: 20
signing: {keys: [/a.pem, /b.pem]}
encryption: {key: `+key32+`, older_keys: [`+key32+`]}
`).Config
	got := mustLoad(t, "", env(
		"LAMPLIGHTER_GUARD_ALLOW_CIDRS=10.0.0.0/8, fd00::/8", "LAMPLIGHTER_GUARD_ALLOW_HTTP=1", "LAMPLIGHTER_GUARD_ALLOW_PORTS=443,9000",
		"LAMPLIGHTER_INCIDENT_REMIND_AFTER=1h,2h", "LAMPLIGHTER_REDIS_POOL_SIZE=20", "LAMPLIGHTER_SIGNING_KEYS=/a.pem,/b.pem",
		"LAMPLIGHTER_ENCRYPTION_KEY="+key32, "LAMPLIGHTER_ENCRYPTION_OLDER_KEYS="+key32,
	)).Config
	if diff := cmp.Diff(want, got, sameValues()); diff != "" {
		t.Errorf("file and environment differ (-file +environment):\n%s", diff)
	}
	if got := fmt.Sprint(got.Guard.AllowCIDRs, got.Guard.AllowPorts, got.Incident.RemindAfter, got.Redis.PoolSize); got != "[10.0.0.0/8 fd00::/8] [443 9000] [1h0m0s 2h0m0s] 20" {
		t.Errorf("values = %s", got)
	}
	empty := mustLoad(t, "incident: {remind_after: []}").Config
	if len(empty.Incident.RemindAfter) != 0 {
		t.Errorf("an empty list left %v", empty.Incident.RemindAfter)
	}
}

func TestMistakesAreExplained(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ yaml, want string }{
		"UnknownKey":      {"delivery:\n  timout: 1s", "delivery.timout (lamplighter.yaml:2): unknown setting: did you mean delivery.timeout?"},
		"UnknownSection":  {"deliver: {timeout: 1s}", "unknown setting"},
		"KeyOutOfSection": {"open_after: 5m", "unknown setting: did you mean incident.open_after?"},
		"FarFromAny":      {"xyzzyxyzzyxyzzy: 1", "xyzzyxyzzyxyzzy (lamplighter.yaml:1): unknown setting"},
		"Twice":           {"redis: {prefix: a}\nredis.prefix: b", "redis.prefix (lamplighter.yaml:2): given twice: also by lamplighter.yaml:1"},
		"NoUnit":          {"delivery: {timeout: 5}", `"5" has no unit: write it like 5s or 5m`},
		"Days":            {"delivery: {switch_off_after: 5d}", "a day is not a unit here"},
		"OutOfRange":      {"delivery: {timeout: 16s}", "16s is out of range: it must be 100ms to 15s"},
		"IntOutOfRange":   {"redis: {pool_size: 1}", "1 is out of range: it must be 4 to 10000"},
		"NotInSet":        {"environment: prod", `"prod" is not one of sod, stage, online`},
		"NoPort":          {"listen: localhost", "write it like 127.0.0.1:8080"},
		"BadCIDR":         {"guard: {allow_cidrs: [10.0.0.1]}", "write 10.0.0.1/32 for this address alone"},
		"BadPort":         {"guard: {allow_ports: [70000]}", `"70000" is not a port`},
		"ListForScalar":   {"environment: [sod]", "takes one value"},
		"MapForScalar":    {"environment: {a: b}", "takes one value"},
		"MapForList":      {"roles: {a: b}", "takes a list"},
		"ScalarForMap":    {"redis: x", "is a section"},
		"Null":            {"environment:", "has no value: give one or remove the line"},
		"NullItem":        {"roles: [api, ]\nsigning: {keys: [~]}", "each item of the list must be a single value"},
		"Alias":           {"listen: &a 127.0.0.1:1\nops_listen: *a", "anchors and merge keys are not supported"},
		"Merge":           {"<<: {environment: sod}", "anchors and merge keys are not supported"},
		"TwoDocuments":    {"environment: sod\n---\nenvironment: stage", "more than one YAML document"},
		"NotYAML":         {"a: b: c", "lamplighter.yaml is not valid YAML"},
		"NotMapping":      {"- a", "must hold settings as key: value"},
		"PublicURL":       {"public_url: ftp://x", "must be an http or https URL"},
		"PublicURLUser":   {"public_url: https://u:hunter2@x", "holds a user name or password"},
		"RedisURL":        {"redis: {url: 'http://hunter2@x'}", "is not a Redis URL"},
		"EncryptionKey":   {"encryption: {key: hunter2}", "32 random bytes in base64"},
		"BootstrapToken":  {"bootstrap_token: hunter2", "16 to 256 printable characters"},
		"FromAddress":     {"smtp: {host: mail, from: nobody}", "is not an address such as"},
		"NoFrom":          {"smtp: {host: mail}", "smtp.from (default): is needed to send mail"},
		"HalfLogin":       {"smtp: {host: mail, from: a@b.example, username: u}", "needs both smtp.username and smtp.password"},
		"ClearPassword":   {"smtp: {host: m, from: a@b.example, username: u, password: hunter2, tls: none}", "would travel in the clear"},
		"DisabledWithHost": {
			"smtp: {host: m, from: a@b.example, disabled: true}", "smtp.disabled (lamplighter.yaml:1): is true although smtp.host is set",
		},
		"HalfCertificate": {"redis: {tls: {cert: a.pem}}", "needs both redis.tls.cert and redis.tls.key"},
		"LeaseTooShort":   {"delivery: {timeout: 15s, entry_lease: 19s}", "at least 5s longer than delivery.timeout"},
		"InFlight":        {"delivery: {in_flight: 8}", "must not be smaller than delivery.in_flight_per_app"},
		"NoSchedule":      {"delivery: {retry_schedule: []}", "give at least one wait"},
		"GateOrder":       {"breaker: {open_for: 2m}", "must not be shorter than breaker.open_for"},
		"RemindOrder":     {"incident: {remind_after: [72h, 24h]}", "ascending order"},
		"NoRole":          {"roles: []", "give api, worker or both"},
		"SamePort":        {"ops_listen: 127.0.0.1:8080", "is the same address as listen"},
		"WildcardPort":    {"{listen: ':8080', ops_listen: '127.0.0.1:8080'}", "is the same address as listen"},
		"SentinelLogin":   {"redis: {url: 'redis://h', sentinel_username: u}", "redis.url names none"},
		"ShortStop":       {"{shutdown_timeout: 5s, delivery: {timeout: 10s}}", "or a stop cuts attempts off"},
		"OffBeforeTold":   {"{incident: {open_after: 2h}, delivery: {switch_off_after: 1h}}", "before a mail says"},
		"SamePublicPort":  {"public_listen: 127.0.0.1:8080", "is the address of another listener"},
		"NoPorts":         {"guard: {allow_ports: []}", "no endpoint could be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(tc.yaml)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error shows the secret: %v", err)
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load("environment: prod\nnonsense_key_of_mine: 1\ndelivery: {timeout: 1}", env("LAMPLIGHTER_LISTEN=x", "LAMPLIGHTER_LISTN=x"),
		flags(map[string]string{"log-level": "loud", "log-levels": "x"}))
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("error is %T, want Problems", err)
	}
	got := map[string]bool{}
	for _, p := range problems {
		got[p.Key] = true
	}
	want := map[string]bool{
		"environment": true, "nonsense_key_of_mine": true, "delivery.timeout": true, "listen": true,
		"LAMPLIGHTER_LISTN": true, "log.level": true, "--log-levels": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys with problems (-want +got):\n%s", diff)
	}
	for _, hint := range []string{"did you mean LAMPLIGHTER_LISTEN?", "did you mean --log-level?", "settings: 7 problems"} {
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("error lacks %q:\n%v", hint, err)
		}
	}
}

func TestEnvironmentIgnoresWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "", env(
		"LAMPLIGHTER_TOKEN=x", "LAMPLIGHTER_CONFIG=x", "LAMPLIGHTER_URL=x", "LAMPLIGHTER_SERVER=x", "LAMPLIGHTER_TOKEN_FILE=x",
		"LAMPLIGHTER_INSECURE_HTTP=true", "LAMPLIGHTER_ENVIRONMENT=",
		"LAMPLIGHTER_SERVICE_HOST=10.0.0.1", "LAMPLIGHTER_SERVICE_PORT=8080", "LAMPLIGHTER_SERVICE_PORT_HTTP=8080", "LAMPLIGHTER_PORT=tcp://10.0.0.1:8080",
		"LAMPLIGHTER_PORT_8080_TCP=tcp://10.0.0.1:8080", "LAMPLIGHTER_PORT_8080_TCP_PROTO=tcp", "LAMPLIGHTER_PORT_8080_TCP_ADDR=10.0.0.1",
		"LAMPLIGHTER_SMTP_PORT=tcp://10.0.0.1:25",
	)).Config
	if c.Environment != "online" || c.SMTP.Port != 587 {
		t.Errorf("environment = %q, SMTP port = %d", c.Environment, c.SMTP.Port)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, empty, huge := write("good", "pass word \r\n"), write("empty", "\n"), write("huge", strings.Repeat("x", 70_000))
	unsplit := write("unsplit", "hunter2\nhunter2\n")
	lines, marked := write("lines", "hunter2\r\nhunter2\r\n"), write("marked", "\ufeffhunter2\n")
	forbidden := func(s *config.Sources) {
		s.Environ = []string{"LAMPLIGHTER_SMTP_PASSWORD_FILE=/run/secrets/smtp"}
		s.ReadFile = func(name string) ([]byte, error) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
	}
	base := "smtp: {host: m, from: a@b.example, username: u}\n"

	for name, l := range map[string]*config.Loaded{
		"YAML":        mustLoad(t, base+"smtp.password_file: "+good),
		"Environment": mustLoad(t, base, env("LAMPLIGHTER_SMTP_PASSWORD_FILE="+good)),
		"Flag":        mustLoad(t, base, flags(map[string]string{"smtp-password-file": good})),
		"OverValue":   mustLoad(t, base+"smtp.password: other", env("LAMPLIGHTER_SMTP_PASSWORD_FILE="+good)),
	} {
		if got := l.Config.SMTP.Password.Reveal(); got != "pass word " {
			t.Errorf("%s: password = %q, want it without the line end", name, got)
		}
	}
	older := mustLoad(t, "", env("LAMPLIGHTER_ENCRYPTION_OLDER_KEYS_FILE="+write("older", key32+",\n"+key32+"\n"))).Config.Encryption.OlderKeys
	if len(older) != 2 || older[0].Reveal() != key32 || older[1].Reveal() != key32 {
		t.Errorf("%d older keys from a file with one in each line, want 2", len(older))
	}
	for name, tc := range map[string]struct {
		change func(*config.Sources)
		want   string
	}{
		"Missing":   {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + dir + "/none"), "cannot be read"},
		"Empty":     {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + empty), "is empty: write the secret into it"},
		"Huge":      {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + huge), "at most 65536"},
		"Directory": {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + dir), "is a directory"},
		"Forbidden": {forbidden, "cannot be read: open /run/secrets/smtp: permission denied"},
		"ListLines": {env("LAMPLIGHTER_ENCRYPTION_OLDER_KEYS_FILE=" + unsplit), "holds several lines"},
		"Lines":     {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + lines), "holds several lines"},
		"Marked":    {env("LAMPLIGHTER_SMTP_PASSWORD_FILE=" + marked), "begins with a byte-order mark"},
		"Both":      {env("LAMPLIGHTER_SMTP_PASSWORD=x", "LAMPLIGHTER_SMTP_PASSWORD_FILE="+good), "given twice"},
		"PlainFlag": {flags(map[string]string{"smtp-password": "hunter2"}), "unknown flag: did you mean --smtp-password-file?"},
	} {
		_, err := load(base, tc.change)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error = %v, want %q", name, err, tc.want)
		}
	}
}

func TestCheckServe(t *testing.T) {
	t.Parallel()
	err := mustLoad(t, "").CheckServe()
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("CheckServe = %v, want Problems", err)
	}
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
	}
	if diff := cmp.Diff([]string{"public_url", "encryption.key", "signing.keys", "smtp.host"}, keys); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	enough := "public_url: https://l.example/\nencryption: {key: " + key32 + "}\nsigning: {keys: [k.pem]}\n"
	for _, mail := range []string{"smtp: {disabled: true}", "smtp: {host: m, from: a@b.example}"} {
		l := mustLoad(t, enough+mail)
		if err := l.CheckServe(); err != nil {
			t.Errorf("%s: CheckServe = %v", mail, err)
		}
		if l.Config.PublicURL != "https://l.example" {
			t.Errorf("public_url = %q, want no trailing slash", l.Config.PublicURL)
		}
	}
}

func TestDevDefaultsAreValid(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "", func(s *config.Sources) { s.Defaults = config.DevDefaults() }).Config
	if !c.Guard.AllowHTTP || c.Incident.OpenAfter != 10*time.Second || c.Incident.RecoverAfter != 5*time.Second {
		t.Errorf("dev: %+v %+v", c.Guard, c.Incident)
	}
	_, err := load("", func(s *config.Sources) { s.Defaults = map[string]string{"no.such": "1"} })
	if err == nil {
		t.Error("an unknown default was accepted")
	}
}
