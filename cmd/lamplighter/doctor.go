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
	"github.com/lamplighter/lamplighter/internal/doctor"
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
	found := []doctor.CheckResult{checkSettings(l), checkSigningKeys(&l.Config, time.Now()), checkSecretFiles(l.SecretFiles())}
	found = append(found, doctor.CheckDependencies(ctx, listDependencies(&l.Config))...)
	found = append(found, c.checkAPI(ctx, a))
	items := make([]json.RawMessage, len(found))
	failed := 0
	for i, e := range found {
		if items[i], err = json.Marshal(e); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if e.Result == doctor.Failed {
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

// listDependencies lists what the doctor checks besides the settings and files.
func listDependencies(c *config.Config) *doctor.Dependencies {
	return &doctor.Dependencies{
		Redis: service.NewRedisOptions(c.Redis), Prefix: c.Redis.Prefix, Waived: service.WaivedChecks(c.Redis),
		Mail: doctor.Mail{
			Disabled: c.SMTP.Disabled, Host: c.SMTP.Host, Port: c.SMTP.Port,
			CheckLogin: func(ctx context.Context) error { return checkMailLogin(ctx, c.SMTP) },
		},
		Guard: doctor.Guard{AllowHTTP: c.Guard.AllowHTTP, AllowCIDRs: c.Guard.AllowCIDRs},
	}
}

// checkMailLogin logs in at the mail server of the settings.
func checkMailLogin(ctx context.Context, c config.SMTP) error {
	transport, err := service.NewSMTP(c, nil)
	if err != nil {
		return err
	}
	defer transport.Close()
	return transport.CheckLogin(ctx)
}

func checkSettings(l *config.Loaded) doctor.CheckResult {
	if err := checkServeSettings(l, time.Now()); err != nil {
		return doctor.CheckResult{
			Check: "settings", Result: doctor.Failed, Detail: err.Error(), Advice: "lamplighter config check lists them; docs/configuration.md has all settings.",
		}
	}
	return doctor.CheckResult{Check: "settings", Result: doctor.Passed, Detail: "valid for serve"}
}

// checkSigningKeys checks when the signing keys end.
func checkSigningKeys(c *config.Config, now time.Time) doctor.CheckResult {
	e := doctor.CheckResult{Check: "signing_keys", Result: doctor.Passed}
	if len(c.Signing.Keys) == 0 {
		e.Result, e.Detail = doctor.Skipped, "signing.keys is not set"
		return e
	}
	keys, err := signing.LoadKeys(c.Signing.Keys...)
	var signer *signing.Key
	if err == nil {
		signer, err = keys.Signer(signing.RS256, now)
	}
	if err != nil {
		e.Result, e.Detail, e.Advice = doctor.Failed, err.Error(), "lamplighter keys generate --out FILE makes a key; name it in signing.keys."
		return e
	}
	end := signer.NotAfter()
	e.Detail = "key " + signer.ID() + " signs until " + end.UTC().Format(time.DateOnly)
	if end.Sub(now) < keySoon {
		e.Result, e.Advice = doctor.Doubtful, "Make the next key now with lamplighter keys generate --starts-in 24h, and name both in signing.keys."
	}
	return e
}

// otherUsersPerm are the permissions of users that are neither a file's owner nor in its group.
const otherUsersPerm = 0o007

// checkSecretFiles checks who may read or write the files with secrets. Other checks read their content.
func checkSecretFiles(names []string) doctor.CheckResult {
	e := doctor.CheckResult{Check: "secret_files", Result: doctor.Skipped, Detail: "no setting names a file with a secret"}
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
	e.Result, e.Detail = doctor.Passed, fmt.Sprintf("%d, each accessible only to its owner and group", seen)
	if len(open) > 0 {
		e.Result, e.Detail = doctor.Doubtful, "every user of this machine may open "+strings.Join(open, ", ")
		e.Advice = "Remove the permission: chmod o-rwx FILE, or a Secret's defaultMode 0440."
	}
	return e
}

// checkAPI checks the public API, which needs no token.
func (c *doctorCmd) checkAPI(ctx context.Context, a *commandEnv) doctor.CheckResult {
	e := doctor.CheckResult{Check: "api", Result: doctor.Passed}
	at := cmp.Or(c.Server, defaultServer)
	cl, err := client.New(client.Options{URL: at, UserAgent: "lamplighter-cli/" + a.build.Version, Timeout: 5 * time.Second})
	if err == nil {
		_, err = cl.Do(ctx, client.Request{Method: http.MethodGet, Path: "/login/.well-known/jwks"})
	}
	e.Detail = "answers"
	if err != nil {
		e.Result, e.Detail = doctor.Doubtful, err.Error()
		e.Advice = "Start lamplighter serve, or give its address with --server. Run this check on a machine of its callers."
		if c.Server != "" { // the operator expects it there
			e.Result = doctor.Failed
		}
	}
	return e
}
