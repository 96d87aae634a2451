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

// Run asks first: lost data is then no longer searched for.
func (c *storeAcceptCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.confirm(a, "Lost data will no longer be searched for. Accept the store as it is?"); err != nil {
		return err
	}
	return c.sendAndPrint(ctx, a, client.Request{Method: http.MethodPost, Path: "/v1/store/accept"})
}
