package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type publishCmd struct {
	apiFlags
	Tenant         string `arg:"" help:"The tenant's context identifier, such as Cust12345."`
	ChangeType     string `arg:"" enum:"upgrade,backup_restored,suspend,resume,delete,move" help:"What happened: upgrade, backup_restored, suspend, resume, delete or move."`
	PublicEndpoint string `placeholder:"HOST" help:"The new host name; for move, and only there."`
	VersionName    string `help:"Name of the installed release; the last known when left out."`
	FileVersion    string `help:"Version of its files; the last known when left out."`
	OccurredAt     string `placeholder:"TIME" help:"When it happened, as 2026-11-23T20:00:00Z; recorded only."`
	SourceSequence *int64 `placeholder:"NUMBER" help:"Your own number of the tenant's change, from 1; it is refused unless it is above the highest accepted."`
	IdempotencyKey string `help:"Makes a repeated call harmless; a random one when left out."`
}

// stateChange is the body of POST /v1/state-changes.
type stateChange struct {
	Tenant         string `json:"tenant"`
	ChangeType     string `json:"change_type"`
	VersionName    string `json:"version_name,omitempty"`
	FileVersion    string `json:"file_version,omitempty"`
	PublicEndpoint string `json:"public_endpoint,omitempty"`
	OccurredAt     string `json:"occurred_at,omitempty"`
	SourceSequence *int64 `json:"source_sequence,omitempty"`
}

// Run posts the change and prints the result.
func (c *publishCmd) Run(ctx context.Context, a *commandEnv) error {
	if c.IdempotencyKey == "" {
		c.IdempotencyKey = rand.Text()
	}
	body, err := json.Marshal(stateChange{
		Tenant: c.Tenant, ChangeType: c.ChangeType, VersionName: c.VersionName, FileVersion: c.FileVersion,
		PublicEndpoint: c.PublicEndpoint, OccurredAt: c.OccurredAt, SourceSequence: c.SourceSequence,
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	answer, err := c.sendRequest(ctx, a, client.Request{
		Method: http.MethodPost, Path: client.JoinPath("v1", "state-changes"), Body: body, IdempotencyKey: c.IdempotencyKey,
	})
	if _, lost := errors.AsType[*client.NoAnswer](err); lost {
		return fmt.Errorf("publish: the change may or may not be accepted, repeat it with --idempotency-key %s: %w", c.IdempotencyKey, err)
	}
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var done struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(answer.Body, &done); err != nil || done.ID == "" {
		return fmt.Errorf("publish: %w", client.ErrUnexpectedAnswer)
	}
	if answer.Replayed {
		fmt.Fprintf(a.stderr, "The service had already accepted it under the key %s: nothing was published twice.\n", c.IdempotencyKey)
	}
	if c.Output != output.Table {
		return c.newPrinter(a).PrintDocument(answer.Body)
	}
	return c.newPrinter(a).PrintList([]json.RawMessage{answer.Body}, []output.Column{
		{Title: "ID", Path: "id"}, {Title: "TENANT", Path: "tenant"}, {Title: "SEQUENCE", Path: "sequence"}, {Title: "APPS", Path: "apps"},
	}, "")
}
