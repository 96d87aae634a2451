package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
)

type tenantsCmd struct {
	Get tenantsGetCmd `cmd:"" help:"Show where a tenant stands."`
	Set tenantsSetCmd `cmd:"" help:"Set where a tenant stands, without telling anybody; publish tells."`
}

type tenantArg struct {
	Tenant string `arg:"" help:"The tenant's context identifier, such as Cust12345."`
}

func (c tenantArg) path(more ...string) string {
	return client.Path(append([]string{"v1", "tenants", c.Tenant}, more...)...)
}

type tenantsGetCmd struct {
	apiFlags
	tenantArg
}

// Run shows one tenant.
func (c *tenantsGetCmd) Run(ctx context.Context, a *app) error { return c.get(ctx, a, c.path()) }

type tenantsSetCmd struct {
	apiFlags
	tenantArg
	State          *string `placeholder:"STATE" help:"Provisioning, Running, Deleted, Suspended, OnlineMaintenance, OfflineMaintenance, ProvisioningFailed, Deleting, DeleteFailed or MigrationPending."`
	PublicEndpoint *string `placeholder:"HOST" help:"The host name where it is reached."`
	VersionName    *string `placeholder:"TEXT" help:"Name of the installed release."`
	FileVersion    *string `placeholder:"TEXT" help:"Version of its files."`
}

// Run sends what was said; the service keeps the rest.
func (c *tenantsSetCmd) Run(ctx context.Context, a *app) error {
	doc := map[string]any{}
	put(doc, "state", c.State)
	put(doc, "public_endpoint", c.PublicEndpoint)
	put(doc, "version_name", c.VersionName)
	put(doc, "file_version", c.FileVersion)
	if len(doc) == 0 {
		return usageError{errors.New("say what to set: --help lists the flags")}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return c.show(ctx, a, client.Request{Method: http.MethodPut, Path: c.path("status"), Body: body})
}
