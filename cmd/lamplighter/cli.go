package main

import (
	"github.com/alecthomas/kong"
)

// cli is the command line. Commands that need settings have a settingFlags.
type cli struct {
	Dev   devCmd   `cmd:"" help:"Try Lamplighter on this machine, with demo apps; needs no installation and keeps nothing."`
	Serve serveCmd `cmd:"" help:"Run the service: the API, the workers or both."`

	Login  loginCmd  `cmd:"" help:"Keep a token for a server, in a file that only you can read."`
	Logout logoutCmd `cmd:"" help:"Remove the kept token of a server."`

	Publish publishCmd `cmd:"" help:"Report a tenant's state change, as the platform does."`
	Changes changesCmd `cmd:"" help:"Show which apps have received a state change."`

	Apply      applyCmd      `cmd:"" help:"Bring apps, approvals and tenants into the state of YAML files."`
	Apps       appsCmd       `cmd:"" help:"The partners' apps."`
	Endpoints  endpointsCmd  `cmd:"" help:"Manage the endpoints of an app."`
	Approvals  approvalsCmd  `cmd:"" help:"Manage the tenants that approved an app."`
	Tenants    tenantsCmd    `cmd:"" help:"Show and set the status of tenants."`
	Mailbox    mailboxCmd    `cmd:"" help:"Show what is pending for an app."`
	Deliveries deliveriesCmd `cmd:"" help:"Show the attempts of an app."`
	Pause      pauseCmd      `cmd:"" help:"Hold back the notifications to an app; pending ones are kept."`
	Resume     resumeCmd     `cmd:"" help:"Send the notifications to an app again, at once."`
	Resync     resyncCmd     `cmd:"" help:"Notify an app of the status of its tenants again."`
	Jobs       jobsCmd       `cmd:"" help:"Follow work that takes long, such as a resync."`
	Why        whyCmd        `cmd:"" help:"Say why a tenant's change has not arrived at an app; exits with 1 while it has not."`
	Incidents  incidentsCmd  `cmd:"" help:"Show and close incidents of endpoints."`
	Audit      auditCmd      `cmd:"" help:"Show and verify the audit log."`
	Token      tokenCmd      `cmd:"" aliases:"tokens" help:"Manage the tokens for the API."`

	Keys        keysCmd        `cmd:"" help:"Make and change keys."`
	Store       storeCmd       `cmd:"" help:"Manage the service's data in Redis."`
	Mail        mailCmd        `cmd:"" help:"Preview mails, and test the mail server."`
	Config      configCmd      `cmd:"" help:"Check and show settings."`
	Doctor      doctorCmd      `cmd:"" help:"Check what serve needs (settings, keys, Redis, mail server, guard, API) and say what to change; exits with 1 if a check fails."`
	Healthcheck healthcheckCmd `cmd:"" help:"Check whether a running service is ready; exits with 1 if not."`
	Completion  completionCmd  `cmd:"" help:"Complete commands and flags in a shell."`
	Version     versionCmd     `cmd:"" help:"Show the version."`
}

type keysCmd struct {
	Generate   keysGenerateCmd   `cmd:"" help:"Make a signing key with its certificate, for signing.keys."`
	Encryption keysEncryptionCmd `cmd:"" help:"Print a new key for encryption.key."`
	Reencrypt  keysReencryptCmd  `cmd:"" help:"Encrypt again, with the newest encryption key, what older keys encrypted."`
}

type storeCmd struct {
	Accept storeAcceptCmd `cmd:"" help:"Let all processes use a store again that lost data or was replaced."`
}

type configCmd struct {
	Check  configCheckCmd  `cmd:"" help:"Say whether the settings are valid for serve, and what is wrong with them."`
	Print  configPrintCmd  `cmd:"" help:"Show the effective settings and the origin of each, without secrets."`
	Schema configSchemaCmd `cmd:"" help:"Print a JSON Schema of the settings file, for editors."`
}

// newCLI gives each command that needs settings its own set of setting flags.
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
