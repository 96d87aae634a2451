package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Tenants reads tenants and sets their status without notifying apps.
type Tenants interface {
	Tenant(ctx context.Context, id tenant.ID) (registry.TenantView, error)
	// PutStatus returns the tenant after the write, or registry.ErrConflict when the stored one is not the
	// expected one.
	PutStatus(ctx context.Context, req registry.StatusRequest, actor registry.Actor) (registry.TenantView, error)
}

func newTenantAnswer(id tenant.ID, st tenant.Status) apitypes.Tenant {
	return apitypes.Tenant{
		Tenant: id, State: st.State, IsRunning: st.State.IsRunning(), PublicEndpoint: st.PublicEndpoint,
		VersionName: st.VersionName, FileVersion: st.FileVersion, UpdatedAt: st.UpdatedAt.UTC(),
	}
}

func (a *API) getTenant(c *call) error {
	id, err := c.pathTenantID()
	if err != nil {
		return err
	}
	view, err := a.Tenants.Tenant(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) || err == nil && !view.Known {
		return notFoundProblem("tenant")
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", tenantETag(view))
	answer := newTenantAnswer(id, view.Status)
	answer.Sequence, answer.FanOutOwed = &view.Record.Top, &view.FanoutPending
	answer.SourceSequence = view.SourceSequence
	return c.writeJSON(http.StatusOK, answer)
}

func (a *API) putTenantStatus(c *call) error {
	id, err := c.pathTenantID()
	if err != nil {
		return err
	}
	doc, err := c.readDocument()
	if err != nil {
		return err
	}
	f := &faults{}
	o := newObjectReader(doc, f, false)
	req := registry.StatusRequest{Tenant: id}
	if word, ok := o.readRequiredString("state"); ok {
		st, err := tenant.ParseState(word)
		switch {
		case err != nil:
			o.add("/state", err.Error())
		case st == tenant.Unknown:
			o.add("/state", "must be a state that a tenant can be in; Unknown is the answer about tenants that were never reported")
		}
		req.State = st
	}
	req.PublicEndpoint = readHost(o)
	req.VersionName, req.FileVersion = readVersion(o, "version_name"), readVersion(o, "file_version")
	o.ignoreUnwritable(reflect.TypeFor[apitypes.Tenant]())
	o.reportUnknownMembers()
	if err := f.err(); err != nil {
		return err
	}
	if req.Expect, err = a.checkTenantPreconditions(c, id); err != nil {
		return err
	}
	view, err := a.Tenants.PutStatus(c.ctx(), req, c.actor)
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", tenantETag(view))
	return c.writeJSON(http.StatusOK, newTenantAnswer(id, view.Status))
}

// checkTenantPreconditions checks the request's preconditions against the tenant. It returns the tenant, nil when the
// request has none.
func (a *API) checkTenantPreconditions(c *call, id tenant.ID) (*registry.TenantView, error) {
	match, none := c.r.Header.Values("If-Match"), c.r.Header.Values("If-None-Match")
	if len(match) == 0 && len(none) == 0 {
		return nil, nil //nolint:nilnil // nothing is expected
	}
	view, err := a.Tenants.Tenant(c.ctx(), id)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	tag := ""
	if view.Known {
		tag = tenantETag(view)
	}
	if len(match) > 0 && !matchesETag(match, tag, strong) || len(none) > 0 && matchesETag(none, tag, weak) {
		return nil, preconditionFailedProblem()
	}
	return &view, nil
}

// tenantETag is the ETag of a tenant. It covers the status and the newest sequence, but not the fan-out, whose completion is
// no write.
func tenantETag(v registry.TenantView) string {
	st := v.Status
	return contentETag([]byte(fmt.Sprintf("%q", []string{
		st.State.String(), st.PublicEndpoint, st.VersionName, st.FileVersion, strconv.FormatInt(st.UpdatedAt.UnixMilli(), 10), strconv.FormatInt(v.Record.Top, 10),
	})))
}
