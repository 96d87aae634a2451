package main

import (
	"context"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type incidentsCmd struct {
	List  incidentsListCmd  `cmd:"" help:"List incidents, with the reason for each."`
	Close incidentsCloseCmd `cmd:"" help:"Close an incident although its endpoint is not healthy."`
}

type incidentsListCmd struct {
	listFlags
	App      string `placeholder:"CLIENT-ID" help:"Only those of one app."`
	Endpoint string `placeholder:"ENDPOINT" help:"Only those of one kind of endpoint."`
	State    string `enum:"open,closed,all" default:"open" help:"open, closed or all."`
}

// Run lists incidents, the open ones unless asked otherwise.
func (c *incidentsListCmd) Run(ctx context.Context, a *commandEnv) error {
	state := c.State
	if state == "all" {
		state = ""
	}
	return c.printList(ctx, a, client.JoinPath("v1", "incidents"), buildQuery("client_id", c.App, "endpoint", c.Endpoint, "state", state), []output.Column{
		{Title: "ID", Path: "id"},
		{Title: "APP", Path: "client_id"},
		{Title: "ENDPOINT", Path: "endpoint"},
		{Title: "STATE", Path: "state"},
		{Title: "SINCE", Path: "since"},
		{Title: "REASON", Path: "reason"},
		{Title: "WORDS", Path: "words"},
		{Title: "DETAIL", Path: "detail"},
	}, "There are no such incidents.")
}

type incidentsCloseCmd struct {
	apiFlags
	ID string `arg:"" help:"The incident's id, from incidents list."`
}

// Run closes it and shows it.
func (c *incidentsCloseCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndPrint(ctx, a, client.Request{Method: http.MethodPost, Path: client.JoinPath("v1", "incidents", c.ID, "close")})
}

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List audit entries, newest first."`
	Export auditExportCmd `cmd:"" help:"Write all entries as JSON, one per line, newest first."`
	Verify auditVerifyCmd `cmd:"" help:"Check files that audit.write_to has written: that each line follows the one before, and that they agree with Redis; exits with 1 if not."`
}

type auditListCmd struct {
	listFlags
	App     string `xor:"subject" placeholder:"CLIENT-ID" help:"Only entries about one app."`
	Subject string `xor:"subject" placeholder:"ID" help:"Only entries about one subject: an app, a tenant, a token."`
	Changes bool   `help:"Accepted state changes instead of all other writes."`
}

// Run lists entries.
func (c *auditListCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printList(ctx, a, client.JoinPath("v1", "audit"), buildQuery("client_id", c.App, "subject", c.Subject, "of", chooseAuditStream(c.Changes)), []output.Column{
		{Title: "AT", Path: "at"},
		{Title: "ACTOR", Path: "actor"},
		{Title: "ACTION", Path: "action"},
		{Title: "SUBJECT", Path: "subject"},
		{Title: "BEFORE", Path: "before"},
		{Title: "AFTER", Path: "after"},
	}, "There are no entries yet.")
}

// chooseAuditStream is the name of the audit stream, empty for the default one.
func chooseAuditStream(changes bool) string {
	if changes {
		return "changes"
	}
	return ""
}

type auditExportCmd struct {
	apiFlags
	App     string `xor:"subject" placeholder:"CLIENT-ID" help:"Only entries about one app."`
	Subject string `xor:"subject" placeholder:"ID" help:"Only entries about one subject: an app, a tenant, a token."`
	Changes bool   `help:"Accepted state changes instead of all other writes."`
}

// Run copies the entries as they arrive. --timeout does not bound it, and a failure exits with 1 even after entries
// were written.
func (c *auditExportCmd) Run(ctx context.Context, a *commandEnv) error {
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	return cl.StreamAnswer(ctx, client.Request{
		Method: http.MethodGet, Path: client.JoinPath("v1", "audit", "export"), Query: buildQuery("client_id", c.App, "subject", c.Subject, "of", chooseAuditStream(c.Changes)),
	}, a.stdout)
}
