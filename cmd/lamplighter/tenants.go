package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
)

type tenantsCmd struct {
	Get tenantsGetCmd `cmd:"" help:"Show a tenant's status."`
	Set tenantsSetCmd `cmd:"" help:"Set a tenant's status without notifications; publish sends them."`
}

type tenantArg struct {
	Tenant string `arg:"" help:"The tenant's context identifier, such as Cust12345."`
}

func (c tenantArg) tenantPath(more ...string) string {
	return client.JoinPath(append([]string{"v1", "tenants", c.Tenant}, more...)...)
}

type tenantsGetCmd struct {
	apiFlags
	tenantArg
}

// Run shows one tenant.
func (c *tenantsGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, c.tenantPath())
}

type tenantsSetCmd struct {
	apiFlags
	tenantArg
	State          *string `placeholder:"STATE" help:"Provisioning, Running, Deleted, Suspended, OnlineMaintenance, OfflineMaintenance, ProvisioningFailed, Deleting, DeleteFailed or MigrationPending."`
	PublicEndpoint *string `placeholder:"HOST" help:"The host name that serves the tenant."`
	VersionName    *string `placeholder:"TEXT" help:"Name of the installed release."`
	FileVersion    *string `placeholder:"TEXT" help:"Version of its files."`
}

// Run sends the given members; the service keeps the rest.
func (c *tenantsSetCmd) Run(ctx context.Context, a *commandEnv) error {
	doc := map[string]any{}
	setMember(doc, "state", c.State)
	setMember(doc, "public_endpoint", c.PublicEndpoint)
	setMember(doc, "version_name", c.VersionName)
	setMember(doc, "file_version", c.FileVersion)
	if len(doc) == 0 {
		return usageError{errors.New("say what to set: --help lists the flags")}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return c.sendAndPrint(ctx, a, client.Request{Method: http.MethodPut, Path: c.tenantPath("status"), Body: body})
}
