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

// Approvals says which tenants an app hears of. Both calls may be repeated.
type Approvals interface {
	Approve(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
	Dismiss(ctx context.Context, app partner.ClientID, ts []tenant.ID, actor registry.Actor) error
}

// ApprovalLister pages through the tenants that approved an app. next is empty on the last page.
// A cursor made by somebody else MUST be mailbox.ErrCursor or harmless.
type ApprovalLister interface {
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

func (a *API) putApproval(c *call) error {
	return a.oneApproval(c, a.Approvals.Approve)
}

func (a *API) deleteApproval(c *call) error {
	return a.oneApproval(c, a.Approvals.Dismiss)
}

func (a *API) oneApproval(c *call, do func(context.Context, partner.ClientID, []tenant.ID, registry.Actor) error) error {
	t, err := c.tenantID()
	if err != nil {
		return err
	}
	rec, err := a.app(c)
	if err != nil {
		return err
	}
	if err := do(c.ctx(), rec.App.ClientID, []tenant.ID{t}, c.actor); err != nil {
		return err
	}
	return c.noContent()
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
