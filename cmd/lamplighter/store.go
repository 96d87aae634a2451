package main

import (
	"context"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
)

type storeAcceptCmd struct {
	apiFlags
	yesFlag
}

// Run asks first: what the store lost is then not missed any more.
func (c *storeAcceptCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.confirm(a, "What the store lost will not be missed any more. Accept it as it is?"); err != nil {
		return err
	}
	return c.sendAndPrint(ctx, a, client.Request{Method: http.MethodPost, Path: "/v1/store/accept"})
}
