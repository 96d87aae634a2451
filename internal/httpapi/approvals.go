package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Approvals says which tenants an app hears of. Approve and Dismiss may be repeated.
type Approvals interface {
	Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
	Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
	// ApproveFirst returns registry.ErrConflict where the tenant has approved the app,
	// DismissStanding where it has not. Of those who call one at once, one succeeds.
	ApproveFirst(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error
	DismissStanding(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error
}

// ApprovalLister finds the tenants that approved an app.
type ApprovalLister interface {
	Approved(ctx context.Context, app partner.ClientID, t tenant.ID) (bool, error)
	// Approvals pages through them; next is empty on the last page. A cursor made by somebody else
	// MUST be mailbox.ErrCursor or harmless.
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (ts []tenant.ID, next string, err error)
}

type approvalAnswer struct {
	Tenant tenant.ID `json:"tenant"`
}

func (a *API) listApprovals(c *call) error {
	rec, err := a.app(c)
	if err != nil {
		return err
	}
	p, err := c.page("approvals/" + string(rec.App.ClientID))
	if err != nil {
		return err
	}
	ts, next, err := a.ApprovalList.Approvals(c.ctx(), rec.App.ClientID, p.after, p.limit)
	if errors.Is(err, mailbox.ErrCursor) {
		return badCursor()
	}
	if err != nil {
		return err
	}
	items := make([]approvalAnswer, len(ts))
	for i, t := range ts {
		items[i].Tenant = t
	}
	return answerList(c, p, items, next)
}

// approvalTag is the ETag of an approval that stands. There is nothing to one but that it stands,
// so one that was taken back and given again has the same.
func approvalTag(t tenant.ID) string {
	body, _ := encode(approvalAnswer{Tenant: t}) // a string always encodes
	return contentTag(body)
}

func (a *API) getApproval(c *call) error {
	at, err := a.approval(c)
	if err != nil {
		return err
	}
	stands, err := a.ApprovalList.Approved(c.ctx(), at.app, at.tenant)
	if err != nil {
		return err
	}
	if !stands {
		return notFound("approval")
	}
	body, err := encode(approvalAnswer{Tenant: at.tenant})
	if err != nil {
		return err
	}
	return c.cacheable(body)
}

func (a *API) putApproval(c *call) error {
	at, err := a.approval(c)
	if err != nil {
		return err
	}
	cond, err := a.approvalCondition(c, at)
	if err != nil {
		return err
	}
	switch cond {
	case ifStands: // it does, and approving again does nothing
	case ifAbsent:
		err = a.Approvals.ApproveFirst(c.ctx(), at.app, at.tenant, c.actor)
	default:
		err = a.Approvals.Approve(c.ctx(), at.app, []tenant.ID{at.tenant}, c.actor)
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", approvalTag(at.tenant))
	return c.noContent()
}

func (a *API) deleteApproval(c *call) error {
	at, err := a.approval(c)
	if err != nil {
		return err
	}
	cond, err := a.approvalCondition(c, at)
	if err != nil {
		return err
	}
	switch cond {
	case ifStands:
		err = a.Approvals.DismissStanding(c.ctx(), at.app, at.tenant, c.actor)
	case ifAbsent: // it is, and taking nothing back does nothing
	default:
		err = a.Approvals.Dismiss(c.ctx(), at.app, []tenant.ID{at.tenant}, c.actor)
	}
	if err != nil {
		return err
	}
	return c.noContent()
}

// approvalPath is the approval that a path names.
type approvalPath struct {
	app    partner.ClientID
	tenant tenant.ID
}

func (a *API) approval(c *call) (approvalPath, error) {
	t, err := c.tenantID()
	if err != nil {
		return approvalPath{}, err
	}
	rec, err := a.app(c)
	return approvalPath{rec.App.ClientID, t}, err
}

// condition is what a write may rest on.
type condition uint8

const (
	always condition = iota
	// ifStands is an If-Match that names the approval, ifAbsent an If-None-Match that would.
	ifStands
	ifAbsent
)

// approvalCondition holds the request's preconditions against the approval; those that hold now
// are the store's to keep.
func (a *API) approvalCondition(c *call, at approvalPath) (condition, error) {
	match, none := c.r.Header.Values("If-Match"), c.r.Header.Values("If-None-Match")
	if len(match) == 0 && len(none) == 0 {
		return always, nil
	}
	stands, err := a.ApprovalList.Approved(c.ctx(), at.app, at.tenant)
	if err != nil {
		return always, err
	}
	tag := approvalTag(at.tenant)
	wantsIt, wantsNone := len(match) > 0, matches(none, tag, weak)
	switch {
	case wantsIt && (!stands || !matches(match, tag, strong)), wantsNone && stands:
		return always, preconditionFailed()
	case wantsIt:
		return ifStands, nil
	case wantsNone:
		return ifAbsent, nil
	default:
		return always, nil
	}
}

func (a *API) putApprovals(c *call) error {
	rec, err := a.app(c)
	if err != nil {
		return err
	}
	return a.stream(c, func(int) {}, func(ctx context.Context, lines []line) error {
		ts := make([]tenant.ID, 0, len(lines))
		good := make([]line, 0, len(lines))
		for _, l := range lines {
			f := &faults{}
			o := root(l.doc, f, false)
			t := readTenant(o)
			o.done()
			if len(f.list) > 0 {
				l.refuse(invalid(f.list...))
				continue
			}
			ts, good = append(ts, t), append(good, l)
		}
		if len(ts) == 0 {
			return nil
		}
		if err := a.Approvals.Approve(ctx, rec.App.ClientID, ts, c.actor); err != nil {
			return err
		}
		for _, l := range good {
			*l.answer = lineAnswer{Line: l.number, Status: http.StatusNoContent}
		}
		return nil
	})
}

// readTenant reads the member "tenant".
func readTenant(o *object) tenant.ID {
	s, ok := o.required("tenant")
	if !ok {
		return ""
	}
	t, err := tenant.ParseID(s)
	if err != nil {
		o.add(o.at("tenant"), err.Error())
	}
	return t
}
