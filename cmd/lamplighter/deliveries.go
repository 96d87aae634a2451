package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type deliveriesCmd struct {
	List deliveriesListCmd `cmd:"" help:"List the recent attempts to notify an app, newest first."`
}

type deliveriesListCmd struct {
	apiFlags
	appArg
	Tenant string `placeholder:"TENANT" help:"Only those about one tenant."`
	Limit  int    `default:"100" placeholder:"N" help:"Show at most this many; 0 shows all that are kept."`
}

// Run lists attempts.
func (c *deliveriesListCmd) Run(ctx context.Context, a *commandEnv) error {
	list := listFlags{c.apiFlags, c.Limit}
	return list.printList(ctx, a, c.appPath("deliveries"), buildQuery("tenant", c.Tenant), []output.Column{
		{Title: "AT", Path: "at"},
		{Title: "TENANT", Path: "tenant"},
		{Title: "CHANGE", Path: "change_type"},
		{Title: "ATTEMPT", Path: "attempt"},
		{Title: "OUTCOME", Path: "outcome"},
		{Title: "REASON", Path: "reason"},
		{Title: "STATUS", Path: "status"},
		{Title: "MS", Path: "duration_ms"},
		{Title: "NEXT", Path: "next_attempt_at"},
	}, "There are no attempts yet.")
}

type mailboxCmd struct {
	Get mailboxGetCmd `cmd:"" help:"Show what is pending for an app and when it is tried next."`
}

type mailboxGetCmd struct {
	apiFlags
	appArg
}

// Run shows the mailbox.
func (c *mailboxGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, c.appPath("mailbox"))
}

type changesCmd struct {
	Get changesGetCmd `cmd:"" help:"Show which apps have received a state change; exits with 1 until all have."`
}

type changesGetCmd struct {
	apiFlags
	ID string `arg:"" help:"The change's id, from publish."`
}

// errNotInStep gives the exit code for scripts that wait until all apps have received a change.
var errNotInStep = errors.New("not all apps have received it yet")

// Run shows the change.
func (c *changesGetCmd) Run(ctx context.Context, a *commandEnv) error {
	answer, err := c.sendRequest(ctx, a, client.Request{Method: http.MethodGet, Path: client.JoinPath("v1", "state-changes", c.ID)})
	if err != nil {
		return err
	}
	var doc struct {
		InStep *bool `json:"in_step"`
	}
	if err := json.Unmarshal(answer.Body, &doc); err != nil || doc.InStep == nil {
		return client.ErrUnexpectedAnswer
	}
	if err := c.newPrinter(a).PrintDocument(answer.Body); err != nil {
		return err
	}
	if !*doc.InStep {
		return errNotInStep
	}
	return nil
}

type pauseCmd struct {
	apiFlags
	appArg
}

// Run pauses the app.
func (c *pauseCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndReport(ctx, a, client.Request{Method: http.MethodPost, Path: c.appPath("pause")},
		fmt.Sprintf("Notifications to %s are held back; pending ones are kept. Send them with: lamplighter resume %s", c.App, c.App))
}

type resumeCmd struct {
	apiFlags
	appArg
}

// Run resumes the app.
func (c *resumeCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndReport(ctx, a, client.Request{Method: http.MethodPost, Path: c.appPath("resume")}, "Pushes to "+c.App+" go again.")
}
