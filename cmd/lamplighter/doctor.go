package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/output"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// doctorCmd checks what serve needs, with the settings of serve.
type doctorCmd struct {
	settingFlags
	Server string        `env:"LAMPLIGHTER_SERVER" placeholder:"URL" help:"Where the admin API should answer; http://127.0.0.1:8080 unless set."`
	Output output.Format `short:"o" enum:"table,json,yaml" default:"table" env:"LAMPLIGHTER_OUTPUT" help:"How to print what was found: table, json or yaml."`
	Within time.Duration `default:"30s" help:"How long all checks may take."`
}

// errChecksFailed is the error of doctor when a check failed.
var errChecksFailed = errors.New("checks failed")

// keySoon is how long before its end a signing key is reported.
const keySoon = 30 * 24 * time.Hour

// Run prints every check, and fails when one did.
func (c *doctorCmd) Run(ctx context.Context, a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Within, errors.New("doctor took too long"))
	defer cancel()
	found := []service.CheckResult{examineSettings(l), examineKeys(&l.Config, time.Now()), examineFiles(l.SecretFiles())}
	found = append(found, service.ExamineDependencies(ctx, &l.Config)...)
	found = append(found, c.examineAPI(ctx, a))
	items := make([]json.RawMessage, len(found))
	failed := 0
	for i, e := range found {
		if items[i], err = json.Marshal(e); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if e.Result == service.Failed {
			failed++
		}
	}
	p := output.Printer{Out: a.stdout, Format: c.Output, Colour: wantsColour(a.stdout, a.environ)}
	err = p.PrintList(items, []output.Column{
		{Title: "CHECK", Path: "check"}, {Title: "RESULT", Path: "result"}, {Title: "DETAIL", Path: "detail"}, {Title: "WHAT TO DO", Path: "advice"},
	}, "")
	if err == nil && failed > 0 {
		return fmt.Errorf("%w: %d of %d", errChecksFailed, failed, len(found))
	}
	return err
}

func examineSettings(l *config.Loaded) service.CheckResult {
	if err := checkServeSettings(l, time.Now()); err != nil {
		return service.CheckResult{
			Check: "settings", Result: service.Failed, Detail: err.Error(), Advice: "lamplighter config check lists them; docs/configuration.md has all settings.",
		}
	}
	return service.CheckResult{Check: "settings", Result: service.Passed, Detail: "valid for serve"}
}

// examineKeys checks when the signing keys end.
func examineKeys(c *config.Config, now time.Time) service.CheckResult {
	e := service.CheckResult{Check: "signing_keys", Result: service.Passed}
	if len(c.Signing.Keys) == 0 {
		e.Result, e.Detail = service.Skipped, "signing.keys is not set"
		return e
	}
	keys, err := signing.LoadKeys(c.Signing.Keys...)
	var signer *signing.Key
	if err == nil {
		signer, err = keys.Signer(signing.RS256, now)
	}
	if err != nil {
		e.Result, e.Detail, e.Advice = service.Failed, err.Error(), "lamplighter keys generate --out FILE makes a key; name it in signing.keys."
		return e
	}
	end := signer.NotAfter()
	e.Detail = "key " + signer.ID() + " signs until " + end.UTC().Format(time.DateOnly)
	if end.Sub(now) < keySoon {
		e.Result, e.Advice = service.Doubtful, "Make the next key now with lamplighter keys generate --starts-in 24h, and name both in signing.keys."
	}
	return e
}

// otherUsersPerm are the permissions of users that are neither a file's owner nor in its group.
const otherUsersPerm = 0o007

// examineFiles checks who may read or write the files with secrets. Other checks read their content.
func examineFiles(names []string) service.CheckResult {
	e := service.CheckResult{Check: "secret_files", Result: service.Skipped, Detail: "no setting names a file with a secret"}
	if len(names) == 0 {
		return e
	}
	var open []string
	seen := 0
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		seen++
		if info.Mode().Perm()&otherUsersPerm != 0 {
			open = append(open, name)
		}
	}
	if seen == 0 {
		e.Detail = "none of the files with secrets is accessible"
		return e
	}
	e.Result, e.Detail = service.Passed, fmt.Sprintf("%d, each accessible only to its owner and group", seen)
	if len(open) > 0 {
		e.Result, e.Detail = service.Doubtful, "every user of this machine may open "+strings.Join(open, ", ")
		e.Advice = "Remove the permission: chmod o-rwx FILE, or a Secret's defaultMode 0440."
	}
	return e
}

// examineAPI checks the public API, which needs no token.
func (c *doctorCmd) examineAPI(ctx context.Context, a *commandEnv) service.CheckResult {
	e := service.CheckResult{Check: "api", Result: service.Passed}
	at := cmp.Or(c.Server, defaultServer)
	cl, err := client.New(client.Options{URL: at, UserAgent: "lamplighter-cli/" + a.build.Version, Timeout: 5 * time.Second})
	if err == nil {
		_, err = cl.Do(ctx, client.Request{Method: http.MethodGet, Path: "/login/.well-known/jwks"})
	}
	e.Detail = "answers"
	if err != nil {
		e.Result, e.Detail = service.Doubtful, err.Error()
		e.Advice = "Start lamplighter serve, or give its address with --server. Run this check on a machine of its callers."
		if c.Server != "" { // the operator expects it there
			e.Result = service.Failed
		}
	}
	return e
}
