package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alecthomas/kong"
)

// TestATokenGoesToItsOwnServer: what names a server, and which token is sent there, if any.
func TestATokenGoesToItsOwnServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("lmp_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const home, partner = "https://lamp.example", "https://partner.example:8443/hook"
	kept := credentials{Server: home, Tokens: map[string]string{"https://lamp.example:443": "lmp_kept", "https://stage.example:443": "lmp_stage"}}
	env := func(s targetSources) targetSources { s.envToken = "lmp_env"; return s }
	for name, c := range map[string]struct {
		s             targetSources
		server, token string
		refused       string
	}{
		"Environment":                {s: env(targetSources{envServer: home}), server: home, token: "lmp_env"},
		"EnvironmentOnThisMachine":   {s: env(targetSources{}), server: defaultServer, token: "lmp_env"},
		"EnvironmentByFile":          {s: targetSources{envServer: home, envTokenFile: file}, server: home, token: "lmp_file"},
		"SameOriginTwice":            {s: env(targetSources{envServer: home, server: "https://LAMP.example.:443/api"}), server: "https://LAMP.example.:443/api", token: "lmp_env"},
		"CommandLine":                {s: targetSources{server: home, tokenFile: file}, server: home, token: "lmp_file"},
		"CommandLineBeforeAll":       {s: env(targetSources{envServer: home, server: partner, tokenFile: file, kept: kept}), server: partner, token: "lmp_file"},
		"FileOnThisMachine":          {s: targetSources{tokenFile: file}, server: defaultServer, token: "lmp_file"},
		"Kept":                       {s: targetSources{kept: kept}, server: home, token: "lmp_kept"},
		"KeptForAnother":             {s: targetSources{server: "https://stage.example", kept: kept}, server: "https://stage.example", token: "lmp_stage"},
		"KeptBesideTheEnvironment":   {s: env(targetSources{envServer: "https://prod.example", server: home, kept: kept}), server: home, token: "lmp_kept"},
		"PlainHTTPOnThisMachine":     {s: targetSources{server: "http://[::1]:8080", tokenFile: file}, server: "http://[::1]:8080", token: "lmp_file"},
		"PlainHTTPByName":            {s: targetSources{server: "http://localhost:8080", tokenFile: file}, server: "http://localhost:8080", token: "lmp_file"},
		"PlainHTTPAllowed":           {s: targetSources{server: "http://lamp.internal", tokenFile: file, insecure: true}, server: "http://lamp.internal", token: "lmp_file"},
		"EnvironmentToAPartner":      {s: env(targetSources{server: partner}), refused: "is not sent to https://partner.example:8443"},
		"EnvironmentOfAnotherServer": {s: env(targetSources{envServer: home, server: partner}), refused: "is not sent to https://partner.example:8443"},
		"AnotherPort":                {s: env(targetSources{envServer: home, server: home + ":444"}), refused: "is not sent to https://lamp.example:444"},
		"AnotherScheme":              {s: env(targetSources{envServer: home, server: "http://lamp.example", insecure: true}), refused: "is not sent to http://lamp.example:80"},
		"NameThatBeginsAlike":        {s: env(targetSources{envServer: home, server: home + ".partner.example"}), refused: "is not sent to"},
		"FileOfTheCommandLineAlone":  {s: targetSources{envServer: home, tokenFile: file}, refused: "--token-file needs --server"},
		"KeptForNobody":              {s: targetSources{server: partner, kept: kept}, refused: "an API token is needed"},
		"Nothing":                    {s: targetSources{}, refused: "an API token is needed"},
		"PlainHTTP":                  {s: targetSources{server: "http://lamp.internal", tokenFile: file}, refused: "plain http"},
		"PlainHTTPLooksLocal":        {s: targetSources{server: "http://127.0.0.1.partner.example", tokenFile: file}, refused: "plain http"},
		"PlainHTTPOfTheEnvironment":  {s: env(targetSources{envServer: "http://lamp.internal"}), refused: "plain http"},
		"User":                       {s: targetSources{server: "https://lamp.example@partner.example", tokenFile: file}, refused: "without user"},
		"Scheme":                     {s: targetSources{server: "ftp://lamp.example", tokenFile: file}, refused: "http or https"},
		"NoSuchFile":                 {s: targetSources{server: home, tokenFile: file + "x"}, refused: "read the token"},
		"TwoWords":                   {s: targetSources{envToken: "two words"}, refused: "spaces or line breaks"},
	} {
		got, err := c.s.chooseTarget()
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || got.token != "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got != (apiTarget{c.server, c.token}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestNoCommandGivesATokenAway points each command that takes an address at a stranger who answers everything, with a
// good token of another server in the environment and in the credentials file.
func TestNoCommandGivesATokenAway(t *testing.T) {
	var requests, tokens atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Authorization") != "" {
			tokens.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
	defer stranger.Close()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("LAMPLIGHTER_SERVER", "https://lamp.example")
	t.Setenv("LAMPLIGHTER_TOKEN", "lmp_secret")
	a := &commandEnv{environ: os.Environ()}
	if err := a.writeCredentials(credentials{Server: "https://lamp.example", Tokens: map[string]string{"https://lamp.example:443": "lmp_kept"}}); err != nil {
		t.Fatal(err)
	}
	parser, err := kong.New(newCLI(), kong.Name("lamplighter"))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, leaf := range parser.Model.Leaves(true) {
		if !commandUses(leaf, "server") || leaf.Name == "login" || leaf.Name == "logout" || leaf.Name == "doctor" { // these send no token of another
			continue
		}
		args := strings.Fields(strings.TrimPrefix(leaf.FullPath(), "lamplighter "))
		for _, p := range leaf.Positional {
			args = append(args, valueFor(p))
		}
		for _, f := range leaf.Flags {
			if f.Required {
				args = append(args, "--"+f.Name, valueFor(f.Value))
			}
			if f.Name == "yes" {
				args = append(args, "--yes")
			}
		}
		for _, address := range []string{"--server", "--url"} {
			tried++
			var out bytes.Buffer
			if code := run(append(slices.Clone(args), address, stranger.URL), &out, &out); code != exitUsage {
				t.Errorf("%v %s: exits with %d: %s", args, address, code, out.Bytes())
			}
		}
	}
	if tokens.Load() != 0 || requests.Load() != 0 || tried < 60 {
		t.Errorf("%d commands: %d requests, %d tokens", tried, requests.Load(), tokens.Load())
	}
	t.Logf("%d command lines, %d tokens given away", tried, tokens.Load())
}

// valueFor is one that the command line takes.
func valueFor(v *kong.Value) string {
	switch {
	case v.Enum != "":
		first, _, _ := strings.Cut(v.Enum, ",")
		return first
	case v.Target.Kind() == reflect.Int || v.Target.Kind() == reflect.Int64:
		return "1"
	default:
		return "x"
	}
}

// TestOldFlagsSayWhatIsNow: the errors of flags that are gone name those that took their place.
func TestOldFlagsSayWhatIsNow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"endpoints", "set", "app1", "erp_sync", "--url", "https://partner.example/"}, "--server; an endpoint's address is --to"},
		{[]string{"apps", "list", "--token", "lmp_x"}, "--token-file, LAMPLIGHTER_TOKEN or lamplighter login"},
		{[]string{"apps", "list", "--tokens"}, "shows how"},
	} {
		var out bytes.Buffer
		if code := run(c.args, &out, &out); code != exitUsage || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: %d %s", c.args, code, out.Bytes())
		}
	}
}
