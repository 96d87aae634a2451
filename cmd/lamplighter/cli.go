package main

import (
	"github.com/alecthomas/kong"
)

// cli is the command line. Commands that need settings carry a settingFlags.
type cli struct {
	Dev   devCmd   `cmd:"" help:"Try Lamplighter on this machine, with demo apps; needs nothing and forgets everything."`
	Serve serveCmd `cmd:"" help:"Run the service: the API, the workers or both."`

	Login  loginCmd  `cmd:"" help:"Keep a token for a server, in a file that nobody else can read."`
	Logout logoutCmd `cmd:"" help:"Forget the token that is kept for a server."`

	Publish publishCmd `cmd:"" help:"Report a tenant's state change, as the platform does."`
	Changes changesCmd `cmd:"" help:"Ask who knows of a state change."`

	Apply      applyCmd      `cmd:"" help:"Make apps, approvals and tenants what YAML files say."`
	Apps       appsCmd       `cmd:"" help:"The partners' apps."`
	Endpoints  endpointsCmd  `cmd:"" help:"Where an app is called."`
	Approvals  approvalsCmd  `cmd:"" help:"Which tenants an app hears of."`
	Tenants    tenantsCmd    `cmd:"" help:"Where tenants stand."`
	Mailbox    mailboxCmd    `cmd:"" help:"What waits for an app."`
	Deliveries deliveriesCmd `cmd:"" help:"What was tried."`
	Pause      pauseCmd      `cmd:"" help:"Hold the pushes to an app back; what waits is kept."`
	Resume     resumeCmd     `cmd:"" help:"Let the pushes to an app go again, at once."`
	Resync     resyncCmd     `cmd:"" help:"Have an app told again where its tenants stand."`
	Jobs       jobsCmd       `cmd:"" help:"Work for whole apps that takes its time."`
	Why        whyCmd        `cmd:"" help:"Say why a tenant's change has not arrived at an app; exits with 1 while it has not."`
	Incidents  incidentsCmd  `cmd:"" help:"Which endpoints fail."`
	Audit      auditCmd      `cmd:"" help:"Who wrote what."`
	Token      tokenCmd      `cmd:"" aliases:"tokens" help:"Who may call the API."`

	Keys        keysCmd        `cmd:"" help:"Make and change keys."`
	Store       storeCmd       `cmd:"" help:"What the service keeps in Redis."`
	Mail        mailCmd        `cmd:"" help:"Look at the mails, and try the mail server."`
	Config      configCmd      `cmd:"" help:"Check and show settings."`
	Doctor      doctorCmd      `cmd:"" help:"Look at what serve needs (settings, keys, Redis, mail server, guard, API) and say what to change; exits with 1 if a check fails."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a running service whether it is ready; exits with 1 if not."`
	Completion  completionCmd  `cmd:"" help:"Complete commands and flags in a shell."`
	Version     versionCmd     `cmd:"" help:"Show the version."`
}

type keysCmd struct {
	Generate   keysGenerateCmd   `cmd:"" help:"Make a signing key with its certificate, for signing.keys."`
	Encryption keysEncryptionCmd `cmd:"" help:"Print a new key for encryption.key."`
	Reencrypt  keysReencryptCmd  `cmd:"" help:"Have the service seal anew, with its newest encryption key, what older ones sealed."`
}

type storeCmd struct {
	Accept storeAcceptCmd `cmd:"" help:"Have all processes use a store again that lost data or was replaced, as it is."`
}

type configCmd struct {
	Check  configCheckCmd  `cmd:"" help:"Say whether the settings are good for serve, and what is wrong with them."`
	Print  configPrintCmd  `cmd:"" help:"Show the effective settings and where each came from, without secrets."`
	Schema configSchemaCmd `cmd:"" help:"Print a JSON Schema of the settings file, for editors."`
}

// newCLI gives each command that needs settings its own set of their flags.
func newCLI() *cli {
	c := &cli{}
	for _, f := range []*settingFlags{
		&c.Dev.settingFlags, &c.Serve.settingFlags, &c.Healthcheck.settingFlags, &c.Doctor.settingFlags, &c.Mail.Preview.settingFlags,
		&c.Mail.Test.settingFlags, &c.Config.Check.settingFlags, &c.Config.Print.settingFlags,
		&c.Audit.Verify.settingFlags,
	} {
		f.Plugins = kong.Plugins{newSettingValues()}
	}
	return c
}
