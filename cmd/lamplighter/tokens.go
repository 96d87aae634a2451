package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print only the token; it is shown only once."`
	List   tokenListCmd   `cmd:"" help:"List the tokens, without their secret part."`
	Get    tokenGetCmd    `cmd:"" help:"Show a token, without its secret part."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token at once."`
}

type tokenCreateCmd struct {
	apiFlags
	Role    string        `required:"" placeholder:"ROLE" help:"platform, partner:CLIENT-ID, operator or admin."`
	Name    string        `required:"" placeholder:"TEXT" help:"What it is for and who has it."`
	Expires time.Duration `placeholder:"720h" help:"How long it is valid, at most two years; 90 days when left out."`
}

// Run prints only the token, so that it can be piped into a file.
func (c *tokenCreateCmd) Run(ctx context.Context, a *commandEnv) error {
	doc := map[string]any{"role": c.Role, "name": c.Name}
	if c.Expires != 0 {
		doc["expires_at"] = time.Now().Add(c.Expires).UTC().Format(time.RFC3339)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	answer, err := c.sendRequest(ctx, a, client.Request{Method: http.MethodPost, Path: client.JoinPath("v1", "tokens"), Body: body})
	if err != nil {
		return err
	}
	var made struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || made.Token == "" {
		return client.ErrUnexpectedAnswer
	}
	if c.Output != output.Table {
		return c.newPrinter(a).PrintDocument(answer.Body)
	}
	fmt.Fprintln(a.stdout, client.DropUnprintable(made.Token))
	fmt.Fprintf(a.stderr, "It is shown only once. Revoke it with: lamplighter token revoke %s\n", client.DropUnprintable(made.ID))
	return nil
}

type tokenListCmd struct {
	listFlags
	Role  string `placeholder:"ROLE" help:"Only those of one role."`
	State string `enum:"valid,expired,revoked,all" default:"all" help:"valid, expired, revoked or all."`
}

// Run lists the tokens.
func (c *tokenListCmd) Run(ctx context.Context, a *commandEnv) error {
	state := c.State
	if state == "all" {
		state = ""
	}
	return c.printList(ctx, a, client.JoinPath("v1", "tokens"), buildQuery("role", c.Role, "state", state), []output.Column{
		{Title: "ID", Path: "id"},
		{Title: "NAME", Path: "name"},
		{Title: "ROLE", Path: "role"},
		{Title: "STATE", Path: "state"},
		{Title: "BEGINS WITH", Path: "prefix"},
		{Title: "EXPIRES", Path: "expires_at"},
		{Title: "LAST USED", Path: "last_used_at"},
	}, "There are no such tokens.")
}

type tokenArg struct {
	ID string `arg:"" help:"The token's id, from token list; not the token itself."`
}

type tokenGetCmd struct {
	apiFlags
	tokenArg
}

// Run shows the token.
func (c *tokenGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, client.JoinPath("v1", "tokens", c.ID))
}

type tokenRevokeCmd struct {
	apiFlags
	tokenArg
}

// Run revokes the token.
func (c *tokenRevokeCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndReport(ctx, a, client.Request{Method: http.MethodDelete, Path: client.JoinPath("v1", "tokens", c.ID)}, "Token "+c.ID+" is revoked.")
}
