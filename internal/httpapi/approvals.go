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

// Approvals changes and reads which tenants an app is notified about. Approve and Dismiss may be repeated.
type Approvals interface {
	Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
	Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
	// ApproveNew returns registry.ErrConflict when the tenant has already approved the app, DismissExisting when it
	// has not. Of several concurrent calls of one of them, exactly one succeeds.
	ApproveNew(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error
	DismissExisting(ctx context.Context, app partner.ClientID, t tenant.ID, actor registry.Actor) error
}

// ApprovalLister finds the tenants that approved an app.
type ApprovalLister interface {
	HasApproved(ctx context.Context, app partner.ClientID, t tenant.ID) (bool, error)
	// Approvals returns a page; next is empty on the last. A cursor that it did not make MUST be refused with
	// mailbox.ErrCursor, or do no harm.
	Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (ts []tenant.ID, next string, err error)
}

type approvalAnswer struct {
	Tenant tenant.ID `json:"tenant"`
}

func (a *API) listApprovals(c *call) error {
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	p, err := c.readPage("approvals/" + string(rec.App.ClientID))
	if err != nil {
		return err
	}
	ts, next, err := a.ApprovalList.Approvals(c.ctx(), rec.App.ClientID, p.after, p.limit)
	if errors.Is(err, mailbox.ErrCursor) {
		return badCursorProblem()
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

// approvalETag is the ETag of an approval. An approval has no content, so one that is withdrawn and given
// again has the same ETag.
func approvalETag(t tenant.ID) string {
	body, _ := encodeJSON(approvalAnswer{Tenant: t}) // a string always encodes
	return contentETag(body)
}

func (a *API) getApproval(c *call) error {
	at, err := a.readPathApproval(c)
	if err != nil {
		return err
	}
	stands, err := a.ApprovalList.HasApproved(c.ctx(), at.app, at.tenant)
	if err != nil {
		return err
	}
	if !stands {
		return notFoundProblem("approval")
	}
	body, err := encodeJSON(approvalAnswer{Tenant: at.tenant})
	if err != nil {
		return err
	}
	return c.writeCacheable(body)
}

func (a *API) putApproval(c *call) error {
	at, err := a.readPathApproval(c)
	if err != nil {
		return err
	}
	cond, err := a.checkApprovalPreconditions(c, at)
	if err != nil {
		return err
	}
	switch cond {
	case ifPresent: // it does, and approving again does nothing
	case ifAbsent:
		err = a.Approvals.ApproveNew(c.ctx(), at.app, at.tenant, c.actor)
	default:
		err = a.Approvals.Approve(c.ctx(), at.app, []tenant.ID{at.tenant}, c.actor)
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", approvalETag(at.tenant))
	return c.writeNoContent()
}

func (a *API) deleteApproval(c *call) error {
	at, err := a.readPathApproval(c)
	if err != nil {
		return err
	}
	cond, err := a.checkApprovalPreconditions(c, at)
	if err != nil {
		return err
	}
	switch cond {
	case ifPresent:
		err = a.Approvals.DismissExisting(c.ctx(), at.app, at.tenant, c.actor)
	case ifAbsent: // it is, and taking nothing back does nothing
	default:
		err = a.Approvals.Dismiss(c.ctx(), at.app, []tenant.ID{at.tenant}, c.actor)
	}
	if err != nil {
		return err
	}
	return c.writeNoContent()
}

// approvalPath is the approval that a path names.
type approvalPath struct {
	app    partner.ClientID
	tenant tenant.ID
}

func (a *API) readPathApproval(c *call) (approvalPath, error) {
	t, err := c.pathTenantID()
	if err != nil {
		return approvalPath{}, err
	}
	rec, err := a.readPathApp(c)
	return approvalPath{rec.App.ClientID, t}, err
}

// approvalPrecondition is the precondition of a write.
type approvalPrecondition uint8

const (
	always approvalPrecondition = iota
	// ifPresent is an If-Match that names the approval, ifAbsent an If-None-Match that would.
	ifPresent
	ifAbsent
)

// checkApprovalPreconditions checks the request's preconditions against the approval. It returns those that hold,
// which the store checks again in the write itself.
func (a *API) checkApprovalPreconditions(c *call, at approvalPath) (approvalPrecondition, error) {
	match, none := c.r.Header.Values("If-Match"), c.r.Header.Values("If-None-Match")
	if len(match) == 0 && len(none) == 0 {
		return always, nil
	}
	stands, err := a.ApprovalList.HasApproved(c.ctx(), at.app, at.tenant)
	if err != nil {
		return always, err
	}
	tag := approvalETag(at.tenant)
	wantsIt, wantsNone := len(match) > 0, matchesETag(none, tag, weak)
	switch {
	case wantsIt && (!stands || !matchesETag(match, tag, strong)), wantsNone && stands:
		return always, preconditionFailedProblem()
	case wantsIt:
		return ifPresent, nil
	case wantsNone:
		return ifAbsent, nil
	default:
		return always, nil
	}
}

func (a *API) putApprovals(c *call) error {
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	return a.streamLines(c, func(int) {}, func(ctx context.Context, lines []line) error {
		ts := make([]tenant.ID, 0, len(lines))
		good := make([]line, 0, len(lines))
		for _, l := range lines {
			f := &faults{}
			o := newObjectReader(l.doc, f, false)
			t := readTenant(o)
			o.reportUnknownMembers()
			if len(f.list) > 0 {
				l.setProblem(invalidProblem(f.list...))
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
func readTenant(o *objectReader) tenant.ID {
	s, ok := o.readRequiredString("tenant")
	if !ok {
		return ""
	}
	t, err := tenant.ParseID(s)
	if err != nil {
		o.add(o.pointerTo("tenant"), err.Error())
	}
	return t
}
